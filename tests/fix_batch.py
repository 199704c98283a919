"""Batches of alarms: two types share one topic, each with its keys elsewhere."""

from fix_bridge import SMOKE_HEAT, Device
from hypothesis import strategies as st

TOPIC = "up/ga/alarm"


def alarm_batch(key: str) -> str:
    """A type whose batches say alarms, on up/<carrier>/alarm; `key`: pointer to its keys."""
    text = SMOKE_HEAT.replace("alarm/{key}", "alarm").replace("generic.", f"batch.{key[1:]}.")
    return text.replace("format: json\n", f"format: json_columns\nkey: {key}\n")


DEVICES = (
    Device("a1", alarm_batch("/keys"), carrier="ga", site=1),
    Device("a2", alarm_batch("/keys"), carrier="ga", site=2),
    Device("i1", alarm_batch("/ids"), carrier="ga", site=3),
)

_KEYS = st.lists(st.sampled_from(["a1", "a2", "i1", "x", None, 7]), max_size=3)
_STATES = st.lists(st.sampled_from(["alarm", "normal", "?", None]), max_size=3)
_JUNK = st.sampled_from([None, 5, "a1", {}, [[]], True])
BATCHES = st.fixed_dictionaries(
    {},
    optional={"keys": _KEYS | _JUNK, "ids": _KEYS, "state": _STATES | _JUNK, "smoke": _STATES},
)
"""What a gateway may say on TOPIC, good and bad."""


def is_empty(said: dict) -> bool:
    """Whether a batch holds nothing at all."""
    return all(said.get(name) in (None, []) for name in ("keys", "ids", "state", "smoke"))
