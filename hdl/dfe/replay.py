# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The anti-replay window of one inbound SA: RFC 4303 3.4.3 and, for the arithmetic, appendix A2.

The window is kept as RFC 4303 draws it: its right edge is the highest number received, bit *i* stands for
``highest - i``. So checking is a bit select and moving is a shift, which costs a barrel shifter of
``width`` bits. That is right for 64. A window of thousands of bits wants another organisation of memory: a
ring of words that never move, as RFC 6479 describes it, with as many reads as an advance has words.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

LATENCY = 4
"""Clocks from the inputs of :class:`Replay` to its outputs."""


class Replay(wiring.Component):
    """Checks a sequence number against a window and says what the window becomes when the packet proves
    authentic.

    A question may be asked in every clock; the answer comes :data:`LATENCY` clocks later. Nothing is stored:
    who asks keeps the window, and takes ``next_highest`` and ``next_window`` over only once the ICV was
    verified.

    Parameters
    ----------
    width : int
        Bits of the window: 32 (the least that RFC 4303 allows), 64 or 128.

    Members
    -------
    sequence : In(32)
        The packet's number.
    highest : In(32)
        The window's right edge; 0 before the first packet.
    window : In(width)
        Bit i is set when ``highest - i`` was received.
    size : In(range(width + 1))
        How many numbers, from ``highest`` on downwards, count as inside, 1 to ``width``: the window that
        the SA was configured with.
    fresh : Out(1)
        The number is neither 0 nor left of the window nor seen before.
    next_highest, next_window : Out
        The window with the number in it; meaningful where ``fresh``.
    """

    def __init__(self, *, width: int = 64):
        if width not in (32, 64, 128):
            raise ValueError(f"width must be 32, 64 or 128, not {width!r}")
        self._width = width
        super().__init__(
            {
                "sequence": In(32),
                "highest": In(32),
                "window": In(width),
                "size": In(range(width + 1)),
                "fresh": Out(1),
                "next_highest": Out(32),
                "next_window": Out(width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = self._width
        bits = (width - 1).bit_length()

        # Clock 1: how far right of the edge the number lies.
        distance = Signal(33)
        usable = Signal()
        sequence = Signal(32)
        highest = Signal(32)
        window = Signal(width)
        size = Signal.like(self.size)
        reach = Signal.like(self.size)
        m.d.sync += [
            distance.eq(self.sequence - self.highest),
            usable.eq(self.sequence != 0),
            sequence.eq(self.sequence),
            highest.eq(self.highest),
            window.eq(self.window),
            size.eq(self.size),
        ]

        # Clock 2: right of the edge or behind it, and within reach of the window or not.
        near, far_bits = distance[:bits], distance[bits:]
        right = Signal()
        inside = Signal()
        possible = Signal()
        shift = Signal(bits)
        offset = Signal(bits)
        edge = Signal(32)
        held = Signal(width)
        behind = distance[-1]
        m.d.sync += [
            right.eq(~behind & distance.any()),
            inside.eq(Mux(behind, far_bits.all() & near.any(), ~far_bits.any())),
            possible.eq(usable),
            reach.eq(size),
            shift.eq(near),
            offset.eq(-near),
            held.eq(window),
            edge.eq(Mux(behind, highest, sequence)),
        ]

        # Clock 3: seen before or too old? And the coarse part of the shift.
        coarse = bits // 2
        new = Signal()
        missing = Signal()
        recent = Signal()
        moves = Signal()
        fine = Signal(coarse)
        mark = Signal(width)
        moved = Signal(width)
        edge_moved = Signal(32)
        m.d.sync += [
            new.eq(possible & right),
            missing.eq(possible & inside & ~held.bit_select(offset, 1)),
            recent.eq(offset < reach),
            moves.eq(right),
            fine.eq(shift),
            mark.eq(Mux(right, 1, 1 << offset)),
            edge_moved.eq(edge),
            moved.eq(Mux(right, Mux(inside, held << Cat(Const(0, coarse), shift[coarse:]), 0), held)),
        ]

        # Clock 4: the fine part.
        m.d.sync += [
            self.fresh.eq(new | missing & recent),
            self.next_highest.eq(edge_moved),
            self.next_window.eq(Mux(moves, moved << fine, moved) | mark),
        ]
        return m
