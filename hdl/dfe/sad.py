# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The security association database of a DFE: the rows of its SAs that dispatch hands to a lane."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Table
from spigate.hdl.csr import layout
from spigate.hdl.dfe.job import ROWS
from spigate.hdl.net.descriptor import TableWrite
from spigate.hdl.net.memory import BlockMemory

READ_CLOCKS = 3
"""Clocks from a row's address to the row."""
LOW_ROWS = 8
"""Rows 0 to 7 are in one memory, 8 and 9 in another: in one memory they would cost half as many block RAMs
again.
"""


class Sad(wiring.Component):
    """Rows 0 to 9 (``control`` to ``auth_3``) of ``entries`` SAs.

    Parameters
    ----------
    entries : int
        A power of two, 2 or more.

    Members
    -------
    tables : In(stream of TableWrite)
        Rows of SAs. What is not a row of an SA in this table is taken and has no effect.
    start : In(1)
        A fetch wants to begin. It has begun in a clock with ``start & granted``.
    granted : Out(1)
        No burst of rows is being written or waits.
    running : In(1)
        From the clock after it began: a fetch runs, and a burst waits.
    index, row : In
        The row to read, while ``running``.
    data : Out(128)
        It, :data:`READ_CLOCKS` clocks later.
    blank : In(1)
        ``data`` is 0 instead, from the next clock on.
    erased : Out(1)
        A strobe: an entry was written whole, and not as a valid one.
    """

    def __init__(self, *, entries: int):
        if entries < 2 or entries & entries - 1:
            raise ValueError(f"entries must be a power of two, 2 or more, not {entries!r}")
        self._entries = entries
        super().__init__(
            {
                "tables": In(stream.Signature(TableWrite())),
                "start": In(1),
                "granted": Out(1),
                "running": In(1),
                "index": In(range(entries)),
                "row": In(range(ROWS)),
                "data": Out(layout.ROW_BITS),
                "blank": In(1),
                "erased": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.low = low = BlockMemory(width=layout.ROW_BITS, depth=LOW_ROWS * self._entries)
        m.submodules.high = high = BlockMemory(width=layout.ROW_BITS, depth=(ROWS - LOW_ROWS) * self._entries)

        # A burst and a fetch exclude each other, so that a fetch sees the old entry or the new one.
        bursting = Signal()
        write, take = self.tables.payload, self.tables.valid & self.tables.ready
        known = (write.table == Table.SA) & (write.index < self._entries)
        m.d.comb += [
            self.granted.eq(~bursting & ~self.tables.valid & ~self.running),
            self.tables.ready.eq(bursting | ~self.running),
        ]
        with m.If(take):
            m.d.sync += bursting.eq(~write.last)

        # What stops an SA is its first row alone.
        void = Signal()
        m.d.sync += self.erased.eq(take & known & write.last & void & ~write.first)
        with m.If(take & write.first):
            m.d.sync += void.eq((write.row == 0) & ~layout.row("sa", "control")(write.data).valid)

        enable = Signal()
        row = Signal(4)
        index = Signal(range(self._entries))
        m.d.sync += [enable.eq(take & known), row.eq(write.row), index.eq(write.index)]
        for memory, first, rows in ((low, 0, LOW_ROWS), (high, LOW_ROWS, ROWS - LOW_ROWS)):
            bits = (rows - 1).bit_length()
            m.d.sync += memory.write_data.eq(write.data)
            m.d.comb += [
                memory.write_address.eq(Cat(row[:bits], index)),
                memory.write_enable.eq(enable & (row >= first) & (row < first + rows)),
                memory.read_address.eq(Cat(self.row[:bits], self.index)),
            ]
        from_high = Signal(READ_CLOCKS - 1)
        m.d.sync += [
            from_high.eq(Cat(self.row >= LOW_ROWS, from_high)),
            self.data.eq(Mux(from_high[-1], high.read_data, low.read_data)),
        ]
        with m.If(self.blank):
            m.d.sync += self.data.eq(0)
        return m
