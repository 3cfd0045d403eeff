# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The sources that may speak in the clear."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Table
from spigate.hdl.csr import layout
from spigate.hdl.net.descriptor import TableWrite

ROWS = 8
"""Clocks of a scan: as many lists of that depth are compared side by side as it takes."""
SCAN_CLOCKS = ROWS + 4
"""Clocks from ``start`` to ``allowed``."""


class ClearSources(wiring.Component):
    """A list of {address, mask, ingress}: does any entry match a packet?

    Parameters
    ----------
    entries : int
        1 or more.

    Members
    -------
    tables : In(stream of TableWrite)
        SOURCE entries; always ready. A scan under way sees an entry as it was or as it is.
    start : In(1)
        Begin to scan for ``address`` and ``ingress``.
    address : In(32)
        The packet's source; stays until the scan has ended.
    ingress : In(2)
        The port that it came from; stays as well.
    allowed : Out(1)
        From :data:`SCAN_CLOCKS` clocks after ``start`` to the next ``start``: an entry matches.
    """

    def __init__(self, *, entries: int):
        if entries < 1:
            raise ValueError(f"entries must be 1 or more, not {entries!r}")
        self._entries = entries
        super().__init__(
            {
                "tables": In(stream.Signature(TableWrite())),
                "start": In(1),
                "address": In(32),
                "ingress": In(2),
                "allowed": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.tables.ready.eq(1)
        write = self.tables.payload
        m.d.sync += self.allowed.eq(self.allowed & ~self.start)

        row = Signal(range(ROWS))
        scanning = Signal()
        # Two clocks behind the row: a list's entry is registered, then its comparison.
        valid = Signal(2)
        m.d.sync += [
            row.eq(row + 1),
            scanning.eq(scanning & (row != ROWS - 1)),
            valid.eq(Cat(scanning, valid)),
        ]
        with m.If(self.start):
            m.d.sync += [row.eq(0), scanning.eq(1), valid.eq(0)]

        lists = -(-self._entries // ROWS)
        for at in range(lists):
            m.submodules[f"list_{at}"] = store = memory.Memory(shape=layout.ROW_BITS, depth=ROWS, init=[])
            write_port = store.write_port()
            read_port = store.read_port(domain="comb")
            m.d.comb += [
                write_port.addr.eq(write.index),
                write_port.data.eq(write.data),
                write_port.en.eq(
                    self.tables.valid
                    & (write.table == Table.SOURCE)
                    & (write.index < self._entries)
                    & (write.index[len(row) :] == at)
                ),
                read_port.addr.eq(row),
            ]
            entry = Signal(layout.row("source", "source"), name=f"entry_{at}")
            match = Signal(name=f"match_{at}")
            m.d.sync += [
                entry.eq(read_port.data),
                match.eq(
                    entry.valid
                    & ((entry.address ^ self.address) & entry.mask == 0)
                    & entry.ingress.bit_select(self.ingress, 1)
                ),
            ]
            with m.If(match & valid[-1] & ~self.start):
                m.d.sync += self.allowed.eq(1)
        return m
