# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Chaining values of two packets in the making and of the two that follow them, in LUT RAM."""

from collections.abc import Collection

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Auth
from spigate.hdl.csr import layout
from spigate.hdl.net.packet import swap_bytes

CONTEXTS = 2
AUTHS = (Auth.HMAC_SHA1_96, Auth.HMAC_SHA256_128)
"""What the hash can be asked for."""
ROW_WORDS = 4
MIDSTATE_ROWS = 4


def is_sha1(auths: Collection[Auth], bit: Value) -> Value:
    """Whether a packet's algorithm is SHA-1: what ``bit`` says, where both of :data:`AUTHS` are asked for."""
    return bit if set(auths) == set(AUTHS) else Const(int(Auth.HMAC_SHA1_96 in auths))


class Start(data.StructLayout):
    """A packet begins: ``auth`` is HMAC_SHA1_96 or HMAC_SHA256_128 of
    :data:`~spigate.hdl.contract.enums.Auth`.
    """

    def __init__(self):
        super().__init__({"auth": 3})


class ChainAddress(data.StructLayout):
    """Two words of a chaining value: H0 to H3 and H4 to H7 with ``word`` 0 to 3, of a context's packet in
    ``bank``, inner or outer hash."""

    def __init__(self):
        super().__init__({"word": 2, "outer": 1, "bank": 1, "context": range(CONTEXTS)})


class Chaining(wiring.Component):
    """Takes midstates, one packet ahead, and keeps the chaining value of the inner hash from block to block
    in their place.

    Members
    -------
    start : In(stream of Start).array(CONTEXTS)
        One a packet.
    midstate : In(stream of rows).array(CONTEXTS)
        ``auth_0`` to ``auth_3`` of the SA, behind it.
    full : Out(2).array(CONTEXTS)
        Banks with a packet's midstates.
    sha1 : Out(2).array(CONTEXTS)
        By bank: the packet's algorithm is SHA-1, not SHA-256.
    release : In(2).array(CONTEXTS)
        Banks of which nothing is needed any more.
    address : In(ChainAddress)
    low, high : Out(32)
        The two words there, in the same clock.
    write : In(1)
    write_address : In(ChainAddress)
    write_low, write_high : In(32)
    """

    def __init__(self):
        super().__init__(
            {
                "start": In(stream.Signature(Start())).array(CONTEXTS),
                "midstate": In(stream.Signature(layout.ROW_BITS)).array(CONTEXTS),
                "full": Out(2).array(CONTEXTS),
                "sha1": Out(2).array(CONTEXTS),
                "release": In(2).array(CONTEXTS),
                "address": In(ChainAddress()),
                "low": Out(32),
                "high": Out(32),
                "write": In(1),
                "write_address": In(ChainAddress()),
                "write_low": In(32),
                "write_high": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # A row on its way into the memories, word by word, in clocks without another write.
        row = Signal(layout.ROW_BITS)
        words = Signal(range(ROW_WORDS + 1))
        target = Signal(ChainAddress())
        upper = Signal()
        for name, out, given in (("low", self.low, self.write_low), ("high", self.high, self.write_high)):
            m.submodules[name] = store = memory.Memory(
                shape=unsigned(32), depth=1 << target.shape().size, init=[]
            )
            read = store.read_port(domain="comb")
            write = store.write_port()
            m.d.comb += [
                read.addr.eq(self.address),
                out.eq(read.data),
                write.addr.eq(Mux(self.write, self.write_address, target)),
                write.data.eq(Mux(self.write, given, swap_bytes(row[:32]))),
                write.en.eq(self.write | ((words != 0) & (upper == (name == "high")))),
            ]
        with m.If((words != 0) & ~self.write):
            m.d.sync += [row.eq(row[32:]), words.eq(words - 1), target.word.eq(target.word + 1)]

        # One context's row at a time, in turns. It is loaded whenever there is room: that no valid is in
        # the enable of so wide a register keeps that fast.
        room = Signal()
        turn = Signal(range(CONTEXTS))
        m.d.comb += room.eq(words == 0)
        m.d.sync += turn.eq(turn + 1)
        with m.If(room):
            m.d.sync += row.eq(Array(midstate.payload for midstate in self.midstate)[turn])
        for context in range(CONTEXTS):
            start, midstate = self.start[context], self.midstate[context]
            started = Signal(name=f"started{context}")
            bank = Signal(name=f"bank{context}")
            count = Signal(range(MIDSTATE_ROWS), name=f"count{context}")
            full, sha1 = self.full[context], self.sha1[context]
            m.d.comb += [
                start.ready.eq(~started & ~full.bit_select(bank, 1)),
                midstate.ready.eq(started & room & (turn == context)),
            ]
            m.d.sync += full.eq(full & ~self.release[context])
            with m.If(start.valid & start.ready):
                m.d.sync += [
                    started.eq(1),
                    sha1.bit_select(bank, 1).eq(start.payload.auth == Auth.HMAC_SHA1_96),
                ]
            with m.If(midstate.valid & midstate.ready):
                m.d.sync += [words.eq(ROW_WORDS), upper.eq(count[0]), count.eq(count + 1)]
                m.d.sync += target.eq(Cat(Const(0, 2), count[1], bank, Const(context, 1)))
                with m.If(count == MIDSTATE_ROWS - 1):
                    # The words still to be written are needed only when the inner hash has ended.
                    m.d.sync += [started.eq(0), bank.eq(~bank)]
                    m.d.sync += full.eq((full & ~self.release[context]) | Cat(~bank, bank))
        return m
