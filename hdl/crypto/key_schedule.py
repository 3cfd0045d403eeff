# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""AES key expansion (FIPS 197 5.2) into a memory of round keys, two sets a context."""

from collections.abc import Collection
from itertools import pairwise

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import KeySize
from spigate.hdl.crypto import gf256
from spigate.hdl.crypto.aes import BLOCK_BITS, CONTEXTS, KeySet, RoundKeyRead
from spigate.hdl.net.memory import BlockMemory

ENDS = {KeySize.AES128: 3, KeySize.AES192: 5, KeySize.AES256: 7}
"""Last word of a key."""


class KeyOrder(data.StructLayout):
    """A key to expand: its size, which set of the context it goes to, and whether for decryption."""

    def __init__(self):
        super().__init__({"key_size": 2, "decrypt": 1, "bank": 1})


class Expansion:
    """The key that is expanded.

    Members
    -------
    context : unsigned(1)
    order : KeyOrder
        ``final``: number of its last round key.
    words : list of Signal
        As many words as the key has are kept: the oldest in the first, the newest where the key ends, and
        in ``newest`` too. ``word``: the next one.
    at, row
        Word of a round key, and its number. ``write``: that word is made in this clock.
    place : unsigned(3)
        Word modulo the key's words. ``begins_cycle``: it is 0.
    given : unsigned(1)
        The word is of the key itself.
    substitutes : unsigned(1)
        The word goes through the S-box; ``looked_up``: it did, and ``substituted`` is what came out.
    round_constant : unsigned(8)
    """

    def __init__(self):
        self.context = Signal()
        self.order = Signal(KeyOrder())
        self.final = Signal(4)
        self.words = [Signal(32, name=f"word_{n}") for n in range(8)]
        self.newest = Signal(32)
        self.word = Signal(32)
        self.at = Signal(2)
        self.row = Signal(4)
        self.write = Signal()
        self.place = Signal(3)
        self.begins_cycle = Signal()
        self.given = Signal()
        self.substitutes = Signal()
        self.looked_up = Signal()
        self.substituted = Signal(32)
        self.round_constant = Signal(8)


class KeySchedule(wiring.Component):
    """Expands keys word by word and keeps the round keys of two contexts, two sets each.

    An expansion takes 4 * (rounds + 1) clocks and about one for each round more. Contexts wait for one
    another.

    Parameters
    ----------
    sizes : collection of KeySize
        Of the keys that come.

    Members
    -------
    start : In(stream of KeyOrder).array(2)
        Taken in the clock in which the expansion begins; the set named must not be in use.
    key : In(stream of unsigned(128)).array(2)
        Two rows after each ``start``: bytes 0 to 15 and 16 to 31 of the key, byte 0 in the low bits. What
        the size leaves over is ignored.
    done : Out(2)
        Bit c: the expansion for context c ended.
    read : In(RoundKeyRead())
    """

    def __init__(self, *, sizes: Collection[KeySize] = tuple(KeySize)):
        self._sizes = sizes
        super().__init__(
            {
                "start": In(stream.Signature(KeyOrder())).array(CONTEXTS),
                "key": In(stream.Signature(BLOCK_BITS)).array(CONTEXTS),
                "done": Out(CONTEXTS),
                "read": In(RoundKeyRead()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        key = Expansion()
        material = Signal(BLOCK_BITS)
        self._make_word(m, key)
        m.d.sync += self.done.eq(0)
        m.d.comb += material.eq(Mux(key.context, self.key[1].payload, self.key[0].payload))
        with m.FSM():
            with m.State("IDLE"):
                self._begin(m, key)
            for state, half, after in (("LOW", key.words[:4], "HIGH"), ("HIGH", key.words[4:], "EXPAND")):
                with m.State(state):
                    m.d.comb += [port.ready.eq(key.context == n) for n, port in enumerate(self.key)]
                    m.d.sync += Cat(half).eq(material)
                    with m.If(Mux(key.context, self.key[1].valid, self.key[0].valid)):
                        m.next = after
            with m.State("EXPAND"):
                self._expand(m, key)
        self._keep(m, key)
        return m

    def _make_word(self, m, key: Expansion) -> None:
        """The next word. The S-box has a clock of its own."""
        m.submodules.sbox = sbox = gf256.Lookup(table=gf256.SBOX, count=4)
        round_ends = Array(10 + 2 * size for size in (0, 1, 2, 2))
        rotated = Cat(key.substituted[8:], key.substituted[:8])
        m.d.comb += [
            sbox.i.eq(key.newest),
            key.final.eq(round_ends[key.order.key_size]),
            key.begins_cycle.eq(key.place == 0),
        ]
        oldest = key.words[0]
        with m.If(key.given):
            m.d.comb += key.word.eq(oldest)
        with m.Elif(key.begins_cycle):
            m.d.comb += key.word.eq(oldest ^ rotated ^ key.round_constant)
        with m.Elif(key.substitutes):
            m.d.comb += key.word.eq(oldest ^ key.substituted)
        with m.Else():
            m.d.comb += key.word.eq(oldest ^ key.newest)

    def _begin(self, m, key: Expansion) -> None:
        """Takes an order, of the other context if it has one."""
        chosen = Signal()
        m.d.comb += chosen.eq(
            Mux(Mux(key.context, self.start[0].valid, self.start[1].valid), ~key.context, key.context)
        )
        m.d.sync += [
            key.at.eq(0),
            key.row.eq(0),
            key.place.eq(0),
            key.given.eq(1),
            key.looked_up.eq(0),
            key.substitutes.eq(0),
            key.round_constant.eq(1),
        ]
        with m.If(self.start[0].valid | self.start[1].valid):
            m.d.sync += [
                key.context.eq(chosen),
                key.order.eq(Mux(chosen, self.start[1].payload, self.start[0].payload)),
            ]
            m.d.comb += [self.start[n].ready.eq(chosen == n) for n in range(CONTEXTS)]
            m.next = "LOW"

    def _expand(self, m, key: Expansion) -> None:
        """Shifts a word out and a word in, or waits for the S-box."""
        words = key.words
        size = key.order.key_size
        cycle_ends = Signal()
        looks_up = key.substitutes & ~key.looked_up
        m.d.sync += key.looked_up.eq(looks_up)
        with m.If(looks_up):
            m.d.sync += key.substituted.eq(m.submodules.sbox.o)
        with m.Else():
            m.d.comb += key.write.eq(1)
            m.d.sync += [
                key.newest.eq(key.word),
                key.at.eq(key.at + 1),
                key.row.eq(key.row + (key.at == 3)),
                key.place.eq(key.place + 1),
                *(older.eq(newer) for older, newer in pairwise([*words, key.word])),
            ]
            for known, end in ENDS.items():
                if known not in self._sizes:
                    continue
                with m.If(size == known):
                    m.d.sync += words[end].eq(key.word)
                    m.d.comb += cycle_ends.eq(key.place == end)
            with m.If(cycle_ends):
                m.d.sync += [key.place.eq(0), key.given.eq(0)]
            m.d.sync += key.substitutes.eq(
                cycle_ends | ~key.given & (size == KeySize.AES256) & (key.place == 3)
            )
            with m.If(~key.given & key.begins_cycle):
                m.d.sync += key.round_constant.eq(
                    key.round_constant << 1 ^ Mux(key.round_constant[7], gf256.POLYNOMIAL, 0)
                )
            with m.If((key.at == 3) & (key.row == key.final)):
                m.d.sync += self.done.eq(1 << key.context)
                m.next = "IDLE"

    def _keep(self, m, key: Expansion) -> None:
        """A word is written a clock after it is made. The equivalent inverse cipher wants it through
        InvMixColumns, except in the first and the last round key.
        """
        m.submodules.keys = keys = BlockMemory(width=BLOCK_BITS, depth=16 * 2 * CONTEXTS, granularity=32)
        m.submodules.firsts = firsts = memory.Memory(shape=unsigned(BLOCK_BITS), depth=2 * CONTEXTS, init=[])
        first_write = firsts.write_port(granularity=32)
        first_read = firsts.read_port(domain="comb")
        newest, decrypt, row, final = key.newest, key.order.decrypt, key.row, key.final
        set_written = Signal(KeySet())
        row_written = Signal.like(row)
        enable = Signal(4)
        mixes = Signal()
        is_first = Signal()
        m.d.sync += [
            enable.eq(key.write << key.at),
            row_written.eq(row),
            mixes.eq(decrypt & (row != 0) & (row != final)),
            is_first.eq(row == Mux(decrypt, final, 0)),
        ]
        m.d.comb += [
            set_written.context.eq(key.context),
            set_written.bank.eq(key.order.bank),
            keys.write_address.eq(Cat(row_written, set_written)),
            keys.write_enable.eq(enable),
            keys.write_data.eq(Mux(mixes, gf256.inverse_mix_column(newest), newest).replicate(4)),
            first_write.addr.eq(set_written),
            first_write.data.eq(newest.replicate(4)),
            first_write.en.eq(Mux(is_first, enable, 0)),
            first_read.addr.eq(self.read.first_set),
            self.read.first.eq(first_read.data),
            keys.read_address.eq(Cat(self.read.index, self.read.set)),
            self.read.key.eq(keys.read_data),
        ]
