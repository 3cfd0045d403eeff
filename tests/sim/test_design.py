# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What takes minutes says so, whoever reads it: a file at standard output, a terminal at standard error."""

import subprocess
import sys

from spigate.sim import board
from spigate.sim.design import Configuration


def test_a_model_is_told_of_before_it_is_made(monkeypatch):
    done = []
    monkeypatch.setattr(Configuration, "verilog", lambda self: done.append("verilog"))
    monkeypatch.setattr(board, "model", lambda *given, **words: done.append("model"))
    Configuration().model(tell=done.append)
    said, *rest = done
    assert said == "making a model of the gateway for verilator; the first time that takes some minutes"
    assert rest == ["verilog", "model"]


def test_it_is_said_at_standard_error_at_once():
    program = "from spigate.firmware_py.terminal import tell; tell('x'); import os; os._exit(0)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "x\n")
