# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Linux's captures, all of them, by the software path alone, and with a gateway that does what the gateware
can.
"""

from pathlib import Path

import pytest

from spigate.firmware_py import cli
from spigate.firmware_py.captures import capture
from spigate.firmware_py.tables.interface import GATEWARE
from spigate.sim import software
from spigate.sim.replay import OUTPUTS
from spigate.sim.verify import verify
from tests.firmware_py.control.network import LINUX

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
SCENARIOS = sorted(path.name for path in CAPTURES.iterdir() if path.is_dir())
DONE_BY_DFES = 10
"""Captures in which the gateware leaves nothing to the software path."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_software_path(name, tmp_path, capsys):
    assert cli.main(["replay", str(CAPTURES / name), "--dataplane", "soft", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OUTPUTS)
    assert sum(verify(CAPTURES / name, tmp_path).values()) >= 4


@pytest.mark.parametrize(
    "words, said",
    [
        (("--dfes", "3"), "in software there is no gateware: its sizes and its engine are not to be chosen"),
        (("--engine", "gcm"), "in software there is no gateware: "),
        (("--waveform", "w.vcd"), "in software there are no clocks: "),
    ],
)
def test_what_is_the_gatewares_is_refused(words, said, tmp_path, capsys):
    """It was taken, and did nothing."""
    capture_of = str(CAPTURES / SCENARIOS[0])
    assert cli.main(["replay", capture_of, "--dataplane", "soft", "--out", str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", SCENARIOS)
def test_with_decryptors(name, tmp_path):
    """What they cannot do comes up."""
    software.play(capture.read(CAPTURES / name), LINUX, tmp_path, capabilities=GATEWARE)
    verify(CAPTURES / name, tmp_path)


def test_the_decryptors_leave_nothing_that_they_can_do(tmp_path):
    reports = [
        software.play(capture.read(CAPTURES / name), LINUX, tmp_path, capabilities=GATEWARE)
        for name in SCENARIOS
    ]
    assert sum(not report["software"] for report in reports) == DONE_BY_DFES
