"""Contacts of sites: files, numbers, and the vault."""

# ruff: noqa: E501 - a fault and what is said of it are one line of a table

import stat
from datetime import date

import hypothesis.strategies as st
import pytest
from hypothesis import given

from alerting import contacts, phones, vault
from alerting.contacts import Contact, Role, Unreached, unreached
from sizao.errors import BadInput

TODAY = date(2026, 3, 1)
SITES = {"b1": frozenset({"b1-f3", "b1-f3-302"}), "b2": frozenset()}
HEAD = "site,unit,role,name,phone,language,verified\n"


def read(text):
    return contacts.read(text, "c.csv", SITES, TODAY)


def faults(text):
    with pytest.raises(BadInput) as refusal:
        read(text)
    return str(refusal.value).splitlines()


def test_a_file_is_read():
    found = read(
        HEAD + "b1,b1-f3-302,住户,李梅,138 0013 8000,,\n"
        'b1,,消防控制室,"王, 强",0755-2890 1234,en,2026-02-01\n'
    )
    assert found == [
        Contact(
            site="b1",
            unit="b1-f3-302",
            role=Role.OCCUPANT,
            name="李梅",
            phone="+8613800138000",
            language="zh",
            verified=None,
        ),
        Contact(
            site="b1",
            unit="",
            role=Role.CONTROL_ROOM,
            name="王, 强",
            phone="+8675528901234",
            language="en",
            verified=date(2026, 2, 1),
        ),
    ]
    assert repr(found[0]) == "<occupant 李** +86138******00 of b1-f3-302>"


ROLES = "住户, 房东, 楼长, 房东/楼长, 消防控制室, 责任人, 管理人, 物业, 维保单位"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("b11,,住户,a,13800138000,,", "2: site: unknown 'b11', expected the code of a site; nearest: b1"),
        ("b2,b1-f3,住户,a,13800138000,,", "2: unit: unknown 'b1-f3', expected an area inside of b2"),
        ("b1,,消防控制,a,13800138000,,", f"2: role: unknown '消防控制', expected one of {ROLES}; nearest: 消防控制室"),
        ("b1,,住户,a,28901234,,", "2: phone: expected the area code before a landline, such as 0755"),
        ("b1,,住户,a,13800138000,de,", "2: language: unknown 'de', expected one of zh, en"),
        ("b1,,住户,a,13800138000,,2026-03-02", "2: verified: got 2026-03-02, expected no day after today, 2026-03-01"),
        ("b1,,住户,a,13800138000,,1/3/26", "2: verified: got '1/3/26', expected a day such as 2026-02-01"),
        ("b1,,住户,a", "2: (row): 4 cells, expected 7 as in line 1"),
    ],
)  # fmt: skip
def test_a_fault_has_its_line(row, said):
    assert faults(HEAD + row + "\n") == [f"c.csv:{said}"]


def test_all_faults_are_told_at_once_but_not_a_million():
    assert len(faults(HEAD + "b3,,住房,a,1,,\n" * 3)) == 9
    many = faults(HEAD + "b3,,住房,a,1,,\n" * 10_000)
    assert len(many) == 202
    assert many[-1].endswith(": (file): so many faults, what comes after was not read")


def test_the_heading_and_an_empty_file():
    assert faults("site,role,fone\n") == [
        "c.csv:1: fone: unknown column, expected some of site, unit, role, name, phone, language, verified; nearest: phone",
        "c.csv:1: phone: no such column, expected it",
    ]
    assert faults(HEAD) == ["c.csv:1: (file): no rows, expected a contact a line under the heading"]


def test_the_same_person_twice_at_a_place_is_a_fault_and_tells_no_number():
    (said,) = faults(HEAD + "b1,,住户,a,13800138000,,\nb1,,住户,b,+86 138-0013-8000,,\n")
    assert said == "c.csv:3: phone: the same person as in line 2, expected one"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("13800138000", "+8613800138000"),
        ("１３８ ００１３ ８０００", "+8613800138000"),  # noqa: RUF001 - as an input method writes it
        ("+86 138-0013-8000", "+8613800138000"),
        ("0086 138 0013 8000", "+8613800138000"),
        ("8613800138000", "+8613800138000"),
        ("(0755) 2890-1234", "+8675528901234"),
        ("+86 755 28901234", "+8675528901234"),
        ("+86 0755 28901234", "+8675528901234"),
        ("010-65551234", "+861065551234"),
        ("+852 2345 6789", "+85223456789"),
        ("+1 (202) 555-0143", "+12025550143"),
    ],
)
def test_a_number_as_people_write_it(text, number):
    assert phones.normalised(text) == number
    assert phones.normalised(number) == number


@pytest.mark.parametrize(
    "text",
    ["", "12800138000", "1380013800", "138001380000", "0755-28901234转12", "119", "+86", "+999",
     "13800138000/13900139000", "0755-1890123", "+0123456789", "28901234", "٠٧٥٥٢٨٩٠١٢٣٤"],
)  # fmt: skip
def test_what_is_no_number(text):
    with pytest.raises(ValueError, match="expected"):
        phones.normalised(text)


@given(st.text(max_size=20) | st.from_regex(r"\+?[0-9 -]{1,18}", fullmatch=True))
def test_a_number_is_e164_or_refused(text):
    try:
        number = phones.normalised(text)
    except ValueError:
        return
    assert number.startswith("+")
    assert number[1:].isascii()
    assert number[1:].isdigit()
    assert 8 <= len(number[1:]) <= 15
    assert phones.normalised(number) == number
    hidden = phones.masked(number)
    assert len(hidden) >= len(number) - 2
    assert hidden.count("*") >= 3


def test_what_is_sealed_opens_at_its_place_alone(tmp_path):
    made = vault.make(tmp_path / "k")
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    again = vault.read(tmp_path / "k")
    sealed = made.seal(b"13800138000", b"b1||occupant")
    assert b"138" not in sealed
    assert again.open(sealed, b"b1||occupant", made.id) == b"13800138000"
    assert made.seal(b"13800138000", b"b1||occupant") != sealed
    for wrong, about in ((sealed, b"b2||occupant"), (sealed[:-1] + b"x", b"b1||occupant")):
        with pytest.raises(BadInput, match="does not open with its own key"):
            again.open(wrong, about, made.id)


def test_another_key_is_an_error_that_names_both(tmp_path):
    one, two = vault.make(tmp_path / "one"), vault.make(tmp_path / "two")
    assert one.id != two.id
    assert one.tag(b"x") == one.tag(b"x") != two.tag(b"x")
    with pytest.raises(BadInput, match=f"two: got key {two.id}, expected {one.id}"):
        two.open(one.seal(b"x", b""), b"", one.id)


def test_a_key_is_never_written_over_and_a_bad_one_is_told(tmp_path):
    vault.make(tmp_path / "k")
    with pytest.raises(BadInput, match="never written over"):
        vault.make(tmp_path / "k")
    with pytest.raises(BadInput, match="expected a folder"):
        vault.make(tmp_path / "nowhere" / "k")
    for content in (b"", b"short", b"A" * 44, b"\xff\xfe"):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(BadInput, match="bad: expected base64 of 32 bytes") as refusal:
            vault.read(tmp_path / "bad")
        assert "AAAA" not in str(refusal.value)
    with pytest.raises(BadInput, match="No such file"):
        vault.read(tmp_path / "none")
    with pytest.raises(BadInput, match="sizao contacts key FILE"):
        vault.read(None)


def test_whom_nobody_has_answered_for_half_a_year():
    known = {
        "a": (2, date(2026, 2, 1)),
        "b": (1, None),
        "c": (1, date(2025, 9, 2)),  # 180 days ago
        "d": (3, date(2025, 9, 1)),
    }
    assert unreached("edcba", known, TODAY) == [
        Unreached(site="b", contacts=1, verified=None),
        Unreached(site="d", contacts=3, verified=date(2025, 9, 1)),
        Unreached(site="e", contacts=0, verified=None),
    ]
