"""What goes to the control element: classes, their rates, and two queues."""
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.csr import punts
from spigate.hdl.net import descriptor
from spigate.hdl.net.descriptor import PuntClass
from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.packet import Beat, packets
from spigate.hdl.net.policer import Policer

ROOM = {PuntClass.LINK: 8, PuntClass.EXCEPTION: 6, PuntClass.SPI: 5, PuntClass.REST: 4}
"""Eighths of the queue that may be in use when a packet of a class is let in."""


class PuntQueues(wiring.Component):
    """The way to the control element, on which no class of punts can use up what another one needs.

    Each class (``punt_class_e``) has a :class:`~spigate.hdl.net.policer.Policer`. IKE has a queue of its own, which is served first;
    the others share one, into which a packet of the class REST is let as long as half of it is free, of SPI three eighths, of EXCEPTION
    a quarter, of LINK anything. Packets of a class keep their order, and so do all but those of IKE. It never waits for whoever reads.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    depth : int
        Beats that each of the queues holds, a power of two.

    Members
    -------
    i : In(packets)
        Behind :class:`~spigate.hdl.net.descriptor.PuntHeader`, whose ``reason`` says the class.
    o : Out(packets)
    limits : In(array of Policer)
        By class.
    spi_open : Out(1)
        A packet of the class SPI would be let in.
    kept : Out(1)
        For a clock: a packet has come into a queue.
    dropped : Out(stream of PuntClass)
        A packet of that class was not let in. Its last beat waits for this to be taken.
    """

    def __init__(self, *, beat_bytes: int, depth: int):
        self._beat_bytes, self._depth = beat_bytes, depth
        super().__init__({
            "i": In(packets(beat_bytes)), "o": Out(packets(beat_bytes)),
            "limits": In(data.ArrayLayout(descriptor.Policer(), len(PuntClass))),
            "spi_open": Out(1), "kept": Out(1), "dropped": Out(stream.Signature(PuntClass)),
        })

    def elaborate(self, platform):
        m = Module()
        depth = self._depth
        m.submodules.ike_queue = ike = PacketFifo(beat_bytes=self._beat_bytes, depth=depth, drop=True, trim=True)
        m.submodules.queue = queue = PacketFifo(beat_bytes=self._beat_bytes, depth=depth, drop=True, trim=True)

        # A beat waits here while what its header says is looked up.
        held, have, first = Signal(Beat(self._beat_bytes)), Signal(), Signal()
        kind, begins, moves = Signal(PuntClass), Signal(init=1), Signal()
        m.d.comb += self.i.ready.eq(~have | moves)
        with m.If(self.i.ready):
            m.d.sync += [have.eq(self.i.valid), held.eq(self.i.payload), first.eq(begins)]
            with m.If(self.i.valid):
                m.d.sync += begins.eq(self.i.payload.last)
                with m.If(begins):
                    # The reason is the header's second byte.
                    with m.Switch(self.i.payload.data[8:16]):
                        for each in PuntClass:
                            reasons = [reason for reason, its in punts.CLASSES.items() if its == each]
                            with m.Case(*reasons) if reasons else m.Default():
                                m.d.sync += kind.eq(each)

        may, spends = Signal(len(PuntClass)), Signal()
        for each in PuntClass:
            m.submodules[f"policer_{each.name.lower()}"] = policer = Policer()
            room = Signal(name=f"room_{each.name.lower()}", init=1)
            if each in ROOM:
                m.d.sync += room.eq(queue.free > depth - depth * ROOM[each] // 8)
            m.d.comb += [
                policer.limit.eq(self.limits[each]), policer.spend.eq(spends & (kind == each)),
                may[each].eq(policer.open & room),
            ]
        m.d.sync += self.spi_open.eq(may[PuntClass.SPI])

        let, letting, to_ike = Signal(), Signal(), Signal()
        m.d.comb += [
            let.eq(Mux(first, may.bit_select(kind, 1), letting)), to_ike.eq(kind == PuntClass.IKE),
            spends.eq(have & first & moves & let),
        ]
        with m.If(have & moves):
            m.d.sync += letting.eq(let)
        refused, full = Signal(), Signal()
        for target, mine in ((ike, to_ike), (queue, ~to_ike)):
            m.d.comb += [
                target.i.payload.eq(held), target.i.valid.eq(have & let & mine), target.dropped.ready.eq(self.dropped.ready),
            ]
        m.d.comb += [
            refused.eq(have & ~let & held.last & ~held.abort), full.eq(ike.dropped.valid | queue.dropped.valid),
            self.dropped.valid.eq(refused | full), self.dropped.payload.eq(kind),
            moves.eq(Mux(let, Mux(to_ike, ike.i.ready, queue.i.ready), ~refused | self.dropped.ready)),
            self.kept.eq(have & let & moves & held.last & ~held.abort & ~full),
        ]

        # IKE first; a packet that has begun, or is offered, is finished.
        inside, chosen, other = Signal(), Signal(), Signal()
        m.d.comb += other.eq(Mux(inside, chosen, ~ike.o.valid))
        m.d.comb += [
            self.o.valid.eq(Mux(other, queue.o.valid, ike.o.valid)),
            self.o.payload.eq(Mux(other, queue.o.payload.as_value(), ike.o.payload.as_value())),
            ike.o.ready.eq(self.o.ready & ~other), queue.o.ready.eq(self.o.ready & other),
        ]
        m.d.sync += [inside.eq(self.o.valid & ~(self.o.ready & self.o.payload.last)), chosen.eq(other)]
        return m
