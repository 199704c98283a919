"""The command line before terminals of other encodings."""

import os
import subprocess
import sys

from ingest.onboarding import shipped


def test_what_the_terminal_has_no_sign_for_is_escaped(tmp_path):
    file = tmp_path / "厨房\N{FIRE}.yaml"
    file.write_text(dict(shipped())["generic/heat.yaml"], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "sizao.cli", "device-type", "test", str(file)],
        env=os.environ | {"PYTHONIOENCODING": "gbk"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode("gbk")
    assert "厨房\\U0001f525.yaml" in done.stdout.decode("gbk")
