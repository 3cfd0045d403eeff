"""AES key expansion (FIPS 197 5.2) into a memory of round keys, two sets a context."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import KeySize
from spigate.hdl.crypto import gf256
from spigate.hdl.crypto.aes import BLOCK_BITS, CONTEXTS, KeySet, RoundKeyRead
from spigate.hdl.net.memory import BlockMemory


class KeyOrder(data.StructLayout):
    """A key to expand: its size, which set of the context it goes to, and whether for decryption."""

    def __init__(self):
        super().__init__({"key_size": 2, "decrypt": 1, "bank": 1})


class KeySchedule(wiring.Component):
    """Expands keys word by word and keeps the round keys of two contexts, two sets each.

    An expansion takes 4 * (rounds + 1) clocks and about one for each round more. Contexts wait for one
    another.

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

    def __init__(self):
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
        context = Signal()
        order = Signal(KeyOrder())

        # As many words as the key has are kept: the oldest in words[0], the newest where the key ends.
        words = [Signal(32, name=f"word_{n}") for n in range(8)]
        newest = Signal(32)
        word = Signal(32)
        # word of a round key, and its number
        at = Signal(2)
        row = Signal(4)
        # word modulo the key's words; whether it is of the key itself
        place = Signal(3)
        given = Signal()
        final = Signal(4)
        round_constant = Signal(8)
        ends = {KeySize.AES128: 3, KeySize.AES192: 5, KeySize.AES256: 7}
        round_ends = Array(10 + 2 * size for size in (0, 1, 2, 2))
        m.d.comb += final.eq(round_ends[order.key_size])

        # The S-box has a clock of its own.
        substituted = Signal(32)
        looked_up = Signal()
        m.submodules.sbox = sbox = gf256.Lookup(table=gf256.SBOX, count=4)
        m.d.comb += sbox.i.eq(newest)
        rotated = Cat(substituted[8:], substituted[:8])

        begins_cycle = Signal()
        substitutes = Signal()
        cycle_ends = Signal()
        m.d.comb += begins_cycle.eq(place == 0)
        with m.If(given):
            m.d.comb += word.eq(words[0])
        with m.Elif(begins_cycle):
            m.d.comb += word.eq(words[0] ^ rotated ^ round_constant)
        with m.Elif(substitutes):
            m.d.comb += word.eq(words[0] ^ substituted)
        with m.Else():
            m.d.comb += word.eq(words[0] ^ newest)

        write = Signal()
        material = Signal(BLOCK_BITS)
        m.d.sync += self.done.eq(0)
        m.d.comb += material.eq(Mux(context, self.key[1].payload, self.key[0].payload))
        with m.FSM():
            with m.State("IDLE"):
                chosen = Signal()
                m.d.comb += chosen.eq(
                    Mux(Mux(context, self.start[0].valid, self.start[1].valid), ~context, context)
                )
                m.d.sync += [
                    at.eq(0),
                    row.eq(0),
                    place.eq(0),
                    given.eq(1),
                    looked_up.eq(0),
                    substitutes.eq(0),
                    round_constant.eq(1),
                ]
                with m.If(self.start[0].valid | self.start[1].valid):
                    m.d.sync += [
                        context.eq(chosen),
                        order.eq(Mux(chosen, self.start[1].payload, self.start[0].payload)),
                    ]
                    for n in range(CONTEXTS):
                        m.d.comb += self.start[n].ready.eq(chosen == n)
                    m.next = "LOW"
            for state, half, after in (("LOW", words[:4], "HIGH"), ("HIGH", words[4:], "EXPAND")):
                with m.State(state):
                    m.d.comb += [key.ready.eq(context == n) for n, key in enumerate(self.key)]
                    m.d.sync += Cat(half).eq(material)
                    with m.If(Mux(context, self.key[1].valid, self.key[0].valid)):
                        m.next = after
            with m.State("EXPAND"):
                m.d.sync += looked_up.eq(substitutes & ~looked_up)
                with m.If(substitutes & ~looked_up):
                    m.d.sync += substituted.eq(sbox.o)
                with m.Else():
                    m.d.comb += write.eq(1)
                    m.d.sync += [newest.eq(word), at.eq(at + 1), row.eq(row + (at == 3)), place.eq(place + 1)]
                    for n in range(8):
                        m.d.sync += words[n].eq(words[n + 1] if n < 7 else word)
                    for size, end in ends.items():
                        with m.If(order.key_size == size):
                            m.d.sync += words[end].eq(word)
                            m.d.comb += cycle_ends.eq(place == end)
                    with m.If(cycle_ends):
                        m.d.sync += [place.eq(0), given.eq(0)]
                    m.d.sync += substitutes.eq(
                        cycle_ends | ~given & (order.key_size == KeySize.AES256) & (place == 3)
                    )
                    with m.If(~given & begins_cycle):
                        m.d.sync += round_constant.eq(
                            round_constant << 1 ^ Mux(round_constant[7], gf256.POLYNOMIAL, 0)
                        )
                    with m.If((at == 3) & (row == final)):
                        m.d.sync += self.done.eq(1 << context)
                        m.next = "IDLE"

        # A word is written a clock after it is made. The equivalent inverse cipher wants it through
        # InvMixColumns, except in the first and the last round key.
        m.submodules.keys = keys = BlockMemory(width=BLOCK_BITS, depth=16 * 2 * CONTEXTS, granularity=32)
        m.submodules.firsts = firsts = memory.Memory(shape=unsigned(BLOCK_BITS), depth=2 * CONTEXTS, init=[])
        first_write = firsts.write_port(granularity=32)
        first_read = firsts.read_port(domain="comb")
        set_written = Signal(KeySet())
        row_written = Signal.like(row)
        enable = Signal(4)
        mixes = Signal()
        is_first = Signal()
        m.d.sync += [
            enable.eq(write << at),
            row_written.eq(row),
            mixes.eq(order.decrypt & (row != 0) & (row != final)),
            is_first.eq(row == Mux(order.decrypt, final, 0)),
        ]
        m.d.comb += [
            set_written.context.eq(context),
            set_written.bank.eq(order.bank),
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
        return m
