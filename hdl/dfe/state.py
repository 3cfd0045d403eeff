# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The state of a DFE's SAs that changes with every packet at commit: anti-replay window, byte and packet
counters.
"""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Table
from spigate.hdl.csr import layout
from spigate.hdl.dfe.lifetime import Lifetime
from spigate.hdl.dfe.replay import Replay
from spigate.hdl.net.descriptor import MARKS, SaState, TableWrite
from spigate.hdl.net.memory import BlockMemory

WINDOW = 64
"""Numbers in the anti-replay window, as in the ``replay`` row of an SA's entry."""


class Account(data.StructLayout):
    """One packet at commit.

    Members
    -------
    sa : unsigned(16)
        Its SA.
    sequence : unsigned(32)
        Its sequence number.
    check : unsigned(1)
        Check it against the anti-replay window.
    window_size : unsigned(7)
        How much of the window counts, 1 to :data:`WINDOW`.
    authentic : unsigned(1)
        Its ICV is right: with ``check`` the window takes the number in.
    count : unsigned(1)
        It counts towards the lifetimes, unless it is a replay.
    bytes : unsigned(12)
        What it adds to the byte counter.
    """

    def __init__(self):
        super().__init__(
            {"sa": 16, "sequence": 32, "check": 1, "window_size": 7, "authentic": 1, "count": 1, "bytes": 12}
        )


class Outcome(data.StructLayout):
    """``replayed``: the number is 0, too old or was seen before. ``expired``: the packet would pass a hard
    limit, and was not counted. ``soft``: with this packet a soft limit was reached.
    """

    def __init__(self):
        super().__init__({"replayed": 1, "expired": 1, "soft": 1})


class Row(IntEnum):
    """Rows of an SA's state in memory."""

    WINDOW = 0
    COUNTERS = 1
    BYTE_LIMITS = 2
    PACKET_LIMITS = 3


KEPT = {
    "byte_lifetime": Row.BYTE_LIMITS,
    "packet_lifetime": Row.PACKET_LIMITS,
    "replay": Row.WINDOW,
}
"""Rows of an SA's entry that are kept here, and where."""


class Counters(data.StructLayout):
    """Row of counters."""

    def __init__(self):
        super().__init__({"bytes": 64, "packets": 64})


class Rows:
    """The memory's ports.

    Members
    -------
    read_sa, read_row
        What is read.
    window, limits, counters
        What was read two clocks ago, taken for each kind of row.
    writes, write_sa, write_row, write_data
        What is written.
    """

    def __init__(self, store: BlockMemory, sa_bits: int):
        self.read_sa = Signal(sa_bits)
        self.read_row = Signal(Row)
        self.window = layout.row("sa", "replay")(store.read_data)
        self.limits = layout.row("sa", "byte_lifetime")(store.read_data)  # packet_lifetime has the same
        self.counters = Counters()(store.read_data)
        self.writes = Signal()
        self.write_sa = Signal(sa_bits)
        self.write_row = Signal(Row)
        self.write_data = Signal(layout.ROW_BITS)


class AtWork:
    """The packet that is accounted.

    Members
    -------
    account : Account
        Of a table write or a request, ``sa`` alone.
    step : unsigned(4)
        Clock of the work.
    upper : unsigned(32)
        The window has 32-bit numbers; the upper half of ``sequence`` stays as the table had it.
    used : Counters
        Before this packet.
    total_bytes, bytes_expired, bytes_reached
        The byte counter with this packet, and whether a limit of it was passed or reached.
    outcome : Outcome
    """

    def __init__(self):
        self.account = Signal(Account())
        self.step = Signal(4)
        self.upper = Signal(32)
        self.used = Signal(Counters())
        self.total_bytes = Signal(64)
        self.bytes_expired = Signal()
        self.bytes_reached = Signal()
        self.outcome = Signal(Outcome())


class Marks(wiring.Component):
    """What SAs have reached, soft and hard, a word for :data:`MARKS` of them.

    Parameters
    ----------
    sa_entries : int

    Members
    -------
    sa : In(16)
    marked : Out(2 * MARKS)
        Soft and hard marks of all SAs whose word ``sa`` is in, in the same clock.
    soft, hard : In(1)
        Marks ``sa``.
    erase : In(1)
        Takes both marks from ``sa``.
    """

    def __init__(self, *, sa_entries: int):
        self._sa_entries = sa_entries
        super().__init__(
            {"sa": In(16), "marked": Out(2 * MARKS), "soft": In(1), "hard": In(1), "erase": In(1)}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = marks = memory.Memory(
            shape=unsigned(2 * MARKS), depth=max(2, self._sa_entries // MARKS), init=[]
        )
        read = marks.read_port(domain="comb")
        write = marks.write_port()
        sa_bits = (self._sa_entries - 1).bit_length()
        bits = min(sa_bits, (MARKS - 1).bit_length())
        own = Signal(MARKS)
        m.d.comb += [
            own.eq(1 << self.sa[:bits]),
            read.addr.eq(self.sa[bits:sa_bits]),
            write.addr.eq(self.sa[bits:sa_bits]),
            self.marked.eq(read.data),
            write.data.eq(
                Mux(
                    self.erase,
                    read.data & ~Cat(own, own),
                    read.data | Cat(Mux(self.soft, own, 0), Mux(self.hard, own, 0)),
                )
            ),
            write.en.eq(self.soft | self.hard | self.erase),
        ]
        return m


class State(wiring.Component):
    """Windows, limits and counters of all SAs, in block memory.

    It works on one packet at a time, 12 clocks each, from reading to writing back. So packets of one SA
    that follow one another see each other's changes. Table writes and state requests wait for the packet at
    work and go before the next one.

    Parameters
    ----------
    sa_entries : int
        SAs, a power of two, 2 or more.

    Members
    -------
    account : In(stream of Account)
    outcome : Out(stream of Outcome)
        One for each account, when its changes are made.
    tables : In(stream of TableWrite)
        Rows ``byte_lifetime``, ``packet_lifetime`` and ``replay`` of SA entries are kept, all else is taken
        and ignored. ``replay`` also sets the counters to 0. No packet is accounted in the middle of an
        entry's burst.
    request : In(stream of unsigned(16))
        Asks for an SA's state. What it has reached stays marked until its ``replay`` row is written: unlike
        a report, it cannot be lost among others.
    state : Out(stream of SaState)
        The answer, 0 for one beyond ``sa_entries``. ``sequence`` is the highest received; of an outbound SA,
        what the ``replay`` row said.
    """

    def __init__(self, *, sa_entries: int):
        if sa_entries < 2 or sa_entries & sa_entries - 1:
            raise ValueError(f"sa_entries must be a power of two, 2 or more, not {sa_entries!r}")
        self._sa_entries = sa_entries
        super().__init__(
            {
                "account": In(stream.Signature(Account())),
                "outcome": Out(stream.Signature(Outcome())),
                "tables": In(stream.Signature(TableWrite())),
                "request": In(stream.Signature(16)),
                "state": Out(stream.Signature(SaState())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        sa_bits = (self._sa_entries - 1).bit_length()
        store = BlockMemory(width=layout.ROW_BITS, depth=4 * self._sa_entries)
        m.submodules.memory = store
        m.submodules.replay = replay = Replay(width=WINDOW)
        m.submodules.lifetime = lifetime = Lifetime()
        m.submodules.marks = marks = Marks(sa_entries=self._sa_entries)
        rows, work = Rows(store, sa_bits), AtWork()
        m.d.comb += [
            rows.read_sa.eq(work.account.sa),
            rows.write_sa.eq(work.account.sa),
            store.read_address.eq(Cat(rows.read_row, rows.read_sa)),
            store.write_address.eq(Cat(rows.write_row, rows.write_sa)),
            store.write_enable.eq(rows.writes),
            store.write_data.eq(rows.write_data),
            marks.sa.eq(work.account.sa),
            self.outcome.payload.eq(work.outcome),
            replay.sequence.eq(work.account.sequence),
            replay.size.eq(work.account.window_size),
            replay.highest.eq(rows.window.sequence),
            replay.window.eq(rows.window.window),
            lifetime.soft.eq(rows.limits.soft),
            lifetime.hard.eq(rows.limits.hard),
            lifetime.used.eq(work.used.bytes),
            lifetime.increment.eq(work.account.bytes),
        ]
        table = self.tables.payload
        listed = Signal()
        m.d.comb += listed.eq((table.table == Table.SA) & ~table.index[sa_bits:].any())

        with m.FSM():
            with m.State("IDLE"):
                self._take(m, work)
            with m.State("TABLE"):
                self._write_row(m, rows, listed)
            with m.State("CLEAR"):
                self._clear(m, rows, marks, listed)
            with m.State("TELL"):
                self._tell(m, rows, marks, work, known=~work.account.sa[sa_bits:].any())
            with m.State("ACCOUNT"):
                self._account(m, rows, marks, work)
            with m.State("ANSWER"):
                m.d.comb += self.outcome.valid.eq(1)
                with m.If(self.outcome.ready):
                    m.next = "IDLE"
        with m.If(self.state.ready & self.state.valid):
            m.d.sync += self.state.valid.eq(0)
        return m

    def _take(self, m, work: AtWork) -> None:
        """Begins what waits: a table write, a request, an account."""
        with m.If(self.tables.valid):
            m.d.sync += work.account.sa.eq(self.tables.payload.index)
            m.next = "TABLE"
        with m.Elif(self.request.valid & ~self.state.valid):
            m.d.comb += self.request.ready.eq(1)
            m.d.sync += [work.account.sa.eq(self.request.payload), work.step.eq(0), self.state.payload.eq(0)]
            m.next = "TELL"
        with m.Else():
            m.d.comb += self.account.ready.eq(1)
            m.d.sync += [work.account.eq(self.account.payload), work.step.eq(0)]
            with m.If(self.account.valid):
                m.next = "ACCOUNT"

    def _write_row(self, m, rows: Rows, listed) -> None:
        """Takes rows of a burst, and keeps those that are kept here."""
        table = self.tables.payload
        m.d.comb += [
            rows.write_sa.eq(table.index),
            rows.write_data.eq(table.data),
            self.tables.ready.eq(1),
        ]
        with m.Switch(table.row):
            for name, kept in KEPT.items():
                with m.Case(rdl.entry("sa")[name].index):
                    m.d.comb += [rows.write_row.eq(kept), rows.writes.eq(listed & self.tables.valid)]
                    if kept == Row.WINDOW:
                        # One clock more, for the counters; the row is taken then.
                        m.d.comb += self.tables.ready.eq(0)
                        with m.If(self.tables.valid):
                            m.next = "CLEAR"
        with m.If(self.tables.valid & self.tables.ready & table.last):
            m.next = "IDLE"

    def _clear(self, m, rows: Rows, marks: Marks, listed) -> None:
        """With a new window, counters and marks begin at 0."""
        table = self.tables.payload
        m.d.comb += [
            rows.write_sa.eq(table.index),
            rows.write_row.eq(Row.COUNTERS),
            rows.write_data.eq(0),
            rows.writes.eq(listed),
            self.tables.ready.eq(1),
            marks.erase.eq(listed),
        ]
        m.next = "TABLE"
        with m.If(table.last):
            m.next = "IDLE"

    def _tell(self, m, rows: Rows, marks: Marks, work: AtWork, known) -> None:
        """Reads window and counters, two clocks each, and offers them."""
        state, step = self.state.payload, work.step
        m.d.sync += step.eq(step + 1)
        m.d.comb += rows.read_row.eq(step[0])
        with m.If((step == 2) & known):
            m.d.sync += [state.sequence.eq(rows.window.sequence), state.window.eq(rows.window.window)]
        with m.If((step == 3) & known):
            m.d.sync += [state.bytes.eq(rows.counters.bytes), state.packets.eq(rows.counters.packets)]
        with m.If(step == 3):
            m.d.sync += self.state.valid.eq(1)
            with m.If(known):
                m.d.sync += Cat(state.soft, state.hard).eq(marks.marked)
            m.next = "IDLE"

    def _account(self, m, rows: Rows, marks: Marks, work: AtWork) -> None:
        """Rows come two clocks after their address, answers of Replay and Lifetime four after a question."""
        replay, lifetime = m.submodules.replay, m.submodules.lifetime
        account, outcome = work.account, work.outcome
        m.d.sync += work.step.eq(work.step + 1)
        with m.Switch(work.step):
            with m.Case(0):
                m.d.comb += rows.read_row.eq(Row.WINDOW)
            with m.Case(1):
                m.d.comb += rows.read_row.eq(Row.COUNTERS)
            with m.Case(2):
                m.d.comb += rows.read_row.eq(Row.BYTE_LIMITS)
                m.d.sync += work.upper.eq(rows.window.sequence[32:])
            with m.Case(3):
                m.d.comb += rows.read_row.eq(Row.PACKET_LIMITS)
                m.d.sync += work.used.eq(rows.counters)
            with m.Case(5):
                m.d.comb += [lifetime.used.eq(work.used.packets), lifetime.increment.eq(1)]
            with m.Case(6):
                fresh = rows.window.shape()(rows.write_data)
                m.d.comb += [
                    rows.write_row.eq(Row.WINDOW),
                    fresh.window.eq(replay.next_window),
                    fresh.sequence.eq(Cat(replay.next_highest, work.upper)),
                    rows.writes.eq(account.check & account.authentic & replay.fresh),
                ]
                m.d.sync += outcome.replayed.eq(account.check & ~replay.fresh)
            with m.Case(8):
                m.d.sync += [
                    work.total_bytes.eq(lifetime.total),
                    work.bytes_expired.eq(lifetime.expired),
                    work.bytes_reached.eq(lifetime.reached),
                ]
            with m.Case(9):
                counts = Signal()
                expired = Signal()
                m.d.comb += [
                    counts.eq(account.count & ~outcome.replayed),
                    expired.eq(work.bytes_expired | lifetime.expired),
                    rows.write_row.eq(Row.COUNTERS),
                    rows.write_data.eq(Cat(work.total_bytes, lifetime.total)),
                    rows.writes.eq(counts & ~expired),
                ]
                reached, left = work.bytes_reached | lifetime.reached, account.sequence[-4:].all()
                m.d.comb += [
                    marks.soft.eq(counts & ~expired & (reached | left)),
                    marks.hard.eq(counts & (expired | account.sequence.all())),
                ]
                m.d.sync += [
                    outcome.expired.eq(counts & expired),
                    outcome.soft.eq(counts & ~expired & reached),
                ]
                m.next = "ANSWER"
