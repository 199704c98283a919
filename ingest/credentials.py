"""Passwords and access rules of carriers, as the files of Mosquitto have them.

Passwords go two ways only: hashed into the broker's file, plain into the hand-over for who
installs the device. The database, the log and the process list never have them. Lines that are not
of carriers, and access rules outside of our block, stay byte for byte as they are.

New entries do not go into the live file but wait beside it (`passwords.next`), for the broker reads
its files only when it is told to, and tells everybody to wait meanwhile. Measured on Mosquitto
2.0.11 (`python -m deploy.local.bench_credentials`, 2 cores under load) with 1,000, 20,000, 100,000
and 400,000 lines: an orderly restart takes 0.2, 0.2, 0.6 and 1.7 s, 3.5 us for each line, and each
client that comes back 200 us of the broker's only thread (115 on an idle machine, 65 of it the
hash). So we predict

    away_s = 0.3 + 3.5e-6 * lines        back_s = 200e-6 * clients, one for each line at most

A SIGHUP stalls it as long for the lines, and hashes once more for each client that is connected.
But it goes through the sessions of absent clients too, whose passwords nobody can check, and ends
them a second time: 2.0.11 crashed by that (deploy/README.md). No later 2.0 of which we have read
the source leaves them alone, and since 2.0.15 those restored from disk are among them. So the
default is a restart, which keeps sessions and queues.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ingest.device_types.schema import CARRIER, KEY
from ingest.devices import Known
from ingest.faults import SHOWN_MAX, Names
from sizao.errors import BadInput
from sizao.registry.model import LifeState, View

# What mosquitto_passwd writes itself ($7$: PBKDF2, SHA-512, 101 rounds): the broker repeats it in
# its only thread at each CONNECT, so more rounds make a reconnecting district wait. A password of
# 160 random bits needs no more.
ROUNDS = 101
SALT_BYTES = 12
SECRET_BYTES = 20

AWAY_S = 0.3
LINE_S = 3.5e-6
RETURN_S = 200e-6

GONE = "!"
"""Instead of a hash, of who shall have no entry any more. Mosquitto knows no such hash: should
somebody copy the waiting file over the live one, nobody gets in by it."""

_BEGIN = b"# sizao: what follows is written by `sizao devices credentials`"
_END = b"# sizao: end"
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_DAY_MIN = 24 * 60

Draw = Callable[[int], bytes]
"""So many random bytes, as `secrets.token_bytes` gives them."""


def hashed(password: str, salt: bytes) -> str:
    """A password as Mosquitto's file has it. Takes 65 us."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ROUNDS)
    return f"$7${ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def draw_password(draw: Draw) -> str:
    """160 random bits in 32 small letters and digits.

    Without 0, 1, 8, 9, so that nobody takes them for O, l, B, g, and without a sign that a
    spreadsheet takes for a formula.
    """
    return base64.b32encode(draw(SECRET_BYTES)).decode().lower()


def entries(raw: bytes) -> dict[str, str]:
    """User name -> hash, of a file of passwords."""
    found = {}
    for line in raw.split(b"\n"):
        name = _name(line)
        if name:
            found[_text(name)] = _text(line.partition(b":")[2].strip())
    return found


def merged(raw: bytes, changes: Mapping[str, str]) -> bytes:
    """The file with `changes` (name -> hash, or GONE): in place, the new ones at its end."""
    left = {_raw(name): _raw(word) for name, word in changes.items()}
    ours, lines = set(left), []
    for line in raw.removesuffix(b"\n").split(b"\n") if raw else []:
        name = _name(line)
        if name not in ours:
            lines.append(line)
        elif name in left:  # else a second line of the same user
            lines += _lines([(name, left.pop(name))])
    lines += _lines(left.items())
    return b"".join(line + b"\n" for line in lines)


def waiting(changes: Mapping[str, str]) -> bytes:
    """The file of what waits; `entries` reads it."""
    return b"".join(_raw(f"{name}:{word}\n") for name, word in changes.items())


def _lines(pairs: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    return [name + b":" + word for name, word in pairs if word != GONE.encode()]


def _name(line: bytes) -> bytes:
    """As the broker reads it: "" of a line that it passes over."""
    return b"" if line.startswith(b"#") or b":" not in line else line.partition(b":")[0].strip()


def _raw(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


def access(raw: bytes, bridge: str, mounts: Sequence[str] = ("",)) -> bytes:
    """The file of access rules with our block: where it stood, else at the end. `mounts`: what the
    broker puts before the topics of its listeners' clients; it asks for rights with that.

    At the end, because `user` counts until the next one: rules of somebody else that followed it
    would become the bridge's.
    """
    block = [
        _BEGIN,
        b"# A device speaks under its own name alone, and hears what is sent to it.",
        *(_raw(f"pattern write {mount}up/%u/#") for mount in mounts),
        *(_raw(f"pattern read {mount}down/%u/#") for mount in mounts),
        _raw(f"user {bridge}"),
        *(_raw(f"topic read {mount}up/#") for mount in mounts),
        b"topic read $SYS/broker/#",
        _END,
    ]
    lines = raw.removesuffix(b"\n").split(b"\n") if raw else []
    if _BEGIN in lines and _END in lines[lines.index(_BEGIN) :]:
        first = lines.index(_BEGIN)
        last = lines.index(_END, first)
        lines[first : last + 1] = block
    else:
        lines += block
    return b"".join(line + b"\n" for line in lines)


def foreign_patterns(raw: bytes, bridge: str, mounts: Sequence[str] = ("",)) -> list[str]:
    """Rules for everybody in a file of access rules that are not ours: each gives more."""
    ours = access(b"", bridge, mounts).split(b"\n")
    lines = [line.strip() for line in raw.split(b"\n")]
    return [_text(line) for line in lines if line.startswith(b"pattern") and line not in ours]


def entitled(view: View) -> frozenset[str]:
    """Carriers that may have a password: not revoked, and some device of theirs not retired."""
    states = np.array(view.device_state, dtype=object)
    used = view.device_live & (states != LifeState.RETIRED)
    names = {view.carrier_names[one] for one in np.unique(view.device_carrier[used]).tolist()}
    return frozenset((names & view.carrier_site.keys()) - view.revoked)


def surplus(view: View, users: Collection[str], bridge: str) -> list[str]:
    """Users that are carriers and may have no password any more."""
    may = entitled(view)
    carriers = set(view.carrier_names.values()) - {bridge}
    return sorted(name for name in users if name in carriers and name not in may)


def chosen(
    view: View, users: Collection[str], bridge: str, named: Sequence[str], *, missing: bool
) -> list[str]:
    """Who gets a new password: those named; else those without one (`missing`); else all.

    Raises BadInput with every carrier that can have none, the first 200.
    """
    may = entitled(view)
    known = Names(view.carrier_site)
    names = sorted(set(named) or {one for one in may if not missing or one not in users})
    faults = [fault for name in names for fault in _faults(view, name, may, known)]
    for name in names:
        if ":" in name or name != name.strip():
            text = "Mosquitto's file cannot hold a name with a colon or a space at its end"
            faults.append(f"carrier {name!r}: {text}, expected another (sizao devices swap)")
        elif name == bridge:
            faults.append(
                f"carrier {name!r}: has the name of the bridge's own user (mqtt.username)"
            )
    if faults:
        more = len(faults) - SHOWN_MAX
        tail = [f"... and {more:,} more faults"] if more > 0 else []
        raise BadInput("\n".join(faults[:SHOWN_MAX] + tail))
    return names


def _faults(view: View, name: str, may: Collection[str], known: Names) -> Iterable[str]:
    if name not in view.carrier_site:
        near = known.nearest(name)
        yield f"unknown carrier: {name!r}" + (f"; nearest: {near}" if near else "")
    elif name in view.revoked:
        yield f"carrier {name!r}: is revoked, expected one that is not (sizao devices restore)"
    elif name not in may:
        yield f"carrier {name!r}: has no device that is not retired, expected one"


class Broker(NamedTuple):
    """Where devices find it."""

    host: str
    port: int


def hand_over(view: View, passwords: Mapping[str, str], broker: Broker) -> dict[str, list[str]]:
    """What an installer needs, a row for each carrier. Topics are divided by spaces."""
    known = Known(view)
    names = list(passwords)
    return {
        "carrier": names,
        "username": names,
        "password": list(passwords.values()),
        "host": [broker.host] * len(names),
        "port": [str(broker.port)] * len(names),
        "publish": [" ".join(_topics(known, name)) for name in names],
        "subscribe": [f"down/{name}/#" for name in names],
    }


def _topics(known: Known, carrier: str) -> list[str]:
    """Where its devices speak by their types; the key stands there if there is but one."""
    view = known.view
    keys: dict[str, list[str]] = {}
    for key, device in view.roster[carrier].items():
        if view.device_state[device] != LifeState.RETIRED:
            keys.setdefault(view.types[int(view.device_type[device])].name, []).append(key)
    found = set()
    for kind, of_kind in keys.items():
        for topic in known.type(kind).topics:
            text = topic.pattern.replace(CARRIER, carrier)
            found.add(text.replace(KEY, of_kind[0]) if len(of_kind) == 1 else text)
    return sorted(found)


class Stall(NamedTuple):
    """What a restart of the broker costs: nobody is served, then everybody comes back."""

    away_s: float
    back_s: float


def stall(lines: int) -> Stall:
    """Predicted for a file of so many users, each with one connection (see the module)."""
    return Stall(AWAY_S + LINE_S * lines, RETURN_S * lines)


class Window(NamedTuple):
    """From and to a minute of the day; over midnight where `end` is not later."""

    begin: int
    end: int


def window(text: str) -> Window:
    """Of `02:00-04:00`. Raises ValueError."""
    found = _WINDOW.fullmatch(text)
    if not found:
        raise ValueError("expected a time of day as 02:00-04:00")
    hours = [int(part) for part in found.groups()]
    return Window(hours[0] * 60 + hours[1], hours[2] * 60 + hours[3])


def opens_in(times: Window, minute: int) -> int:
    """Minutes until the window opens, 0 while it is open. `minute` is of the day, there."""
    length = (times.end - times.begin) % _DAY_MIN or _DAY_MIN
    since = (minute - times.begin) % _DAY_MIN
    return 0 if since < length else _DAY_MIN - since
