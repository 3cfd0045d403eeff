"""The forwarding element: each packet to the egress queue that its descriptor names."""
from amaranth.hdl import Array, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from spigate.hdl.csr.punts import REFUSED
from spigate.hdl.net.align import RemoveAlignment
from spigate.hdl.net.descriptor import FORWARD_COUNTERS, FROM_FORWARDING, CfeControl, Egress, Port, Reason, Report
from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.merge import Merge
from spigate.hdl.net.packet import ALIGN, Beat, packets
from spigate.hdl.punts import PuntQueues

COUNTERS = {
    Port.NETWORK: "network_out", Port.SERVER: "server_out", Port.CE: "punt_out", Port.RECIRCULATE: "recirculated",
}
"""Members of ``FORWARD_COUNTERS`` by port."""


class Forwarding(wiring.Component):
    """Takes packets from several sources and queues them for the four ports, each as fast as the others let it.

    A source waits only while another one's packet goes to the same port. A queue never waits: a packet for which there
    is no room is dropped whole and reported. Packets of one source for one port keep their order.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    sources : int
        DFEs and the CFE.
    depth : int
        Beats that the queue of a port holds, a power of two.

    Members
    -------
    i : In(packets).array(sources)
        Frames with alignment bytes, with a header of 16 bytes in front for the CE.
    egress : In(stream of Egress).array(sources)
        One a packet; taken with the packet's last beat.
    network, server : Out(packets)
        Frames as on the wire.
    punt : Out(packets)
        For the CE, as they came.
    recirculate : Out(packets)
        Frames with alignment bytes.
    recirculate_egress : Out(stream of Egress)
        One for each of ``recirculate``, offered no later than its first beat. The packet behind waits until it is
        taken.
    punts : In(array of Policer), spi_open : Out(1)
        As ``limits`` and ``spi_open`` of :class:`~spigate.hdl.punts.PuntQueues`.
    reports : Out(stream of Report)
        QUEUE_FULL for each packet dropped; of those for the CE the reason of their class (:data:`~spigate.hdl.csr.punts.REFUSED`).
    counters : Out(FORWARD_COUNTERS)
    """

    def __init__(self, *, beat_bytes: int, sources: int, depth: int = 512):
        if sources < 1:
            raise ValueError(f"sources must be 1 or more, not {sources!r}")
        self._beat_bytes, self._sources, self._depth = beat_bytes, sources, depth
        super().__init__({
            "i": In(packets(beat_bytes)).array(sources), "egress": In(stream.Signature(Egress())).array(sources),
            "network": Out(packets(beat_bytes)), "server": Out(packets(beat_bytes)), "punt": Out(packets(beat_bytes)),
            "recirculate": Out(packets(beat_bytes)), "recirculate_egress": Out(stream.Signature(Egress())),
            "punts": In(CfeControl().members["punts"]), "spi_open": Out(1),
            "reports": Out(stream.Signature(Report())), "counters": Out(FORWARD_COUNTERS),
        })

    def elaborate(self, platform):
        m = Module()
        merges, queues = {}, {}
        for port in Port:
            name = port.name.lower()
            m.submodules[f"{name}_merge"] = merges[port] = Merge(
                Beat(self._beat_bytes), count=self._sources, last=lambda beat: beat.last)
            m.submodules[f"{name}_queue"] = queues[port] = (
                PuntQueues(beat_bytes=self._beat_bytes, depth=self._depth) if port is Port.CE
                else PacketFifo(beat_bytes=self._beat_bytes, depth=self._depth, drop=True))
            connect(m, merges[port].o, queues[port].i)

        for source, (packet, egress) in enumerate(zip(self.i, self.egress, strict=True)):
            taking = Array(merges[port].i[source].ready for port in Port)
            m.d.comb += [
                packet.ready.eq(egress.valid & taking[egress.payload.port]),
                egress.ready.eq(packet.valid & packet.ready & packet.payload.last),
            ]
            # The depth rides in the first of the alignment bytes.
            first = Signal(init=1, name=f"first{source}")
            with m.If(packet.valid & packet.ready):
                m.d.sync += first.eq(packet.payload.last)
            for port, merge in merges.items():
                lane = merge.i[source]
                m.d.comb += [
                    lane.valid.eq(packet.valid & egress.valid & (egress.payload.port == port)),
                    lane.payload.eq(packet.payload),
                ]
                if port is Port.RECIRCULATE:
                    with m.If(first):
                        m.d.comb += lane.payload.data[:8].eq(egress.payload.depth)

        for port, output in ((Port.NETWORK, self.network), (Port.SERVER, self.server)):
            m.submodules[f"{port.name.lower()}_remove"] = remove = RemoveAlignment(self._beat_bytes)
            connect(m, queues[port].o, remove.i)
            connect(m, remove.o, wiring.flipped(output))
        connect(m, queues[Port.CE].o, wiring.flipped(self.punt))
        m.d.comb += [queues[Port.CE].limits.eq(self.punts), self.spi_open.eq(queues[Port.CE].spi_open)]
        self._recirculate(m, queues[Port.RECIRCULATE].o)
        self._account(m, queues)
        return m

    def _recirculate(self, m, queue):
        """Takes the depth out of the alignment bytes and offers it beside the packet."""
        first = Signal(init=1)
        offered = Signal()
        item = self.recirculate_egress
        m.d.comb += [
            self.recirculate.valid.eq(queue.valid & offered), queue.ready.eq(self.recirculate.ready & offered),
            self.recirculate.payload.eq(queue.payload),
        ]
        with m.If(first):
            m.d.comb += self.recirculate.payload.data[:8 * ALIGN].eq(0)
        with m.If(item.ready):
            m.d.sync += item.valid.eq(0)
        with m.If(queue.valid & queue.ready):
            m.d.sync += [first.eq(queue.payload.last), offered.eq(~queue.payload.last)]
        with m.If(queue.valid & ~offered & (~item.valid | item.ready)):
            m.d.sync += [
                offered.eq(1), item.valid.eq(1), item.payload.port.eq(Port.RECIRCULATE),
                item.payload.depth.eq(queue.payload.data),
            ]

    def _account(self, m, queues):
        """Counts what is kept and reports what is dropped. Drops for the same reason look alike: those not yet reported are numbers."""
        losses = {Reason.QUEUE_FULL: []}
        for port, queue in queues.items():
            dropped, counter = queue.dropped, self.counters[COUNTERS[port]]
            if port is Port.CE:
                losses |= {reason: [(dropped, dropped.payload == kind)] for kind, reason in REFUSED.items()}
                kept = queue.kept
            else:
                losses[Reason.QUEUE_FULL].append((dropped, 1))
                beat = queue.i.payload
                kept = queue.i.valid & queue.i.ready & beat.last & ~beat.abort & ~dropped.valid
            with m.If(kept):
                m.d.sync += counter.eq(counter + 1)
        pending = {reason: Signal(8, name=f"pending_{reason.name.lower()}") for reason in losses}
        report = self.reports
        m.d.comb += [report.payload.dropped.eq(1), report.payload.dfe.eq(FROM_FORWARDING)]
        taken = {}
        with m.If(~report.valid | report.ready):
            m.d.sync += report.valid.eq(0)
        for reason, count in pending.items():
            # The last one with something to tell does so.
            taken[reason] = Signal(name=f"taken_{reason.name.lower()}")
            with m.If((~report.valid | report.ready) & (count != 0)):
                for other in list(taken)[:-1]:
                    m.d.comb += taken[other].eq(0)
                m.d.comb += taken[reason].eq(1)
                m.d.sync += [report.valid.eq(1), report.payload.reason.eq(reason)]
        for reason, drops in losses.items():
            count = pending[reason]
            room = Signal(name=f"room_{reason.name.lower()}")
            m.d.comb += room.eq(count < 2 ** len(count) - 1 - len(drops))
            for dropped, mine in drops:
                with m.If(mine):
                    m.d.comb += dropped.ready.eq(room)
            m.d.sync += count.eq(count + sum(dropped.valid & mine & room for dropped, mine in drops) - taken[reason])
