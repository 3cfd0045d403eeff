"""The state of a DFE's SAs that changes with every packet at commit: anti-replay window, byte and packet
counters.
"""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import MARKS, REPLAY_WINDOW, SPARE_NUMBERS
from spigate.hdl.contract.enums import Table
from spigate.hdl.csr import layout
from spigate.hdl.dfe.lifetime import Lifetime
from spigate.hdl.dfe.replay import Replay
from spigate.hdl.net.descriptor import SaState, TableWrite
from spigate.hdl.net.memory import BlockMemory

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
        How much of the window counts, 1 to ``REPLAY_WINDOW``.
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
        m.submodules.memory = store = BlockMemory(width=layout.ROW_BITS, depth=4 * self._sa_entries)
        m.submodules.replay = replay = Replay(width=REPLAY_WINDOW)
        m.submodules.lifetime = lifetime = Lifetime()
        sa_bits = (self._sa_entries - 1).bit_length()
        window_row = layout.row("sa", "replay")
        limits_row = layout.row("sa", "byte_lifetime")  # packet_lifetime has the same fields
        counters_row = data.StructLayout({"bytes": 64, "packets": 64})

        account, outcome = Signal(Account()), Signal(Outcome())
        row, writes = Signal(Row), Signal()
        read_sa, write_sa = Signal(sa_bits), Signal(sa_bits)
        write_row, write_data = Signal(Row), Signal(layout.ROW_BITS)
        m.d.comb += [
            read_sa.eq(account.sa),
            store.read_address.eq(Cat(row, read_sa)),
            write_sa.eq(account.sa),
            store.write_address.eq(Cat(write_row, write_sa)),
            store.write_enable.eq(writes),
            store.write_data.eq(write_data),
            self.outcome.payload.eq(outcome),
        ]
        windows, limits, counters = (
            shape(store.read_data) for shape in (window_row, limits_row, counters_row)
        )
        used, total_bytes, bytes_expired, bytes_reached = Signal(counters_row), Signal(64), Signal(), Signal()
        m.d.comb += [
            replay.sequence.eq(account.sequence),
            replay.size.eq(account.window_size),
            replay.highest.eq(windows.sequence),
            replay.window.eq(windows.window),
            lifetime.soft.eq(limits.soft),
            lifetime.hard.eq(limits.hard),
            lifetime.used.eq(used.bytes),
            lifetime.increment.eq(account.bytes),
        ]
        # What SAs have reached, soft and hard, a word for 32 of them.
        bits = min(sa_bits, (MARKS - 1).bit_length())
        m.submodules.marks = marks = memory.Memory(
            shape=unsigned(2 * MARKS), depth=max(2, self._sa_entries // MARKS), init=[]
        )
        marked, mark = marks.read_port(domain="comb"), marks.write_port()
        own, soft_now, hard_now, erase = Signal(MARKS), Signal(), Signal(), Signal()
        m.d.comb += [
            own.eq(1 << account.sa[:bits]),
            marked.addr.eq(account.sa[bits:sa_bits]),
            mark.addr.eq(account.sa[bits:sa_bits]),
            mark.data.eq(
                Mux(
                    erase,
                    marked.data & ~Cat(own, own),
                    marked.data | Cat(Mux(soft_now, own, 0), Mux(hard_now, own, 0)),
                )
            ),
            mark.en.eq(soft_now | hard_now | erase),
        ]
        # The window has 32-bit numbers; the upper half of ``sequence`` stays as the table had it.
        upper = Signal(32)

        step = Signal(4)
        table, listed = self.tables.payload, Signal()
        names = {
            rdl.entry("sa")[name].index: row
            for name, row in (
                ("byte_lifetime", Row.BYTE_LIMITS),
                ("packet_lifetime", Row.PACKET_LIMITS),
                ("replay", Row.WINDOW),
            )
        }
        m.d.comb += listed.eq((table.table == Table.SA) & ~table.index[sa_bits:].any())

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.tables.valid):
                    m.d.sync += account.sa.eq(table.index)
                    m.next = "TABLE"
                with m.Elif(self.request.valid & ~self.state.valid):
                    m.d.comb += self.request.ready.eq(1)
                    m.d.sync += [account.sa.eq(self.request.payload), step.eq(0), self.state.payload.eq(0)]
                    m.next = "TELL"
                with m.Else():
                    m.d.comb += self.account.ready.eq(1)
                    m.d.sync += [account.eq(self.account.payload), step.eq(0)]
                    with m.If(self.account.valid):
                        m.next = "ACCOUNT"

            with m.State("TABLE"):
                m.d.comb += [write_sa.eq(table.index), write_data.eq(table.data), self.tables.ready.eq(1)]
                with m.Switch(table.row):
                    for index, kept in names.items():
                        with m.Case(index):
                            m.d.comb += [write_row.eq(kept), writes.eq(listed & self.tables.valid)]
                            if kept == Row.WINDOW:
                                # One clock more, for the counters; the row is taken then.
                                m.d.comb += self.tables.ready.eq(0)
                                with m.If(self.tables.valid):
                                    m.next = "CLEAR"
                with m.If(self.tables.valid & self.tables.ready & table.last):
                    m.next = "IDLE"

            with m.State("CLEAR"):
                m.d.comb += [
                    write_sa.eq(table.index),
                    write_row.eq(Row.COUNTERS),
                    write_data.eq(0),
                    writes.eq(listed),
                    self.tables.ready.eq(1),
                    erase.eq(listed),
                ]
                m.next = "TABLE"
                with m.If(table.last):
                    m.next = "IDLE"

            with m.State("TELL"):
                m.d.sync += step.eq(step + 1)
                m.d.comb += row.eq(step[0])
                known = ~account.sa[sa_bits:].any()
                with m.If((step == 2) & known):
                    m.d.sync += [
                        self.state.payload.sequence.eq(windows.sequence),
                        self.state.payload.window.eq(windows.window),
                    ]
                with m.If((step == 3) & known):
                    m.d.sync += [
                        self.state.payload.bytes.eq(counters.bytes),
                        self.state.payload.packets.eq(counters.packets),
                    ]
                with m.If(step == 3):
                    m.d.sync += self.state.valid.eq(1)
                    with m.If(known):
                        m.d.sync += Cat(self.state.payload.soft, self.state.payload.hard).eq(marked.data)
                    m.next = "IDLE"

            with m.State("ACCOUNT"):
                m.d.sync += step.eq(step + 1)
                with m.Switch(step):
                    # Rows come two clocks after their address, answers of Replay and Lifetime four after
                    # the question.
                    with m.Case(0):
                        m.d.comb += row.eq(Row.WINDOW)
                    with m.Case(1):
                        m.d.comb += row.eq(Row.COUNTERS)
                    with m.Case(2):
                        m.d.comb += row.eq(Row.BYTE_LIMITS)
                        m.d.sync += upper.eq(windows.sequence[32:])
                    with m.Case(3):
                        m.d.comb += row.eq(Row.PACKET_LIMITS)
                        m.d.sync += used.eq(counters)
                    with m.Case(5):
                        m.d.comb += [lifetime.used.eq(used.packets), lifetime.increment.eq(1)]
                    with m.Case(6):
                        fresh = window_row(write_data)
                        m.d.comb += [
                            write_row.eq(Row.WINDOW),
                            fresh.window.eq(replay.next_window),
                            fresh.sequence.eq(Cat(replay.next_highest, upper)),
                            writes.eq(account.check & account.authentic & replay.fresh),
                        ]
                        m.d.sync += outcome.replayed.eq(account.check & ~replay.fresh)
                    with m.Case(8):
                        m.d.sync += [
                            total_bytes.eq(lifetime.total),
                            bytes_expired.eq(lifetime.expired),
                            bytes_reached.eq(lifetime.reached),
                        ]
                    with m.Case(9):
                        counts, expired = Signal(), Signal()
                        m.d.comb += [
                            counts.eq(account.count & ~outcome.replayed),
                            expired.eq(bytes_expired | lifetime.expired),
                            write_row.eq(Row.COUNTERS),
                            write_data.eq(Cat(total_bytes, lifetime.total)),
                            writes.eq(counts & ~expired),
                        ]
                        reached, left = (
                            bytes_reached | lifetime.reached,
                            account.sequence[SPARE_NUMBERS.bit_length() - 1 :].all(),
                        )
                        m.d.comb += [
                            soft_now.eq(counts & ~expired & (reached | left)),
                            hard_now.eq(counts & (expired | account.sequence.all())),
                        ]
                        m.d.sync += [
                            outcome.expired.eq(counts & expired),
                            outcome.soft.eq(counts & ~expired & reached),
                        ]
                        m.next = "ANSWER"

            with m.State("ANSWER"):
                m.d.comb += self.outcome.valid.eq(1)
                with m.If(self.outcome.ready):
                    m.next = "IDLE"

        with m.If(self.state.ready & self.state.valid):
            m.d.sync += self.state.valid.eq(0)
        return m


class Row(IntEnum):
    """Rows of an SA's state in memory."""

    WINDOW = 0
    COUNTERS = 1
    BYTE_LIMITS = 2
    PACKET_LIMITS = 3
