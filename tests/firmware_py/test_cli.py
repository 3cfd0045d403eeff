import os
import subprocess
import sys

import pytest

from spigate.firmware_py import cli


def call(*words):
    return subprocess.run([sys.executable, "-m", "spigate.firmware_py.cli", *words], capture_output=True, text=True,
                          env={**os.environ, "COLUMNS": "200"})


def test_help_lists_every_command_with_its_line():
    shown = call("--help")
    assert shown.returncode == 0
    for name, (_, _, text) in cli.COMMANDS.items():
        assert any(line.split()[:1] == [name] and text in line for line in shown.stdout.splitlines()), name


def test_help_imports_no_command():
    program = ("import sys; from spigate.firmware_py import cli; cli.parser(); "
               "print([name for name in sys.modules if name.startswith(('spigate.sim', 'spigate.hdl', 'amaranth', 'cocotb'))])")
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("words", [(), ("frob",), ("replay",), ("replay", "x", "--out", "y", "--beat-bytes", "7")])
def test_a_wrong_call_ends_with_2_and_says_why(words):
    shown = call(*words)
    assert shown.returncode == 2 and "error:" in shown.stderr and "Traceback" not in shown.stderr


def test_what_is_wrong_is_one_sentence(tmp_path):
    shown = call("replay", str(tmp_path / "absent"), "--out", str(tmp_path / "out"))
    assert shown.returncode == 2
    assert shown.stderr == f"spigate replay: {tmp_path / 'absent'}: expected a folder\n"
    shown = call("replay", str(tmp_path), "--out", str(tmp_path / "out"))
    assert shown.returncode == 2 and "xfrm-state.txt" in shown.stderr and "Traceback" not in shown.stderr
