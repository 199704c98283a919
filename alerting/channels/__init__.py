"""Ways to reach a person or a system. One file = one channel, found by folder.

A channel's file offers `Address`, a pydantic model of what a responder's entry gives; `check`,
which raises BadInput for an address that cannot work from here; and `make`, which returns a
`deliver.Channel`: it renders the words once and sends them as often as it takes.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

MODULES_MAX = 32


def names() -> list[str]:
    """Every channel there is, sorted."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    assert len(found) <= MODULES_MAX
    return found


def module(name: str) -> ModuleType:
    """The file of one channel; KeyError for a name that is none."""
    if name not in names():
        raise KeyError(name)
    return importlib.import_module(f"{__name__}.{name}")
