"""From a payload to its entries: what pointers start from, one for each device and time.

An entry is (item, root): `/x` starts from the item, `$/x` from the root.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from ingest.device_types.pointer import Way, walk
from ingest.device_types.reasons import Reason

ROWS_MAX = 8_000  # readings of one batch; a frame holds five such batches

Entry = tuple[Any, Any]


class Unreadable(Exception):
    """Nothing of a payload can be read."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


# Strings are matched first, so that a word inside one is left alone; one that never ends is matched
# to the end, or each quote in it would search the rest again (minutes for 256 KiB).
_NOT_FINITE = re.compile(
    rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|(-?)\b(nan|inf(?:inity)?)\b', re.IGNORECASE | re.DOTALL
)


def parse(payload: bytes) -> Any:
    """Plain data of a JSON text. Raises ValueError only.

    Takes the nan, -inf and Infinity that C programs print as numbers that are not finite, so that
    they cost their own field and not the payload.
    """
    try:
        return msgspec.json.decode(payload)  # a third of the cost, and as strict as JSON
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _lenient(payload)


def _lenient(payload: bytes) -> Any:
    def finite(match: re.Match[bytes]) -> bytes:
        if match[2] is None:
            return match[0]
        return b"NaN" if match[2].lower() == b"nan" else match[1] + b"Infinity"

    # Noise has neither word, and searching it by pattern cost 1 ms for 16 KiB.
    lower = payload.lower()
    if b"nan" in lower or b"inf" in lower:
        payload = _NOT_FINITE.sub(finite, payload)
    try:
        return json.loads(payload.decode())
    except RecursionError as error:
        raise ValueError("nested beyond reason") from error


def json_tree(payload: bytes) -> Any:
    """As `parse`. Raises Unreadable."""
    try:
        return parse(payload)
    except ValueError as error:
        raise Unreadable(Reason.NOT_JSON, str(error)[:200]) from error


def text(payload: bytes) -> str:
    """A plain payload, without the white space around it. Raises Unreadable."""
    try:
        return payload.decode().strip(" \t\r\n\0")
    except UnicodeDecodeError as error:
        raise Unreadable(Reason.NOT_DECODED, f"no text: {error}"[:200]) from error


def coded(codec: Callable[[bytes], Any], payload: bytes) -> Any:
    """What a codec makes of it. Raises Unreadable, whatever the codec raises."""
    try:
        return codec(payload)
    except Exception as error:  # a slip in a codec must not end the lane
        said = f"{type(error).__name__}: {error}"[:200]
        raise Unreadable(Reason.NOT_DECODED, said) from error


def uplink(payload: bytes) -> Entry:
    """The decoded object, and dev_eui, time, f_port, rssi as root, of a LoRaWAN uplink.

    ChirpStack 4: {"deviceInfo": {"devEui"}, "time", "fPort", "object", "rxInfo": [{"rssi"}]};
    The Things Stack 3: {"end_device_ids": {"dev_eui"}, "uplink_message": {"received_at", "f_port",
    "decoded_payload", "rx_metadata": [{"rssi"}]}}. The DevEUI becomes small letters: ChirpStack
    writes it so, The Things Stack in capitals. Raises Unreadable.
    """
    tree = json_tree(payload)
    if not isinstance(tree, dict):
        raise Unreadable(Reason.WRONG_TYPE, "one JSON object expected")
    if tree.get("simulated") is True:
        # The Things Stack lets a person at its console say so; no device did.
        raise Unreadable(Reason.NOT_DECODED, "simulated at the network server")
    if "end_device_ids" in tree:
        message = tree.get("uplink_message")
        if not isinstance(message, dict):
            raise Unreadable(Reason.NOT_DECODED, "no uplink_message: a join, or another event")
        eui, found = walk(tree, ("end_device_ids", "dev_eui")), message.get("decoded_payload")
        said = message.get("received_at"), message.get("f_port"), message.get("rx_metadata")
    elif "deviceInfo" in tree:
        eui, found = walk(tree, ("deviceInfo", "devEui")), tree.get("object")
        said = tree.get("time"), tree.get("fPort"), tree.get("rxInfo")
    else:
        detail = "neither deviceInfo (ChirpStack 4) nor end_device_ids (The Things Stack 3)"
        raise Unreadable(Reason.NOT_DECODED, detail)
    if not isinstance(found, dict):
        detail = "no decoded payload: the network server has no decoder for this device"
        raise Unreadable(Reason.MISSING_FIELD, detail)
    time, port, heard = said
    key = eui.lower() if isinstance(eui, str) else None
    return found, {"key": key, "time": time, "f_port": port, "rssi": _strongest(heard)}


def _strongest(heard: Any) -> Any:
    """The signal of the gateway that heard it best, in dBm; None where none says it."""
    gateways = heard if isinstance(heard, list) else []
    found = [one.get("rssi") for one in gateways if isinstance(one, dict)]
    numbers = [rssi for rssi in found if isinstance(rssi, int | float) and rssi == rssi]  # noqa: PLR0124 - NaN
    return max(numbers, default=None)


def spread(tree: Any, root: Any, items: Way | None) -> list[Entry]:
    """The entries of a tree: itself, or each element of its list. Raises Unreadable."""
    if items is None:
        if not isinstance(tree, dict):
            raise Unreadable(Reason.WRONG_TYPE, "one JSON object expected")
        return [(tree, root)]
    found = walk(root if items.from_root else tree, items.parts)
    if not isinstance(found, list):
        reason = Reason.MISSING_FIELD if found is None else Reason.WRONG_TYPE
        raise Unreadable(reason, "items: a list expected")
    if len(found) > ROWS_MAX:
        raise Unreadable(Reason.TOO_MANY_ROWS, f"{len(found)} items; {ROWS_MAX} fit")
    return [(item, root) for item in found]
