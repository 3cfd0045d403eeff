# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The forwarding element: each packet to the egress queue that its descriptor names."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.contract.reasons import REFUSED
from spigate.hdl.guard import Guard
from spigate.hdl.net.align import RemoveAlignment
from spigate.hdl.net.described import DescribedFifo
from spigate.hdl.net.descriptor import FORWARD_COUNTERS, FROM_FORWARDING, CfeControl, Egress, OutOf, Report
from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.merge import Merge
from spigate.hdl.net.packet import Beat, packets
from spigate.hdl.punts import PuntQueues

COUNTERS = {
    Port.NETWORK: "network_out",
    Port.SERVER: "server_out",
    Port.CE: "punt_out",
    Port.RECIRCULATE: "recirculated",
}
"""Members of ``FORWARD_COUNTERS`` by port."""
RECIRCULATING = 32
"""Packets that the queue to the classifier holds, however short."""


class Described(data.StructLayout):
    """A beat on its way to the classifier, and what stands beside its packet."""

    def __init__(self, beat_bytes: int):
        super().__init__(
            {"beat": Beat(beat_bytes), "item": data.StructLayout({"depth": 2, "out_of": OutOf()})}
        )


class Forwarding(wiring.Component):
    """Takes packets from several sources and queues them for the four ports, each as fast as the others let
    it.

    A source waits only while another one's packet goes to the same port. A queue never waits: a packet for
    which there is no room is dropped whole and reported. Packets of one source for one port keep their
    order.

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
        One for each of ``recirculate``, in order, offered no later than its first beat.
    punts : In(array of Policer), spi_open : Out(1)
        As ``limits`` and ``spi_open`` of :class:`~spigate.hdl.punts.PuntQueues`.
    reports : Out(stream of Report)
        QUEUE_FULL for each packet dropped; of those for the CE the reason of their class
        (:data:`~spigate.hdl.contract.reasons.REFUSED`); GUARD for each that may not leave where it would
        (:class:`~spigate.hdl.guard.Guard`).
    counters : Out(FORWARD_COUNTERS)
    """

    def __init__(self, *, beat_bytes: int, sources: int, depth: int = 512):
        if sources < 1:
            raise ValueError(f"sources must be 1 or more, not {sources!r}")
        self._beat_bytes, self._sources, self._depth = beat_bytes, sources, depth
        super().__init__(
            {
                "i": In(packets(beat_bytes)).array(sources),
                "egress": In(stream.Signature(Egress())).array(sources),
                "network": Out(packets(beat_bytes)),
                "server": Out(packets(beat_bytes)),
                "punt": Out(packets(beat_bytes)),
                "recirculate": Out(packets(beat_bytes)),
                "recirculate_egress": Out(stream.Signature(Egress())),
                "punts": In(CfeControl().members["punts"]),
                "spi_open": Out(1),
                "reports": Out(stream.Signature(Report())),
                "counters": Out(FORWARD_COUNTERS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        merges, queues = {}, {}
        for port in Port:
            name = port.name.lower()
            described = port is Port.RECIRCULATE
            m.submodules[f"{name}_merge"] = merges[port] = Merge(
                Described(self._beat_bytes) if described else Beat(self._beat_bytes),
                count=self._sources,
                last=(lambda item: item.beat.last) if described else (lambda beat: beat.last),
            )
            if described:
                queue = DescribedFifo(
                    Described(self._beat_bytes)["item"].shape,
                    beat_bytes=self._beat_bytes,
                    depth=self._depth,
                    items=RECIRCULATING,
                )
            elif port is Port.CE:
                queue = PuntQueues(beat_bytes=self._beat_bytes, depth=self._depth)
            else:
                queue = PacketFifo(
                    beat_bytes=self._beat_bytes,
                    depth=self._depth,
                    drop=True,
                    trim=True,
                    wipe=port != Port.NETWORK,
                )
            m.submodules[f"{name}_queue"] = queues[port] = queue
            if not described:
                connect(m, merges[port].o, queue.i)

        m.submodules.guard = guard = Guard(beat_bytes=self._beat_bytes, sources=self._sources)
        for source in range(self._sources):
            connect(m, wiring.flipped(self.i[source]), guard.i[source])
            connect(m, wiring.flipped(self.egress[source]), guard.egress[source])
        for source, (packet, egress) in enumerate(zip(guard.o, guard.o_egress, strict=True)):
            taking = Array(merges[port].i[source].ready for port in Port)
            m.d.comb += [
                packet.ready.eq(egress.valid & taking[egress.payload.port]),
                egress.ready.eq(packet.valid & packet.ready & packet.payload.last),
            ]
            for port, merge in merges.items():
                lane = merge.i[source]
                m.d.comb += lane.valid.eq(packet.valid & egress.valid & (egress.payload.port == port))
                if port is Port.RECIRCULATE:
                    item = lane.payload.item
                    m.d.comb += [
                        lane.payload.beat.eq(packet.payload),
                        item.depth.eq(egress.payload.depth),
                        item.out_of.eq(egress.payload.out_of),
                    ]
                else:
                    m.d.comb += lane.payload.eq(packet.payload)

        for port, output in ((Port.NETWORK, self.network), (Port.SERVER, self.server)):
            m.submodules[f"{port.name.lower()}_remove"] = remove = RemoveAlignment(self._beat_bytes)
            connect(m, queues[port].o, remove.i)
            connect(m, remove.o, wiring.flipped(output))
        connect(m, queues[Port.CE].o, wiring.flipped(self.punt))
        m.d.comb += [queues[Port.CE].limits.eq(self.punts), self.spi_open.eq(queues[Port.CE].spi_open)]
        self._recirculate(m, merges[Port.RECIRCULATE].o, queues[Port.RECIRCULATE])
        self._account(m, queues, guard)
        return m

    def _recirculate(self, m, merged, queue):
        """To the classifier, with what is known of each packet beside it."""
        item, egress = queue.items.payload, self.recirculate_egress.payload
        m.d.comb += [
            queue.i.payload.eq(merged.payload.beat),
            queue.item.eq(merged.payload.item),
            queue.i.valid.eq(merged.valid),
            merged.ready.eq(queue.i.ready),
            egress.port.eq(Port.RECIRCULATE),
            egress.depth.eq(item.depth),
            egress.out_of.eq(item.out_of),
            self.recirculate_egress.valid.eq(queue.items.valid),
            queue.items.ready.eq(self.recirculate_egress.ready),
        ]
        connect(m, queue.o, wiring.flipped(self.recirculate))

    def _account(self, m, queues, guard):
        """Counts what is kept and reports what is dropped. Drops for the same reason look alike: those not
        yet reported are numbers. A queue goes on as long as there is room in all numbers that it may add
        to."""
        losses: dict[Reason, list[tuple[Any, Any]]] = {Reason.QUEUE_FULL: []}
        for port, queue in queues.items():
            dropped, counter = queue.dropped, self.counters[COUNTERS[port]]
            if port is Port.CE:
                losses |= {reason: [(dropped, dropped.payload == kind)] for kind, reason in REFUSED.items()}
                kept = queue.kept
            else:
                losses[Reason.QUEUE_FULL].append((dropped, 1))
                beat = queue.i.payload
                kept = Signal(name=f"{COUNTERS[port]}_kept")
                m.d.sync += kept.eq(queue.i.valid & queue.i.ready & beat.last & ~beat.abort & ~dropped.valid)
            with m.If(kept):
                m.d.sync += counter.eq(counter + 1)
        pending = {reason: Signal(8, name=f"pending_{reason.name.lower()}") for reason in losses}
        report = self.reports
        free = Signal()
        told = Signal(len(pending))
        m.d.comb += [free.eq(~report.valid | report.ready), guard.reports.ready.eq(free)]
        with m.If(free):
            m.d.sync += [
                report.valid.eq(told.any() | guard.reports.valid),
                report.payload.eq(guard.reports.payload),
            ]
            # One at a time: the guard first, then whoever comes first here.
            with m.If(~guard.reports.valid):
                m.d.sync += report.payload.eq(Report().const({"dropped": 1, "dfe": FROM_FORWARDING}))
                for at, (reason, count) in reversed(list(enumerate(pending.items()))):
                    with m.If(count != 0):
                        m.d.comb += told.eq(1 << at)
                        m.d.sync += report.payload.reason.eq(reason)
        rooms = {reason: Signal(name=f"room_{reason.name.lower()}", init=1) for reason in losses}
        for port, queue in queues.items():
            reasons = REFUSED.values() if port is Port.CE else (Reason.QUEUE_FULL,)
            m.d.comb += queue.dropped.ready.eq(Cat(rooms[reason] for reason in reasons).all())
        for at, (reason, drops) in enumerate(losses.items()):
            count = pending[reason]
            came = Signal(len(drops), name=f"dropped_{reason.name.lower()}")
            m.d.sync += [
                came.eq(Cat(dropped.valid & dropped.ready & mine for dropped, mine in drops)),
                count.eq(count + sum(came) - told[at]),
                # Not yet in `count` are drops of the last clock, of this one, and of the next one, in which
                # the answer is used.
                rooms[reason].eq(count < 2 ** len(count) - 3 * len(drops)),
            ]
