# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for tests/sim/test_build.py: a packet goes through a queue."""

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from spigate.sim.build import parameters


@cocotb.test()
async def passes_a_beat(dut):
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    dut.o__ready.value = 0
    dut.i__valid.value = 0
    dut.rst.value = 1
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    dut.i__valid.value = 1
    dut.i__payload.value = parameters()["payload"]
    await RisingEdge(dut.clk)
    dut.i__valid.value = 0
    dut.o__ready.value = 1
    await RisingEdge(dut.clk)
    while not dut.o__valid.value:
        await RisingEdge(dut.clk)
    assert int(dut.o__payload.value) == parameters()["expected"]
