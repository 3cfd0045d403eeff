# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""PHYs on a management bus, bit by bit as IEEE 802.3 clause 22 has them, for Amaranth's simulator."""

import random

from amaranth.hdl import Module, Mux, Signal
from amaranth.sim import Simulator

NS = 1e-9
CONTROL, STATUS, IDENTIFIER, ADVERTISED, PARTNER, GIGABIT_CONTROL, GIGABIT_STATUS = 0, 1, 2, 4, 5, 9, 10
LINK = 1 << 2
GIGABIT = {
    CONTROL: 0x1140,
    STATUS: 0x7949 | 1 << 5,
    IDENTIFIER: 0x0141,
    IDENTIFIER + 1: 0x0DD1,
    ADVERTISED: 0x01E1,
    PARTNER: 0x45E1,
    GIGABIT_CONTROL: 0x0300,
    GIGABIT_STATUS: 0x3C00,
}
"""A PHY whose negotiation ended at 1000 Mbit/s, full duplex."""


class Phy:
    """A PHY. It takes bits at rising edges of MDC and says what it drives behind them.

    Parameters
    ----------
    address : int
    registers : dict of int to int
        Without the link's bit, which ``link`` is.
    """

    def __init__(self, address: int, registers: dict[int, int] | None = None):
        self.address, self.registers = address, dict(GIGABIT if registers is None else registers)
        self.there, self.wrong, self.reads = True, 0, []
        self._link = self._latched = True
        self._ones, self._header, self._left, self._out = 0, None, 0, []

    @property
    def link(self) -> bool:
        return self._link

    @link.setter
    def link(self, value: bool) -> None:
        self._link = value
        self._latched = self._latched and value

    def edge(self, bit: int) -> int | None:
        """What it drives until the next rising edge; None: nothing."""
        if self._left:
            self._left -= 1
            return self._out.pop(0) if self._out else None
        if self._header is None:
            if bit:
                self._ones += 1
            else:
                # 22.2.4.5.2: a preamble of 32 ones, on a bus that was not driven before perhaps more.
                if self._ones >= 32:
                    self._header = [0]
                self._ones = 0
            return None
        self._header.append(bit)
        if len(self._header) == 14:
            number = int("".join(map(str, self._header)), 2)
            start_and_read, address, register = number >> 10, number >> 5 & 31, number & 31
            assert start_and_read == 0b0110
            self._header, self._left, self._out = None, 18, []
            if address == self.address and self.there:
                value = self._read(register)
                # Turnaround: a bit's time nobody drives, then 0.
                self._out = [0, *(value >> at & 1 for at in range(15, -1, -1))]
        return None

    def _read(self, register: int) -> int:
        value = self.registers.get(register, 0)
        if register == STATUS:
            value |= LINK * self._latched
            self._latched = self._link
        self.reads.append(register)
        value, self.wrong = value ^ self.wrong, 0
        return value


class ManagementBus:
    """A bus with ``phys`` on it, and a block that has the pins; ``pull`` is what the line is if nobody drives it.

    PHYs change the line ``delays`` (least and greatest, in ns) behind the edge.
    """

    def __init__(self, block, phys, *, clock_hz: float, delays=(0, 300), pull: int = 1):
        self.block, self.phys, self.clock_hz, self.delays = block, phys, clock_hz, delays
        self.random = random.Random(1)
        self.driven, self.value = Signal(), Signal()
        self.module = m = Module()
        m.submodules.block = block
        line = Mux(block.mdio_oe, block.mdio_o, Mux(self.driven, self.value, pull))
        m.d.comb += block.mdio_i.eq(line)

    async def _drive(self, ctx):
        block = self.block
        while True:
            await ctx.posedge(block.mdc)
            bit = ctx.get(block.mdio_i)
            drives = [phy.edge(bit) for phy in self.phys]
            found = [each for each in drives if each is not None]
            assert len(found) <= 1
            await ctx.delay(self.random.uniform(*self.delays) * NS)
            ctx.set(self.driven, bool(found))
            ctx.set(self.value, found[0] if found else 0)

    async def _watch(self, ctx):
        """Times of the station's signals (22.2.2, MDC; 22.3.4), and that it does not drive while a PHY does."""
        block = self.block
        now, changed, edges = 0, -1e9, {0: -1e9, 1: -1e9}
        before = tuple(ctx.get(each) for each in (block.mdc, block.mdio_o, block.mdio_oe))
        pins = block.mdc, block.mdio_o, block.mdio_oe, self.driven
        async for _, _, mdc, out, enable, driven in ctx.tick().sample(*pins):
            now += 1e9 / self.clock_hz
            assert not (enable and driven)
            if (out, enable) != before[1:]:
                changed = now
                assert now - edges[1] >= 10
            if mdc != before[0]:
                assert now - edges[mdc] >= 399.9 and now - edges[1 - mdc] >= 160
                assert not mdc or now - changed >= 10
                edges[mdc] = now
            before = mdc, out, enable

    def run(self, testbench) -> None:
        """Until ``testbench`` ends."""
        simulator = Simulator(self.module)
        simulator.add_clock(1 / self.clock_hz)
        simulator.add_testbench(testbench)
        simulator.add_testbench(self._drive, background=True)
        simulator.add_testbench(self._watch, background=True)
        simulator.run()
