"""A few devices and frames of them, for the tests of quality."""

import numpy as np

from ingest.quality import COUNTS, Roster
from sizao.frame import Frame

T0_US = 1_772_352_000_000_000
"""2026-03-01T08:00:00Z, 16:00 in China."""
SECOND_US = 1_000_000
UTC8_MIN = 480
DAY = (T0_US // SECOND_US + UTC8_MIN * 60) // 86_400


def roster(*devices, generation=1):
    """(partition, interval in seconds, state) of devices 1, 2...: state 2 in service, 1 isolated,
    0 neither. Device n has points 2n - 1 (breathes) and 2n.
    """
    partition, interval_s, state = zip(*devices, strict=True)
    points = np.arange(2 * len(devices) + 2)
    point_device = np.where(points <= 2 * len(devices), (points + 1) // 2, 0).astype(np.int32)
    states = np.array([0, *state, 0])
    return Roster(
        generation=generation,
        partition=np.array([-1, *partition, -1], np.int32),
        site=np.array([0, *(7 for _ in devices), 0], np.int32),
        interval_s=np.array([0, *interval_s, 0], np.int32),
        speaks=states > 0,
        signalled=states == 2,
        point_device=point_device,
        breathes=points % 2 == 1,
    )


def frame(at_s, rows=(), *, writer="b0.telemetry", sequence=1, generation=1):
    """Frame of (point, event in seconds, value, flags), closed `at_s` after T0."""
    point, event_s, value, flags = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Frame(
        point=np.array(point, np.uint32),
        event_us=np.array([T0_US + round(at * SECOND_US) for at in event_s], np.int64),
        value=np.array(value, np.float32),
        flags=np.array(flags, np.uint8),
        received_us=T0_US + round(at_s * SECOND_US),
        generation=generation,
        writer=writer,
        sequence=sequence,
    )


def totals(days, into=None):
    """(day, device) -> counts by name, added to `into`."""
    found = {} if into is None else into
    for one in days:
        for device, counts in zip(one.device.tolist(), one.counts.T.tolist(), strict=True):
            row = found.setdefault((one.day - DAY, device), dict.fromkeys(COUNTS, 0))
            for name, count in zip(COUNTS, counts, strict=True):
                row[name] += count
    return found
