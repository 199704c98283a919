"""What `make up` does about a process of ours that has ended."""

import os

from deploy.local import up


class Part:
    """A process that runs, or does not."""

    address = ""

    def __init__(self, name, *, runs):
        self.name = name
        self.pid = os.getpid() if runs else 0
        self.done = []

    def wait(self):
        raise AssertionError("whoever waits for one lets the others lie")

    def launch(self):
        self.done.append("launch")

    def stop(self):
        self.done.append("stop")


def test_what_has_ended_is_started_again_but_not_in_a_frenzy():
    runs, ended, again_s = Part("detect", runs=True), Part("alert", runs=False), {}
    assert up.revive([runs, ended], again_s, 100.0) == ["alert"]
    assert up.revive([runs, ended], again_s, 100.0 + up.RESTART_S / 2) == []
    assert up.revive([runs, ended], again_s, 100.0 + up.RESTART_S) == ["alert"]
    assert ended.done == ["stop", "launch"] * 2
    assert runs.done == []
