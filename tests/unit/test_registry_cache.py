"""The registry's cache on disk: whole, or not at all."""

from fix_detect import Point, registry

from sizao.registry import cache


def test_what_was_saved_comes_back(tmp_path):
    known = registry([Point(1), Point(2, "fire_state")], generation=12)
    cache.save(known, tmp_path)
    kept = cache.restore(tmp_path)
    assert kept is not None
    assert (kept.generation, kept.partitions) == (12, 4)
    assert kept.newest.device_key == known.newest.device_key
    assert kept.newest.point_quantity.tolist() == known.newest.point_quantity.tolist()


def test_no_damaged_byte_passes(tmp_path):
    """Seen: the head was not hashed, and one flipped bit made generation 12 a 13."""
    cache.save(registry([Point(1)], generation=12), tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    passed = []
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        if cache.restore(tmp_path) is not None:
            passed += [place]
    assert passed == []


def test_a_short_file_is_none(tmp_path):
    cache.save(registry([Point(1)]), tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    for size in (0, 1, 64, 65, 100, len(content) - 1):
        file.write_bytes(content[:size])
        assert cache.restore(tmp_path) is None
