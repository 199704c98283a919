"""Contacts of sites and units as people write them: a CSV file, every fault with its line. Pure.

    site,unit,role,name,phone,language,verified
    440307010003-b12,,消防控制室,王强,0755-2890 1234,zh,2026-02-01
    440307010003-b12,440307010003-b12-1203,住户,李梅,138 0013 8000,,

`site` and `unit` are codes of the area tree; a unit may be any area inside of the site, left out it
is all of it. Roles may be said in Chinese or in the words of `Role`.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from alerting import phones
from alerting.rota_lint import VERIFIED_DAYS
from sizao.errors import BadInput

ROWS_MAX = 1_000_000
FAULTS_MAX = 200
NAME_CHARS_MAX = 64
COLUMNS = ("site", "unit", "role", "name", "phone", "language", "verified")
NEEDED = ("site", "role", "phone")
LANGUAGES = ("zh", "en")


class Role(StrEnum):
    """What somebody is to a site."""

    OCCUPANT = "occupant"
    BUILDING_HEAD = "building_head"
    CONTROL_ROOM = "control_room"
    RESPONSIBLE = "responsible"
    MANAGER = "manager"
    PROPERTY = "property"
    MAINTAINER = "maintainer"


ROLES: Mapping[str, Role] = {
    **{str(role): role for role in Role},
    "住户": Role.OCCUPANT,
    "房东": Role.BUILDING_HEAD,
    "楼长": Role.BUILDING_HEAD,
    "房东/楼长": Role.BUILDING_HEAD,
    "消防控制室": Role.CONTROL_ROOM,
    "责任人": Role.RESPONSIBLE,
    "管理人": Role.MANAGER,
    "物业": Role.PROPERTY,
    "维保单位": Role.MAINTAINER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Somebody at a place. `phone` is E.164; neither it nor the name is ever shown whole."""

    site: str
    unit: str
    role: Role
    name: str
    phone: str
    language: str
    verified: date | None

    def __repr__(self) -> str:
        """Masked: what is logged or fails in a test tells no number."""
        name, phone = phones.masked_name(self.name), phones.masked(self.phone)
        return f"<{self.role} {name} {phone} of {self.unit or self.site}>"

    @property
    def place(self) -> tuple[str, str, Role]:
        """Where, as what."""
        return self.site, self.unit, self.role


def read(text: str, name: str, sites: Mapping[str, frozenset[str]], today: date) -> list[Contact]:
    """Contacts of a file. `sites`: code -> codes of the areas in it, as the registry knows them.

    Raises BadInput with `file:line: column: what, expected; nearest` and stops
    after 200 faults; a number is never told.
    """
    rows = _rows(text, name)
    found: list[Contact] = []
    faults: list[str] = []
    seen: dict[tuple[str, str, Role, str], int] = {}
    for line, row in rows:
        wrong = list(_faults(row, sites, today))
        if not wrong:
            contact = _contact(row)
            key = (*contact.place, contact.phone)
            if key in seen:
                wrong.append(("phone", f"the same person as in line {seen[key]}, expected one"))
            seen[key] = line
            found.append(contact)
        faults += [f"{name}:{line}: {column}: {said}" for column, said in wrong]
        if len(faults) >= FAULTS_MAX:  # looking for the nearest name a million times takes hours
            faults.append(f"{name}:{line}: (file): so many faults, what comes after was not read")
            break
    if faults:
        raise BadInput("\n".join(faults))
    if not found:
        raise BadInput(f"{name}:1: (file): no rows, expected a contact a line under the heading")
    return found


def _rows(text: str, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        head = [cell.strip() for cell in next(reader, [])]
        _check_head(head, name)
        began = reader.line_num
        for count, cells in enumerate(reader):
            line, began = began + 1, reader.line_num  # a cell in quotes may have many lines
            if count >= ROWS_MAX:
                raise BadInput(f"{name}:{line}: (file): over {ROWS_MAX:,} rows; import in parts")
            if not cells:
                continue
            if len(cells) != len(head):
                said = f"{len(cells)} cells, expected {len(head)} as in line 1"
                raise BadInput(f"{name}:{line}: (row): {said}")
            given = dict(zip(head, (cell.strip() for cell in cells), strict=True))
            yield line, {column: given.get(column, "") for column in COLUMNS}
    except csv.Error as error:
        where = f"{name}:{reader.line_num}: (row)"
        raise BadInput(f"{where}: {error}, expected CSV with commas") from error


def _check_head(head: Sequence[str], name: str) -> None:
    faults = [
        f"{column or '(no name)'}: unknown column, expected some of {', '.join(COLUMNS)}"
        + near(column, COLUMNS)
        for column in head
        if column not in COLUMNS
    ]
    faults += [f"{column}: no such column, expected it" for column in NEEDED if column not in head]
    faults += [f"{one}: stands here twice" for one in COLUMNS if head.count(one) > 1]
    if faults:
        raise BadInput("\n".join(f"{name}:1: {fault}" for fault in faults))


def _faults(
    row: Mapping[str, str], sites: Mapping[str, frozenset[str]], today: date
) -> Iterator[tuple[str, str]]:
    site, unit = row["site"], row["unit"]
    if site not in sites:
        yield "site", f"unknown {site!r}, expected the code of a site{near(site, sites)}"
    elif unit and unit not in sites[site]:
        inside = sites[site]
        yield "unit", f"unknown {unit!r}, expected an area inside of {site}{near(unit, inside)}"
    if row["role"] not in ROLES:
        known = ", ".join(word for word in ROLES if not word.isascii())
        yield "role", f"unknown {row['role']!r}, expected one of {known}{near(row['role'], ROLES)}"
    if len(row["name"]) > NAME_CHARS_MAX or not row["name"].isprintable():
        yield "name", f"expected at most {NAME_CHARS_MAX} letters"
    try:
        phones.normalised(row["phone"])
    except ValueError as error:
        yield "phone", str(error)
    if row["language"] and row["language"] not in LANGUAGES:
        yield "language", f"unknown {row['language']!r}, expected one of {', '.join(LANGUAGES)}"
    yield from _date_faults(row["verified"], today)


def _date_faults(text: str, today: date) -> Iterator[tuple[str, str]]:
    try:
        if text and date.fromisoformat(text) > today:
            yield "verified", f"got {text}, expected no day after today, {today}"
    except ValueError:
        yield "verified", f"got {text!r}, expected a day such as 2026-02-01"


def _contact(row: Mapping[str, str]) -> Contact:
    return Contact(
        site=row["site"],
        unit=row["unit"],
        role=ROLES[row["role"]],
        name=row["name"],
        phone=phones.normalised(row["phone"]),
        language=row["language"] or LANGUAGES[0],
        verified=date.fromisoformat(row["verified"]) if row["verified"] else None,
    )


def near(word: str, known: Mapping[str, object] | Sequence[str] | frozenset[str]) -> str:
    """A hint for whoever mistyped a name; of many only those that begin alike are compared."""
    names = [one for one in known if one[:4] == word[:4]] or list(known)
    near = difflib.get_close_matches(word, names[:5_000], n=1)
    return f"; nearest: {near[0]}" if near else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreached:
    """A site with nobody sure to be reached: how many contacts, and when one last answered."""

    site: str
    contacts: int
    verified: date | None


def unreached(
    sites: Iterable[str], known: Mapping[str, tuple[int, date | None]], today: date
) -> list[Unreached]:
    """Sites where nobody has answered within VERIFIED_DAYS, by code. `known`: site -> how many
    contacts, and the newest day on which one of them answered.
    """
    oldest = today - timedelta(days=VERIFIED_DAYS)
    found = []
    for site in sorted(sites):
        count, verified = known.get(site, (0, None))
        if verified is None or verified < oldest:
            found.append(Unreached(site=site, contacts=count, verified=verified))
    return found
