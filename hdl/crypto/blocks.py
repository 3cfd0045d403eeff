# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Bytes of a message become padded blocks (FIPS 180-4 5.1.1), two of which wait for the hash."""

from amaranth.hdl import Cat, Const, Module, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.net.packet import swap_bytes

BLOCK_WORDS = 16
MARK = 0x80000000
"""The word that begins with the bit behind a message."""
HASHED_BYTES = 64
"""What HMAC has hashed before the message: the key's inner block."""


class Bytes(data.StructLayout):
    """Up to four bytes of a message: ``data`` in wire order from the low bits up, ``count`` of them valid.
    Less than four only with ``last``; none only where the message is empty."""

    def __init__(self):
        super().__init__({"data": 32, "count": range(5), "last": 1})


class Blocks(wiring.Component):
    """Pads messages and stores two blocks of them.

    Members
    -------
    i : In(stream of Bytes)
        Messages of up to 65535 - 64 bytes.
    available : Out(1)
        A block is complete. ``last`` and ``word`` are about it.
    last : Out(1)
        It is its message's last.
    release : In(1)
        Forget it.
    address : In(range(BLOCK_WORDS))
    word : Out(32)
        Big-endian word ``address`` of the block, in the same clock.
    """

    def __init__(self):
        super().__init__(
            {
                "i": In(stream.Signature(Bytes())),
                "available": Out(1),
                "last": Out(1),
                "release": In(1),
                "address": In(range(BLOCK_WORDS)),
                "word": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = store = memory.Memory(shape=unsigned(32), depth=2 * BLOCK_WORDS, init=[])
        write = store.write_port()
        read = store.read_port(domain="comb")

        at = Signal(range(BLOCK_WORDS))
        writing = Signal()
        reading = Signal()
        complete = Signal(2)
        lasts = Signal(2)
        length = Signal(16, init=HASHED_BYTES)
        # Behind the message: the bit that marks its end, where its last word had no room for it; zeros; the
        # length.
        padding = Signal()
        marked = Signal()
        # Word 14 of this block was free for the length's upper half.
        fits = Signal()
        item = self.i.payload
        full = complete.bit_select(writing, 1)
        word = Signal(32)
        step = Signal()
        ends = Signal()
        m.d.comb += [
            write.addr.eq(Cat(at, writing)),
            write.data.eq(word),
            write.en.eq(step),
            read.addr.eq(Cat(self.address, reading)),
            self.word.eq(read.data),
            self.available.eq(complete.bit_select(reading, 1)),
            self.last.eq(lasts.bit_select(reading, 1)),
        ]
        with m.If(padding):
            m.d.comb += step.eq(~full)
            with m.If(~marked):
                m.d.comb += word.eq(MARK)
            with m.Elif((at == BLOCK_WORDS - 1) & fits):
                m.d.comb += [word.eq(Cat(Const(0, 3), length)), ends.eq(1)]
        with m.Else():
            m.d.comb += [self.i.ready.eq(~full), step.eq(self.i.valid & ~full)]
            with m.Switch(item.count):
                for count in range(4):
                    with m.Case(count):
                        kept = item.data & ((1 << 8 * count) - 1)
                        m.d.comb += word.eq(swap_bytes(kept[:32]) | (MARK >> 8 * count))
                with m.Default():
                    m.d.comb += word.eq(swap_bytes(item.data))

        with m.If(step):
            m.d.sync += [at.eq(at + 1), fits.eq(padding & marked)]
            with m.If(padding):
                m.d.sync += marked.eq(1)
            with m.Else():
                m.d.sync += [
                    padding.eq(item.last),
                    marked.eq(item.count != 4),
                    length.eq(length + item.count),
                ]
            with m.If(ends):
                m.d.sync += [padding.eq(0), length.eq(HASHED_BYTES)]
            with m.If(at == BLOCK_WORDS - 1):
                m.d.sync += [
                    writing.eq(~writing),
                    complete.bit_select(writing, 1).eq(1),
                    lasts.bit_select(writing, 1).eq(ends),
                ]
        with m.If(self.release):
            m.d.sync += [reading.eq(~reading), complete.bit_select(reading, 1).eq(0)]
        return m
