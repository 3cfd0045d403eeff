# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Commit: the lanes' packets in the order of dispatch, decided one after the other."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.dfe.emit import Emit
from spigate.hdl.dfe.inspect import Inspect, Inspection
from spigate.hdl.dfe.job import LanePort, check_sizes
from spigate.hdl.dfe.rewrite import Rewrite
from spigate.hdl.dfe.share import ReadShare
from spigate.hdl.dfe.state import State
from spigate.hdl.net.descriptor import MAX_DFES, Egress, Report, SaState, TableWrite, Verdict
from spigate.hdl.net.headers import ESP_PROTOCOL
from spigate.hdl.net.packet import packets

MAX_DEPTH = 3
"""Recirculations that ``PacketInfo.depth`` can count."""


class Sent(data.StructLayout):
    """In a clock with ``valid`` a packet has left the DFE: its ``verdict``, and its ``bytes`` with alignment
    (and a punt's header).
    """

    def __init__(self):
        super().__init__({"valid": 1, "verdict": 3, "bytes": 12})


class AtWork:
    """The packet that is decided on.

    Members
    -------
    inspection : Inspection
        ``task``, ``job``, ``info``, ``control``: of it.
    decrypt, encrypt : unsigned(1)
        Its verdict.
    accounted : unsigned(1)
        It counts towards an SA.
    passes : unsigned(1)
        It needs a new header.
    reason : unsigned(6)
        What follows from all of this, as soon as it is there. ``decided``: it, kept.
    departs, tell_drop, tell_soft : unsigned(1)
        What is still to be handed on: the packet; the report of its drop; of a soft lifetime.
    """

    def __init__(self):
        self.inspection = Signal(Inspection())
        self.task = self.inspection.task
        self.job = self.task.done.job
        self.info = self.job.info
        self.control = self.job.control
        self.decrypt = Signal()
        self.encrypt = Signal()
        self.accounted = Signal()
        self.passes = Signal()
        self.reason = Signal(6)
        self.decided = Signal(6)
        self.departs = Signal()
        self.tell_drop = Signal()
        self.tell_soft = Signal()


class Commit(wiring.Component):
    """Decides on packets in the order of dispatch, and sends, punts or drops them.

    Three packets are at work at a time, in this order: one is inspected
    (:class:`~spigate.hdl.dfe.inspect.Inspect`), one gets its decision and its new IP header, one leaves
    (:class:`~spigate.hdl.dfe.emit.Emit`). Decisions are made one after the other, so that the anti-replay
    window and the counters are exact over all lanes. In this order:

    - DECRYPT: replay window (REPLAY); ICV (ICV), then the window moves; what was decrypted (PADDING, DUMMY,
      MALFORMED, MARTIAN, TTL, POLICY); hard lifetimes (LIFETIME). The packet counts towards the lifetimes
      as soon as ICV and padding are right.
    - ENCRYPT: hard lifetimes. Bytes are those of the inner packet (tunnel) or of the payload (transport).
    - All that leaves by RECIRCULATE: no more than :data:`MAX_DEPTH` times (NESTED).

    Parameters
    ----------
    beat_bytes : int
    lanes : int
    sa_entries : int
    dfes : int
        How many DFEs the gateway has, as :class:`~spigate.hdl.dfe.identification.Identification` has it.

    Members
    -------
    lane : In(LanePort).array(lanes)
    order : In(stream of lane index)
        The lane of each packet, in the order of dispatch.
    o : Out(packets)
        With alignment bytes; punts with ``PuntHeader``.
    egress : Out(stream of Egress)
        One a packet at ``o``, offered before it.
    reports : Out(stream of Report)
        One for each packet dropped, here or by dispatch, and one when a soft lifetime is reached.
    tables : In(stream of TableWrite)
        As :class:`~spigate.hdl.dfe.state.State` has it.
    state_request, state
        Likewise.
    gone : Out(1)
        A strobe: a packet is through, dropped or sent.
    wiped : Out(1)
        A strobe: a WIPE is through.
    sent : Out(Sent)
        A clock before ``gone`` or earlier, of what was not dropped.
    index : In(4)
        The DFE's number, 0 to ``dfes`` - 1.
    time : In(32)
        For ``PuntHeader``.
    """

    def __init__(self, *, beat_bytes: int, lanes: int, sa_entries: int, dfes: int = MAX_DFES):
        check_sizes(lanes=lanes, sa_entries=sa_entries, dfes=dfes)
        self._beat_bytes, self._lanes, self._sa_entries, self._dfes = beat_bytes, lanes, sa_entries, dfes
        super().__init__(
            {
                "lane": In(LanePort()).array(lanes),
                "order": In(stream.Signature(range(max(lanes, 2)))),
                "o": Out(packets(beat_bytes)),
                "egress": Out(stream.Signature(Egress())),
                "reports": Out(stream.Signature(Report())),
                "tables": In(stream.Signature(TableWrite())),
                "state_request": In(stream.Signature(16)),
                "state": Out(stream.Signature(SaState())),
                "gone": Out(1),
                "wiped": Out(1),
                "sent": Out(Sent()),
                "index": In(4),
                "time": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.inspect = inspect = Inspect()
        m.submodules.emit = emit = Emit(beat_bytes=self._beat_bytes)
        m.submodules.share = share = ReadShare(lanes=self._lanes)
        m.submodules.state = state = State(sa_entries=self._sa_entries)

        # The next packet in order, once its lane has it ready.
        chosen = self.order.payload[: (self._lanes - 1).bit_length()]
        done = Array(lane.done for lane in self.lane)[chosen]
        m.d.comb += [
            inspect.i.valid.eq(self.order.valid & done.valid),
            self.order.ready.eq(inspect.i.ready & done.valid),
            inspect.i.payload.done.eq(done.payload),
            inspect.i.payload.lane.eq(self.order.payload),
            done.ready.eq(inspect.i.ready & self.order.valid),
        ]

        # Read ports and release.
        rows = Array(lane.rows for lane in self.lane)[inspect.lane[: len(chosen)]]
        m.d.comb += [
            rows.enable.eq(inspect.rows.enable),
            inspect.rows.ready.eq(rows.ready),
            inspect.rows.valid.eq(rows.valid),
            inspect.rows.data.eq(rows.data),
            Array(lane.release for lane in self.lane)[emit.lane[: len(chosen)]].eq(emit.release),
            share.reader_lane[0].eq(inspect.lane),
            share.reader_lane[1].eq(emit.lane),
        ]
        for number, lane in enumerate(self.lane):
            wiring.connect(m, share.lane[number], wiring.flipped(lane.read))
            m.d.comb += [lane.rows.buffer.eq(inspect.rows.buffer), lane.rows.row.eq(inspect.rows.row)]
        wiring.connect(m, inspect.read, share.reader[0])
        wiring.connect(m, emit.read, share.reader[1])

        for name in ("tables", "request", "state"):
            wiring.connect(
                m,
                getattr(state, name),
                wiring.flipped(getattr(self, "state_request" if name == "request" else name)),
            )
        for name in ("o", "egress"):
            wiring.connect(m, getattr(emit, name), wiring.flipped(getattr(self, name)))
        m.d.comb += [
            emit.index.eq(self.index),
            emit.time.eq(self.time),
            self.gone.eq(emit.release & ~emit.wiped),
            self.wiped.eq(emit.release & emit.wiped),
            self.sent.valid.eq(emit.sent),
            self.sent.verdict.eq(emit.verdict),
            self.sent.bytes.eq(emit.bytes),
        ]
        self._decide(m)
        return m

    def _decide(self, m) -> None:
        """Has one packet at a time accounted and its header rewritten, both at the same time; then it is
        decided.
        """
        m.submodules.rewrite = rewrite = Rewrite(dfes=self._dfes)
        packet = AtWork()
        account, outcome = m.submodules.state.account, m.submodules.state.outcome
        self._account(m, packet)
        self._find_reason(m, packet)
        self._depart(m, packet)
        self._report(m, packet)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += m.submodules.inspect.o.ready.eq(1)
                m.d.sync += packet.inspection.eq(m.submodules.inspect.o.payload)
                with m.If(m.submodules.inspect.o.valid):
                    m.next = "ASK"

            with m.State("ASK"):
                m.d.comb += [account.valid.eq(packet.accounted), rewrite.i.valid.eq(packet.passes)]
                with m.If(account.ready | ~packet.accounted):
                    m.next = "WAIT"

            with m.State("WAIT"):
                m.d.comb += rewrite.i.valid.eq(packet.passes)
                m.d.sync += [
                    packet.decided.eq(packet.reason),
                    packet.departs.eq(1),
                    packet.tell_drop.eq(packet.reason != Reason.NONE),
                    packet.tell_soft.eq(packet.accounted & outcome.payload.soft),
                ]
                with m.If((outcome.valid | ~packet.accounted) & (rewrite.o.valid | ~packet.passes)):
                    m.d.comb += outcome.ready.eq(1)
                    m.next = "TELL"

            with m.State("TELL"):
                self._tell(m, packet)

    def _account(self, m, packet: AtWork) -> None:
        """What accounting and the new header are made of."""
        inspection, info = packet.inspection, packet.info
        account, rewrite = m.submodules.state.account.payload, m.submodules.rewrite
        m.d.comb += [
            packet.decrypt.eq(info.verdict == Verdict.DECRYPT),
            packet.encrypt.eq(info.verdict == Verdict.ENCRYPT),
            packet.accounted.eq(packet.decrypt | packet.encrypt),
            packet.passes.eq(packet.accounted | (info.verdict == Verdict.BYPASS)),
            account.sa.eq(info.sa),
            account.sequence.eq(packet.job.sequence),
            account.window_size.eq(packet.control.window_size),
            account.check.eq(packet.decrypt & packet.control.anti_replay),
            account.authentic.eq(packet.task.done.ok),
            account.count.eq(packet.encrypt | packet.task.done.ok & inspection.counts),
            account.bytes.eq(
                Mux(
                    packet.decrypt,
                    inspection.content,
                    info.total_length - Mux(packet.control.mode, 0, info.header_words << 2),
                )
            ),
            rewrite.i.payload.eq(inspection),
            rewrite.index.eq(self.index),
        ]

    def _find_reason(self, m, packet: AtWork) -> None:
        """Why the packet is dropped, if it is: the first reason in the order that :class:`Commit` gives."""
        info, inspection, outcome = packet.info, packet.inspection, m.submodules.state.outcome.payload
        decrypt, authentic = packet.decrypt, packet.task.done.ok
        nests = packet.passes & (info.route.egress == Port.RECIRCULATE)
        with m.If(info.verdict == Verdict.DROP):
            m.d.comb += packet.reason.eq(info.reason)
        with m.Elif(decrypt & outcome.replayed):
            m.d.comb += packet.reason.eq(Reason.REPLAY)
        with m.Elif(decrypt & ~authentic):
            m.d.comb += packet.reason.eq(Reason.ICV)
        with m.Elif(inspection.reason != Reason.NONE):
            m.d.comb += packet.reason.eq(inspection.reason)
        with m.Elif(packet.accounted & outcome.expired):
            m.d.comb += packet.reason.eq(Reason.LIFETIME)
        with m.Elif(nests & (info.depth == MAX_DEPTH)):
            m.d.comb += packet.reason.eq(Reason.NESTED)
        with m.Else():
            m.d.comb += packet.reason.eq(Reason.NONE)

    def _depart(self, m, packet: AtWork) -> None:
        """What is handed on to be sent, or to be dropped."""
        departure, rewritten = m.submodules.emit.i.payload, m.submodules.rewrite.o.payload
        m.d.comb += [
            departure.task.eq(packet.task),
            departure.drop.eq(packet.decided != Reason.NONE),
            departure.header.eq(rewritten.header),
            departure.total_length.eq(rewritten.total_length),
        ]

    def _tell(self, m, packet: AtWork) -> None:
        """Hands the packet on and tells of it, whichever is taken first."""
        rewrite, emit = m.submodules.rewrite, m.submodules.emit
        departs, tell_drop, tell_soft = packet.departs, packet.tell_drop, packet.tell_soft
        m.d.comb += [
            emit.i.valid.eq(departs),
            rewrite.i.valid.eq(packet.passes),
            self.reports.valid.eq(tell_drop | tell_soft),
        ]
        with m.If(emit.i.ready):
            m.d.sync += departs.eq(0)
        with m.If(self.reports.ready):
            m.d.sync += tell_drop.eq(0)
            with m.If(~tell_drop):
                m.d.sync += tell_soft.eq(0)
        with m.If(
            (~departs | emit.i.ready)
            & (~(tell_drop | tell_soft) | self.reports.ready & ~(tell_drop & tell_soft))
        ):
            m.d.comb += rewrite.o.ready.eq(1)
            m.next = "IDLE"

    def _report(self, m, packet: AtWork) -> None:
        """What there is to be told."""
        report, info, job, encrypt = self.reports.payload, packet.info, packet.job, packet.encrypt
        esp = Signal()
        m.d.comb += [
            esp.eq(info.ipv4 & (info.protocol == ESP_PROTOCOL)),
            report.reason.eq(Mux(packet.tell_drop, packet.decided, Reason.SOFT_LIFETIME)),
            report.dropped.eq(packet.tell_drop),
            report.ingress.eq(info.ingress),
            report.dfe.eq(self.index),
            report.sa.eq(info.sa),
            report.spi.eq(Mux(encrypt, packet.control.spi, Mux(esp, info.spi, 0))),
            report.sequence.eq(Mux(encrypt, job.sequence, Mux(esp, info.sequence, 0))),
            report.source.eq(info.source),
            report.destination.eq(info.destination),
        ]
