"""A change of the registry that a person asked for, and how much of it is new."""

from __future__ import annotations

from dataclasses import dataclass

from sizao.registry.write import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """`rows` were read; the change has those that are `added` and those that are altered."""

    change: Change
    rows: int
    added: int

    @property
    def altered(self) -> int:
        """Rows that the registry has otherwise."""
        change = self.change
        revocations = sum(carrier.revoked is not None for carrier in change.carriers)
        rows = (change.areas, change.devices, change.swaps, change.types)
        return sum(map(len, rows)) + revocations - self.added

    @property
    def same(self) -> int:
        """Rows that the registry has already."""
        return self.rows - self.added - self.altered

    @property
    def empty(self) -> bool:
        """Whether the registry would stay as it is."""
        return not self.added and not self.altered
