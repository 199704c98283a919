"""The words of this room as records: incident, member, transition, and what comes in.

Pure and frozen; `alerting.incident` decides with them, `alerting.store` keeps them. Times are
microseconds UTC: `at`, `opened`, `changed`, `closed` by our clock, the others event times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from sizao.errors import Permanent
from sizao.signal import Kind, Signal, Tier

LATE_US = 60_000_000
"""An event heard more than a minute after it happened is shown as late."""
ALARMING_US = 600_000_000
"""A device counts as alarming until 10 min after its last alarm message (design, section 1)."""
CAUSE_CHARS_MAX = 500
ACTION_CHARS_MAX = 64
ACTOR_CHARS_MAX = 64
DEVICES_MAX = 500

INCIDENT_KINDS = frozenset({Kind.FIRE, Kind.GAS, Kind.CO, Kind.UNREAD, Kind.SYSTEM})
DETECT = "detect"
"""The actor of what a signal caused."""


class Nature(StrEnum):
    """Never merged, never converted."""

    REAL = "real"
    DRILL = "drill"
    TEST = "test"
    CANARY = "canary"


class State(StrEnum):
    """Who is moving: the first of the two axes."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


class Verdict(StrEnum):
    """What a person says it is: the second axis."""

    FIRE = "fire"
    FALSE_ALARM = "false_alarm"
    TEST = "test"
    FAULT = "fault"


class What(StrEnum):
    """What a transition did."""

    OPENED = "opened"
    JOINED = "joined"
    RAISED = "raised"
    RENEWED = "renewed"  # a device in it alarms anew, or for the first time
    ACKNOWLEDGED = "acknowledged"
    VERDICT = "verdict"
    CLOSED = "closed"


ACTIONS = frozenset({What.ACKNOWLEDGED, What.VERDICT, What.CLOSED})
PAGED = frozenset({What.OPENED, What.JOINED, What.RAISED, What.RENEWED})
"""Transitions that policy is asked about."""


class CauseKind(StrEnum):
    """Where a transition came from."""

    SIGNAL = "signal"
    ACTION = "action"
    DEADLINE = "deadline"


class Became(StrEnum):
    """What a signal did: a closed label, and the column of its row."""

    OPENED = "opened"
    JOINED = "joined"
    RAISED = "raised"
    RENEWED = "renewed"
    SAME = "same"  # a device already in it, at no higher tier
    CLEARED = "cleared"
    NOTHING_OPEN = "nothing_open"  # a clear of what never opened an incident
    AFTER_CLOSE = "after_close"  # belongs to an incident that a person closed
    SLOW = "slow"  # a kind that is no incident
    UNDER_CARRIER = "under_carrier"  # offline, as its whole carrier is: one matter, not many


class NotAllowed(Permanent):
    """An action that the table does not list in this state, or a malformed one."""


class Conflict(Permanent):
    """Somebody else changed the incident first; `now` is how it stands."""

    def __init__(self, now: Incident, expected_version: int) -> None:
        """Keep what a caller needs to show."""
        super().__init__(
            f"incident {now.id} is at version {now.version}, not {expected_version}: somebody"
            f" changed it ({now.state}, verdict {now.verdict or 'none'}); look again, then act"
        )
        self.now = now


class Key(NamedTuple):
    """What at most one open incident has."""

    site: int
    kind: Kind
    nature: Nature


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a device stands and who brings its words. `floor` None: on none that is known;
    `charging`: where e-bikes are charged; `carrier_site`: 0 for none; `roster`: devices in service
    of the carrier.
    """

    floor: int | None = None
    charging: bool = False
    carrier: str = ""
    carrier_site: int = 0
    roster: int = 0


class Beside(NamedTuple):
    """A signal of no incident that may matter to a fire; `at_us`: when it happened."""

    kind: Kind
    site: int
    device: int
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A device in an incident, or a subject without one; times are event times.

    `onset` is its newest onset of its highest tier, `cleared_us` the end of that one; `alone`: it
    has spoken for itself, not for what is around it.
    """

    name: str
    device: int
    tier: Tier
    onset: str
    joined_us: int
    last_us: int
    cleared_us: int | None = None
    floor: int | None = None
    alone: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """How one incident stands. `known` holds the members that the caller asked the store about, by
    name; `members` counts them all. `version` grows by one with each transition.
    """

    id: str
    key: Key
    tier: Tier
    state: State
    version: int
    opened_us: int
    onset_us: int
    last_us: int
    changed_us: int
    late: bool
    deciding: str
    members: int
    closed_us: int | None = None
    verdict: Verdict | None = None
    verdict_cause: str = ""
    verdict_devices: tuple[int, ...] = ()
    alarm_member: str = ""
    alarm_us: int = 0
    known: Mapping[str, Member] = field(default_factory=dict)

    @property
    def is_early_fire(self) -> bool:
        """Whether a second early device may make it an alarm."""
        early = self.tier is Tier.EARLY and self.state is not State.CLOSED
        return early and self.key.kind is Kind.FIRE

    def face(self) -> dict[str, str | int | None]:
        """What a transition shows of before and after."""
        return {
            "state": self.state,
            "tier": self.tier,
            "verdict": self.verdict,
            "members": self.members,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Input: a signal, its nature, and the incident of that nature that already holds its onset
    ("" if none). By nature: a real fire may follow a self-test within one onset. `beside`: what of
    its site and nature is held that may matter to it, if it is of a fire.
    """

    signal: Signal
    nature: Nature
    holder: str = ""
    place: Place = Place()
    beside: tuple[Beside, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Input: what a person does. `id` is made at the button, so that a repeat is the same act."""

    id: str
    actor: str
    what: What
    expected_version: int
    verdict: Verdict | None = None
    cause: str = ""
    devices: tuple[int, ...] = ()


Input = Heard | Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Effect: one line of the time line. `signal` is the record that caused it."""

    id: str
    incident: str
    version: int
    cause: str
    cause_kind: CauseKind
    what: What
    at_us: int
    event_us: int
    actor: str
    late: bool
    before: dict[str, str | int | None]
    after: dict[str, str | int | None]
    payload: dict[str, str | int | list[int]]
    signal: Signal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Effect: the row of one signal; `incident` is "" where it belongs to none."""

    signal: Signal
    nature: Nature
    incident: str
    became: Became


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Effect: a member of `incident` is new or changed."""

    incident: str
    member: Member


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """Somebody is offline: when it fell silent, by which signal, and whose words it was."""

    carrier: str
    onset: str
    onset_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Silenced:
    """Effect: a device, or a carrier (`device` 0), is offline, or no longer: `ended_us`."""

    name: str
    nature: Nature
    device: int
    silent: Silent
    ended_us: int | None


Effect = Transition | Recorded | Placed | Silenced
