"""The ledger on the disk alone: it decides as a book in memory, and claims as the store does."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
from fix_alerting import T0, compose, items, make_signal
from hypothesis import given, settings
from simulation.store import Store

from alerting.book import Book
from alerting.disk_ledger import DiskLedger, LedgerFull, open_ledger
from alerting.fold import Move, OffsetMoved
from alerting.ledger import Answer, Outcome
from alerting.model import Nature, Place, Transition
from alerting.outbox import LANE_MAX
from sizao.signal import Kind, Phase, Tier

S = 1_000_000
WORDS = compose()
LANE = ("sizao.signals.v1", 0)
ACCEPTED = Answer(outcome=Outcome.ACCEPTED, status=204)
DOWN = Answer(outcome=Outcome.UNREACHABLE)


@contextlib.contextmanager
def opened(path=None, size_mib=4):
    with tempfile.TemporaryDirectory() as folder:
        ledger = DiskLedger(path or Path(folder) / "ledger.sqlite", size_mib)
        with contextlib.closing(ledger):
            yield ledger


signal = st.builds(
    lambda second, device, site, kind, tier, phase, back: make_signal(
        device,
        at=T0 + second * 20 * S,
        onset=T0 + max(second - back, 0) * 20 * S,
        site=site,
        kind=kind,
        tier=tier,
        phase=phase,
        subject=f"{device}.{site}.{kind}",
    ),
    st.integers(0, 60),
    st.integers(1, 4),
    st.integers(1, 2),
    st.sampled_from([Kind.FIRE, Kind.FIRE, Kind.GAS, Kind.OFFLINE, Kind.WATER]),
    st.sampled_from(Tier),
    st.sampled_from(Phase),
    st.integers(0, 40),
)


def where(signal):
    return Place(floor=signal.device, carrier="gw", carrier_site=1, roster=4)


def _heard(one, now_us):
    found, place = one
    return found, Nature.REAL, now_us, place


@given(batches=st.lists(st.lists(signal, max_size=6), max_size=12))
@settings(max_examples=25)
def test_it_decides_as_one_book_in_memory_that_never_ends(batches):
    book, expected, found = Book(), [], []
    with opened() as ledger:
        for number, batch in enumerate(batches):
            for one in batch:
                book.more = [(one, where(one))]
                while book.more:
                    expected += book.hear(*_heard(book.more.pop(0), T0 + number))
            placed = [replace(item, place=where(item.signal)) for item in items(*batch)]
            changes = ledger.take({}, placed, T0 + number, WORDS)
            found += changes.taken.transitions
            ledger.mirror(changes)  # what is told twice changes nothing
        known = ledger.known().incidents
    assert found == [one for one in expected if isinstance(one, Transition)]
    assert known == {
        one.id: (one.version, one.last_us, one.members) for one in book.newest.values()
    }


def test_a_gateway_is_counted_by_its_devices_batch_after_batch():
    words = [(device, Phase.RAISE) for device in (1, 2, 3)]
    words += [(device, Phase.CLEAR) for device in (1, 2)]
    with opened() as ledger:
        said = []
        for device, phase in words:
            one = make_signal(device, at=T0 + S, onset=T0, phase=phase, kind=Kind.OFFLINE)
            (item,) = items(one)
            changes = ledger.take({}, [replace(item, place=where(one))], T0, WORDS)
            said += [(r.signal.subject.id, r.signal.phase) for r in changes.taken.recorded[1:]]
    assert said == [("gw", Phase.RAISE), ("gw", Phase.CLEAR)]


page = st.tuples(
    st.sampled_from("ab"), st.sampled_from(Tier), st.sampled_from([Kind.FIRE, Kind.CO])
)


@given(
    pages=st.lists(page, min_size=1, max_size=30),
    steps=st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(1, 40)), max_size=12),
)
@settings(max_examples=15)
def test_it_claims_what_the_store_of_the_simulation_claims(pages, steps):
    model, now = Store(frozenset()), T0
    words = {person: compose(person) for person in "ab"}
    with opened() as ledger:
        for number, (person, tier, kind) in enumerate(pages, 1):
            found = items(make_signal(number, site=number, tier=tier, kind=kind))
            model.take({}, found, T0, words[person])
            ledger.take({}, found, T0, words[person])
        under_way = []
        for wait, accepted, limit in steps:
            now += wait * S
            bounds = {"now_us": now, "lease_us": 15 * S, "limit": 1000}
            claims = ledger.claim("a0", **bounds)
            wanted = model.claim("a0", now, 1000)
            assert {one.id for one in claims} == {one.id for one in wanted}
            assert [one.attempt for one in claims] == [
                next(w.attempt for w in wanted if w.id == one.id) for one in claims
            ]
            under_way += claims
            for done in under_way[:limit]:
                answer = ACCEPTED if accepted else DOWN
                ledger.record(done, answer, now)
                model.record(done, "a0", answer, now)
            del under_way[:limit]


def test_a_storm_for_one_receiver_has_its_bound_and_what_is_under_way_is_left_alone():
    fires = [make_signal(n, site=n) for n in range(1, LANE_MAX + 5)]
    with opened() as ledger:
        ledger.take({}, items(*fires), T0, WORDS)
        bounds = {"now_us": T0, "lease_us": S, "limit": 99}
        (first, *_) = ledger.claim("a0", **{**bounds, "limit": 1})
        ledger.release("a0", T0)
        rest = ledger.claim("a0", under_way={first.id}, **bounds)
        assert first.id not in {one.id for one in rest}
        assert len(rest) == LANE_MAX
        assert all(one.dedup_unknown for one in rest)


def test_offsets_move_by_compare_and_set_with_what_they_cover():
    with opened() as ledger:
        move = Move(expected=None, next_offset=5, arrived_ms=7)
        ledger.take({LANE: move}, items(make_signal(1)), T0, WORDS)
        for expected in (None, 4, 6):
            wrong = Move(expected=expected, next_offset=9, arrived_ms=7)
            with pytest.raises(OffsetMoved):
                ledger.take({LANE: wrong}, items(make_signal(2)), T0, WORDS)
        assert ledger.offsets() == {LANE: (5, 7)}
        assert ledger.waiting() == 1


def test_what_was_published_in_one_absence_is_not_taken_for_that_of_the_next():
    with opened() as ledger:
        ledger.take({}, items(make_signal(1)), T0, WORDS)
        under_way = ledger.unpublished()
        ledger.handed_over()
        ledger.take({}, items(make_signal(2, site=2)), T0, WORDS)
        ledger.published(under_way)
        assert len(ledger.unpublished()) == 1


def test_a_full_ledger_says_so_and_keeps_what_it_has():
    taken = 0
    with opened() as ledger:
        with pytest.raises(LedgerFull, match=r"alert\.ledger_mib is 4"):  # noqa: PT012 - until it is
            while True:
                taken += 1000
                fires = (make_signal(n, site=n) for n in range(taken, taken + 1000))
                ledger.take({}, items(*fires), T0, WORDS)
        assert ledger.waiting() == taken - 1000 > 0
        assert ledger.size() <= 4 << 20


def test_one_process_has_it_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with opened(path) as ledger:
        ledger.take({}, items(make_signal(1)), T0, WORDS)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            DiskLedger(path, 4)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with opened(path) as ledger:
        assert ledger.waiting() == 1


def test_a_damaged_file_is_set_aside_and_made_anew(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"x" * 10_000)
    with contextlib.closing(open_ledger(path, 4)) as ledger:
        assert ledger.waiting() == 0
        assert not ledger.primed
    assert path.with_suffix(".damaged").read_bytes() == b"x" * 10_000
