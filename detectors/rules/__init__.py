"""ONE FILE = ONE DETECTOR. Whatever lies in this folder is found, sorted by name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import cast

from detectors.rule import Rule


def discover() -> tuple[Rule, ...]:
    """Every rule of the folder. Raises ValueError where two share a name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    rules = tuple(cast("Rule", importlib.import_module(f"{__name__}.{name}")) for name in names)
    said = [rule.NAME for rule in rules]
    if len(set(said)) != len(said):
        raise ValueError(f"two rules share a name: {said}")
    return rules
