from itertools import pairwise

from sizao import clock


def test_the_rising_clock_never_repeats_and_never_goes_back(monkeypatch):
    wall = iter([100, 100, 90, 50, 101, 200])
    monkeypatch.setattr(clock, "now_us", lambda: next(wall))
    rising = clock.Rising()
    told = [rising.now_us() for _ in range(6)]
    assert told == [100, 101, 102, 103, 104, 200]
    assert all(later > earlier for earlier, later in pairwise(told))


def test_it_goes_on_from_what_an_earlier_process_said(monkeypatch):
    monkeypatch.setattr(clock, "now_us", lambda: 10)
    assert clock.Rising(at_least_us=500).now_us() == 501
