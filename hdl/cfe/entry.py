# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The CFE's end of the table window: collects the rows of an entry, so that a table can write it in one
clock.
"""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.csr import layout
from spigate.hdl.net.descriptor import TableWrite

ROWS = 2
"""The most rows that an entry of a CFE table has."""


class Entry(data.StructLayout):
    """A whole entry: ``table`` and ``index`` say where."""

    def __init__(self):
        super().__init__({"table": 3, "index": 16, "rows": data.ArrayLayout(layout.ROW_BITS, ROWS)})


class EntryCollector(wiring.Component):
    """Makes entries of rows.

    Members
    -------
    i : In(stream of TableWrite)
        Waits while an entry is at ``o``. Entries are written whole: a row that a burst lacks is that of the
        burst before.
    o : Out(stream of Entry)
    """

    def __init__(self):
        super().__init__(
            {
                "i": In(stream.Signature(TableWrite())),
                "o": Out(stream.Signature(Entry())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        write, entry = self.i.payload, self.o.payload
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                self.o.valid.eq(write.last),
                entry.table.eq(write.table),
                entry.index.eq(write.index),
            ]
            for row in range(ROWS):
                with m.If(write.row == row):
                    m.d.sync += entry.rows[row].eq(write.data)
        return m
