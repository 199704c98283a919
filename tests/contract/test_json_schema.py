"""docs/device-type.schema.json is what the models say; what an editor marks, check marks too."""

import contextlib
import json
from pathlib import Path

import jsonschema
import pytest
from jsonschema.protocols import Validator
from pydantic import BaseModel, ValidationError

from ingest.device_types import json_schema
from ingest.device_types.base import Closed
from ingest.device_types.consistency import faults
from ingest.device_types.schema import DeviceType
from ingest.onboarding import shipped
from sizao.document import parse
from sizao.errors import BadInput
from sizao.units import BY_NAME, HEARD, wire_units

HOUSE = Path(__file__).parents[2]
DATA = HOUSE / "tests" / "data" / "broken_types"
SCHEMA = json_schema.schema()
EDITOR: Validator = jsonschema.Draft202012Validator(SCHEMA)
DOCUMENTS = dict(shipped())
COMMAND = "sizao device-type schema > docs/device-type.schema.json"


def test_the_published_schema_is_in_step():
    published = (HOUSE / "docs" / json_schema.FILE).read_text("utf-8")
    assert published == json_schema.text(), f"the models have changed: {COMMAND}"


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_shipped_file_is_valid_in_an_editor(name):
    """As YAML 1.2 has it (`yes` is a word) and as YAML 1.1 has it (`yes` is true)."""
    data = parse(DOCUMENTS[name], name).data
    assert list(EDITOR.iter_errors(data)) == []
    assert list(EDITOR.iter_errors(by_yaml_1_1(data))) == []
    assert DeviceType.model_validate(by_yaml_1_1(data)) == DeviceType.model_validate(data)


def by_yaml_1_1(data):
    """Its booleans, where a key wants one; a wire value `yes` of a table would be another."""
    flags = {"yes": True, "no": False}
    return {key: flags.get(value, value) if isinstance(value, str) else value
            for key, value in data.items()}  # fmt: skip


def scalars(data, path=()):
    """Paths of all single values."""
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in inner:
        if isinstance(value, dict | list):
            yield from scalars(value, (*path, key))
        else:
            yield (*path, key), value


def put(data, path, value):
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = put(data[path[0]], path[1:], value) if path[1:] else value
    return copy


def sound(data):
    """Whether each key is of its kind."""
    try:
        DeviceType.model_validate(data)
    except ValidationError:
        return False
    return True


def whole(data):
    """Whether the file has no fault at all, but for examples that do not come true."""
    return sound(data) and not list(faults(DeviceType.model_validate(data)))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_value_of_another_kind_is_a_fault_to_both(name):
    data = parse(DOCUMENTS[name], name).data
    for path, value in scalars(data):
        if path[0] == "examples" and int(path[1]) > 1:
            continue
        for other in ("1", "on", 1, 1.5, True, [], {}, 10**9):
            changed = put(data, path, other)
            editor = EDITOR.is_valid(changed)
            assert editor or not whole(changed), (path, other)
            # A text that is no pointer, no zone, no time: an editor may let it pass.
            texts = isinstance(other, str) and isinstance(value, str)
            assert sound(changed) or texts or not editor, (path, other)


@pytest.mark.parametrize("file", sorted(DATA.glob("*.yaml")), ids=lambda file: file.stem)
def test_what_an_editor_marks_is_a_fault(file):
    with contextlib.suppress(BadInput):
        data = parse(file.read_text("utf-8"), file.name).data
        assert EDITOR.is_valid(data) or not whole(data)


def models(model=DeviceType):
    found = {model}
    for field in model.model_fields.values():
        for inner in inside(field.annotation):
            if inner not in found:
                found |= models(inner)
    return found


def inside(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    args = getattr(annotation, "__args__", ())
    return set().union(*(inside(arg) for arg in args)) if args else set()


def test_every_key_says_what_it_is_for_and_none_but_these_are_taken():
    for model in models():
        assert issubclass(model, Closed)
        shape = SCHEMA if model is DeviceType else SCHEMA["$defs"][model.__name__]
        assert shape["additionalProperties"] is False
        for key, field in shape["properties"].items():
            assert field.get("description"), (
                f"{model.__name__}.{key}: say in Field(description=...)"
            )


def test_an_editor_knows_every_quantity_and_its_units():
    known = SCHEMA["properties"]["quantities"]["properties"]
    assert known.keys() == BY_NAME.keys() - {HEARD.name}
    for name, measure in known.items():
        fitting = measure["allOf"][1]["properties"]["unit"]["enum"]
        assert tuple(fitting) == wire_units(BY_NAME[name])
    assert json.loads(json_schema.text()) == SCHEMA
