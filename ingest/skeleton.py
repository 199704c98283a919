"""A first device-type file for somebody to go on with: from a template, or from a sample payload.

What a sample's field is called tells its quantity in the common cases; what it does not tell stays
as a comment with its value. Nothing is guessed from a number alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any

from ingest.check import run
from ingest.device_types import json_schema
from ingest.device_types.formats import parse
from ingest.device_types.load import load
from ingest.device_types.pointer import checked
from ingest.device_types.pointer import parse as parse_pointer
from ingest.device_types.schema import CARRIER, KEY, is_alarm
from ingest.field_names import KEYS, TIMES, Guess, quoted, state_table, what_is
from sizao.document import shown
from sizao.errors import BadInput
from sizao.units import BY_NAME, Lane, conversion

_DEPTH_MAX = 6
_FIELDS_MAX = 200  # a comment each; no person reads more
_NAME = re.compile(r"([a-z0-9]+(?:[_-][a-z0-9]+)*)\.([a-z0-9]+(?:[._-][a-z0-9]+)*)")
_HINT = f"# yaml-language-server: $schema=../{json_schema.FILE}\n"
_TELEMETRY, _ALARM = (f"up/{CARRIER}/{level}/{KEY}" for level in ("telemetry", "alarm"))
_UNIX = {1: "unix_s", 1000: "unix_ms", 1_000_000: "unix_us"}
_OF = 1_000_000_000, 10_000_000_000  # seconds: 2001 to 2286; nothing else looks like them
_NONE_TELLS = "No field of the sample has a name that tells"
_SHOWN_MAX = 80
_NAME_MEMBERS = ("name", "n", "key", "k", "code", "type", "id")  # of lists of names and values
_VALUE_MEMBERS = ("value", "v", "val", "data")
_CARRIER, _DEVICE = "gw-1", "dev-1"  # in examples


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a sample. `name`: that of an element of a list of names and values."""

    pointer: str
    value: Any
    name: str = ""

    @property
    def comment(self) -> str:
        """Its place and value on one line."""
        return f"{quoted(self.pointer)[1:-1]}  {quoted(self.value)[:_SHOWN_MAX]}"

    @property
    def word(self) -> str:
        """Its name without case and separators."""
        return re.sub(r"[^a-z0-9]", "", (self.name or self.pointer.rpartition("/")[2]).lower())

    @property
    def reachable(self) -> bool:
        """Whether a pointer leads there: a member that begins with [ has none."""
        try:
            plain = self.pointer.isprintable() and ("/[" not in self.pointer or self.name != "")
            return plain and bool(checked(self.pointer))
        except ValueError:
            return False


def place_of(name: str) -> tuple[str, str]:
    """Vendor and model of a type's name. Raises BadInput."""
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise BadInput(f"got {name!r}, expected VENDOR.MODEL: small letters, digits and . _ -")
    return parts[1], parts[2]


def from_template(template: str, name: str, topic: str | None) -> str:
    """The template of a format under another name, and with its own topic."""
    text = template.replace("vendor.model", name, 1)
    if topic is None:
        return _HINT + text
    old = load(template, "template").topics[0]
    pattern = pattern_of(topic)
    text = text.replace(old.pattern, pattern, 1).replace(concrete(old.pattern), concrete(pattern))
    lane = f"lane: {_lane(pattern) or old.lane}"
    return _HINT + text.replace(f"lane: {old.lane}", lane, 1)


def from_sample(name: str, sample: bytes, topic: str | None) -> str:
    """A file whose first example is the sample. Raises BadInput when it is no JSON object."""
    tree = _object(sample)
    fields = list(_fields(tree, ""))[:_FIELDS_MAX]
    pattern = pattern_of(topic) if topic else None
    lane = _lane(pattern) if pattern else None
    guesses, rest = _guesses(fields, lane)
    if pattern is None:
        pattern = _ALARM if any(is_alarm(one.quantity) for _, one in guesses) else _TELEMETRY
    lane = lane or (Lane.ALARM if "/alarm/" in pattern else Lane.TELEMETRY)
    keys = [one for one in fields if one.word in KEYS and one.reachable]
    keys = [one for one in keys if isinstance(one.value, str | int)]
    key = None if KEY in pattern else next(iter(keys), None)
    if key is None and KEY not in pattern:
        raise BadInput(f"--topic: got {topic!r}, expected the device's key as its last level")
    time = next((one for one in fields if _time_format(one)), None)
    parts = [_HINT, _head(name, pattern, lane), _key(key, keys), _time(time)]
    parts.append(_quantities(guesses, [one for one in rest if one not in (time, key)]))
    text = "".join(parts)
    said = None if time is None else time.value
    return text + _examples(text, sample, concrete(pattern), said, key)


def pattern_of(topic: str) -> str:
    """A pattern, or the pattern that a topic seen on the wire fits. Raises BadInput."""
    if not topic.startswith("up/"):
        raise BadInput(f"--topic: got {topic!r}, expected up/CARRIER/... or up/{CARRIER}/...")
    if "{" in topic:
        return topic
    levels = topic.split("/")
    return "/".join(["up", CARRIER, *levels[2:-1], KEY if len(levels) > 3 else levels[-1]])  # noqa: PLR2004 - up, carrier, kind, key


def concrete(pattern: str) -> str:
    """A topic that fits a pattern."""
    return pattern.replace(CARRIER, _CARRIER).replace(KEY, _DEVICE)


def _lane(pattern: str) -> Lane | None:
    level = f"{pattern}///".split("/")[2]
    return Lane(level) if level in list(Lane) else None


def _object(sample: bytes) -> dict[str, Any]:
    try:
        tree = parse(sample)
    except ValueError as error:
        raise BadInput(f"--sample: got no JSON ({error}), expected one JSON object") from error
    if not isinstance(tree, dict):
        raise BadInput(f"--sample: got {shown(tree)}, expected one JSON object")
    return tree


def _fields(tree: Any, pointer: str) -> Iterator[Field]:
    """Single values of a tree; of lists those of names and values, others as they are."""
    if isinstance(tree, dict) and pointer.count("/") < _DEPTH_MAX:
        for member, value in tree.items():
            yield from _fields(value, f"{pointer}/{member.replace('~', '~0').replace('/', '~1')}")
    elif (pair := _pair(tree)) is not None and "/[" not in pointer:
        member, of = pair
        for one in tree:
            yield Field(f"{pointer}/[{member}={one[member]}]/{of}", one[of], name=one[member])
    else:
        yield Field(pointer, tree)


def _pair(tree: Any) -> tuple[str, str] | None:
    """Members under which each element of a list has its name, no two the same, and its value."""
    if not isinstance(tree, list) or not tree or not all(isinstance(one, dict) for one in tree):
        return None
    for member, of in product(_NAME_MEMBERS, _VALUE_MEMBERS):
        names = [one.get(member) for one in tree if of in one]
        if all(isinstance(name, str) and name for name in names) and len(set(names)) == len(tree):
            return member, of
    return None


def _guesses(
    fields: list[Field], lane: Lane | None
) -> tuple[list[tuple[Field, Guess]], list[Field]]:
    """Fields whose name tells a quantity, each once, and the others."""
    guesses: dict[str, tuple[Field, Guess]] = {}
    rest = []
    for field in fields:
        guess = what_is(field.word, field.value)
        fits = guess is not None and guess.quantity not in guesses and _readable(field, guess)
        if guess is None or not fits or (is_alarm(guess.quantity) and lane is Lane.TELEMETRY):
            rest.append(field)
        else:
            guesses[guess.quantity] = field, guess
    return list(guesses.values()), rest


def _readable(field: Field, guess: Guess) -> bool:
    """Whether a pointer leads there, and a number is one that the quantity can have."""
    quantity = BY_NAME[guess.quantity]
    if quantity.unit == "state" or not field.reachable:
        return field.reachable
    factor, offset = conversion(guess.unit, quantity)
    return quantity.minimum <= float(field.value) * factor + offset <= quantity.maximum


def _time_format(field: Field) -> str:
    """How a field writes its time; "" where it is none."""
    value = field.value
    if field.word not in TIMES or isinstance(value, bool) or not field.reachable:
        return ""
    if isinstance(value, int | float) and 0 < value < max(_UNIX) * _OF[1]:
        return next((form for one, form in _UNIX.items() if _OF[0] <= value / one < _OF[1]), "")
    return "iso8601" if isinstance(value, str) and _moment(value) else ""


def _moment(value: Any) -> datetime | None:
    """The time that a field says, where it says one."""
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return time if time.tzinfo else time.replace(tzinfo=UTC)
        scale = next(one for one in _UNIX if value / one < _OF[1])
        return datetime.fromtimestamp(value / scale, UTC)
    except (ValueError, OverflowError):
        return None


def _head(name: str, pattern: str, lane: Lane) -> str:
    return f"""\
# Made from a sample: go through it from the top. `sizao device-type check FILE` says what is not
# right, `sizao device-type test FILE` shows what comes of each example.
name: {name}
description: What it is, in a few words for people

topics:
  - pattern: {pattern}
    lane: {lane}    # alarm where an alarm may arrive, else telemetry

format: json
"""


def _key(key: Field | None, keys: list[Field]) -> str:
    if key is not None:
        return f"\nkey: {quoted(key.pointer)}    # of the device: a gateway speaks for it\n"
    return "".join(f"# key: {one.comment}  (instead of {{key}} in the topic)\n" for one in keys[:1])


def _time(time: Field | None) -> str:
    if time is None:
        return "\n# No `time`: arrival counts.\n"
    zone = ""
    if isinstance(time.value, str) and datetime.fromisoformat(time.value).tzinfo is None:
        zone = '  zone: "+00:00"   # it names none: which is it?\n'
    return f"\ntime:\n  pointer: {quoted(time.pointer)}\n  format: {_time_format(time)}\n{zone}"


def _quantities(guesses: list[tuple[Field, Guess]], rest: list[Field]) -> str:
    lines = ["", "quantities:"]
    if not guesses:
        lines += [
            f"  # {_NONE_TELLS}. This one stands here so that the",
            "  # file is whole: put in its place what the device measures.",
            "  temperature_c: {pointer: /temperature, unit: degC, optional: yes}",
        ]
    for field, guess in guesses:
        pointer, value = quoted(field.pointer), quoted(field.value)[:_SHOWN_MAX]
        lines += [f"  {guess.quantity}:", f"    pointer: {pointer}    # {value}"]
        lines += [f'    unit: "{guess.unit}"{guess.doubt}']
        if guess.unit != "state" and isinstance(field.value, str):
            lines.append("    text: yes    # the number is written as text")
        if BY_NAME[guess.quantity].unit == "state":
            table = state_table(guess.quantity, field.value)
            lines += [f"    states: {table}    # what else can it say?"]
    if rest:
        lines += ["", "  # Not taken; give what matters its quantity (`sizao device-type schema`):"]
        lines += [f"  #   {field.comment}" for field in rest]
    interval = "expected_interval_s: 3600    # it speaks at least so often; offline is judged by it"
    repeats = "repeats: no    # yes: it says an alarm again, at least every 10 s, until `seen`"
    return "\n".join([*lines, "", interval, repeats, ""])


def _alone(key: Field | None) -> dict[str, Any]:
    """An object that says nothing but whose it is."""
    if key is None:
        return {}
    value: Any = _DEVICE
    for part in reversed(parse_pointer(key.pointer).parts):
        value = {str(part): value}
    return dict(value)


def _examples(text: str, sample: bytes, topic: str, time: Any, key: Field | None) -> str:
    """The sample and what comes of it by the file so far, and one that is refused."""
    arrived = _moment(time) if time is not None else None
    said = "" if arrived is None else f"\n    arrived: {arrived.isoformat()}"
    payload = sample.decode()
    payload = (
        quoted(payload) if not payload.isprintable() else f"""'{payload.replace("'", "''")}'"""
    )
    head = f"\nexamples:\n  - note: the sample\n    topic: {topic}\n    payload: {payload}{said}\n"
    quantity = next(iter(re.findall(r"^  (\w+):", text.partition("quantities:")[2], re.MULTILINE)))
    tail = f"""
  - note: cut off by the radio
    topic: {topic}
    payload: '{{"'
    refused: not_json
"""
    if _NONE_TELLS in text:
        tail = f"""
  - note: made up
    topic: {topic}
    payload: '{json.dumps({"temperature": 21.5} | _alone(key))}'
    readings: [{{quantity: temperature_c, value: 21.5}}]
{tail}"""
    draft = f"{text}{head}    readings: [{{quantity: {quantity}, value: 0}}]\n{tail}"
    device_type = load(draft, "sample")
    _, rows, refused = run(device_type, draft, device_type.examples[0])
    readings = [f"      - {{quantity: {name}, value: {value:.6g}}}" for _, name, value, _ in rows]
    came = "    readings:\n" + "\n".join(readings) + "\n" if readings else "    readings: []\n"
    if refused is not None and not refused.whole:
        bad = ", ".join(f"{fault.where}: {fault.reason}" for fault in refused.faults)
        came += f"    bad_fields: {{{bad}}}\n"
    return head + came + tail
