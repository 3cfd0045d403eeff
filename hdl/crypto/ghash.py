# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""GHASH (NIST SP 800-38D 6.4) for two contexts that share one multiplier of 16 bits a clock."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.crypto.aes import BLOCK_BITS, CONTEXTS

DIGIT = 16
STEPS = BLOCK_BITS // DIGIT
LENGTH_BITS = 16


class GhashWord(data.StructLayout):
    """Some bytes to authenticate.

    Members
    -------
    data : unsigned(32)
    count : range(5)
        Valid bytes, less than 4 only at the end of a run; 0 for a word that stands for nothing.
    text : unsigned(1)
        Of the cipher text, not of the associated data.
    end : unsigned(1)
        The run (of associated data, of text) ends here: zeros fill its last block.
    last : unsigned(1)
        The packet's last; the block of lengths follows.
    """

    def __init__(self):
        super().__init__({"data": 32, "count": range(5), "text": 1, "end": 1, "last": 1})


class GhashBlocks(wiring.Component):
    """Makes a packet's blocks of its words: pads each run with zeros and adds the block of lengths.

    Members
    -------
    i : In(stream of GhashWord)
        Up to 65535 bytes of associated data and as many of text.
    o : Out(stream of {block: unsigned(128), last: unsigned(1)})
        Byte 0 in the low bits. ``last`` is the block of lengths.
    """

    def __init__(self):
        super().__init__(
            {
                "i": In(stream.Signature(GhashWord())),
                "o": Out(stream.Signature(data.StructLayout({"block": BLOCK_BITS, "last": 1}))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        word = self.i.payload
        place = Signal(2)
        closing = Signal()
        associated_bytes = Signal(LENGTH_BITS)
        text_bytes = Signal(LENGTH_BITS)
        full, block, last = self.o.valid, self.o.payload.block, self.o.payload.last
        bytes_valid = Signal(32)
        m.d.comb += [
            self.i.ready.eq(~full & ~closing),
            bytes_valid.eq(Cat((word.count > n).replicate(8) for n in range(4))),
        ]
        with m.If(self.i.valid & self.i.ready):
            with m.If(word.count != 0):
                with m.If(place == 0):
                    m.d.sync += block.eq(word.data & bytes_valid)
                with m.Else():
                    m.d.sync += block.word_select(place, 32).eq(word.data & bytes_valid)
                with m.If(word.text):
                    m.d.sync += text_bytes.eq(text_bytes + word.count)
                with m.Else():
                    m.d.sync += associated_bytes.eq(associated_bytes + word.count)
                m.d.sync += [place.eq(Mux(word.end, 0, place + 1)), full.eq((place == 3) | word.end)]
            m.d.sync += closing.eq(word.last)
        with m.If(full & self.o.ready):
            m.d.sync += [full.eq(0), last.eq(0)]
        with m.Elif(closing & ~full):
            # Two numbers of 64 bits, the most significant byte first, counting bits.
            m.d.sync += [
                block.eq(
                    Cat(_big_endian(Cat(Const(0, 3), length), 8) for length in (associated_bytes, text_bytes))
                ),
                full.eq(1),
                last.eq(1),
                closing.eq(0),
                associated_bytes.eq(0),
                text_bytes.eq(0),
            ]
        return m


def _big_endian(number, count: int):
    """``count`` bytes of ``number``, the most significant one lowest."""
    number = Cat(number, *[0] * (8 * count - len(number)))
    return Cat(number.word_select(at, 8) for at in reversed(range(count)))


def _reflected(block):
    """Between a block and its polynomial: the coefficient of x^i is bit 7 - i % 8 of byte i // 8 (SP
    800-38D 6.3).
    """
    # By halves of each byte, as operations on whole blocks: that is what simulates fast.
    for count, low in ((4, 0x0F), (2, 0x33), (1, 0x55)):
        mask = int.from_bytes(bytes([low] * (BLOCK_BITS // 8)))
        block = block[count:] & mask | (block & mask).shift_left(count)
    return block


class Ghash(wiring.Component):
    """The hash of two contexts' packets. A block takes 8 clocks, which the contexts take in turn. Each member
    is an array of 2.

    Members
    -------
    key : In(stream of unsigned(128))
        The hash subkey H, one a packet; taken when the digest of the packet before has been.
    i : In(stream of GhashWord)
    digest : Out(stream of unsigned(128))
        GHASH of associated data, text and lengths, once a packet.
    """

    def __init__(self):
        super().__init__(
            {
                "key": In(stream.Signature(BLOCK_BITS)).array(CONTEXTS),
                "i": In(stream.Signature(GhashWord())).array(CONTEXTS),
                "digest": Out(stream.Signature(BLOCK_BITS)).array(CONTEXTS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        step = Signal(range(STEPS))
        busy = Signal()
        last = Signal()
        factor, subkey, product, advanced = (
            Signal(BLOCK_BITS, name=name) for name in ("factor", "subkey", "product", "advanced")
        )
        # The context whose block may come next. While one is at work, it is the other one's.
        chosen = Signal()
        ends = Signal()
        free = Signal()
        load = Signal()
        wants, blocks, subkeys, lasts = [], [], [], []

        for n in range(CONTEXTS):
            m.submodules[f"blocks_{n}"] = source = GhashBlocks()
            wiring.connect(m, wiring.flipped(self.i[n]), source.i)
            key, digest = self.key[n], self.digest[n]
            sum_ = Signal(BLOCK_BITS, name=f"sum_{n}")
            own_key = Signal(BLOCK_BITS, name=f"own_key_{n}")
            running = Signal(name=f"running_{n}")
            want = Signal(name=f"want_{n}")
            m.d.comb += [
                key.ready.eq(~running),
                digest.payload.eq(_reflected(sum_)),
                want.eq(running & source.o.valid & ~digest.valid),
                source.o.ready.eq(load & (chosen == n)),
            ]
            # Wide registers are loaded whenever they may be: that no valid is in their enables keeps those
            # fast.
            with m.If(~running):
                m.d.sync += [own_key.eq(_reflected(key.payload)), sum_.eq(0), running.eq(key.valid)]
            with m.If(ends & (chosen != n)):
                m.d.sync += [sum_.eq(advanced), digest.valid.eq(last)]
            with m.If(digest.valid & digest.ready):
                m.d.sync += [digest.valid.eq(0), running.eq(0)]
            wants.append(want)
            blocks.append(_reflected(source.o.payload.block) ^ sum_)
            subkeys.append(own_key)
            lasts.append(source.o.payload.last)

        m.d.comb += [
            ends.eq(busy & (step == STEPS - 1)),
            free.eq(~busy | ends),
            load.eq(free & Array(wants)[chosen]),
        ]
        # The factor's digits come from its highest powers down, as in Horner's scheme.
        raised = product.shift_left(DIGIT)
        for n in range(DIGIT):
            raised ^= Mux(factor[BLOCK_BITS - DIGIT + n], subkey, 0).shift_left(n)
        low = Signal(BLOCK_BITS)
        high = Signal(DIGIT)
        m.d.comb += [
            Cat(low, high).eq(raised),
            # x^128 = x^7 + x^2 + x + 1
            advanced.eq(low ^ high ^ high.shift_left(1) ^ high.shift_left(2) ^ high.shift_left(7)),
        ]
        with m.If(free):
            # Loaded also where there is nothing to do: so the enables of the wide registers are fast.
            m.d.sync += [
                factor.eq(Array(blocks)[chosen]),
                subkey.eq(Array(subkeys)[chosen]),
                last.eq(Array(lasts)[chosen]),
                chosen.eq(~chosen),
                product.eq(0),
                step.eq(0),
                busy.eq(load),
            ]
        with m.Else():
            m.d.sync += [
                factor.eq(factor.shift_left(DIGIT)[:BLOCK_BITS]),
                product.eq(advanced),
                step.eq(step + 1),
            ]
        return m
