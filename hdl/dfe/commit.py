"""Commit: the lanes' packets in the order of dispatch, decided one after the other."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.constants import MAX_DEPTH, MAX_DFES
from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.contract.protocols import ESP as ESP_PROTOCOL
from spigate.hdl.dfe.emit import Emit
from spigate.hdl.dfe.inspect import Inspect, Inspection
from spigate.hdl.dfe.job import LanePort
from spigate.hdl.dfe.rewrite import Rewrite
from spigate.hdl.dfe.share import ReadShare
from spigate.hdl.dfe.state import State
from spigate.hdl.net.descriptor import Egress, Report, SaState, TableWrite, Verdict
from spigate.hdl.net.packet import packets

"""Recirculations that ``PacketInfo.depth`` can count."""


class Sent(data.StructLayout):
    """In a clock with ``valid`` a packet has left the DFE: its ``verdict``, and its ``bytes`` with alignment
    (and a punt's header).
    """

    def __init__(self):
        super().__init__({"valid": 1, "verdict": 3, "bytes": 12})


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
        for number, reader in enumerate((inspect, emit)):
            wiring.connect(m, reader.read, share.reader[number])

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
        self._decide(m, inspect, state, emit)
        return m

    def _decide(self, m, inspect, state, emit):
        """Has one packet at a time accounted and its header rewritten, both at the same time; then it is
        decided.
        """
        m.submodules.rewrite = rewrite = Rewrite(dfes=self._dfes)
        inspection = Signal(Inspection())
        task = inspection.task
        job, info, control = task.done.job, task.done.job.info, task.done.job.control
        decrypt, encrypt, accounted, passes = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            decrypt.eq(info.verdict == Verdict.DECRYPT),
            encrypt.eq(info.verdict == Verdict.ENCRYPT),
            accounted.eq(decrypt | encrypt),
            passes.eq(accounted | (info.verdict == Verdict.BYPASS)),
        ]

        account, outcome = state.account.payload, state.outcome.payload
        m.d.comb += [
            account.sa.eq(info.sa),
            account.sequence.eq(job.sequence),
            account.window_size.eq(control.window_size),
            account.check.eq(decrypt & control.anti_replay),
            account.authentic.eq(task.done.ok),
            account.count.eq(encrypt | task.done.ok & inspection.counts),
            account.bytes.eq(
                Mux(
                    decrypt,
                    inspection.content,
                    info.total_length - Mux(control.mode, 0, info.header_words << 2),
                )
            ),
            rewrite.i.payload.eq(inspection),
            rewrite.index.eq(self.index),
        ]

        reason, decided = Signal(6), Signal(6)
        with m.If(info.verdict == Verdict.DROP):
            m.d.comb += reason.eq(info.reason)
        with m.Elif(decrypt & outcome.replayed):
            m.d.comb += reason.eq(Reason.REPLAY)
        with m.Elif(decrypt & ~task.done.ok):
            m.d.comb += reason.eq(Reason.ICV)
        with m.Elif(inspection.reason != Reason.NONE):
            m.d.comb += reason.eq(inspection.reason)
        with m.Elif(accounted & outcome.expired):
            m.d.comb += reason.eq(Reason.LIFETIME)
        with m.Elif(passes & (info.route.egress == Port.RECIRCULATE) & (info.depth == MAX_DEPTH)):
            m.d.comb += reason.eq(Reason.NESTED)
        with m.Else():
            m.d.comb += reason.eq(Reason.NONE)

        departure, departs, drop, tell_drop, tell_soft = (
            emit.i.payload,
            Signal(),
            Signal(),
            Signal(),
            Signal(),
        )
        m.d.comb += [
            drop.eq(decided != Reason.NONE),
            departure.task.eq(task),
            departure.drop.eq(drop),
            departure.header.eq(rewrite.o.payload.header),
            departure.total_length.eq(rewrite.o.payload.total_length),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += inspect.o.ready.eq(1)
                m.d.sync += inspection.eq(inspect.o.payload)
                with m.If(inspect.o.valid):
                    m.next = "ASK"

            with m.State("ASK"):
                m.d.comb += [state.account.valid.eq(accounted), rewrite.i.valid.eq(passes)]
                with m.If(state.account.ready | ~accounted):
                    m.next = "WAIT"

            with m.State("WAIT"):
                m.d.comb += rewrite.i.valid.eq(passes)
                m.d.sync += [
                    decided.eq(reason),
                    departs.eq(1),
                    tell_drop.eq(reason != Reason.NONE),
                    tell_soft.eq(accounted & outcome.soft),
                ]
                with m.If((state.outcome.valid | ~accounted) & (rewrite.o.valid | ~passes)):
                    m.d.comb += state.outcome.ready.eq(1)
                    m.next = "TELL"

            with m.State("TELL"):
                m.d.comb += [
                    emit.i.valid.eq(departs),
                    rewrite.i.valid.eq(passes),
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

        report, esp = self.reports.payload, Signal()
        m.d.comb += [
            esp.eq(info.ipv4 & (info.protocol == ESP_PROTOCOL)),
            report.reason.eq(Mux(tell_drop, decided, Reason.SOFT_LIFETIME)),
            report.dropped.eq(tell_drop),
            report.ingress.eq(info.ingress),
            report.dfe.eq(self.index),
            report.sa.eq(info.sa),
            report.spi.eq(Mux(encrypt, control.spi, Mux(esp, info.spi, 0))),
            report.sequence.eq(Mux(encrypt, job.sequence, Mux(esp, info.sequence, 0))),
            report.source.eq(info.source),
            report.destination.eq(info.destination),
        ]
