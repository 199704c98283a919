"""A file of changed rules, as `sizao backtest` tries them before anybody puts them in force.

    heat_rise:
      alarm_rise_k: 5.5
    sensor_fault: off

A value stands for `sizao rules set RULE NAME=VALUE --district`, within the same bounds: what is set
for a place, a type, a device or certain hours outweighs it, as it would. What is not named stays as
it is. Every fault is told at once, with its line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from detectors.parameters import DISTRICT, Taken, Window, rows_of, taken
from detectors.rule import Rule
from detectors.state import Setup
from sizao.document import Fault, Path_, one_of, parse
from sizao.errors import BadInput
from sizao.registry.model import View

OFF = "off"


@dataclass(frozen=True, slots=True)
class Changes:
    """Parameters by rule, and rules that are left out."""

    values: Mapping[str, Mapping[str, float]]
    off: frozenset[str]

    def setup(self, setup: Setup) -> Setup:
        """The rules that are left."""
        return replace(setup, rules=tuple(r for r in setup.rules if r.NAME not in self.off))

    def view(self, view: View) -> View:
        """The registry with the changed values in the place of the district's."""
        number = max((row["id"] for row in view.parameters), default=0)
        always = Window()
        kept = [
            shown
            for row, shown in zip(rows_of(view), view.parameters, strict=True)
            if row.place != (DISTRICT, 0)
            or not row.window.always
            or row.parameter not in self.values.get(row.rule, ())
        ]
        named = {"scope": DISTRICT, "scope_id": 0, **asdict(always)}
        for rule, values in self.values.items():
            for name, value in values.items():
                number += 1
                row = {"id": number, "rule": rule, "parameter": name, "value": value}
                kept.append(row | named)
        return replace(view, parameters=kept)

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
    known = taken(rule)
    found: dict[str, float] = {}
    faults: list[Fault] = []
    for name, value in said.items():
        path: Path_ = (rule.NAME, name)
        if name not in known:
            faults += [(path, f"got an unknown parameter, expected {one_of(name, known)}")]
        elif fault := _fault(known[name], value):
            faults += [(path, fault)]
        else:
            found[name] = known[name].of(value)
    return found, faults


def _fault(known: Taken, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"got {value!r}, expected a number"
    return known.fault(value)
