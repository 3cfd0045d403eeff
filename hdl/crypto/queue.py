# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What lies between the stages of an engine: a short queue."""

from amaranth.hdl import Module, Shape
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out


class Queue(wiring.Component):
    """A stream's queue in LUT RAM; what comes out is registered.

    Parameters
    ----------
    shape
        Of the payload.
    depth : int
        Items, 1 or more; one more waits at the output.

    Members
    -------
    i : In(stream of shape)
    o : Out(stream of shape)
        Two clocks behind ``i`` at the least.
    """

    def __init__(self, shape, *, depth: int):
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, not {depth!r}")
        self._shape, self._depth = shape, depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = fifo.SyncFIFO(width=Shape.cast(self._shape).width, depth=self._depth)
        m.d.comb += [
            store.w_data.eq(self.i.payload),
            store.w_en.eq(self.i.valid),
            self.i.ready.eq(store.w_rdy),
            store.r_en.eq(~self.o.valid | self.o.ready),
        ]
        with m.If(store.r_en):
            m.d.sync += self.o.valid.eq(store.r_rdy)
            with m.If(store.r_rdy):
                m.d.sync += self.o.payload.eq(store.r_data)
        return m
