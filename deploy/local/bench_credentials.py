"""`python -m deploy.local.bench_credentials`: what passwords cost, to make and to read.

For files of several lengths: a hash here, an orderly restart of the real Mosquitto, its stall by
SIGHUP (on a broker without sessions, which is safe), and the time of its only thread for a client
that comes back. The formula in ingest/credentials.py has its figures from here.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

from deploy.local import bench_proc
from deploy.local.failure import ServerError
from deploy.local.gates import mqtt_gate
from deploy.local.mosquitto import Mosquitto
from deploy.local.places import BUILD, private_place, remove_run
from ingest.credentials import SALT_BYTES, hashed, merged, stall
from sizao.clock import monotonic_s

SCHEMA = "sizao.bench.credentials/1"
LINES = (1_000, 20_000, 100_000, 400_000)
HASHES, CLIENTS, ROUNDS = 5_000, 2_000, 3
USER, PASSWORD = "bench", "bench-password"


def hash_us() -> float:
    """One password, on one core."""
    began_s = monotonic_s()
    for number in range(HASHES):
        hashed(f"{number:032}", bytes(SALT_BYTES))
    return (monotonic_s() - began_s) / HASHES * 1e6


def lengthen(broker: Mosquitto, lines: int) -> None:
    """Give its file so many entries beside its own; hashing them all would be a minute."""
    file = broker.folder / "passwords"
    word = hashed(secrets.token_hex(16), bytes(SALT_BYTES))
    entries = {f"86{number:013}": word for number in range(lines)}
    file.write_bytes(merged(file.read_bytes(), entries))  # in place: it keeps its owner


def restart_s(broker: Mosquitto) -> float:
    """From the order to stop to a client that is served."""
    began_s = monotonic_s()
    broker.relaunch()
    return monotonic_s() - began_s


def hangup_s(broker: Mosquitto, seconds: float) -> float:
    """The longest that a client waits to be let in, around a SIGHUP."""
    broker.child.signal(signal.SIGHUP)
    worst_s, until_s = 0.0, monotonic_s() + seconds
    while monotonic_s() < until_s:
        began_s = monotonic_s()
        mqtt_gate(broker.host, broker.port, USER, PASSWORD)
        worst_s = max(worst_s, monotonic_s() - began_s)
    return worst_s


def client_us(broker: Mosquitto) -> float:
    """The broker's processor time for one client that comes."""
    before_s = _cpu_s(broker.child.pid)
    for _ in range(CLIENTS):
        mqtt_gate(broker.host, broker.port, USER, PASSWORD)
    return (_cpu_s(broker.child.pid) - before_s) / CLIENTS * 1e6


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(folder: Path) -> dict[str, Any]:
    """All figures."""
    broker = Mosquitto(folder / "mosquitto")
    broker.set_users({USER: PASSWORD}, "pattern write up/%u/#\n")
    broker.start()
    try:
        rows = []
        for lines in LINES:
            lengthen(broker, lines)
            predicted = stall(lines)
            rows.append(
                {
                    "lines": lines,
                    "restart_s": min(restart_s(broker) for _ in range(ROUNDS)),
                    "sighup_s": min(hangup_s(broker, 0.5 + 5e-6 * lines) for _ in range(ROUNDS)),
                    "client_us": client_us(broker),
                    "predicted_away_s": predicted.away_s,
                    "predicted_back_s": predicted.back_s,
                }
            )
            print(rows[-1], file=sys.stderr)
    finally:
        broker.stop()
    return {"hash_us": hash_us(), "files": rows}


def main() -> int:
    """Run, write, print."""
    argparse.ArgumentParser(prog="python -m deploy.local.bench_credentials").parse_args()
    machine, folder = bench_proc.machine(), private_place("bench-credentials")
    try:
        result = run(folder)
    except ServerError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        remove_run(folder)
    out = BUILD / "bench" / "credentials.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema": SCHEMA, "machine": machine, **result}, indent=1)
    out.write_text(text + "\n", "utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
