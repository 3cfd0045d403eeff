"""AES rounds (FIPS 197) for two contexts that share one datapath.

The datapath has two registers: one behind the field inversion, one behind the rest of the round. So two blocks are in it at any time,
one of each context, and each advances by a round in two clocks. Both directions share the inversion, which is the large part of
SubBytes: encrypting, the affine transformation follows it; decrypting, its inverse goes before. Whatever treats all bytes alike is
written as operations on 128-bit vectors, which is also what simulates fast.
"""
from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
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
        The key at ``set`` and ``index`` of two clocks before.
    """

    def __init__(self):
        super().__init__({
            "first_set": Out(KeySet()), "first": In(BLOCK_BITS),
            "set": Out(KeySet()), "index": Out(range(15)), "key": In(BLOCK_BITS),
        })


class KeySet(data.StructLayout):
    """Names one set of round keys: each context has two."""

    def __init__(self):
        super().__init__({"bank": 1, "context": 1})


def _every(mask: int, width: int = 8) -> int:
    """``mask`` in every group of ``width`` bits of a block."""
    return int.from_bytes(mask.to_bytes(width // 8, "little") * (BLOCK_BITS // width), "little")


def _named(m: Module, value):
    """A signal for ``value``, so that all who use it share its gates: an expression has its own wherever it is written."""
    signal = Signal(BLOCK_BITS)
    m.d.comb += signal.eq(value)
    return signal


def _rotate(vector, count: int, width: int):
    """Each group of ``width`` bits rotated to the left by ``count``."""
    low = (1 << count) - 1
    return (vector.shift_left(count)[:BLOCK_BITS] & _every((1 << width) - 1 ^ low, width)
            | vector[width - count:] & _every(low, width))


def _affine(m: Module, vector):
    """SubBytes behind the inversion: each byte and its rotations by 1 to 4, and 0x63."""
    pair = _named(m, vector ^ _rotate(vector, 1, 8))
    return pair ^ _rotate(pair, 2, 8) ^ _rotate(vector, 4, 8) ^ _every(0x63)


def _inverse_affine(vector):
    return _rotate(vector, 1, 8) ^ _rotate(vector, 3, 8) ^ _rotate(vector, 6, 8) ^ _every(0x05)


def _double(m: Module, vector):
    """Each byte times x."""
    top = _named(m, vector[7:] & _every(0x01))
    carry = top ^ top.shift_left(1) ^ top.shift_left(3) ^ top.shift_left(4)
    return ((vector & _every(0x7f)).shift_left(1) ^ carry)[:BLOCK_BITS]


def _below(vector, rows: int):
    """At each byte the one ``rows`` rows below it in its column, cyclically."""
    return _rotate(vector, 32 - 8 * rows, 32)


def _mix_columns(m: Module, vector):
    below = _named(m, _below(vector, 1))
    pair = _named(m, vector ^ below)
    return _double(m, pair) ^ below ^ _below(pair, 2)


def _before_mix_columns(m: Module, vector):
    """What makes InvMixColumns of MixColumns when it is added to what goes in."""
    quarter = _named(m, vector ^ _below(vector, 2))
    return _double(m, _named(m, _double(m, quarter)))


def _shift_rows(vector, direction: int):
    """ShiftRows, or with ``direction`` -1 its inverse."""
    return Cat(vector.word_select(row + 4 * ((column + direction * row) % 4), 8) for column in range(4) for row in range(4))


class Aes(wiring.Component):
    """Encrypts and decrypts blocks of two contexts.

    A context's block takes ``2 * rounds`` clocks, and a new one can begin in the clock in which the one before ends.

    Members
    -------
    start : In(stream of AesBlock).array(2)
        Taken when the context's turn has come and it has no block, or finishes one.
    done : Out(2)
        Bit c: ``result`` is context c's block, in this clock only. Blocks of a context end in the order in which they began.
    result : Out(128)
    keys_in_use : Out(2).array(2)
        Bit b of context c: keys of its bank b are still needed by the block at work.
    keys : Out(RoundKeyRead())
    """

    def __init__(self):
        super().__init__({
            "start": In(stream.Signature(AesBlock())).array(CONTEXTS),
            "done": Out(CONTEXTS), "result": Out(BLOCK_BITS),
            "keys_in_use": Out(2).array(CONTEXTS),
            "keys": Out(RoundKeyRead()),
        })

    def elaborate(self, platform):
        m = Module()
        # In a clock, `turn` is the context that ends a round or begins a block; the other one's bytes are being inverted.
        turn = Signal()
        left = Array(Signal(range(15), name=f"left_{context}") for context in range(CONTEXTS))
        index = Array(Signal(range(15), name=f"index_{context}") for context in range(CONTEXTS))
        decrypt = Array(Signal(name=f"decrypt_{context}") for context in range(CONTEXTS))
        bank = Array(Signal(name=f"bank_{context}") for context in range(CONTEXTS))
        begin, offered = Signal(), Signal()
        offer = Signal(AesBlock())
        own_left, own_index, own_bank, back = Signal(range(15)), Signal(range(15)), Signal(), Signal()
        m.d.comb += [
            offer.eq(Mux(turn, self.start[1].payload, self.start[0].payload)),
            offered.eq(Mux(turn, self.start[1].valid, self.start[0].valid)),
            own_left.eq(left[turn]), own_index.eq(index[turn]), own_bank.eq(bank[turn]), back.eq(decrypt[turn]),
            begin.eq((own_left <= 1) & offered),
        ]
        for context in range(CONTEXTS):
            m.d.comb += [
                self.start[context].ready.eq((turn == context) & (left[context] <= 1)),
                self.keys_in_use[context].eq((left[context] != 0) << bank[context]),
            ]
        # Where nothing is to be done, nothing moves.
        with m.If((left[0] != 0) | (left[1] != 0) | self.start[0].valid | self.start[1].valid):
            m.d.sync += turn.eq(~turn)

        # The key of a context's next round is asked for in its present one.
        m.d.comb += [
            self.keys.first_set.context.eq(turn), self.keys.first_set.bank.eq(offer.bank),
            self.keys.set.context.eq(turn),
        ]
        with m.If(begin):
            m.d.comb += [
                self.keys.set.bank.eq(offer.bank),
                self.keys.index.eq(Mux(offer.decrypt, offer.rounds - 1, 1)),
            ]
            m.d.sync += [
                left[turn].eq(offer.rounds), decrypt[turn].eq(offer.decrypt), bank[turn].eq(offer.bank),
                index[turn].eq(Mux(offer.decrypt, offer.rounds - 2, 2)),
            ]
        with m.Else():
            m.d.comb += [self.keys.set.bank.eq(own_bank), self.keys.index.eq(own_index)]
            with m.If(own_left != 0):
                m.d.sync += [left[turn].eq(own_left - 1), index[turn].eq(Mux(back, own_index - 1, own_index + 1))]

        # First half of a round: ShiftRows, then the inversion of every byte.
        state, inverted = Signal(BLOCK_BITS), Signal(BLOCK_BITS)
        shifted, moves = Signal(BLOCK_BITS), Signal()
        m.d.comb += [
            moves.eq(left[~turn] != 0),
            shifted.eq(Mux(decrypt[~turn], _inverse_affine(_named(m, _shift_rows(state, -1))), _shift_rows(state, 1))),
        ]
        m.submodules.inverses = inverses = gf256.Lookup(table=gf256.INVERSE, count=BLOCK_BITS // 8)
        m.d.comb += inverses.i.eq(shifted)
        with m.If(moves):
            m.d.sync += inverted.eq(inverses.o)

        # Second half: the affine transformation, MixColumns, AddRoundKey, or AddRoundKey, InvMixColumns. InvMixColumns is MixColumns
        # after a simpler step. The last round has neither.
        before_key = _named(m, Mux(back, self.keys.key, 0))
        behind_key = _named(m, Mux(back, 0, self.keys.key))
        substituted = _named(m, Mux(back, inverted, _affine(m, inverted)) ^ before_key)
        unmixed = _named(m, Mux(back, inverted ^ self.keys.key, 0))
        mixed = _named(m, _mix_columns(m, _named(m, substituted ^ _before_mix_columns(m, unmixed))) ^ behind_key)
        m.d.sync += self.done.eq(0)
        with m.If(own_left == 1):
            m.d.sync += [self.result.eq(substituted ^ behind_key), self.done.eq(1 << turn)]
        with m.If(begin):
            m.d.sync += state.eq(offer.block ^ self.keys.first)
        with m.Elif(own_left > 1):
            m.d.sync += state.eq(mixed)
        return m
