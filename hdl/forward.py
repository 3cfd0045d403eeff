"""The forwarding element: each packet to the egress queue that its descriptor names."""
from amaranth.hdl import Array, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from spigate.hdl.net.align import RemoveAlignment
from spigate.hdl.net.descriptor import FORWARD_COUNTERS, FROM_FORWARDING, Egress, Port, Reason, Report
from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.merge import Merge
from spigate.hdl.net.packet import ALIGN, Beat, packets

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
    reports : Out(stream of Report)
        QUEUE_FULL for each packet dropped.
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
            "reports": Out(stream.Signature(Report())), "counters": Out(FORWARD_COUNTERS),
        })

    def elaborate(self, platform):
        m = Module()
        merges, queues = {}, {}
        for port in Port:
            name = port.name.lower()
            m.submodules[f"{name}_merge"] = merges[port] = Merge(
                Beat(self._beat_bytes), count=self._sources, last=lambda beat: beat.last)
            m.submodules[f"{name}_queue"] = queues[port] = PacketFifo(
                beat_bytes=self._beat_bytes, depth=self._depth, drop=True, trim=True, wipe=port != Port.NETWORK)
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
        """Counts what is kept and reports what is dropped. Drops look alike: those not yet reported are a number."""
        pending = Signal(8)
        room = pending < 2 ** len(pending) - 1 - len(queues)
        drops = []
        for port, queue in queues.items():
            beat, lost = queue.i.payload, queue.dropped.valid & room
            m.d.comb += queue.dropped.ready.eq(room)
            drops.append(lost)
            counter = self.counters[COUNTERS[port]]
            with m.If(queue.i.valid & queue.i.ready & beat.last & ~beat.abort & ~queue.dropped.valid):
                m.d.sync += counter.eq(counter + 1)
        report = self.reports
        m.d.comb += [
            report.valid.eq(pending != 0),
            report.payload.reason.eq(Reason.QUEUE_FULL), report.payload.dropped.eq(1),
            report.payload.dfe.eq(FROM_FORWARDING),
        ]
        m.d.sync += pending.eq(pending + sum(drops) - (report.valid & report.ready))
