# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What lies between blocks that may stand far from each other: registers that cut a stream's paths."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect


class Slice(wiring.Component):
    """Registers in a stream's way, so that no path goes through it in either direction: ``ready`` too comes
    out of one.

    Parameters
    ----------
    shape
        Of the payload.
    half : bool
        One register for the payload instead of two, and an item every other clock at the most.

    Members
    -------
    i : In(stream of shape)
    o : Out(stream of shape)
        One clock behind ``i`` at the least.
    """

    def __init__(self, shape, *, half: bool = False):
        self._shape, self._half = shape, half
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        if self._half:
            m.d.comb += self.i.ready.eq(~self.o.valid)
            with m.If(~self.o.valid):
                m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
            with m.Elif(self.o.ready):
                m.d.sync += self.o.valid.eq(0)
            return m

        # What came while `o` waited.
        spare = Signal(self._shape)
        spare_valid = Signal()
        m.d.comb += self.i.ready.eq(~spare_valid)
        with m.If(~spare_valid):
            m.d.sync += spare.eq(self.i.payload)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.valid.eq(spare_valid | self.i.valid),
                self.o.payload.eq(Mux(spare_valid, spare, self.i.payload)),
                spare_valid.eq(0),
            ]
        with m.Elif(~spare_valid):
            m.d.sync += spare_valid.eq(self.i.valid)
        return m


def across(m: Module, name: str, source, target, *, half: bool = False) -> None:
    """Connects two streams through a :class:`Slice`, the submodule ``name``."""
    m.submodules[name] = between = Slice(source.payload.shape(), half=half)
    connect(m, source, between.i)
    connect(m, between.o, target)
