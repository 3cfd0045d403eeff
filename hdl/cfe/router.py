# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Where packet and verdict meet: to a DFE, to the control element or a port, or nowhere."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.net.descriptor import (
    CE_HEADER_BYTES,
    FROM_CFE,
    Egress,
    PacketInfo,
    PuntHeader,
    Report,
    Verdict,
    punt_header,
)
from spigate.hdl.net.headers import ESP_PROTOCOL
from spigate.hdl.net.packet import packets


class AtWork:
    """The packet that the router has.

    Members
    -------
    info : PacketInfo
    beats : unsigned(12)
        How long it is.
    target : unsigned(dfes)
        A bit for the DFE that is to get it.
    reason : Reason
        Why it is dropped, where it is.
    stamp : unsigned(32)
        When it was punted.
    header : PuntHeader
        What goes in front of it then; ``header_beat``: the beat that goes.
    """

    def __init__(self, dfes: int, beat_bytes: int):
        self.info = Signal(PacketInfo())
        self.beats = Signal(12)
        self.target = Signal(dfes)
        self.reason = Signal(Reason)
        self.stamp = Signal(32)
        self.header = Signal(PuntHeader())
        self.header_beat = Signal(range(max(CE_HEADER_BYTES // beat_bytes, 2)))


class Router(wiring.Component):
    """Carries out verdicts, in order.

    =========================  =====================================================================
    BYPASS, DECRYPT, ENCRYPT   to the DFE of the verdict, if its queue has room for all of it
    PUNT                       to ``direct``, behind a :class:`PuntHeader`: all in order
    DIRECT                     to ``direct``, as it is
    DROP                       nowhere; reported
    =========================  =====================================================================

    It never waits for a DFE: where there is no room for a packet, or for its descriptor, the packet is
    dropped at once as QUEUE_FULL. So a slow, flooded or dead DFE holds up no packet of another one, and
    none that goes to the control element.

    Parameters
    ----------
    beat_bytes, dfes : int

    Members
    -------
    i : In(packets), info : In(stream of PacketInfo)
        Whole packets and their verdicts, in the same order.
    dfe : Out(packets).array(dfes), dfe_info : Out(stream of PacketInfo).array(dfes)
        Offered at the same time, taken independently.
    dfe_free : In(12).array(dfes)
        Beats for which there is room, what was sent three clocks ago counted; a packet once offered is
        taken without fail.
    direct : Out(packets), direct_egress : Out(stream of Egress)
        Must be taken without regard to where they lead: it is the one way for all ports.
    reports : Out(stream of Report)
    time : In(32)
    punted : Out(1)
        For a clock: a packet goes to the control element directly.
    """

    def __init__(self, *, beat_bytes: int, dfes: int):
        self._beat_bytes, self._dfes = beat_bytes, dfes
        super().__init__(
            {
                "i": In(packets(beat_bytes)),
                "info": In(stream.Signature(PacketInfo())),
                "dfe": Out(packets(beat_bytes)).array(dfes),
                "dfe_info": Out(stream.Signature(PacketInfo())).array(dfes),
                "dfe_free": In(12).array(dfes),
                "direct": Out(packets(beat_bytes)),
                "direct_egress": Out(stream.Signature(Egress())),
                "reports": Out(stream.Signature(Report())),
                "time": In(32),
                "punted": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        work = AtWork(self._dfes, self._beat_bytes)
        for port in [*self.dfe_info, self.direct_egress]:
            with m.If(port.ready):
                m.d.sync += port.valid.eq(0)
        for port in [*self.dfe, self.direct]:
            m.d.comb += port.payload.eq(self.i.payload)
        m.d.comb += punt_header(work.header, work.info, dfe=work.info.dfe, time=work.stamp)
        has_room = self._look(m, work)
        with m.FSM():
            with m.State("IDLE"):
                self._take(m, work)
            with m.State("LOOK"):
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.next = "TRY"
            with m.State("TRY"):
                self._try(m, work, has_room)
            with m.State("SEND"):
                self._send(m, work)
            with m.State("DIRECT"):
                self._begin_direct(m, work)
            with m.State("HEADER"):
                self._send_header(m, work)
            with m.State("SEND DIRECT"):
                m.d.comb += [self.direct.valid.eq(self.i.valid), self.i.ready.eq(self.direct.ready)]
                with m.If(self.i.valid & self.i.ready & self.i.payload.last):
                    m.next = "IDLE"
            with m.State("DROP"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid & self.i.payload.last):
                    m.next = "REPORT"
            with m.State("REPORT"):
                self._report(m, work)
        return m

    def _look(self, m, work: AtWork) -> Value:
        """Room in the target's queue, always being looked up: right two clocks behind a new target. Returns
        whether there is room for the packet and for its descriptor.
        """
        room = Signal(12)
        fits = Signal()
        slot = Signal()
        m.d.sync += fits.eq(room >= work.beats)
        for at, free in enumerate(self.dfe_free):
            with m.If(work.target[at]):
                m.d.sync += room.eq(free)
        m.d.comb += slot.eq((work.target & ~Cat(port.valid for port in self.dfe_info)).any())
        return fits & slot

    def _take(self, m, work: AtWork) -> None:
        """Takes a verdict and goes its way."""
        new = self.info.payload
        for_dfe = (
            (new.verdict == Verdict.BYPASS)
            | (new.verdict == Verdict.DECRYPT)
            | (new.verdict == Verdict.ENCRYPT)
        )
        m.d.comb += self.info.ready.eq(1)
        m.d.sync += [
            work.info.eq(new),
            work.beats.eq((new.length + self._beat_bytes - 1) >> self._beat_bytes.bit_length() - 1),
            work.reason.eq(new.reason),
            work.target.eq(0),
        ]
        with m.If(self.info.valid):
            with m.If(new.verdict == Verdict.DROP):
                m.next = "DROP"
            with m.Elif(for_dfe):
                m.d.sync += [work.target[dfe].eq(new.dfe == dfe) for dfe in range(self._dfes)]
                m.next = "LOOK"
            with m.Else():
                m.next = "DIRECT"

    def _try(self, m, work: AtWork, has_room) -> None:
        """A DFE that does not exist has no room either."""
        with m.If(has_room):
            for port, chosen in zip(self.dfe_info, work.target, strict=True):
                with m.If(chosen):
                    m.d.sync += [port.valid.eq(1), port.payload.eq(work.info)]
            m.next = "SEND"
        with m.Else():
            m.d.sync += work.reason.eq(Reason.QUEUE_FULL)
            m.next = "DROP"

    def _send(self, m, work: AtWork) -> None:
        """To the target, without a wait: there is room."""
        for port, chosen in zip(self.dfe, work.target, strict=True):
            with m.If(chosen):
                m.d.comb += [port.valid.eq(self.i.valid), self.i.ready.eq(port.ready)]
        with m.If(self.i.valid & self.i.ready & self.i.payload.last):
            m.next = "IDLE"

    def _begin_direct(self, m, work: AtWork) -> None:
        """Offers the descriptor, which says where the direct way leads."""
        info, egress = work.info, self.direct_egress.payload
        m.d.sync += work.stamp.eq(self.time)
        with m.If(~self.direct_egress.valid):
            m.d.sync += [
                self.direct_egress.valid.eq(1),
                egress.depth.eq(info.depth),
                egress.injected.eq(info.verdict == Verdict.DIRECT),
            ]
            with m.If(info.verdict == Verdict.DIRECT):
                m.d.sync += egress.port.eq(info.route.egress)
                m.next = "SEND DIRECT"
            with m.Else():
                m.d.sync += egress.port.eq(Port.CE)
                m.d.comb += self.punted.eq(1)
                m.next = "HEADER"

    def _send_header(self, m, work: AtWork) -> None:
        """In front of what is punted."""
        out, at = self.direct.payload, work.header_beat
        m.d.comb += [
            self.direct.valid.eq(1),
            out.last.eq(0),
            out.abort.eq(0),
            out.count.eq(self._beat_bytes),
            out.data.eq(work.header.as_value().word_select(at, 8 * self._beat_bytes)),
        ]
        with m.If(self.direct.ready):
            m.d.sync += at.eq(at + 1)
            with m.If(at == CE_HEADER_BYTES // self._beat_bytes - 1):
                m.d.sync += at.eq(0)
                m.next = "SEND DIRECT"

    def _report(self, m, work: AtWork) -> None:
        """Tells of what was dropped."""
        info, report = work.info, self.reports.payload
        is_esp = info.ipv4 & (info.protocol == ESP_PROTOCOL) & (work.reason != Reason.MALFORMED)
        m.d.comb += [
            self.reports.valid.eq(1),
            report.reason.eq(work.reason),
            report.dropped.eq(1),
            report.ingress.eq(info.ingress),
            report.dfe.eq(FROM_CFE),
            report.sa.eq(info.sa),
        ]
        with m.If(info.ipv4):
            m.d.comb += [report.source.eq(info.source), report.destination.eq(info.destination)]
        with m.If(is_esp):
            m.d.comb += [report.spi.eq(info.spi), report.sequence.eq(info.sequence)]
        with m.If(self.reports.ready):
            m.next = "IDLE"
