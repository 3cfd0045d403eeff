# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Rings of words in block memory, by which frames go to the host and come from it.

Their contract is in ``hdl/contract/board.rdl``: indices count words since reset, a frame is a word with its
length in bytes and then its words, and only whole frames move an index. So a host may read or write the same
words twice, and a ring never holds up the host's other accesses.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract import rdl
from spigate.hdl.contract.ce_header import CE_HEADER_BYTES
from spigate.hdl.contract.constants import MAX_FRAME
from spigate.hdl.csr.axil import DATA_BITS, RegisterBus
from spigate.hdl.net.memory import BlockMemory
from spigate.hdl.net.packet import packets

WORD_BYTES = DATA_BITS // 8
WINDOW_WORDS = rdl.registers("board")["punt"].elements
"""Words that the address map has for each ring: twice the longest one."""
INDEX_BITS = 32
LEAST_BITS, MOST_BITS = 10, (WINDOW_WORDS // 2).bit_length() - 1
"""Logarithms of a ring's words. The shortest one holds the longest frame twice."""
LONGEST = CE_HEADER_BYTES + MAX_FRAME
"""Bytes of an injected frame that the gateway takes, header and alignment included."""


def check_bits(name: str, bits: int) -> None:
    """Raises ValueError where no ring may have 2 ** ``bits`` words."""
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"{name} must be {LEAST_BITS} to {MOST_BITS}, not {bits!r}")


class PuntRing(wiring.Component):
    """Takes packets and keeps them for the host. Without room it takes nothing.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    bits : int
        Logarithm of the words, :data:`LEAST_BITS` to :data:`MOST_BITS`.

    Members
    -------
    i : In(packets)
        At most :data:`~spigate.hdl.net.packet.BUFFER_BYTES` bytes each. Aborted packets leave no trace.
    bus : In(RegisterBus)
        Reads of the ring; addresses wrap. Never waits for packets.
    head : Out(32), used : Out(16)
        As the registers ``punt_head`` and ``punt_used``.
    tail : In(32), tail_written : In(1)
        The register ``punt_tail`` and a pulse when it is written.
    """

    def __init__(self, *, beat_bytes: int, bits: int):
        check_bits("bits", bits)
        self._beat_bytes, self._bits = beat_bytes, bits
        super().__init__(
            {
                "i": In(packets(beat_bytes)),
                "bus": In(RegisterBus(address_width=(WINDOW_WORDS - 1).bit_length() + 2)),
                "head": Out(INDEX_BITS),
                "used": Out(16),
                "tail": In(INDEX_BITS),
                "tail_written": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = BlockMemory(width=DATA_BITS, depth=1 << self._bits)
        tail = Signal(INDEX_BITS)
        used = Signal(INDEX_BITS)
        m.d.comb += [used.eq(self.head - tail), self.used.eq(used)]
        with m.If(self.tail_written & ((self.tail - tail)[:INDEX_BITS] <= used)):
            m.d.sync += tail.eq(self.tail)
        _read_memory(m, self.bus, memory)

        beat = Signal(self.i.payload.shape())
        length = Signal(range(1 << self._bits + 3))
        at = Signal(range((1 << self._bits) + 1), init=1)  # behind the head; 0 is the word of the length
        word = Signal(DATA_BITS)
        m.d.comb += word.eq(beat.data[:DATA_BITS])
        for byte in range(1, WORD_BYTES):
            with m.If(beat.last & (beat.count <= byte)):
                m.d.comb += word.word_select(byte, 8).eq(0)
        m.d.comb += [
            memory.write_address.eq((self.head + at)[: self._bits]),
            memory.write_data.eq(word),
        ]
        left = Signal(range(self._beat_bytes // WORD_BYTES + 1))
        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [beat.eq(self.i.payload), left.eq(self._beat_bytes // WORD_BYTES)]
                with m.If(self.i.valid):
                    m.d.sync += length.eq(length + self.i.payload.count)
                    m.next = "STORE"
                    with m.If(self.i.payload.last & self.i.payload.abort):
                        m.d.sync += [length.eq(0), at.eq(1)]
                        m.next = "TAKE"
            with m.State("STORE"):
                with m.If(used + at < 1 << self._bits):
                    m.d.comb += memory.write_enable.eq(1)
                    m.d.sync += [
                        at.eq(at + 1),
                        left.eq(left - 1),
                        beat.data.eq(beat.data >> DATA_BITS),
                        beat.count.eq(beat.count - WORD_BYTES),
                    ]
                    with m.If(beat.last & (beat.count <= WORD_BYTES)):
                        m.next = "COMMIT"
                    with m.Elif(left == 1):
                        m.next = "TAKE"
            with m.State("COMMIT"):
                m.d.comb += [
                    memory.write_address.eq(self.head),
                    memory.write_data.eq(length),
                    memory.write_enable.eq(1),
                ]
                m.d.sync += [self.head.eq(self.head + at), at.eq(1), length.eq(0)]
                m.next = "TAKE"
        return m


def _read_memory(m, bus, memory) -> None:
    """Reads of a bus are answered from a memory, whose words come after two clocks."""
    clocks = Signal(2)
    m.d.comb += [
        memory.read_address.eq(bus.read_address),
        bus.read_data.eq(memory.read_data),
        bus.read_done.eq(bus.read & (clocks == 2)),
    ]
    m.d.sync += clocks.eq(Mux(bus.read & ~bus.read_done, clocks + 1, 0))


class InjectRing(wiring.Component):
    """Sends the packets that the host has written.

    Parameters
    ----------
    beat_bytes, bits : int
        As of :class:`PuntRing`.

    Members
    -------
    o : Out(packets)
        Bytes beyond a packet's end are zero.
    bus : In(RegisterBus)
        Writes to the ring; addresses wrap. Never waits for packets.
    tail : Out(32), used : Out(16)
        As the registers ``inject_tail`` and ``inject_used``.
    head : In(32), head_written : In(1)
        The register ``inject_head`` and a pulse when it is written.
    bad : Out(1)
        For one clock: a frame could not be right; all that the ring held is dropped.
    """

    def __init__(self, *, beat_bytes: int, bits: int):
        check_bits("bits", bits)
        self._beat_bytes, self._bits = beat_bytes, bits
        super().__init__(
            {
                "o": Out(packets(beat_bytes)),
                "bus": In(RegisterBus(address_width=(WINDOW_WORDS - 1).bit_length() + 2)),
                "tail": Out(INDEX_BITS),
                "used": Out(16),
                "head": In(INDEX_BITS),
                "head_written": In(1),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = BlockMemory(width=DATA_BITS, depth=1 << self._bits)
        m.d.comb += [
            memory.write_address.eq(self.bus.write_address),
            memory.write_data.eq(self.bus.write_data),
            memory.write_enable.eq(self.bus.write),
            self.bus.write_done.eq(self.bus.write),
        ]
        head = Signal(INDEX_BITS)
        used = Signal(INDEX_BITS)
        m.d.comb += [used.eq(head - self.tail), self.used.eq(used)]
        with m.If(self.head_written & ((self.head - head)[:INDEX_BITS] <= (1 << self._bits) - used)):
            m.d.sync += head.eq(self.head)

        at = Signal(range((LONGEST + 3) // WORD_BYTES + 2))
        left = Signal(range(LONGEST + 1))
        words = self._beat_bytes // WORD_BYTES
        lane = Signal(range(words))
        clocks = Signal(range(3))
        found = Signal()
        length = memory.read_data
        beat = self.o.payload
        m.d.comb += [memory.read_address.eq(self.tail + at), found.eq(clocks == 2)]
        m.d.sync += clocks.eq(Mux(found, 0, clocks + 1))
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [at.eq(0), clocks.eq(0)]
                with m.If(used != 0):
                    m.next = "LENGTH"
            with m.State("LENGTH"):
                with m.If(found):
                    sound = (length != 0) & (length <= LONGEST) & (((length + 3) >> 2) < used)
                    m.d.sync += [left.eq(length), at.eq(1), lane.eq(0), beat.eq(0)]
                    m.next = "WORD"
                    with m.If(~sound):
                        m.d.comb += self.bad.eq(1)
                        m.d.sync += self.tail.eq(head)
                        m.next = "IDLE"
            with m.State("WORD"):
                with m.If(found):
                    self._add_word(m, memory.read_data, lane, left)
                    m.d.sync += at.eq(at + 1)
                    with m.If((left <= WORD_BYTES) | (lane == words - 1)):
                        m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.o.valid.eq(1)
                m.d.sync += clocks.eq(0)
                with m.If(self.o.ready):
                    m.d.sync += [lane.eq(0), beat.eq(0)]
                    m.next = "WORD"
                    with m.If(beat.last):
                        m.d.sync += self.tail.eq(self.tail + at)
                        m.next = "IDLE"
        return m

    def _add_word(self, m, word, lane, left) -> None:
        """Puts a word into the beat; behind the packet's end zeros."""
        beat = self.o.payload
        ends = left <= WORD_BYTES
        kept = Cat(Mux(~ends | (left > byte), word.word_select(byte, 8), 0) for byte in range(WORD_BYTES))
        m.d.sync += [
            beat.data.word_select(lane, DATA_BITS).eq(kept),
            beat.count.eq(beat.count + Mux(ends, left, WORD_BYTES)),
            beat.last.eq(ends),
            left.eq(left - WORD_BYTES),
            lane.eq(lane + 1),
        ]
