"""The devices of `make up`: the small district in real time, with a fire soon after the start.

    python -m deploy.local.simulate FOLDER MQTT-PORT RECEIVER-PORT

FOLDER is the stack's: carriers' passwords and the station's signing secret stand there. Runs until
it is stopped; prints one line for each page that the station takes.
"""

from __future__ import annotations

import heapq
import json
import sys
import time
from pathlib import Path

from deploy.local import district as districts
from deploy.local import fire as fires
from deploy.local import traffic
from deploy.local.failure import ServerError
from deploy.local.fleet import Fleet
from deploy.local.receiver import Receiver
from sizao import clock

HISTORY_S = 1200
IGNITION_S = 10
SETTLE_S = 60.0
TURN_S = 0.1
RETRY_S = 2.0


def play(fleet: Fleet, receiver: Receiver) -> None:
    """History at once, then the present as it comes. Raises ServerError when the broker leaves."""
    district, fire = districts.build(), fires.load()
    start_us = clock.now_us() - HISTORY_S * traffic.SECOND_US
    ignition_us = clock.now_us() + IGNITION_S * traffic.SECOND_US
    stream = heapq.merge(
        traffic.quiet(district, start_us),
        traffic.burning(district, fire, ignition_us, from_us=start_us),
    )
    told = 0
    for number, message in enumerate(stream):
        while clock.now_us() < message.at_us:
            fleet.turn(TURN_S)
            told = tell(receiver, told)
        fleet.publish(message.user, message.topic, message.payload)
        if number % 200 == 0:
            fleet.turn(0)


def tell(receiver: Receiver, told: int) -> int:
    """Print pages that came since; returns how many there are now."""
    for page in receiver.pages.accepted[told:]:
        print(json.dumps(page.body["data"].get("place"), ensure_ascii=False), page.tier, flush=True)
    return len(receiver.pages.accepted)


def main() -> int:
    """Run; a broker that went away is waited for, and the district begins anew."""
    folder, mqtt_port, receiver_port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    passwords = json.loads((folder / "carriers.json").read_text("utf-8"))
    secret = (folder / "responder-station-key").read_text("utf-8").strip()
    with Receiver(secret, receiver_port) as receiver:
        while True:
            fleet = Fleet("127.0.0.1", mqtt_port)
            try:
                fleet.connect(passwords)
                play(fleet, receiver)
            except (ServerError, OSError) as error:
                print(f"devices: {error}; again in {RETRY_S:g} s", file=sys.stderr, flush=True)
                time.sleep(RETRY_S)
            finally:
                fleet.close()


if __name__ == "__main__":
    sys.exit(main())
