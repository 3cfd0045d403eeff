# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Lets a component run for some clocks."""

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles


@cocotb.test()
async def runs(dut):
    dut.rst.value = 0
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    await ClockCycles(dut.clk, 20)
