"""The table window: rows staged word by word, then sent to a table as one burst."""

from itertools import pairwise

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import ALL_DFES
from spigate.hdl.contract.enums import Table
from spigate.hdl.csr import layout
from spigate.hdl.csr.axil import RegisterBus
from spigate.hdl.net.descriptor import TableWrite

DATA_WORDS = rdl.registers()["table.data"].count
INDEX_WORD, COMMAND_WORD = DATA_WORDS, DATA_WORDS + 1
CLEARED = (Table.SA, Table.SOURCE, Table.CAM, Table.RULE, Table.ROUTE)
"""The tables in the order in which they are erased after a reset: keys first."""


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
        bus, o = self.bus, self.o

        m.submodules.staged = staged = memory.Memory(shape=unsigned(layout.ROW_BITS), depth=16, init=[])
        write = staged.write_port(granularity=32)
        read = staged.read_port(domain="comb")
        row = Signal(4)
        m.d.comb += [read.addr.eq(row), write.addr.eq(row)]

        command = Signal(layout.register("table.command"))
        index = Signal(16)
        end = Signal(4)
        unknown, beyond, absent, wrong = Signal(), Signal(), Signal(), Signal()
        m.d.comb += self.busy.eq(1)
        # Memories are zero when the device was configured, and keep what was written over a reset: so does
        # this.
        written = Signal(reset_less=True)
        with m.FSM(init="RESET"):
            with m.State("RESET"):
                m.d.sync += [
                    self.closed.eq(written),
                    command.erase.eq(1),
                    command.table.eq(CLEARED[0]),
                    command.dfe.eq(ALL_DFES),
                ]
                m.next = "WIPE"
                with m.If(written):
                    m.next = "CHECK"
            with m.State("NEXT"):
                m.d.sync += index.eq(index + 1)
                m.next = "CHECK"
            with m.State("TABLE"):
                m.d.sync += index.eq(0)
                m.next = "CHECK"
                with m.Switch(command.table):
                    for table, following in pairwise(CLEARED):
                        with m.Case(table):
                            m.d.sync += command.table.eq(following)
                    with m.Default():
                        m.d.sync += self.closed.eq(0)
                        m.next = "WIPE"
            with m.State("IDLE"):
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
                        m.d.sync += index.eq(bus.write_data)
                    with m.Else():
                        m.d.sync += command.eq(bus.write_data)
                        m.next = "CHECK"
            with m.State("CHECK"):
                self._check(m, command, index, unknown, beyond, absent, wrong)
                m.d.sync += [row.eq(command.first), end.eq(command.first + command.count - 1)]
                with m.If(command.erase):
                    m.d.sync += row.eq(0)
                    with m.Switch(command.table):
                        for table in Table:
                            with m.Case(table):
                                m.d.sync += end.eq(_rows(table) - 1)
                m.next = "DECIDE"
            with m.State("DECIDE"):
                with m.If(~self.closed):
                    m.d.comb += [
                        self.bad_table.eq(unknown),
                        self.bad_index.eq(beyond),
                        self.bad_dfe.eq(absent),
                        self.bad_rows.eq(wrong),
                    ]
                m.d.sync += [
                    o.payload.table.eq(command.table),
                    o.payload.dfe.eq(command.dfe),
                    o.payload.index.eq(index),
                    o.payload.first.eq(1),
                ]
                m.next = "SEND"
                with m.If(self.closed):
                    with m.If(beyond):
                        m.next = "TABLE"
                with m.Elif(unknown | beyond | absent | wrong):
                    m.d.sync += row.eq(0)
                    m.next = "WIPE"
                with m.Else():
                    m.d.sync += written.eq(1)
            with m.State("SEND"):
                with m.If(~o.valid | o.ready):
                    m.d.sync += [
                        o.valid.eq(1),
                        o.payload.row.eq(row),
                        o.payload.last.eq(row == end),
                        o.payload.data.eq(Mux(command.erase, 0, read.data)),
                        row.eq(row + 1),
                    ]
                    with m.If(row == end):
                        m.next = "DRAIN"
                with m.If(o.valid & o.ready):
                    m.d.sync += o.payload.first.eq(0)
            with m.State("DRAIN"):
                with m.If(o.ready):
                    # No key stays in the register either.
                    m.d.sync += [o.valid.eq(0), o.payload.data.eq(0), row.eq(0)]
                    m.next = "WIPE"
                    with m.If(self.closed):
                        m.next = "NEXT"
            with m.State("WIPE"):
                m.d.comb += write.en.eq(~0)
                m.d.sync += row.eq(row + 1)
                with m.If(row.all()):
                    m.next = "IDLE"
        return m

    def _check(self, m, command, index, unknown, beyond, absent, wrong):
        m.d.sync += [unknown.eq(1), beyond.eq(0), absent.eq(0), wrong.eq(0)]
        with m.Switch(command.table):
            for table in Table:
                with m.Case(table):
                    rows = _rows(table)
                    if table == Table.SA:
                        sound = (command.count != 0) & (command.first + command.count <= rows)
                    else:
                        sound = (command.first == 0) & (command.count == rows)
                    m.d.sync += [
                        unknown.eq(0),
                        beyond.eq(index >= self._sizes[table]),
                        wrong.eq(~sound & ~command.erase),
                    ]
                    if table in (Table.SA, Table.SOURCE):
                        m.d.sync += absent.eq(command.dfe >= self._dfes)


def _rows(table: Table) -> int:
    return len(rdl.entry(table.name.lower()))
