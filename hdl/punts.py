# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What goes to the control element: classes, their rates, and two queues."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from spigate.hdl.contract import reasons
from spigate.hdl.contract.enums import PuntClass
from spigate.hdl.net import descriptor
from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.packet import Beat, packets
from spigate.hdl.net.policer import Policer
from spigate.hdl.net.slice import Slice

ROOM = {PuntClass.LINK: 8, PuntClass.EXCEPTION: 6, PuntClass.SPI: 5, PuntClass.REST: 4}
"""Eighths of the queue that may be in use when a packet of a class is let in."""


class PuntQueues(wiring.Component):
    """The way to the control element, on which no class of punts can use up what another one needs.

    Each class (``punt_class_e``) has a :class:`~spigate.hdl.net.policer.Policer`. IKE has a queue of its
    own, which is served first; the others share one, into which a packet of the class REST is let as long
    as half of it is free, of SPI three eighths, of EXCEPTION a quarter, of LINK anything. Packets of a
    class keep their order, and so do all but those of IKE. It never waits for whoever reads.

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
        A packet of that class was not let in. Nothing moves without ``dropped.ready``.
    """

    def __init__(self, *, beat_bytes: int, depth: int):
        self._beat_bytes, self._depth = beat_bytes, depth
        super().__init__(
            {
                "i": In(packets(beat_bytes)),
                "o": Out(packets(beat_bytes)),
                "limits": In(data.ArrayLayout(descriptor.Policer(), len(PuntClass))),
                "spi_open": Out(1),
                "kept": Out(1),
                "dropped": Out(stream.Signature(PuntClass)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = self._depth
        m.submodules.ike_queue = ike = PacketFifo(
            beat_bytes=self._beat_bytes, depth=depth, drop=True, trim=True
        )
        m.submodules.queue = queue = PacketFifo(
            beat_bytes=self._beat_bytes, depth=depth, drop=True, trim=True
        )

        # Whoever sends stands behind a slice. What it offers is decided on the way to `judged`, the beat
        # that goes into a queue.
        m.submodules.entry = entry = Slice(Beat(self._beat_bytes))
        connect(m, wiring.flipped(self.i), entry.i)
        judged = Signal(Beat(self._beat_bytes))
        has = Signal()
        let = Signal()
        its = Signal(PuntClass)
        first = Signal(init=1)
        kind = Signal(PuntClass)
        decides = Signal()
        m.d.comb += [entry.o.ready.eq(self.dropped.ready), decides.eq(entry.o.valid & entry.o.ready & first)]
        # The reason is the header's second byte.
        with m.Switch(entry.o.payload.data[8:16]):
            for each in PuntClass:
                of_class = [reason for reason, its_class in reasons.CLASSES.items() if its_class == each]
                with m.Default() if each == PuntClass.REST else m.Case(*of_class):
                    m.d.comb += kind.eq(each)

        # A token is taken a clock after the decision, before the next one: with its header a packet has two
        # beats or more.
        may = Signal(len(PuntClass))
        spends = Signal()
        for each in PuntClass:
            m.submodules[f"policer_{each.name.lower()}"] = policer = Policer()
            room = Signal(name=f"room_{each.name.lower()}", init=1)
            if each in ROOM:
                m.d.sync += room.eq(queue.free > depth - depth * ROOM[each] // 8)
            m.d.comb += [
                policer.limit.eq(self.limits[each]),
                policer.spend.eq(spends & (its == each)),
                may[each].eq(policer.open & room),
            ]
        m.d.sync += [spends.eq(decides & may.bit_select(kind, 1)), self.spi_open.eq(may[PuntClass.SPI])]
        with m.If(entry.o.ready):
            m.d.sync += [has.eq(entry.o.valid), judged.eq(entry.o.payload)]
            with m.If(entry.o.valid):
                m.d.sync += first.eq(entry.o.payload.last)
        with m.If(decides):
            m.d.sync += [its.eq(kind), let.eq(may.bit_select(kind, 1))]

        to_ike = Signal()
        refused = Signal()
        full = Signal()
        for target, mine in ((ike, to_ike), (queue, ~to_ike)):
            m.d.comb += [
                target.i.payload.eq(judged),
                target.i.valid.eq(has & let & mine),
                target.dropped.ready.eq(self.dropped.ready),
            ]
        m.d.comb += [
            to_ike.eq(its == PuntClass.IKE),
            full.eq(ike.dropped.valid | queue.dropped.valid),
            refused.eq(has & ~let & judged.last & ~judged.abort),
            self.dropped.valid.eq(refused | full),
            self.dropped.payload.eq(its),
        ]
        m.d.sync += self.kept.eq(has & self.dropped.ready & let & judged.last & ~judged.abort & ~full)

        # IKE first; a packet that has begun, or is offered, is finished.
        inside = Signal()
        chosen = Signal()
        other = Signal()
        m.d.comb += other.eq(Mux(inside, chosen, ~ike.o.valid))
        m.d.comb += [
            self.o.valid.eq(Mux(other, queue.o.valid, ike.o.valid)),
            self.o.payload.eq(Mux(other, queue.o.payload.as_value(), ike.o.payload.as_value())),
            ike.o.ready.eq(self.o.ready & ~other),
            queue.o.ready.eq(self.o.ready & other),
        ]
        m.d.sync += [inside.eq(self.o.valid & ~(self.o.ready & self.o.payload.last)), chosen.eq(other)]
        return m
