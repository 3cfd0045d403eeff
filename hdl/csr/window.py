# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The table window: rows staged word by word, then sent to a table as one burst."""

from itertools import pairwise

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Table
from spigate.hdl.csr import layout
from spigate.hdl.csr.axil import RegisterBus
from spigate.hdl.net.descriptor import ALL_DFES, TableWrite

DATA_WORDS = rdl.registers()["table.data"].elements
INDEX_WORD, COMMAND_WORD = DATA_WORDS, DATA_WORDS + 1
CLEARED = (Table.SA, Table.SOURCE, Table.CAM, Table.RULE, Table.ROUTE)
"""The tables in the order in which they are erased after a reset: keys first."""


class AtWork:
    """The command at work.

    Members
    -------
    command : register ``table.command``
    index : unsigned(16)
    row, end : unsigned(4)
        The row that is sent, or wiped, and the command's last one.
    unknown, beyond, absent, wrong : unsigned(1)
        What is wrong with it: table, index, DFE, rows.
    written : unsigned(1)
        Some command was carried out since the device was configured. Memories are zero when it is
        configured, and keep what was written over a reset: so does this.
    """

    def __init__(self):
        self.command = Signal(layout.register("table.command"))
        self.index = Signal(16)
        self.row = Signal(4)
        self.end = Signal(4)
        self.unknown = Signal()
        self.beyond = Signal()
        self.absent = Signal()
        self.wrong = Signal()
        self.written = Signal(reset_less=True)


class TableWindow(wiring.Component):
    """The part ``table`` of ``gateway.rdl``; its contract is written there.

    Parameters
    ----------
    sizes : dict of Table to int
        Entries of each table (SA and SOURCE: in each DFE).
    dfes : int

    Members
    -------
    bus : In(RegisterBus)
        Writes wait while a command runs.
    o : Out(stream of TableWrite)
    busy : Out(1)
        A command runs, or what it left is being wiped, or ``closed``.
    closed : Out(1)
        After a reset: what was written before it is being erased, entry by entry, in all DFEs at once
        (:data:`ALL_DFES`). Nothing was written since the device was configured: one clock.
    bad_table, bad_index, bad_dfe, bad_rows : Out(1)
        For one clock: a command was refused, for each reason that applies.
    """

    def __init__(self, *, sizes: dict[Table, int], dfes: int):
        if set(sizes) != set(Table):
            raise ValueError(
                f"sizes must name each of {', '.join(table.name for table in Table)}, not {sizes!r}"
            )
        self._sizes, self._dfes = sizes, dfes
        super().__init__(
            {
                "bus": In(RegisterBus(address_width=8)),
                "o": Out(stream.Signature(TableWrite())),
                "busy": Out(1),
                "closed": Out(1, init=1),
                "bad_table": Out(1),
                "bad_index": Out(1),
                "bad_dfe": Out(1),
                "bad_rows": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.staged = staged = memory.Memory(shape=unsigned(layout.ROW_BITS), depth=16, init=[])
        write = staged.write_port(granularity=32)
        read = staged.read_port(domain="comb")
        work = AtWork()
        m.d.comb += [read.addr.eq(work.row), write.addr.eq(work.row), self.busy.eq(1)]
        with m.FSM(init="RESET"):
            with m.State("RESET"):
                m.d.sync += [
                    self.closed.eq(work.written),
                    work.command.erase.eq(1),
                    work.command.table.eq(CLEARED[0]),
                    work.command.dfe.eq(ALL_DFES),
                ]
                m.next = "WIPE"
                with m.If(work.written):
                    m.next = "CHECK"
            with m.State("NEXT"):
                m.d.sync += work.index.eq(work.index + 1)
                m.next = "CHECK"
            with m.State("TABLE"):
                self._next_table(m, work)
            with m.State("IDLE"):
                self._stage(m, work, write)
            with m.State("CHECK"):
                self._check(m, work)
                m.next = "DECIDE"
            with m.State("DECIDE"):
                self._decide(m, work)
            with m.State("SEND"):
                self._send(m, work, read.data)
            with m.State("DRAIN"):
                with m.If(self.o.ready):
                    # No key stays in the register either.
                    m.d.sync += [self.o.valid.eq(0), self.o.payload.data.eq(0), work.row.eq(0)]
                    m.next = "WIPE"
                    with m.If(self.closed):
                        m.next = "NEXT"
            with m.State("WIPE"):
                m.d.comb += write.en.eq(~0)
                m.d.sync += work.row.eq(work.row + 1)
                with m.If(work.row.all()):
                    m.next = "IDLE"
        return m

    def _next_table(self, m, work: AtWork) -> None:
        """After a reset: the table behind the one that was erased."""
        m.d.sync += work.index.eq(0)
        m.next = "CHECK"
        with m.Switch(work.command.table):
            for table, following in pairwise(CLEARED):
                with m.Case(table):
                    m.d.sync += work.command.table.eq(following)
            with m.Default():
                m.d.sync += self.closed.eq(0)
                m.next = "WIPE"

    def _stage(self, m, work: AtWork, write) -> None:
        """Takes what the bus writes, until it is a command."""
        bus = self.bus
        m.d.comb += [
            self.busy.eq(0),
            bus.write_done.eq(bus.write),
            write.addr.eq(bus.write_address[2:]),
            write.data.eq(bus.write_data.replicate(rdl.ROW_WORDS)),
        ]
        with m.If(bus.write):
            with m.If(bus.write_address < DATA_WORDS):
                m.d.comb += write.en.eq(1 << bus.write_address[:2])
            with m.Elif(bus.write_address == INDEX_WORD):
                m.d.sync += work.index.eq(bus.write_data)
            with m.Else():
                m.d.sync += work.command.eq(bus.write_data)
                m.next = "CHECK"

    def _check(self, m, work: AtWork) -> None:
        """What is wrong with the command, and which rows it means."""
        command = work.command
        m.d.sync += [work.unknown.eq(1), work.beyond.eq(0), work.absent.eq(0), work.wrong.eq(0)]
        with m.Switch(command.table):
            for table in Table:
                with m.Case(table):
                    rows = _rows(table)
                    if table == Table.SA:
                        sound = (command.count != 0) & (command.first + command.count <= rows)
                    else:
                        sound = (command.first == 0) & (command.count == rows)
                    m.d.sync += [
                        work.unknown.eq(0),
                        work.beyond.eq(work.index >= self._sizes[table]),
                        work.wrong.eq(~sound & ~command.erase),
                    ]
                    if table in (Table.SA, Table.SOURCE):
                        m.d.sync += work.absent.eq(command.dfe >= self._dfes)
        m.d.sync += [work.row.eq(command.first), work.end.eq(command.first + command.count - 1)]
        with m.If(command.erase):
            m.d.sync += work.row.eq(0)
            with m.Switch(command.table):
                for table in Table:
                    with m.Case(table):
                        m.d.sync += work.end.eq(_rows(table) - 1)

    def _decide(self, m, work: AtWork) -> None:
        """Refuses the command, or begins it."""
        o = self.o.payload
        with m.If(~self.closed):
            m.d.comb += [
                self.bad_table.eq(work.unknown),
                self.bad_index.eq(work.beyond),
                self.bad_dfe.eq(work.absent),
                self.bad_rows.eq(work.wrong),
            ]
        m.d.sync += [
            o.table.eq(work.command.table),
            o.dfe.eq(work.command.dfe),
            o.index.eq(work.index),
            o.first.eq(1),
        ]
        m.next = "SEND"
        with m.If(self.closed):
            with m.If(work.beyond):
                m.next = "TABLE"
        with m.Elif(work.unknown | work.beyond | work.absent | work.wrong):
            m.d.sync += work.row.eq(0)
            m.next = "WIPE"
        with m.Else():
            m.d.sync += work.written.eq(1)

    def _send(self, m, work: AtWork, staged) -> None:
        """Row after row, as the tables take them."""
        o = self.o
        with m.If(~o.valid | o.ready):
            m.d.sync += [
                o.valid.eq(1),
                o.payload.row.eq(work.row),
                o.payload.last.eq(work.row == work.end),
                o.payload.data.eq(Mux(work.command.erase, 0, staged)),
                work.row.eq(work.row + 1),
            ]
            with m.If(work.row == work.end):
                m.next = "DRAIN"
        with m.If(o.valid & o.ready):
            m.d.sync += o.payload.first.eq(0)


def _rows(table: Table) -> int:
    return len(rdl.entry(table.name.lower()))
