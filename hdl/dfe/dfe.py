# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The decrypting forwarding element."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.crypto.engine import CompactEngine
from spigate.hdl.crypto.interface import Engine
from spigate.hdl.dfe.commit import Commit
from spigate.hdl.dfe.fill import Fill
from spigate.hdl.dfe.job import BUFFERS, check_sizes
from spigate.hdl.net.descriptor import (
    DFE_COUNTERS,
    MAX_DFES,
    Egress,
    PacketInfo,
    Report,
    SaState,
    TableWrite,
    Verdict,
)
from spigate.hdl.net.packet import ALIGN, packets


class Dfe(wiring.Component):
    """Decrypts and verifies, encrypts and signs, forwards, drops or punts packets, with SAs of its own.

    From its queue through the lanes it is a :class:`~spigate.hdl.dfe.fill.Fill`, from there on a
    :class:`~spigate.hdl.dfe.commit.Commit`.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    lanes : int
        Lanes, 1 to 8.
    sa_entries : int
        SAs, a power of two, 2 or more.
    sources : int
        Sources that may speak in the clear.
    dfes : int
        How many of them the gateway has: their IPv4 identifications differ.
    engine : type of Engine
        Makes the crypto engine of a lane, and declares what it is.

    Members
    -------
    i : In(packets)
        With alignment bytes.
    info : In(stream of PacketInfo)
        One a packet.
    free : Out(12)
        Beats of room in the queue.
    busy, gone : Out(1)
        A packet is inside; for a clock: one has left, or was dropped.
    o : Out(packets)
        With alignment bytes; punts with ``PuntHeader``.
    egress : Out(stream of Egress)
        One a packet at ``o``, offered before its first beat.
    reports : Out(stream of Report)
        One for each packet dropped, and one when an SA reaches a soft lifetime.
    tables : In(stream of TableWrite)
        SA and SOURCE entries of this DFE.
    state_request : In(stream of unsigned(16))
        Asks for an SA's state.
    state : Out(stream of SaState)
        The answer.
    counters : Out(DFE_COUNTERS)
        ``packets_out`` and ``bytes_out`` without punts. Each packet in is in time one of out, punted, or
        reported as dropped.
    wiping : Out(1)
        Something of an SA that was erased, or of its packets, is still here.
    index : In(4)
        This DFE's number, 0 to ``dfes`` - 1.
    time : In(32)
        For ``PuntHeader``.
    """

    def __init__(
        self,
        *,
        beat_bytes: int,
        lanes: int,
        sa_entries: int = 256,
        sources: int = 16,
        dfes: int = MAX_DFES,
        engine: type[Engine] = CompactEngine,
    ):
        check_sizes(lanes=lanes, sa_entries=sa_entries, sources=sources, dfes=dfes)
        self._beat_bytes, self._lanes, self._sa_entries = beat_bytes, lanes, sa_entries
        self._sources, self._dfes, self._engine = sources, dfes, engine
        super().__init__(
            {
                "i": In(packets(beat_bytes)),
                "info": In(stream.Signature(PacketInfo())),
                "free": Out(12),
                "busy": Out(1),
                "gone": Out(1),
                "o": Out(packets(beat_bytes)),
                "egress": Out(stream.Signature(Egress())),
                "reports": Out(stream.Signature(Report())),
                "tables": In(stream.Signature(TableWrite())),
                "state_request": In(stream.Signature(16)),
                "state": Out(stream.Signature(SaState())),
                "counters": Out(DFE_COUNTERS),
                "wiping": Out(1),
                "index": In(4),
                "time": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fill = fill = Fill(
            beat_bytes=self._beat_bytes,
            lanes=self._lanes,
            sa_entries=self._sa_entries,
            sources=self._sources,
            engine=self._engine,
        )
        m.submodules.commit = commit = Commit(
            beat_bytes=self._beat_bytes, lanes=self._lanes, sa_entries=self._sa_entries, dfes=self._dfes
        )
        wiring.connect(m, wiring.flipped(self.i), fill.i)
        wiring.connect(m, wiring.flipped(self.info), fill.info)
        for at in range(self._lanes):
            wiring.connect(m, fill.lane[at], commit.lane[at])
        wiring.connect(m, fill.order, commit.order)
        for name in ("o", "egress", "reports"):
            wiring.connect(m, getattr(commit, name), wiring.flipped(getattr(self, name)))
        m.d.comb += [self.free.eq(fill.free), commit.index.eq(self.index), commit.time.eq(self.time)]
        self._tables(m, fill, commit)
        self._state(m, fill, commit)
        self._count(m, commit)
        wipes = Signal(range(BUFFERS * self._lanes + 1))
        m.d.sync += [wipes.eq(wipes + fill.wipes - commit.wiped), self.wiping.eq(fill.unclean | (wipes != 0))]
        return m

    def _tables(self, m, fill, commit):
        """Fill first: it waits for its dispatcher alone, while commit in the middle of a burst would hold up
        the packets that the dispatcher may be waiting for.
        """
        row, waits = commit.tables.payload, commit.tables.valid
        m.d.comb += [
            fill.tables.payload.eq(self.tables.payload),
            fill.tables.valid.eq(self.tables.valid & ~waits),
            self.tables.ready.eq(fill.tables.ready & ~waits),
        ]
        with m.If(commit.tables.ready):
            m.d.sync += waits.eq(0)
        with m.If(self.tables.valid & self.tables.ready):
            m.d.sync += [row.eq(self.tables.payload), waits.eq(1)]

    def _state(self, m, fill, commit):
        """Asks both sides. An SA's sequence number moves on one of them only and begins on both as the
        ``replay`` row said, so the greater one is its.
        """
        received = commit.state.payload
        used = fill.sequence.payload
        greater = Signal()
        m.d.comb += [
            commit.state_request.payload.eq(self.state_request.payload),
            fill.sequence_request.payload.eq(self.state_request.payload),
            self.state.payload.eq(received),
            self.state.payload.sequence.eq(Mux(greater, used, received.sequence)),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += commit.state_request.valid.eq(self.state_request.valid)
                with m.If(self.state_request.valid & commit.state_request.ready):
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += fill.sequence_request.valid.eq(1)
                with m.If(fill.sequence_request.ready):
                    m.d.comb += self.state_request.ready.eq(1)
                    m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += greater.eq(used > received.sequence)
                with m.If(commit.state.valid & fill.sequence.valid):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.state.valid.eq(1)
                with m.If(self.state.ready):
                    m.d.comb += [commit.state.ready.eq(1), fill.sequence.ready.eq(1)]
                    m.next = "IDLE"

    def _count(self, m, commit):
        counters, sent = self.counters, commit.sent
        came = self.info.valid & self.info.ready
        inside = Signal(8)
        m.d.sync += [
            inside.eq(inside + came - commit.gone),
            self.busy.eq(inside != 0),
            self.gone.eq(commit.gone),
            counters.busy_cycles.eq(counters.busy_cycles + (inside != 0)),
        ]
        with m.If(came):
            m.d.sync += [
                counters.packets_in.eq(counters.packets_in + 1),
                counters.bytes_in.eq(counters.bytes_in + self.info.payload.length - ALIGN),
            ]
        with m.If(sent.valid):
            for verdict, name in (
                (Verdict.DECRYPT, "decrypted"),
                (Verdict.ENCRYPT, "encrypted"),
                (Verdict.BYPASS, "bypassed"),
                (Verdict.PUNT, "punts"),
            ):
                m.d.sync += counters[name].eq(counters[name] + (sent.verdict == verdict))
            with m.If(sent.verdict != Verdict.PUNT):
                m.d.sync += [
                    counters.packets_out.eq(counters.packets_out + 1),
                    counters.bytes_out.eq(counters.bytes_out + sent.bytes - ALIGN),
                ]
