"""The reader of YAML: the core schema of YAML 1.2, every fault at once, and bounds."""

from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictBool, StrictInt, StrictStr

from sizao import document
from sizao.document import parse, validate
from sizao.errors import BadInput


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    wire: StrictBool | StrictInt | StrictStr
    ratio: FiniteFloat = 1.0


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    colour: Colour
    names: list[str] = Field(default=[], min_length=1, max_length=2)
    table: dict[StrictInt | StrictStr, Inner] = {}
    inner: Inner | None = None


def told(text):
    with pytest.raises(BadInput) as refusal:
        validate(parse(text, "f"), Outer, "f")
    return str(refusal.value).splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("true", True), ("False", False),
        ("0_02", "0_02"), ("1_000", "1_000"), ("017", 17), ("0o17", 15), ("0x1F", 31),
        ("2026-03-01", "2026-03-01"), ("12:30:00", "12:30:00"), ("1e3", 1000.0), ("-.5", -0.5),
        (".inf", float("inf")), ("~", None), ("", None), ("null", None), ("'1'", "1"),
        ("!!str 5", "5"), ("!!int x", "x"), ("9" * 5000, "9" * 5000), ("|\n  5\n", "5\n"),
    ],
)  # fmt: skip
def test_words_are_those_of_yaml_1_2(text, expected):
    found = parse(f"a: {text}", "f").data["a"]
    assert (found, type(found)) == (expected, type(expected))


def test_yaml_1_1_cannot_be_asked_for():
    assert parse("%YAML 1.1\n---\na: yes\nb: 010\n", "f").data == {"a": "yes", "b": 10}


def test_every_fault_of_the_yaml_and_of_the_model_is_told_in_order():
    text = """colour: blue
names: []
inner: {wire: 1.5, wire: 2, rato: 1}
colour: red
table:
  x: {wire: [1], ratio: .nan}
  1.5: {wire: a}
  y: !made {wire: b}
"""
    assert told(text) == [
        "f:1: colour: got it twice, in line 4 too, expected it once",
        "f:1: colour: got 'blue', expected one of red, green",
        "f:2: names: got 0 of them, expected at least 1",
        "f:3: inner.wire: got it twice, in line 3 too, expected it once",
        "f:3: inner.wire: got 1.5, expected true or false or a whole number or text in quotes",
        "f:3: inner.rato: got an unknown key, expected one of ratio, wire; nearest: ratio",
        "f:5: table: got the key 1.5, expected a whole number or text in quotes",
        "f:6: table.x.wire: got a list, expected true or false or a whole number or text in quotes",
        "f:6: table.x.ratio: got nan, expected a finite number",
        "f:8: table.y: got the tag !made, expected a value without one",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- red", "f:1: (file): got a list, expected a map of keys"),
        ("", "f:1: (file): got nothing, expected a map of keys"),
        ("{}", "f:1: colour: got nothing, expected this key"),
        ("? [a]\n: 1\ncolour: red", "f:1: (file): got a key that is a list or a map, expected a"),
        ("colour: red\ninner: &x {wire: *x}", "f:2: inner.wire: got an alias of what it stands in"),
        ("colour: gren", "f:1: colour: got 'gren', expected one of red, green; nearest: green"),
        (f"colour: {'x' * 99}", f"f:1: colour: got '{'x' * 59}..., expected one of red, green"),
    ],
)
def test_odd_shapes_are_told(text, expected):
    assert told(text)[0].startswith(expected)


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("a: 1\n\tb: 2", 2, "spaces to indent with, not a tab"),
        ("a: up/{x}: y", 1, "quotes around a text that has a colon"),
        ("a: @x", 1, "quotes around a text that begins so"),
        ("b: 1\na: [1,\n\n", 2, "valid YAML"),
        ("b: 1\na: 'x\nc: 1\n", 2, "the quotes to be closed"),
        ("a: 1\n---\nb: 1", 2, "one document a file"),
        ("a: 1\nb: *x", 2, "an anchor of that name before it"),
        ("a: 1\nb\nc: 1", 3, "a colon and a space after the key"),
        ("a: 1\nb: \x01", 2, "text without control characters"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line_and_what_to_do(text, line, hint):
    with pytest.raises(BadInput) as refusal:
        parse(text, "f")
    assert str(refusal.value).startswith(f"f:{line}: (file): got broken YAML (")
    assert f"expected {hint}" in str(refusal.value)


def test_a_file_that_multiplies_itself_is_refused():
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 12)]
    with pytest.raises(BadInput, match="values, aliases counted"):
        parse("\n".join(rows), "f")
    with pytest.raises(BadInput, match="lists in lists beyond reason"):
        parse("[" * 600, "f")


def test_a_byte_order_mark_is_passed_over_and_a_huge_file_not_read_whole(tmp_path):
    file = tmp_path / "f"
    file.write_bytes("a: 1".encode("utf-8-sig"))
    assert parse(document.read(file), "f").data == {"a": 1}
    file.write_bytes(b"#" * (3 * document.BYTES_MAX))
    assert len(document.read(file)) == document.BYTES_MAX + 1
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"f:1: \(file\): got a file that cannot be read"):
        document.read(file)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        validate(parse(text, "f"), Outer, "f")
    except BadInput as refusal:
        for line in str(refusal).splitlines():
            assert line.startswith("f:")
