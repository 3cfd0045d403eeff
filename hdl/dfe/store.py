# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A lane's packet store: buffers that are written and read 16 bytes at a time, at any 32-bit word."""

from itertools import pairwise

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.dfe.job import BUFFER_WORDS, STORE_BYTES
from spigate.hdl.net.memory import BlockMemory

READ_CLOCKS = 4
"""Clocks from a read to its data."""
BANKS = STORE_BYTES // 4


class PacketStore(wiring.Component):
    """Buffers of ``BUFFER_BYTES`` bytes.

    A beat here is ``STORE_BYTES`` bytes. Word *w* of a buffer lies in bank *w* mod 4, so that the words of
    a beat are in different banks wherever it begins.

    Parameters
    ----------
    buffers : int
        How many, 2 or more.

    Members
    -------
    write_enable : In(4)
        Which words of the beat are written, bit 0 the first.
    write_buffer, write_address : In
        The buffer, and the word address of the beat's first word. Words past the buffer's end are written
        to its beginning.
    write_data : In(8 * STORE_BYTES)
        In wire order. A read that starts a clock later gives it.
    read_buffer, read_address : In
        As for writing.
    read_data : Out(8 * beat_bytes)
        The beat that was asked for :data:`READ_CLOCKS` clocks before.
    """

    def __init__(self, *, buffers: int):
        if buffers < 2:
            raise ValueError(f"buffers must be 2 or more, not {buffers!r}")
        self._buffers = buffers
        super().__init__(
            {
                "write_enable": In(BANKS),
                "write_buffer": In(range(buffers)),
                "write_address": In(range(BUFFER_WORDS)),
                "write_data": In(8 * STORE_BYTES),
                "read_buffer": In(range(buffers)),
                "read_address": In(range(BUFFER_WORDS)),
                "read_data": Out(8 * STORE_BYTES),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shift_bits = (BANKS - 1).bit_length()
        write_shift, read_shift = self.write_address[:shift_bits], self.read_address[:shift_bits]

        # Where the words of a read are when they arrive: the shift travels beside the memories.
        shifts = [Signal(shift_bits, name=f"shift_{stage}") for stage in range(READ_CLOCKS - 1)]
        m.d.sync += [shifts[0].eq(read_shift), *(late.eq(early) for early, late in pairwise(shifts))]

        arrived = []
        for bank in range(BANKS):
            m.submodules[f"bank_{bank}"] = memory = BlockMemory(
                width=32, depth=self._buffers * BUFFER_WORDS // BANKS
            )
            # Bank b holds word (b - shift) mod 4 of the beat; where b < shift it lies one row further on.
            word = Signal(shift_bits, name=f"word_{bank}")
            m.d.comb += word.eq(bank - write_shift)
            m.d.sync += [
                memory.write_enable.eq(self.write_enable.bit_select(word, 1)),
                memory.write_data.eq(self.write_data.word_select(word, 32)),
                memory.write_address.eq(Cat(self._row(self.write_address, bank), self.write_buffer)),
                memory.read_address.eq(Cat(self._row(self.read_address, bank), self.read_buffer)),
            ]
            arrived.append(memory.read_data)
        beat = Cat(arrived)
        for word in range(BANKS):
            bank = Signal(shift_bits, name=f"bank_of_{word}")
            m.d.comb += bank.eq(shifts[-1] + word)
            m.d.sync += self.read_data[32 * word : 32 * word + 32].eq(beat.word_select(bank, 32))
        return m

    def _row(self, address, bank: int):
        """The row of ``bank`` for a beat at ``address``."""
        shift_bits = (BANKS - 1).bit_length()
        row = address[shift_bits:]
        return (row + (address[:shift_bits] > bank))[: len(row)]
