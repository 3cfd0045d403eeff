"""Several streams into one."""
from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class Merge(wiring.Component):
    """Takes items from several streams in turn and hands them on, one at a time. Nothing is lost; no stream waits for ever.

    Meant for items that are few: finding the next stream that has one costs a clock a stream.

    Parameters
    ----------
    shape : ShapeLike
        Of an item.
    inputs : int
        Number of streams, 1 or more.

    Members
    -------
    i : In(stream of shape).array(inputs)
    o : Out(stream of shape)
    """

    def __init__(self, *, shape: ShapeLike, inputs: int):
        if inputs < 1:
            raise ValueError(f"inputs must be 1 or more, not {inputs!r}")
        self._inputs = inputs
        super().__init__({"i": In(stream.Signature(shape)).array(inputs), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        turn = Signal(range(self._inputs))
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(~self.o.valid | self.o.ready):
            with m.Switch(turn):
                for number, i in enumerate(self.i):
                    with m.Case(number):
                        m.d.comb += i.ready.eq(1)
                        m.d.sync += [self.o.valid.eq(i.valid), self.o.payload.eq(i.payload),
                                     turn.eq((number + 1) % self._inputs)]
        return m
