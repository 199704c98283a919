"""Whatever the order of partitions, repeats and people: never two open, no fire without a page,
natures apart, the same ids again.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from alerting.book import Book
from alerting.incident import decide
from alerting.model import (
    ALARMING_US,
    PAGED,
    Action,
    Became,
    Key,
    Nature,
    NotAllowed,
    Recorded,
    State,
    Transition,
    Verdict,
    What,
)
from sizao import signal as signals
from sizao.signal import Kind, Phase, Subject, SubjectType, Tier

T0 = 1_760_000_000_000_000
DEVICES = {1: Nature.REAL, 2: Nature.REAL, 3: Nature.TEST, 4: Nature.CANARY}


def _signal(device, at_us, onset_us, tier, phase, kind, site):
    return signals.make(
        rule="direct",
        rule_version=1,
        kind=kind,
        tier=tier,
        phase=phase,
        # A point belongs to one device, site and quantity for life: so do the ids made of it.
        subject=Subject(type=SubjectType.POINT, id=f"{device}.{site}.{kind}"),
        site=site,
        device=device,
        onset_us=onset_us,
        event_us=at_us,
        received_us=at_us,
        generation=1,
        evidence={},
    )


def _fold(stream):
    """Ids of every transition of a stream of (signal, nature)."""
    book, ids = Book(), []
    for at, (signal, nature) in enumerate(stream):
        effects = book.hear(signal, nature, T0 + at)
        ids += [effect.id for effect in effects if isinstance(effect, Transition)]
    return set(ids), len(ids)


class Desk(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.book = Book()
        self.now = T0
        self.heard = []  # everything, in order, for the replay
        self.open = {}  # our own count of open incidents by key
        self.ids = set()
        self.people_acted = False

    def _keep(self, effects, key):
        for effect in effects:
            if isinstance(effect, Transition):
                assert effect.id not in self.ids
                self.ids.add(effect.id)
                if effect.what is What.OPENED:
                    assert key not in self.open, "two open at once"
                    self.open[key] = effect.incident
                else:
                    assert self.open[key] == effect.incident
                if effect.what is What.CLOSED:
                    del self.open[key]

    @rule(
        device=st.sampled_from(sorted(DEVICES)),
        tier=st.sampled_from(Tier),
        kind=st.sampled_from([Kind.FIRE, Kind.GAS, Kind.OFFLINE]),
        site=st.integers(1, 2),
        phase=st.sampled_from(Phase),
        age_us=st.integers(0, 1_200_000_000),
        step_us=st.integers(0, 700_000_000),
    )
    def hear(self, device, tier, kind, site, phase, age_us, step_us):
        self.now += step_us
        onset = self.now - (0 if phase is Phase.RAISE else age_us)
        signal = _signal(device, self.now, onset, tier, phase, kind, site)
        nature = DEVICES[device]
        key = Key(site, Kind.FIRE if kind is Kind.OFFLINE else kind, nature)
        before = self.book.newest.get(key)
        self.heard.append((signal, nature))
        effects = self.book.hear(signal, nature, self.now)
        self._keep(effects, key)
        if effects and kind is not Kind.OFFLINE and phase is Phase.RAISE:
            self._a_fire_is_never_lost(signal, before, effects)

    def _a_fire_is_never_lost(self, signal, before, effects):
        paged = any(isinstance(e, Transition) and e.what in PAGED for e in effects)
        (row,) = [effect for effect in effects if isinstance(effect, Recorded)]
        if before is None or before.state is State.CLOSED:
            assert paged or row.became is Became.AFTER_CLOSE
        elif signal.tier.rank > before.tier.rank or f"device:{signal.device}" not in before.known:
            assert paged
        elif signal.tier is not Tier.EARLY:
            old = before.known[f"device:{signal.device}"]
            anew = signal.onset != old.onset
            restored = old.cleared_us is not None and signal.onset_us > old.cleared_us
            if anew and (restored or signal.onset_us > old.last_us + ALARMING_US):
                assert paged
        if row.became is Became.AFTER_CLOSE:
            assert before is None or signal.onset_us <= (before.closed_us or 1 << 62)

    @rule(back=st.integers(1, 20))
    def hear_again(self, back):
        if len(self.heard) >= back:
            signal, nature = self.heard[-back]
            assert self.book.hear(signal, nature, self.now + 1) == ()

    @rule(data=st.data(), what=st.sampled_from([What.ACKNOWLEDGED, What.VERDICT, What.CLOSED]))
    def act(self, data, what):
        if not self.book.newest:
            return
        key = data.draw(st.sampled_from(sorted(self.book.newest)))
        incident = self.book.newest[key]
        self.now += 1
        action = Action(
            id=f"act-{self.now}-{len(self.ids)}",
            actor="duty",
            what=what,
            expected_version=incident.version,
            verdict=Verdict.FIRE if what is What.VERDICT else None,
        )
        try:
            self.book.newest[key], effects = decide(incident, action, self.now)
        except NotAllowed:
            assert self.book.newest[key] is incident
            return
        self.people_acted = True
        self._keep(effects, key)

    @invariant()
    def natures_stay_apart(self):
        for key, incident in self.book.newest.items():
            assert incident.key == key
            for member in incident.known.values():
                assert DEVICES[member.device] is key.nature

    @invariant()
    def what_is_open_is_what_was_opened(self):
        opened = {
            key: incident.id
            for key, incident in self.book.newest.items()
            if incident.state is not State.CLOSED
        }
        assert opened == self.open

    def teardown(self):
        if not self.people_acted:
            ids, count = _fold(self.heard)
            assert (ids, count) == (self.ids, len(self.ids))


TestDesk = Desk.TestCase
TestDesk.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

_stream = st.lists(
    st.builds(
        lambda device, minute, tier, kind, site: _signal(
            device,
            T0 + minute * 60_000_000,
            T0 + minute * 60_000_000,
            tier,
            Phase.RAISE,
            kind,
            site,
        ),
        st.sampled_from(sorted(DEVICES)),
        st.integers(0, 30),
        st.sampled_from(Tier),
        st.sampled_from([Kind.FIRE, Kind.SYSTEM]),
        st.integers(1, 4),
    ),
    max_size=30,
)


@given(stream=_stream, data=st.data())
@settings(deadline=None, max_examples=150)
def test_any_interleaving_of_partitions_and_any_repeat_gives_the_same_ids(stream, data):
    pairs = [(signal, DEVICES[signal.device]) for signal in stream]
    lanes = {}
    for signal, nature in pairs:
        lanes.setdefault((signal.site % 2, signal.kind), []).append((signal, nature))
    mixed = []
    queues = [list(lane) for lane in lanes.values()]
    while any(queues):
        queue = data.draw(st.sampled_from([q for q in queues if q]))
        mixed.append(queue.pop(0))
        if data.draw(st.booleans()):
            mixed.append(data.draw(st.sampled_from(mixed)))
    assert _fold(mixed) == _fold(pairs)
