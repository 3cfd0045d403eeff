# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""AES rounds (FIPS 197) for two contexts that share one datapath.

The datapath has two registers: the address of the block RAMs that hold SubBytes, and one behind them. So
two blocks are in it at any time, one of each context, and each advances by a round in two clocks. Both
directions share all of it: the tables hold SubBytes and its inverse, and InvMixColumns is MixColumns and
one term more, because the inverse cipher is the equivalent one (FIPS 197 5.3.5), whose round keys have been
through InvMixColumns. Whatever treats all bytes alike is written as operations on 128-bit vectors, which is
also what simulates fast.
"""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.crypto import gf256

CONTEXTS = 2
BLOCK_BITS = 128


class AesBlock(data.StructLayout):
    """A block to work on.

    Members
    -------
    block : unsigned(128)
        Byte 0 in the low bits.
    decrypt : unsigned(1)
        The inverse cipher.
    rounds : range(15)
        10, 12 or 14.
    bank : unsigned(1)
        Which of the context's two sets of round keys.
    """

    def __init__(self):
        super().__init__({"block": BLOCK_BITS, "decrypt": 1, "rounds": range(15), "bank": 1})


class RoundKeyRead(wiring.Signature):
    """The read port into the round keys, seen from the reader.

    Members
    -------
    first_set : Out({bank, context})
    first : In(128)
        The key that the set's direction begins with, in the same clock.
    set, index : Out
        Number of a round key, 0 to 14.
    key : In(128)
        The key at ``set`` and ``index`` of two clocks before, of a set for decryption that of the
        equivalent inverse cipher.
    """

    def __init__(self):
        super().__init__(
            {
                "first_set": Out(KeySet()),
                "first": In(BLOCK_BITS),
                "set": Out(KeySet()),
                "index": Out(range(15)),
                "key": In(BLOCK_BITS),
            }
        )


class KeySet(data.StructLayout):
    """Names one set of round keys: each context has two."""

    def __init__(self):
        super().__init__({"bank": 1, "context": 1})


def _every(mask: int, width: int = 8) -> int:
    """``mask`` in every group of ``width`` bits of a block."""
    return int.from_bytes(mask.to_bytes(width // 8, "little") * (BLOCK_BITS // width), "little")


def _named(m: Module, value):
    """A signal for ``value``, so that its users share gates: an expression is built anew wherever it is
    written.
    """
    signal = Signal(BLOCK_BITS)
    m.d.comb += signal.eq(value)
    return signal


def _rotate(vector, count: int, width: int):
    """Each group of ``width`` bits rotated to the left by ``count``."""
    low = (1 << count) - 1
    return vector.shift_left(count)[:BLOCK_BITS] & _every((1 << width) - 1 ^ low, width) | vector[
        width - count :
    ] & _every(low, width)


def _double(m: Module, vector):
    """Each byte times x."""
    top = _named(m, vector[7:] & _every(0x01))
    carry = top ^ top.shift_left(1) ^ top.shift_left(3) ^ top.shift_left(4)
    return ((vector & _every(0x7F)).shift_left(1) ^ carry)[:BLOCK_BITS]


def _below(vector, rows: int):
    """At each byte the one ``rows`` rows below it in its column, cyclically."""
    return _rotate(vector, 32 - 8 * rows, 32)


def _mix_columns(m: Module, vector, inverse):
    """MixColumns, or where ``inverse`` InvMixColumns."""
    doubled = _named(m, _double(m, vector))
    # 2, 3, 1, 1; and for the inverse, whose coefficients are 14, 11, 13, 9, also 12, 8, 12, 8.
    pair = _named(m, doubled ^ _below(doubled, 2))
    column = _named(m, pair ^ _below(pair, 1))
    more = _double(m, _named(m, pair ^ _double(m, column)))
    return (
        doubled ^ _below(doubled ^ vector, 1) ^ _below(vector, 2) ^ _below(vector, 3) ^ Mux(inverse, more, 0)
    )


def _shift_rows(vector, direction: int):
    """ShiftRows, or with ``direction`` -1 its inverse."""
    return Cat(
        vector.word_select(row + 4 * ((column + direction * row) % 4), 8)
        for column in range(4)
        for row in range(4)
    )


class Substitution(wiring.Component):
    """SubBytes and its inverse, in block RAM.

    Members
    -------
    enable : In(1)
        Take the next block.
    i : In(128)
    inverse : In(1)
        Of the block at ``i``.
    o : Out(128)
        What was at ``i`` in the last enabled clock, substituted.
    """

    def __init__(self):
        super().__init__(
            {
                "enable": In(1),
                "i": In(BLOCK_BITS),
                "inverse": In(1),
                "o": Out(BLOCK_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        table = [*gf256.SBOX, *gf256.INVERSE_SBOX]
        # A block RAM has two ports: one for each of two bytes.
        for pair in range(BLOCK_BITS // 16):
            m.submodules[f"table_{pair}"] = store = memory.Memory(
                shape=unsigned(8), depth=len(table), init=table
            )
            for at in (2 * pair, 2 * pair + 1):
                port = store.read_port()
                m.d.comb += [
                    port.en.eq(self.enable),
                    port.addr.eq(Cat(self.i.word_select(at, 8), self.inverse)),
                    self.o.word_select(at, 8).eq(port.data),
                ]
        return m


class Aes(wiring.Component):
    """Encrypts and decrypts blocks of two contexts.

    A context's block takes ``2 * rounds`` clocks, and a new one can begin in the clock in which the one
    before ends.

    Members
    -------
    start : In(stream of AesBlock).array(2)
        Taken when the context's turn has come and it has no block, or finishes one.
    done : Out(2)
        Bit c: ``result`` is context c's block, in this clock only. Blocks of a context end in the order in
        which they began.
    result : Out(128)
    keys_in_use : Out(2).array(2)
        Bit b of context c: keys of its bank b are still needed by the block at work.
    keys : Out(RoundKeyRead())
    """

    def __init__(self):
        super().__init__(
            {
                "start": In(stream.Signature(AesBlock())).array(CONTEXTS),
                "done": Out(CONTEXTS),
                "result": Out(BLOCK_BITS),
                "keys_in_use": Out(2).array(CONTEXTS),
                "keys": Out(RoundKeyRead()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # In a clock, `turn` is the context that ends a round or begins a block; the other one's bytes are
        # being substituted.
        turn = Signal()
        left = Array(Signal(range(15), name=f"left_{context}") for context in range(CONTEXTS))
        index = Array(Signal(range(15), name=f"index_{context}") for context in range(CONTEXTS))
        decrypt = Array(Signal(name=f"decrypt_{context}") for context in range(CONTEXTS))
        bank = Array(Signal(name=f"bank_{context}") for context in range(CONTEXTS))
        begin = Signal()
        offered = Signal()
        offer = Signal(AesBlock())
        own_left = Signal(range(15))
        own_index = Signal(range(15))
        own_bank = Signal()
        # What is known of `turn` a clock before: whether it decrypts, has no block or ends it, ends it.
        back = Signal()
        free = Signal(init=1)
        last = Signal()
        m.d.sync += [back.eq(decrypt[~turn]), free.eq(left[~turn] <= 1), last.eq(left[~turn] == 1)]
        m.d.comb += [
            offer.eq(Mux(turn, self.start[1].payload, self.start[0].payload)),
            offered.eq(Mux(turn, self.start[1].valid, self.start[0].valid)),
            own_left.eq(left[turn]),
            own_index.eq(index[turn]),
            own_bank.eq(bank[turn]),
            begin.eq(free & offered),
        ]
        for context in range(CONTEXTS):
            m.d.comb += [
                self.start[context].ready.eq((turn == context) & free),
                self.keys_in_use[context].eq((left[context] != 0) << bank[context]),
            ]
        # Where nothing is to be done, nothing moves.
        moves = Signal()
        m.d.comb += moves.eq((left[0] != 0) | (left[1] != 0) | self.start[0].valid | self.start[1].valid)
        with m.If(moves):
            m.d.sync += turn.eq(~turn)

        # The key of a context's next round is asked for in its present one.
        m.d.comb += [
            self.keys.first_set.context.eq(turn),
            self.keys.first_set.bank.eq(offer.bank),
            self.keys.set.context.eq(turn),
        ]
        with m.If(begin):
            m.d.comb += [
                self.keys.set.bank.eq(offer.bank),
                self.keys.index.eq(Mux(offer.decrypt, offer.rounds - 1, 1)),
            ]
            m.d.sync += [
                left[turn].eq(offer.rounds),
                decrypt[turn].eq(offer.decrypt),
                bank[turn].eq(offer.bank),
                index[turn].eq(Mux(offer.decrypt, offer.rounds - 2, 2)),
            ]
        with m.Else():
            m.d.comb += [self.keys.set.bank.eq(own_bank), self.keys.index.eq(own_index)]
            with m.If(own_left != 0):
                m.d.sync += [
                    left[turn].eq(own_left - 1),
                    index[turn].eq(Mux(back, own_index - 1, own_index + 1)),
                ]

        # First half of a round: SubBytes, then ShiftRows, which may come behind it. The register of the
        # tables' addresses holds the block.
        m.submodules.substitution = substitution = Substitution()
        inverse = Signal()
        substituted = Signal(BLOCK_BITS)
        m.d.comb += [substitution.enable.eq(moves), substitution.inverse.eq(Mux(begin, offer.decrypt, back))]
        m.d.sync += [
            inverse.eq(substitution.inverse),
            substituted.eq(Mux(inverse, _shift_rows(substitution.o, -1), _shift_rows(substitution.o, 1))),
        ]

        # Second half: MixColumns, AddRoundKey. The last round is without MixColumns.
        m.d.comb += substitution.i.eq(
            Mux(begin, offer.block ^ self.keys.first, _mix_columns(m, substituted, back) ^ self.keys.key)
        )
        m.d.sync += self.done.eq(0)
        with m.If(last):
            m.d.sync += [self.result.eq(substituted ^ self.keys.key), self.done.eq(1 << turn)]
        return m
