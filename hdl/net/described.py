# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The packet queue whose packets each have an item beside them."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.packet import packets


class DescribedFifo(wiring.Component):
    """A :class:`~spigate.hdl.net.fifo.PacketFifo` that drops, and a queue of items, one for each packet in
    it. A packet for whose item there is no room is dropped as one for which there is none itself.

    Parameters
    ----------
    shape : StructLayout
        Of an item.
    beat_bytes : int
        Width of a beat.
    depth : int
        Beats it holds, a power of two, 16 or more.
    items : int
        Packets it holds.

    Members
    -------
    i, o : packet streams
    item : In(shape)
        Of the packet whose last beat is at ``i``.
    items : Out(stream of shape)
        In the order of ``o``, each offered no later than its packet's first beat.
    dropped : Out(stream of Reason)
        As of the :class:`~spigate.hdl.net.fifo.PacketFifo`.
    """

    def __init__(self, shape: data.StructLayout, *, beat_bytes: int, depth: int, items: int):
        self._shape, self._beat_bytes, self._depth, self._items = shape, beat_bytes, depth, items
        super().__init__(
            {
                "i": In(packets(beat_bytes)),
                "item": In(shape),
                "o": Out(packets(beat_bytes)),
                "items": Out(stream.Signature(shape)),
                "dropped": Out(stream.Signature(6)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = PacketFifo(beat_bytes=self._beat_bytes, depth=self._depth, drop=True)
        m.submodules.described = described = fifo.SyncFIFO(width=self._shape.size, depth=self._items)
        beat = self.i.payload
        over = Signal()
        m.d.comb += [
            over.eq(self.i.valid & beat.last & ~beat.abort & ~described.w_rdy),
            queue.i.payload.eq(beat),
            queue.i.payload.abort.eq(beat.abort | beat.last & ~described.w_rdy),
            queue.i.valid.eq(self.i.valid),
            self.i.ready.eq(queue.i.ready),
            self.dropped.valid.eq(over | queue.dropped.valid),
            self.dropped.payload.eq(queue.dropped.payload),
            queue.dropped.ready.eq(self.dropped.ready),
            described.w_data.eq(self.item),
            described.w_en.eq(self.i.valid & self.i.ready & beat.last & ~beat.abort & ~self.dropped.valid),
            self.items.payload.eq(described.r_data),
            self.items.valid.eq(described.r_rdy),
            described.r_en.eq(self.items.ready),
        ]
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m
