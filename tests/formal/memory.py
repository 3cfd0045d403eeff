# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Block memory as its contract has it, of which one row is real."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.net.memory import BlockMemory
from tests.formal.proof import AnyConst, AnySeq


class OneRow(wiring.Component):
    """Stands for :class:`BlockMemory`. The row ``at``, which may be any, holds what was written to it last;
    all others read as anything. So do reads in the clock of a write to the same word, of which the contract
    promises nothing. What holds with this memory for any row holds with a real one for all of them.

    Members
    -------
    Those of :class:`BlockMemory`, and what proofs look at:

    at : Signal
        The row that is real.
    row : Signal
        What it holds.
    shown, first_shown : Signal
        ``read_data`` (the stage before it) is what the row held when it was read.
    """

    def __init__(self, *, width: int, depth: int, granularity: int | None = None):
        real = BlockMemory(width=width, depth=depth, granularity=granularity)
        real._MustUse__silence = True  # checks the parameters
        self._width, self._depth, self._granularity = width, depth, granularity or width
        super().__init__(
            {
                "write_address": In(range(depth)),
                "write_data": In(width),
                "write_enable": In(width // self._granularity),
                "read_address": In(range(depth)),
                "read_enable": In(1, init=1),
                "read_data": Out(width),
            }
        )
        self.at, self.row = Signal(range(depth), name="at"), Signal(width, name="row")
        self.first_shown, self.shown, self.first = (
            Signal(name="first_shown"),
            Signal(name="shown"),
            Signal(width, name="first"),
        )

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.at.eq(AnyConst(len(self.at)))
        writes = self.write_address == self.at
        for part, enable in enumerate(self.write_enable):
            bits = slice(part * self._granularity, (part + 1) * self._granularity)
            with m.If(enable & writes):
                m.d.sync += self.row[bits].eq(self.write_data[bits])
        sure = Signal()
        m.d.comb += sure.eq((self.read_address == self.at) & ~(writes & Cat(self.write_enable).any()))
        with m.If(self.read_enable):
            m.d.sync += [
                self.first.eq(Mux(sure, self.row, AnySeq(self._width))),
                self.first_shown.eq(sure),
                self.read_data.eq(self.first),
                self.shown.eq(self.first_shown),
            ]
        return m
