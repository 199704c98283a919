"""The device-type file: what a payload looks like and which readings it holds. Device facts only.

How a payload becomes entries, each what it says of one device at one time:

    format (layout, codec) -- items: one entry each -- key, time -- quantities

How one number becomes a reading, in this order:

    wire value -- when? -- absent? broken? -- * scale + offset, now in `unit` -- minimum, maximum --
    canonical unit of the quantity (sizao/units.py) -- the quantity's own bounds

`load.load` checks what one field alone cannot show.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StrictFloat, StrictInt

from ingest.device_types import pointer
from ingest.device_types.base import Closed
from ingest.device_types.layout import Layout
from ingest.device_types.reasons import Reason
from ingest.device_types.scalars import Flag, Moment, Number, Real, Wire
from sizao.units import BY_NAME, AlarmState, Lane, Quantity

QUANTITIES_MAX = 64  # fields of one payload; a panel's parts are devices of their own
TOPICS_MAX = 16
EXAMPLES_MAX = 256
INTERVAL_S_MAX = 31 * 86_400
CARRIER, KEY = "{carrier}", "{key}"

_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_ZONE = re.compile(r"[+-](?:0\d|1[0-4]):[0-5]\d")
# Without what no MQTT text may hold: a broker drops the connection that asks for it.
_LEVEL = re.compile(r"[^+#{}/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef]+")
_LEVELS_MAX, _PATTERN_MAX = 200, 4096
"""Mosquitto drops a connection that asks for more levels; 65,535 bytes are MQTT's bound."""


class Format(StrEnum):
    """Shape of a payload."""

    JSON = "json"  # an object; with `items` a list in it, or the payload itself
    JSON_COLUMNS = "json_columns"  # one array per field: a gateway's batch for many devices
    SENML = "senml"  # RFC 8428, JSON: pointers lead to names without their base name
    LORAWAN = "lorawan"  # uplink of ChirpStack 4 or The Things Stack 3, payload decoded there
    BINARY = "binary"  # packed; see `layout`
    PLAIN = "plain"  # one number or word as text
    CODEC = "codec"  # what the function `codec` of codecs.py makes of it


KEYED = {Format.SENML, Format.LORAWAN}
"""Formats that say whose they are by themselves: the base name, the DevEUI in small letters."""


class TimeFormat(StrEnum):
    """How a device writes its time."""

    UNIX_S = "unix_s"
    UNIX_MS = "unix_ms"
    UNIX_US = "unix_us"
    ISO8601 = "iso8601"
    COMPACT = "compact"  # 20260301080000
    AGE_S = "age_s"  # so many seconds before the payload arrived
    SENML = "senml"  # SenML's own: absolute, or relative to now


UNIX = frozenset({TimeFormat.UNIX_S, TimeFormat.UNIX_MS, TimeFormat.UNIX_US})


def _pattern(text: str) -> str:
    levels = text.split("/")
    if levels[:2] != ["up", CARRIER] or len(levels) < 3:  # noqa: PLR2004 - up, carrier, one more
        raise ValueError("expected up/{carrier}/... (the broker lets a carrier write only there)")
    if levels[2:].count(KEY) > 1 or CARRIER in levels[2:]:
        raise ValueError("expected {carrier} once and {key} at most once")
    for level in levels[2:]:
        if level != KEY and not (_LEVEL.fullmatch(level) and _in_planes(level)):
            raise ValueError(f"expected plain text or {KEY} as level {level!r}, no wildcard")
    if len(levels) > _LEVELS_MAX or len(text) > _PATTERN_MAX:
        raise ValueError(f"expected at most {_LEVELS_MAX} levels and {_PATTERN_MAX} characters")
    return text


def _in_planes(text: str) -> bool:
    """Whether none of it is one of the two last code points of a plane, which are no characters."""
    return all(ord(letter) & 0xFFFE != 0xFFFE for letter in text)  # noqa: PLR2004 - non-characters


def _items(text: str) -> str:
    return text if text == pointer.ROOT else pointer.checked(text)


def _zone(text: str) -> str:
    if text != "UTC" and not _ZONE.fullmatch(text):
        raise ValueError("expected UTC or an offset such as +08:00")
    return text


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("expected small letters, digits and . _ - between them")
    return text


Pointer = Annotated[str, AfterValidator(pointer.checked)]


class Topic(Closed):
    """Where the device's words arrive. A topic that can carry an alarm is of lane alarm."""

    pattern: Annotated[str, AfterValidator(_pattern)]
    lane: Lane
    quantities: list[str] | None = Field(
        default=None,
        max_length=QUANTITIES_MAX,
        description="what stands there; left out: all; []: nothing that anybody needs",
    )


class When(Closed):
    """The field by which the payload says what the rest of it means."""

    pointer: Pointer
    equals: list[Wire] = Field(min_length=1, description="then this quantity is there")
    ignores: list[Wire] = Field(
        default=[], description="then it is not, besides what the other quantities name"
    )


class Measure(Closed):
    """One field of the payload."""

    pointer: Pointer | None = Field(default=None, description="where; not in a plain payload")
    when: When | None = None
    text: Flag = Field(default=False, description="the number may be written as text")
    unit: str = Field(description="unit on the wire, after scale and offset; `state` for states")
    scale: Real = 1.0
    offset: Real = 0.0
    states: dict[Wire, str] = Field(default={}, description="wire value -> what it means")
    minimum: Real | None = Field(default=None, description="in `unit`")
    maximum: Real | None = Field(default=None, description="in `unit`")
    broken: list[Wire | StrictFloat] = Field(default=[], description="the sensor is broken")
    absent: list[Wire | StrictFloat] = Field(default=[], description="nothing said of it now")
    optional: Flag = Field(default=False, description="a payload without it is whole")


class DeviceTime(Closed):
    """Where the payload says when it was measured."""

    pointer: Pointer
    format: TimeFormat
    zone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="of iso8601 texts that name none"
    )


class ExampleReading(Closed):
    """A reading that an example must give. Value in the canonical unit; states by their number."""

    quantity: str
    value: Number
    key: str | None = Field(default=None, description="left out: the example topic's")
    at: Moment | None = Field(default=None, description="left out: arrival")


class Example(Closed):
    """A payload and what must come of it: readings, a refusal, or readings beside bad fields."""

    note: str = ""
    topic: str
    payload: str | None = None
    payload_hex: str | None = Field(default=None, description="for what is not text")
    arrived: Moment = datetime(2026, 3, 1, 8, 0, 0, tzinfo=UTC)
    readings: list[ExampleReading] | None = None
    refused: Reason | None = None
    bad_fields: dict[str, Reason] = Field(default={}, description="quantity, or `time`")

    def raw(self) -> bytes:
        """The payload's bytes."""
        if self.payload_hex is not None:
            return bytes.fromhex(self.payload_hex)
        return (self.payload or "").encode()


class DeviceType(Closed):
    """One kind of device, as its documentation describes it."""

    name: Annotated[str, AfterValidator(_name)] = Field(max_length=64)
    description: str = ""
    topics: list[Topic] = Field(min_length=1, max_length=TOPICS_MAX)
    format: Format
    layout: Layout | None = Field(default=None, description="of format binary")
    codec: str | None = Field(default=None, description="of format codec: a function there")
    items: Annotated[str, AfterValidator(_items)] | None = Field(
        default=None, description="list of devices or of readings; $ for the payload itself"
    )
    key: Pointer | None = Field(
        default=None, description="where the payload has the device's key; else {key} has it"
    )
    time: DeviceTime | None = None
    quantities: dict[str, Measure] = Field(min_length=1, max_length=QUANTITIES_MAX)
    expected_interval_s: StrictInt = Field(
        gt=0, le=INTERVAL_S_MAX, description="it speaks at least so often"
    )
    repeats: Flag = Field(description="says an alarm again at least every 10 s until `seen`")
    heat_detector: Flag = Field(
        default=False, description="certified by class: each device must name its own (A1...G)"
    )
    gas_detector: Flag = Field(
        default=False, description="calibrated for one gas: each device must name its own"
    )
    examples: list[Example] = Field(min_length=2, max_length=EXAMPLES_MAX)

    @property
    def says_alarms(self) -> bool:
        """Whether it maps a quantity of the alarm lane."""
        return any(map(is_alarm, self.quantities))

    def of_topic(self, topic: Topic) -> list[str]:
        """Names of the quantities that stand there."""
        return list(self.quantities) if topic.quantities is None else topic.quantities


def is_alarm(name: str) -> bool:
    """Whether it names a quantity of the alarm lane."""
    return name in BY_NAME and BY_NAME[name].lane is Lane.ALARM


def state_names(quantity: Quantity) -> dict[str, int]:
    """What a state of this quantity may be called, and its number."""
    if quantity.lane is Lane.ALARM:
        return {state.name.lower(): int(state) for state in AlarmState}
    return {"normal": 0, "fault": 1}
