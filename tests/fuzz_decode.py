"""Coverage-guided noise for every decoder: `python tests/fuzz_decode.py CORPUS [-OPTION=N...]`.

The first byte of an input chooses the device type, the rest is its payload. Decoding may refuse
anything and may raise nothing. Exit 0 when the time is over; a finding is told with its trace, and
its bytes lie in a `crash-*` file. Started by tests/contract/test_fuzz.py, because the fuzzer takes
its process with it.
"""

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

with atheris.instrument_imports(include=["ingest"]):
    from fix_bridge import Device, message, small
    from fix_formats import BINARY, CODED, KINDS, LORA, NODE, PAIRS, PARTS, SENML

    from ingest.check import example_keys
    from ingest.decode import decode
    from ingest.device_types.load import load
    from ingest.onboarding import shipped
    from sizao.units import Lane

OWN = (PAIRS, KINDS, PARTS, SENML, LORA, BINARY, NODE, CODED)


def cases():
    """(district, lane, topic, payloads) of each topic of each type, shipped and of our tests."""
    found = []
    for document in [text for _, text in shipped()] + list(OWN):
        device_type = load(document, "fuzzed")
        for topic in device_type.topics:
            name = topic.pattern.replace("{carrier}", "c1").replace("{key}", "k1")
            payloads = [one.raw() for one in device_type.examples]
            keys = {
                key
                for one in device_type.examples
                for key in example_keys(device_type, document, one)
            }
            devices = [Device(key, document) for key in sorted({*keys, "k1"})]
            found.append((small(*devices), Lane(topic.lane), name, payloads))
    assert len(found) < 256
    return found


CASES = cases()


def write_corpus(folder: Path) -> None:
    """The examples of every type: what a fuzzer begins with."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (_, _, _, payloads) in enumerate(CASES):
        for index, payload in enumerate(payloads):
            (folder / f"{number}-{index}").write_bytes(bytes([number]) + payload)


def one_input(data: bytes) -> None:
    """Decode twice in one tick, as a lane does."""
    if not data:
        return
    district, lane, topic, _ = CASES[data[0] % len(CASES)]
    raw = message(topic, data[1:])
    decoded = decode(district, lane, [raw, raw])
    for refused in decoded.refused:
        refused.detail.encode()


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
