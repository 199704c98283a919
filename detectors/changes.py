"""A file of changed rules, as `sizao backtest` tries them before anybody puts them in force.

    heat_rise:
      alarm_rise_k: 5.5
    sensor_fault: off

What is not named stays as it is. Every fault is told at once, with its line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from detectors.rule import Rule
from detectors.state import Setup
from sizao.document import Fault, Path_, one_of, parse
from sizao.errors import BadInput

OFF = "off"


@dataclass(frozen=True, slots=True)
class Changes:
    """Parameters by rule, and rules that are left out."""

    values: Mapping[str, Mapping[str, float]]
    off: frozenset[str]

    def setup(self, setup: Setup) -> Setup:
        """The changed rules."""
        params = dict(setup.params)
        for rule, values in self.values.items():
            params[rule] = replace(params[rule], **values)
        rules = tuple(rule for rule in setup.rules if rule.NAME not in self.off)
        return replace(setup, rules=rules, params=params)

    def plain(self) -> dict[str, Any]:
        """As the file says it."""
        found: dict[str, Any] = {rule: dict(values) for rule, values in self.values.items()}
        return found | dict.fromkeys(sorted(self.off), OFF)


def read(text: str, name: str, rules: Sequence[Rule]) -> Changes:
    """Changes of a file. Raises BadInput with `name:line: rule.parameter: what, expected what`."""
    located = parse(text, name)
    faults = list(located.faults)
    known = {rule.NAME: rule for rule in rules}
    values: dict[str, dict[str, float]] = {}
    off: set[str] = set()
    if not isinstance(located.data, dict) or not located.data:
        faults += [((), f"expected rules, such as heat_rise, with parameters or `{OFF}`")]
    else:
        for rule, said in located.data.items():
            if rule not in known:
                faults += [((rule,), f"got an unknown rule, expected {one_of(rule, known)}")]
            elif said == OFF:
                off.add(rule)
            elif not isinstance(said, dict) or not said:
                faults += [((rule,), f"got {said!r}, expected parameters of {rule}, or `{OFF}`")]
            else:
                values[rule], wrong = _values(known[rule], said)
                faults += wrong
    if faults:
        raise BadInput("\n".join(located.told(name, faults)))
    return Changes(values, frozenset(off))


def _values(rule: Rule, said: Mapping[Any, Any]) -> tuple[dict[str, float], list[Fault]]:
    shipped = rule.Params()
    names = [field.name for field in fields(shipped)]
    found: dict[str, float] = {}
    faults: list[Fault] = []
    for name, value in said.items():
        path: Path_ = (rule.NAME, name)
        if name not in names:
            faults += [(path, f"got an unknown parameter, expected {one_of(name, names)}")]
        elif isinstance(value, bool) or not isinstance(value, int | float):
            faults += [(path, f"got {value!r}, expected a number")]
        elif fault := _fault(value, getattr(shipped, name)):
            faults += [(path, fault)]
        else:
            found[name] = int(value) if isinstance(getattr(shipped, name), int) else float(value)
    return found, faults


def _fault(value: float, shipped: float) -> str:
    if not 0 <= value < float("inf"):
        return f"got {value:g}, expected 0 or more"
    if isinstance(shipped, int) and value != int(value):
        return f"got {value:g}, expected a whole number, such as {shipped}"
    return ""
