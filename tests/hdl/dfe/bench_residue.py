# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for tests/hdl/dfe/test_residue.py: packets through SAs, which are then erased, and
all that is left.
"""

import json
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from spigate.sim.build import parameters
from spigate.sim.residue import state
from tests.hdl.dfe.bench_dfe import Sink, Source


def busy():
    return False


@cocotb.test()
async def leaves_what_it_leaves(dut):
    story = json.loads(Path(parameters()["story"]).read_text())
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    dut.index.value = 2
    dut.time.value = 77
    for name in ("tables", "i", "info", "state_request"):
        getattr(dut, f"{name}__valid").value = 0
        getattr(dut, f"{name}__payload").value = 0
    dut.state__ready.value = 0
    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0

    async def write(rows):
        tables = Source(dut, "tables", rows, busy)
        while not tables.clock():
            await RisingEdge(dut.clk)

    async def play(beats, infos, count):
        streams = [Source(dut, "i", beats, busy), Source(dut, "info", infos, busy)]
        out, reports = (
            Sink(dut, "o", busy, story["last_bit"]),
            Sink(dut, "reports", busy, story["dropped_bit"]),
        )
        streams += [out, reports, Sink(dut, "egress", busy)]
        while out.marked + reports.marked < count:
            await RisingEdge(dut.clk)
            for stream in streams:
                stream.clock()
        return reports.marked

    await write(story["tables"])
    dropped = await play(story["beats"], story["infos"], len(story["infos"]))
    for name in ("i", "info"):
        getattr(dut, f"{name}__payload").value = 0
    await ClockCycles(dut.clk, 100)
    before = state(dut)
    await write(story["erase"])
    await ClockCycles(dut.clk, 4)
    clocks = 0
    while int(dut.wiping.value):
        await RisingEdge(dut.clk)
        clocks += 1
    dut.tables__payload.value = 0
    await ClockCycles(dut.clk, story["settle"])
    Path(story["result"]).write_text(
        json.dumps({"before": before, "after": state(dut), "clocks": clocks, "dropped": dropped})
    )
