# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The two alignment bytes in front of every frame inside the gateway: on at its ports, off at its ports."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.net.packet import ALIGN, packets


class AddAlignment(wiring.Component):
    """Puts :data:`ALIGN` zero bytes in front of each frame. Sustains a beat out a clock; no register lies
    between ``i`` and ``o``.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.

    Members
    -------
    i : In(packets)
        Frames as on the wire.
    o : Out(packets)
        Frames with alignment. An aborted frame ends aborted.
    """

    def __init__(self, beat_bytes: int):
        self._beat_bytes = beat_bytes
        super().__init__({"i": In(packets(beat_bytes)), "o": Out(packets(beat_bytes))})

    def elaborate(self, platform):
        m = Module()
        kept = self._beat_bytes - ALIGN
        beat, out = self.i.payload, self.o.payload
        carry = Signal(8 * ALIGN)
        tail = Signal()
        tail_count = Signal(range(ALIGN + 1))
        ends = beat.last & (beat.abort | (beat.count <= kept))

        m.d.comb += out.data.eq(Cat(carry, beat.data[: 8 * kept]))
        with m.If(tail):
            m.d.comb += [self.o.valid.eq(1), out.last.eq(1), out.count.eq(tail_count)]
        with m.Else():
            m.d.comb += [
                self.o.valid.eq(self.i.valid),
                self.i.ready.eq(self.o.ready),
                out.last.eq(ends),
                out.abort.eq(beat.last & beat.abort),
                out.count.eq(Mux(ends, beat.count + ALIGN, self._beat_bytes)),
            ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += carry.eq(Mux(out.last, 0, beat.data[8 * kept :]))
            m.d.sync += [tail.eq(beat.last & ~out.last), tail_count.eq(beat.count - kept)]
        return m


class RemoveAlignment(wiring.Component):
    """Takes :data:`ALIGN` bytes off each frame. Sustains a beat in a clock; a beat waits inside for the one
    behind it.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.

    Members
    -------
    i : In(packets)
        Frames with alignment, longer than it.
    o : Out(packets)
        Frames as on the wire. An aborted frame ends aborted. Bytes beyond a frame's end are zero where they
        are at ``i``.
    """

    def __init__(self, beat_bytes: int):
        self._beat_bytes = beat_bytes
        super().__init__({"i": In(packets(beat_bytes)), "o": Out(packets(beat_bytes))})

    def elaborate(self, platform):
        m = Module()
        kept = self._beat_bytes - ALIGN
        beat, out = self.i.payload, self.o.payload
        held = Signal()
        rest = Signal(8 * kept)
        # What is held is all that is left of its frame: it leaves alone, and the next frame's first beat
        # may take its place.
        tail = Signal()
        tail_abort = Signal()
        tail_count = Signal(range(kept + 1))
        ends = beat.last & (beat.abort | (beat.count <= ALIGN))

        m.d.comb += [
            self.o.valid.eq(held & (tail | self.i.valid)),
            self.i.ready.eq(~held | self.o.ready),
            out.data.eq(Cat(rest, Mux(tail, 0, beat.data[: 8 * ALIGN]))),
        ]
        with m.If(tail):
            m.d.comb += [out.last.eq(1), out.abort.eq(tail_abort), out.count.eq(tail_count)]
        with m.Else():
            m.d.comb += [
                out.last.eq(ends),
                out.abort.eq(beat.last & beat.abort),
                out.count.eq(Mux(ends, beat.count + kept, self._beat_bytes)),
            ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [held.eq(0), tail.eq(0), rest.eq(0)]
        with m.If(self.i.valid & self.i.ready & (~held | tail | ~ends)):
            m.d.sync += [
                held.eq(1),
                rest.eq(beat.data[8 * ALIGN :]),
                tail.eq(beat.last),
                tail_abort.eq(beat.abort),
                tail_count.eq(beat.count - ALIGN),
            ]
        return m
