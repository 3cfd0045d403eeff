# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs in the simulator, for tests/hdl/dfe/test_dfe.py: plays table writes and packets into a Dfe and writes
down what comes out.
"""

import json
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from spigate.sim.build import parameters


class Source:
    """Offers one payload after another on a stream."""

    def __init__(self, dut, name, payloads, pause):
        self.payload, self.valid, self.ready = (
            getattr(dut, f"{name}__{part}") for part in ("payload", "valid", "ready")
        )
        self.payloads, self.pause, self.at, self.offered = payloads, pause, 0, False
        self.valid.value = 0

    def clock(self):
        """Once a clock, with the values from before it. True when all are taken."""
        if self.offered:
            if not int(self.ready.value):
                return False
            self.at += 1
        self.offered = self.at < len(self.payloads) and not self.pause()
        self.valid.value = self.offered
        if self.offered:
            self.payload.value = self.payloads[self.at]
        return self.at == len(self.payloads)


class Sink:
    """Takes what a stream offers, and counts those items in which bit ``mark`` is set."""

    def __init__(self, dut, name, pause, mark=0):
        self.payload, self.valid, self.ready = (
            getattr(dut, f"{name}__{part}") for part in ("payload", "valid", "ready")
        )
        self.pause, self.taking, self.taken, self.mark, self.marked = pause, False, [], mark, 0
        self.ready.value = 0

    def clock(self):
        if self.taking and int(self.valid.value):
            self.taken.append(int(self.payload.value))
            self.marked += self.taken[-1] >> self.mark & 1
        self.taking = not self.pause()
        self.ready.value = self.taking


@cocotb.test()
async def plays(dut):
    story = json.loads(Path(parameters()["story"]).read_text())
    source, share = random.Random(1), story["pause"]

    def pause():
        return share and source.random() < share

    Clock(dut.clk, 10, "ns", impl="gpi").start()
    dut.index.value = 2
    dut.time.value = 77
    tables = Source(dut, "tables", story["tables"], pause)
    packets, infos = Source(dut, "i", story["beats"], pause), Source(dut, "info", story["infos"], pause)
    requests = Source(dut, "state_request", story["requests"], pause)
    out, reports = Sink(dut, "o", pause, story["last_bit"]), Sink(dut, "reports", pause, story["dropped_bit"])
    egress, states = Sink(dut, "egress", pause), Sink(dut, "state", pause)
    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    while not tables.clock():
        await RisingEdge(dut.clk)
    clocks = 0
    while out.marked + reports.marked < len(story["infos"]):
        await RisingEdge(dut.clk)
        clocks += 1
        assert clocks < story["clocks"], (
            f"{out.marked} sent and {reports.marked} dropped of {len(story['infos'])} packets"
        )
        for stream in (packets, infos, out, egress, reports):
            stream.clock()
    while len(states.taken) < len(story["requests"]):
        await RisingEdge(dut.clk)
        requests.clock()
        states.clock()
    await ClockCycles(dut.clk, 20)
    Path(story["result"]).write_text(
        json.dumps(
            {
                "beats": out.taken,
                "egress": egress.taken,
                "reports": reports.taken,
                "states": states.taken,
                "clocks": clocks,
                "counters": int(dut.counters.value),
            }
        )
    )
