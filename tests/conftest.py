"""Markers and options only; fixtures are plug-ins named fix_<thing>.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ["fix_servers", "fix_topics", "fix_stack"]
