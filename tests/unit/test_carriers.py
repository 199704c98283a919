"""When a gateway is silent, and its devices are one matter."""

from __future__ import annotations

from fix_incident import MINUTE, T0, Desk, make
from hypothesis import given
from hypothesis import strategies as st

from alerting.carriers import Silences, limit
from alerting.model import Became, Nature, Place, Recorded, Silenced, What
from sizao.signal import Kind, Phase, SubjectType, Tier

HOUR = 60 * MINUTE
GATEWAY = Place(carrier="gw", carrier_site=7, roster=10)


def offline(device, since=T0, at=None, phase=Phase.RAISE):
    at = since + HOUR if at is None else at
    return make(
        device, at=at, onset=since, kind=Kind.OFFLINE, tier=Tier.EARLY, phase=phase, rule="offline"
    )


def back(device, since=T0, at=T0 + 2 * HOUR):
    return offline(device, since, at, Phase.CLEAR)


class Log(Desk):
    """A desk that keeps rows."""

    def __init__(self):
        super().__init__()
        self.rows: list[Recorded] = []
        self.silenced: list[Silenced] = []

    def _keep(self, effects):
        self.rows += [effect for effect in effects if isinstance(effect, Recorded)]
        self.silenced += [effect for effect in effects if isinstance(effect, Silenced)]
        return super()._keep(effects)

    @property
    def carriers(self):
        """Signals about carriers."""
        return [row.signal for row in self.rows if row.signal.subject.type is SubjectType.CARRIER]


def test_half_of_the_roster_and_three_at_least():
    assert [limit(roster) for roster in (0, 1, 3, 6, 7, 10, 200)] == [3, 3, 3, 3, 4, 5, 100]


def test_half_of_a_gateways_devices_are_the_gateway():
    log = Log()
    for device in range(1, 8):
        log.hear(offline(device, T0 + device), place=GATEWAY)
    (said,) = log.carriers
    assert (said.subject.id, said.site, said.phase) == ("gw", 7, Phase.RAISE)
    assert said.onset_us == T0 + 1
    assert said.evidence["silent_count"] == said.evidence["limit_count"] == 5
    became = {row.signal.device: row.became for row in log.rows}
    assert [became[device] for device in range(8)] == (
        [Became.SLOW] * 5 + [Became.UNDER_CARRIER] * 3
    )
    assert log.whats == []


def test_it_comes_back_when_few_are_left_and_not_with_the_first():
    log = Log()
    for device in range(1, 8):
        log.hear(offline(device), place=GATEWAY)
    for device in range(1, 5):
        log.hear(back(device), place=GATEWAY)
    assert len(log.carriers) == 1  # three are left
    log.hear(offline(1, T0 + 3 * HOUR), place=GATEWAY)
    assert log.rows[-1].became is Became.UNDER_CARRIER
    for device in (1, 5):
        since = T0 + 3 * HOUR if device == 1 else T0
        log.hear(back(device, since, T0 + 5 * HOUR), place=GATEWAY)
    raised, over = log.carriers
    assert (over.phase, over.onset) == (Phase.CLEAR, raised.onset)
    log.hear(offline(2, T0 + 6 * HOUR), place=GATEWAY)
    assert log.rows[-1].became is Became.SLOW


def test_it_is_silent_since_the_first_of_those_that_still_are():
    log = Log()
    for device in range(1, 5):
        log.hear(offline(device, T0 + device), place=GATEWAY)
    log.hear(offline(2, T0 + 9), place=GATEWAY)  # once more, by a detector that began anew
    log.hear(back(1, T0 + 1), place=GATEWAY)
    for device in (5, 6):
        log.hear(offline(device, T0 + device), place=GATEWAY)
    assert [said.onset_us for said in log.carriers] == [T0 + 3]


def test_natures_and_carriers_are_counted_apart():
    log = Log()
    for device in range(1, 5):
        log.hear(offline(device), place=GATEWAY)
    log.hear(offline(5), Nature.TEST, place=GATEWAY)
    log.hear(offline(6), place=Place(carrier="other", roster=10))
    log.hear(offline(7))  # of nobody
    assert log.carriers == []


def test_a_gateway_that_goes_in_a_fire_is_told_once():
    log = Log()
    log.hear(make(99, at=T0))
    for device in range(1, 11):
        log.hear(offline(device, T0 + MINUTE), place=GATEWAY)
    assert log.whats == [What.OPENED, What.JOINED]
    assert log.transitions[-1].payload["member"] == "carrier:gw"


WORDS = st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=40)


@given(words=WORDS)
def test_it_is_silent_by_the_number_of_its_devices(words):
    """By a plain set: raised where half are reached, over below a quarter."""
    log, silent, since, stands, told = Log(), set(), {}, False, []
    for turn, (device, falls) in enumerate(words):
        at = T0 + turn * HOUR
        if falls == (device in silent):
            continue
        if falls:
            since[device] = at
            log.hear(offline(device, at), place=GATEWAY)
            silent.add(device)
            if not stands and len(silent) >= 5:
                stands = True
                told += [Phase.RAISE]
        else:
            log.hear(back(device, since[device], at), place=GATEWAY)
            silent.discard(device)
            if stands and len(silent) * 2 < 5:
                stands = False
                told += [Phase.CLEAR]
    assert [one.phase for one in log.carriers] == told
    ended = {}
    for one in log.silenced:
        ended[one.name] = one.ended_us
    assert {name for name, at in ended.items() if at is None} == {
        f"device:{device}" for device in silent
    } | ({"carrier:gw"} if stands else set())


def test_what_is_said_again_changes_nothing():
    silences = Silences()
    assert silences.hear(offline(1), Nature.REAL, GATEWAY)[0] is not None
    assert silences.hear(offline(1), Nature.REAL, GATEWAY) == (None, None)
    older = back(1, T0 - 1)
    assert silences.hear(older, Nature.REAL, GATEWAY) == (None, None)
    assert silences.hear(back(2), Nature.REAL, GATEWAY) == (None, None)


def test_a_silence_that_is_said_anew_ends_with_its_newer_onset():
    silences = Silences()
    silences.hear(offline(1), Nature.REAL, GATEWAY)
    row, _ = silences.hear(offline(1, T0 + HOUR), Nature.REAL, GATEWAY)
    assert row is not None
    assert silences.tallies["gw", Nature.REAL].count == 1
    assert silences.hear(back(1), Nature.REAL, GATEWAY) == (None, None)
    row, _ = silences.hear(back(1, T0 + HOUR), Nature.REAL, GATEWAY)
    assert row is not None
    assert silences.tallies["gw", Nature.REAL].count == 0
