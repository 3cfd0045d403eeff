# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The classifying forwarding element: each frame goes to a DFE, to the control element, to a port, or is
dropped.
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from spigate.hdl.cfe.classify import Classifier
from spigate.hdl.cfe.entry import EntryCollector
from spigate.hdl.cfe.health import Health
from spigate.hdl.cfe.ingress import QUEUE_BYTES, Ingress, Origin
from spigate.hdl.cfe.parser import Parser
from spigate.hdl.cfe.router import Router
from spigate.hdl.contract.enums import Port
from spigate.hdl.net.descriptor import (
    CFE_COUNTERS,
    MAX_DFES,
    CfeControl,
    Egress,
    PacketInfo,
    Report,
    TableWrite,
)
from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.merge import Merge
from spigate.hdl.net.packet import Beat, packets


class Cfe(wiring.Component):
    """The classifier.

    Parameters
    ----------
    beat_bytes : int
    dfes : int
        1 to 8.
    cam_entries : int
        64 to 8192.
    rules : int
        A multiple of 4, up to 64.
    routes : int
        Up to 256.

    Members
    -------
    network, server : In(packets)
        Frames without alignment bytes.
    inject : In(packets)
        ``InjectHeader``, alignment, frame.
    recirculate : In(packets), recirculate_egress : In(stream of Egress)
        Frames with alignment, and how often each has come back.
    dfe : Out(packets).array(dfes), dfe_info : Out(stream of PacketInfo).array(dfes)
        Frames with alignment, and what is known and decided about each.
    dfe_free : In(12).array(dfes)
        Beats of room in that DFE's queue. A packet that does not fit is dropped.
    dfe_busy, dfe_gone : In(dfes)
        As in :class:`~spigate.hdl.cfe.health.Health`.
    direct : Out(packets), direct_egress : Out(stream of Egress)
        What leaves without a DFE: punts behind ``PuntHeader``, for the port CE, and injected frames for a
        port.
    reports : Out(stream of Report)
        One for each packet dropped.
    tables : In(stream of TableWrite)
        Of the tables CAM, RULE and ROUTE.
    control : In(CfeControl)
    counters : Out(CFE_COUNTERS)
    healthy : Out(MAX_DFES)
    spi_open : In(1)
        Of :class:`~spigate.hdl.punts.PuntQueues`.
    time : In(32)
        Free-running clock count.
    """

    def __init__(
        self, *, beat_bytes: int, dfes: int, cam_entries: int = 1024, rules: int = 32, routes: int = 64
    ):
        if not 1 <= dfes <= MAX_DFES:
            raise ValueError(f"dfes must be 1 to {MAX_DFES}, not {dfes!r}")
        self._beat_bytes, self._dfes = beat_bytes, dfes
        self._classifier = Classifier(dfes=dfes, cam_entries=cam_entries, rules=rules, routes=routes)
        super().__init__(
            {
                "network": In(packets(beat_bytes)),
                "server": In(packets(beat_bytes)),
                "inject": In(packets(beat_bytes)),
                "recirculate": In(packets(beat_bytes)),
                "recirculate_egress": In(stream.Signature(Egress())),
                "dfe": Out(packets(beat_bytes)).array(dfes),
                "dfe_info": Out(stream.Signature(PacketInfo())).array(dfes),
                "dfe_free": In(12).array(dfes),
                "dfe_busy": In(dfes),
                "dfe_gone": In(dfes),
                "direct": Out(packets(beat_bytes)),
                "direct_egress": Out(stream.Signature(Egress())),
                "reports": Out(stream.Signature(Report())),
                "tables": In(stream.Signature(TableWrite())),
                "control": In(CfeControl()),
                "counters": Out(CFE_COUNTERS),
                "healthy": Out(MAX_DFES),
                "time": In(32),
                "spi_open": In(1, init=1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat_bytes = self._beat_bytes
        m.submodules.classifier = classifier = self._classifier
        m.submodules.parser = parser = Parser(beat_bytes=beat_bytes)
        m.submodules.router = router = Router(beat_bytes=beat_bytes, dfes=self._dfes)
        m.submodules.health = health = Health(dfes=self._dfes)

        # Four ways in, one after the other.
        ports = {
            Port.NETWORK: self.network,
            Port.SERVER: self.server,
            Port.CE: self.inject,
            Port.RECIRCULATE: self.recirculate,
        }
        located = data.StructLayout({"beat": Beat(beat_bytes), "origin": Origin()})
        m.submodules.arbiter = arbiter = Merge(
            located, count=len(ports), last=lambda payload: payload.beat.last
        )
        m.submodules.reports = reports = Merge(Report(), count=len(ports) + 2)
        for index, (port, frames) in enumerate(ports.items()):
            m.submodules[f"ingress_{port.name.lower()}"] = ingress = Ingress(beat_bytes=beat_bytes, port=port)
            connect(m, wiring.flipped(frames), ingress.i)
            if port == Port.RECIRCULATE:
                connect(m, wiring.flipped(self.recirculate_egress), ingress.egress)
            connect(m, ingress.reports, reports.i[index])
            item = arbiter.i[index]
            m.d.comb += [
                item.payload.beat.eq(ingress.o.payload),
                item.payload.origin.eq(ingress.origin.payload),
                item.valid.eq(ingress.o.valid & ingress.origin.valid),
                ingress.o.ready.eq(item.ready),
                ingress.origin.ready.eq(item.valid & item.ready & item.payload.beat.last),
            ]
        connect(m, router.reports, reports.i[len(ports)])
        connect(m, health.reports, reports.i[len(ports) + 1])
        connect(m, reports.o, wiring.flipped(self.reports))

        # The parser looks on while packets go to wait for their verdict.
        m.submodules.queue = queue = PacketFifo(beat_bytes=beat_bytes, depth=QUEUE_BYTES // beat_bytes)
        both = parser.i.ready & queue.i.ready
        m.d.comb += [
            parser.i.payload.eq(arbiter.o.payload.beat),
            queue.i.payload.eq(arbiter.o.payload.beat),
            parser.origin.eq(arbiter.o.payload.origin),
            parser.control.eq(self.control),
            parser.i.valid.eq(arbiter.o.valid & queue.i.ready),
            queue.i.valid.eq(arbiter.o.valid & parser.i.ready),
            arbiter.o.ready.eq(both),
        ]
        connect(m, parser.o, classifier.i)
        connect(m, classifier.o, router.info)
        connect(m, queue.o, router.i)
        connect(m, router.direct, wiring.flipped(self.direct))
        connect(m, router.direct_egress, wiring.flipped(self.direct_egress))
        for index in range(self._dfes):
            connect(m, router.dfe[index], wiring.flipped(self.dfe[index]))
            connect(m, router.dfe_info[index], wiring.flipped(self.dfe_info[index]))
            free = self.dfe_free[index]
            m.d.comb += [router.dfe_free[index].eq(free), classifier.free[index].eq(free)]

        m.submodules.collector = collector = EntryCollector()
        connect(m, wiring.flipped(self.tables), collector.i)
        connect(m, collector.o, classifier.write)
        eligible = Signal(self._dfes)
        m.d.sync += eligible.eq(self.control.enable & health.healthy)
        m.d.comb += [
            classifier.control.eq(self.control),
            classifier.time.eq(self.time),
            classifier.spi_open.eq(self.spi_open),
            classifier.eligible.eq(eligible),
            health.patience.eq(self.control.patience),
            health.enable.eq(self.control.enable),
            router.time.eq(self.time),
            health.busy.eq(self.dfe_busy),
            health.gone.eq(self.dfe_gone),
            self.healthy.eq(health.healthy),
        ]

        taken = {
            name: frames.valid & frames.ready & frames.payload.last
            for name, frames in zip(
                ("network_in", "server_in", "inject_in", "recirculate_in"), ports.values(), strict=True
            )
        }
        events = {
            **taken,
            "clear": classifier.clear,
            "hits": classifier.hit,
            "misses": classifier.miss,
            "punts": router.punted,
        }
        for name, event in events.items():
            happened = Signal(name=f"{name}_happened")
            m.d.sync += [happened.eq(event), self.counters[name].eq(self.counters[name] + happened)]
        return m
