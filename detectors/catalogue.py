"""What `sizao migrate` stores of each detector, found by entry point (`sizao.detectors`)."""

from __future__ import annotations

from detectors.parameters import taken
from detectors.rule import Rule
from detectors.rules import discover
from sizao.registry.write import DetectorRow, TakenRow
from sizao.units import BY_NAME


def rows() -> list[DetectorRow]:
    """Every rule of the folder, sorted by its file's name."""
    return [
        DetectorRow(
            name=rule.NAME,
            version=rule.VERSION,
            lane=rule.LANE.value,
            quantities=sorted(BY_NAME[name].code for name in rule.READS),
            purpose=purpose(rule),
            parameters=[
                TakenRow(
                    name=one.name,
                    shipped=one.shipped,
                    low=one.bound.low,
                    high=one.bound.high,
                    whole=one.whole,
                    unit=one.unit,
                    reason=one.bound.reason,
                )
                for one in taken(rule).values()
            ],
        )
        for rule in discover()
    ]


def purpose(rule: Rule) -> str:
    """First line of its file, which says what it is for."""
    return (rule.__doc__ or "").strip().partition("\n")[0].rstrip(".")
