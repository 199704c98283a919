"""What the registry needs of the device types: the shipped files, and a device's points."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from ingest.device_types.load import conflicts, load
from ingest.device_types.schema import DeviceType
from sizao.document import read
from sizao.errors import BadInput
from sizao.units import BY_NAME, HEARD

Document = tuple[str, str]
"""File name for messages, and the text."""


def shipped() -> list[Document]:
    """Every device-type file of this distribution, sorted."""
    root = resources.files("ingest") / "device_types"
    return sorted(
        (f"{vendor.name}/{file.name}", file.read_text(encoding="utf-8"))
        for vendor in root.iterdir()
        if vendor.is_dir()
        for file in _yaml_of(vendor)
    )


def _yaml_of(folder: Traversable) -> list[Traversable]:
    return [file for file in folder.iterdir() if file.name.endswith(".yaml")]


def operators(folder: Path) -> list[Document]:
    """Every `<vendor>/<model>.yaml` of an operator's own folder. Raises BadInput if unreadable."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; set bridge.device_types to one that is there")
    return [(str(file), read(file)) for file in sorted(folder.glob("*/*.yaml"))]


def load_all(documents: list[Document]) -> list[tuple[str, str]]:
    """(device-type name, document) of each file, checked one by one and against each other.

    Raises BadInput with every fault of every file.
    """
    types: dict[str, DeviceType] = {}
    wrong: list[str] = []
    for name, text in documents:
        try:
            types[name] = load(text, name)
        except BadInput as error:
            wrong.append(str(error))
    wrong += conflicts(types, dict(documents))
    if wrong:
        raise BadInput("\n".join(wrong))
    return [(types[name].name, text) for name, text in documents]


def points_needed(document: str) -> list[int]:
    """Quantity codes of the points that each device of this type has, sorted.

    All that it maps, and `heard` when it says alarms: its payload may leave no other row by which
    its being alive is judged. Raises BadInput when the document is none.
    """
    device_type = load(document, "device type")
    codes = {BY_NAME[name].code for name in device_type.quantities}
    return sorted(codes | ({HEARD.code} if device_type.says_alarms else set()))
