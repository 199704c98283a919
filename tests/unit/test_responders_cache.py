"""The responders on the local disk: whole or not at all, and nobody else's business."""

from __future__ import annotations

import stat

from alerting import responders_cache
from alerting.model import Nature
from alerting.policy import Responder
from alerting.responders import Directory
from sizao.signal import Kind, Tier

DIRECTORY = Directory(
    version=7,
    responders=(
        Responder(
            name="station",
            area="C1",
            kinds=frozenset({Kind.FIRE, Kind.GAS}),
            natures=frozenset({Nature.REAL}),
            min_tier=Tier.EARLY,
            language="zh",
            channels=("webhook", "second"),
        ),
    ),
    addresses={
        ("station", "webhook"): {"channel": "webhook", "name": "webhook", "url": "https://a"},
        ("station", "second"): {"channel": "webhook", "name": "second", "url": "https://b"},
    },
)


def test_what_is_kept_comes_back(tmp_path):
    responders_cache.save(DIRECTORY, tmp_path / "state")
    assert responders_cache.restore(tmp_path / "state") == DIRECTORY
    (file,) = (tmp_path / "state").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_one_flipped_bit_is_no_directory(tmp_path):
    responders_cache.save(DIRECTORY, tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    for at in range(0, len(content), 7):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert responders_cache.restore(tmp_path) is None
    file.write_bytes(content)
    assert responders_cache.restore(tmp_path) == DIRECTORY


def test_none_is_none(tmp_path):
    assert responders_cache.restore(tmp_path) is None
