# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Frames between a MAC's words and the core's beats, and what is wrong with those that come in."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.board.mac import WORD_BYTES, Word
from spigate.hdl.net.packet import packets

SHORTEST = 60
"""Bytes of the shortest frame, without its check sequence (IEEE 802.3 4.2.3.3 and 4.4.2)."""


class WordsToPackets(wiring.Component):
    """Received frames, those that are bad aborted. Each ``last`` ends one packet.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    longest : int
        Bytes of the longest frame, without its check sequence; :data:`SHORTEST` or more. What is behind them
        does not come out.

    Members
    -------
    i : In(stream of Word)
    o : Out(packets)
    reset : In(1)
        The MAC is being set back: the frame that has begun ends here, as a bad one. ``i.valid`` must be 0.
    ended : Out(1)
        A strobe: in this clock the last beat of a frame is at ``o`` for the first time.
    bad, short, long : Out(1)
        With ``ended``, why it is aborted; at most one of them. ``bad``: the MAC found an error.
    bytes : Out(range(longest + 1))
        With ``ended``, of a frame that is not aborted: how many it has.
    """

    def __init__(self, *, beat_bytes: int, longest: int):
        if longest < SHORTEST:
            raise ValueError(f"longest must be {SHORTEST} or more, not {longest!r}")
        self._beat_bytes, self._longest = beat_bytes, longest
        super().__init__(
            {
                "i": In(stream.Signature(Word())),
                "o": Out(packets(beat_bytes)),
                "reset": In(1),
                "ended": Out(1),
                "bad": Out(1),
                "short": Out(1),
                "long": Out(1),
                "bytes": Out(range(longest + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        word, out = self.i.payload, self.o.payload
        words = self._beat_bytes // WORD_BYTES
        before = Signal(range(self._longest + 2 * WORD_BYTES))  # Bytes of the frame in the words before.
        begun, error, over = Signal(), Signal(), Signal()
        at = Signal(range(words))
        count = Signal(range(WORD_BYTES + 1))
        m.d.comb += count.eq(WORD_BYTES)
        for position in reversed(range(WORD_BYTES)):
            with m.If(word.last & word.last_be[position]):
                m.d.comb += count.eq(position + 1)
        length = Signal(range(self._longest + 3 * WORD_BYTES))
        bad, long, short = Signal(), Signal(), Signal()
        m.d.comb += [
            length.eq(before + count),
            bad.eq(error | word.error.any()),
            long.eq(~bad & (over | (length > self._longest))),
            short.eq(~bad & ~long & (length < SHORTEST)),
            self.i.ready.eq(~self.o.valid | self.o.ready),
        ]
        m.d.sync += self.ended.eq(0)
        with m.If(self.i.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.ready & self.reset & begun):
            m.d.sync += [
                self.o.valid.eq(1),
                Cat(out.last, out.abort).eq(3),
                Cat(self.ended, self.bad).eq(3),
                Cat(self.short, self.long).eq(0),
                Cat(begun, error, over, at, before).eq(0),
            ]
        with m.Elif(self.i.ready & self.i.valid):
            m.d.sync += [
                self.o.valid.eq(word.last | ~over & (at == words - 1)),
                out.last.eq(word.last),
                out.abort.eq(word.last & (bad | long | short)),
                out.count.eq(Mux(word.last, (at << 2) + count, self._beat_bytes)),
                out.data.word_select(at, 8 * WORD_BYTES).eq(word.data),
                self.ended.eq(word.last),
                Cat(self.bad, self.short, self.long).eq(Cat(bad, short, long)),
                self.bytes.eq(length),
            ]
            with m.If(word.last):
                m.d.sync += Cat(begun, error, over, at, before).eq(0)
            with m.Else():
                m.d.sync += [begun.eq(1), error.eq(bad), at.eq(Mux(at == words - 1, 0, at + 1))]
                # A word behind the longest frame's end the count stands still.
                with m.If(length > self._longest):
                    m.d.sync += over.eq(1)
                with m.Else():
                    m.d.sync += before.eq(length)
        return m


class PacketsToWords(wiring.Component):
    """Frames to send. A word a clock, as long as beats are there.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.

    Members
    -------
    i : In(packets)
        Packets that are never aborted, such as those of a :class:`~spigate.hdl.net.fifo.PacketFifo`.
    o : Out(stream of Word)
        In the same clock as at ``i``.
    reset : In(1)
        The MAC is being set back: nothing is offered, and of the frame that has begun the rest is dropped.
    lost : Out(1)
        A strobe: a frame was dropped for that.
    sent : Out(1)
        A strobe: the last word of a frame is taken.
    bytes : Out(range(beat_bytes + 1))
        Bytes of the beat whose last word is taken in this clock, else 0.
    """

    def __init__(self, *, beat_bytes: int):
        self._beat_bytes = beat_bytes
        super().__init__(
            {
                "i": In(packets(beat_bytes)),
                "o": Out(stream.Signature(Word())),
                "reset": In(1),
                "lost": Out(1),
                "sent": Out(1),
                "bytes": Out(range(beat_bytes + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat, word = self.i.payload, self.o.payload
        words = self._beat_bytes // WORD_BYTES
        at = Signal(range(words))
        begun, dropping = Signal(), Signal()
        left = Signal(range(self._beat_bytes + 1))  # Bytes of the beat from this word on.
        final = Signal()  # The beat's last word.
        m.d.comb += [
            left.eq(beat.count - (at << 2)),
            final.eq(Mux(beat.last, left <= WORD_BYTES, at == words - 1)),
            word.data.eq(beat.data.word_select(at, 8 * WORD_BYTES)),
            word.last.eq(beat.last & final),
        ]
        for position in range(WORD_BYTES):
            m.d.comb += word.last_be[position].eq(word.last & (left == position + 1))
        with m.If(dropping):
            m.d.comb += [self.i.ready.eq(1), self.lost.eq(self.i.valid & beat.last)]
            with m.If(self.lost):
                m.d.sync += dropping.eq(0)
        with m.Elif(self.reset):
            m.d.sync += [dropping.eq(begun), begun.eq(0), at.eq(0)]
        with m.Else():
            m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready & final)]
            with m.If(self.o.valid & self.o.ready):
                m.d.comb += self.sent.eq(word.last)
                m.d.sync += [at.eq(Mux(final, 0, at + 1)), begun.eq(~word.last)]
                with m.If(final):
                    m.d.comb += self.bytes.eq(Mux(beat.last, beat.count, self._beat_bytes))
        return m
