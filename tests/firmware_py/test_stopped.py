# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Errors and Ctrl-C of the commands that make gateware: one sentence, and no warning of what is left unmade."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spigate.hdl.contract.parameters import PARAMETERS

pytestmark = pytest.mark.slow

COMMANDS = {
    "export": ("export", "-o", "{folder}/spigate.v"),
    "synth": ("synth", "--json", "{folder}/synth.json"),
    "synth --area --blocks": ("synth", "--area", "--blocks"),
    "simulate": ("simulate", "--socket", "{folder}/socket", "--network", "sgt-n", "--server", "sgt-s"),
    "replay": ("replay", "tests/data/captures/esp-tunnel-gcm128", "--out", "{folder}/out"),
}
MAKES = [name for name in COMMANDS if name != "synth --area --blocks"]
SECONDS = 240


def started(name: str, folder: Path, *more: str) -> subprocess.Popen:
    """The command, with an empty cache, so that it converts; its own process group, as a terminal gives it."""
    words = [word.format(folder=folder) for word in COMMANDS[name]]
    return subprocess.Popen(
        [sys.executable, "-m", "spigate.firmware_py.cli", *words, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SPIGATE_CACHE": str(folder / "cache"), "COLUMNS": "80"},
        start_new_session=True,
    )


def has_children(process: subprocess.Popen) -> bool:
    """Whether it has called a tool: then the conversion is under way, and many components are made."""
    return any(path.read_text().strip() for path in Path(f"/proc/{process.pid}/task").glob("*/children"))


@pytest.mark.parametrize("whom", ["all", "the command alone"])
@pytest.mark.parametrize("name", MAKES)
def test_stopped_in_the_midst_of_the_conversion(name, whom, tmp_path):
    if name == "simulate" and os.geteuid():
        pytest.skip("TAP devices need root")
    with started(name, tmp_path) as process:
        end = time.monotonic() + SECONDS
        while not has_children(process):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        if whom == "all":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
    *before, last = errors.splitlines()
    assert (process.returncode, last) == (130, f"spigate {name}: stopped")
    assert all(line.startswith("making a model of the gateway for verilator;") for line in before), errors


@pytest.mark.parametrize("parameter", PARAMETERS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_parameter_out_of_its_range(name, parameter, tmp_path):
    command, *_ = name.split()
    if parameter == "clock_khz" and command in ("simulate", "replay"):
        pytest.skip("a simulated clock is as fast as it is")
    wrong = max(PARAMETERS[parameter].allowed) + 1
    with started(name, tmp_path, f"--{parameter.replace('_', '-')}", str(wrong)) as process:
        _, errors = process.communicate(timeout=SECONDS)
    said = f"spigate {command}: {parameter} must be {PARAMETERS[parameter].limits}, not {wrong}\n"
    assert (process.returncode, errors) == (2, said)


@pytest.mark.parametrize("words", [("export", "--technology", "ecp5"), ("synth --area --blocks",)])
def test_more_than_a_family_has(words, tmp_path):
    name, *more = words
    with started(name, tmp_path, *more, "--sa-entries", "4096") as process:
        _, errors = process.communicate(timeout=SECONDS)
    said = f"spigate {name.split()[0]}: sa_entries must be at most 2048 on ecp5, not 4096\n"
    assert (process.returncode, errors) == (2, said)


def test_an_engine_that_is_not_there(tmp_path):
    with started("export", tmp_path, "--engine", "fast") as process:
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert "argument --engine: invalid choice: 'fast'" in errors and "cbc-sha256" in errors


def test_an_error_behind_the_conversion_says_itself_alone(tmp_path):
    """The gateway is made, and then what it is to be written to is not there."""
    (tmp_path / "file").write_text("")
    with started("export", tmp_path, "-o", str(tmp_path / "file" / "spigate.v")) as process:
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 2 and errors.count("\n") == 1 and "Unused" not in errors
