# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Outbound sequence numbers (RFC 4303 section 3.3.3)."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Table
from spigate.hdl.csr import layout
from spigate.hdl.net.descriptor import TableWrite
from spigate.hdl.net.memory import BlockMemory

REPLAY_ROW = rdl.entry("sa")["replay"].index
LAST_NUMBER = (1 << 32) - 1
"""The last number there is without extended sequence numbers; none is used twice (RFC 4303 3.3.3, RFC 4106
3.1).
"""


class SequenceNumbers(wiring.Component):
    """The last sequence number used of each outbound SA.

    Parameters
    ----------
    entries : int
        SAs, a power of two.

    Members
    -------
    tables : In(stream of TableWrite)
        ``replay`` rows of SAs set the number. Always ready; so a write must not come between ``look`` and
        ``take`` of the same SA.
    look : In(1)
        Ask for the number after the last one of SA ``index``.
    index : In(range(entries))
        Sampled with ``look``.
    number : Out(64)
        From 5 clocks after ``look`` to the next ``look``: the number for the next packet.
    exhausted : Out(1)
        With ``number``: there is none left; ``number`` means nothing.
    take : In(1)
        A strobe, while ``number`` is valid and not ``exhausted``: it is used. A ``look`` two clocks later
        sees that.
    request : In(stream of unsigned(16))
        An SA whose last number used is asked for; 0 for one beyond ``entries``.
    response : Out(stream of unsigned(64))
        It.
    """

    def __init__(self, *, entries: int):
        if entries < 2 or entries & entries - 1:
            raise ValueError(f"entries must be a power of two, 2 or more, not {entries!r}")
        self._entries = entries
        super().__init__(
            {
                "tables": In(stream.Signature(TableWrite())),
                "look": In(1),
                "index": In(range(entries)),
                "number": Out(64),
                "exhausted": Out(1),
                "take": In(1),
                "request": In(stream.Signature(16)),
                "response": Out(stream.Signature(64)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = BlockMemory(width=64, depth=self._entries)

        # The memory's reads: a look, or else a request. `looked` and `asked` follow them to the data.
        write = self.tables.payload
        replay = layout.row("sa", "replay")(write.data)
        index = Signal(range(self._entries))
        looked = Signal(4)
        asked = Signal(2)
        known = Signal(2)
        ask = self.request.valid & self.request.ready
        m.d.comb += [
            self.tables.ready.eq(1),
            self.request.ready.eq(~self.look & ~asked.any() & ~self.response.valid),
            memory.read_address.eq(self.request.payload),
        ]
        with m.If(self.look):
            m.d.comb += memory.read_address.eq(self.index)
            m.d.sync += index.eq(self.index)
        m.d.sync += [
            looked.eq(Cat(self.look, looked)),
            asked.eq(Cat(ask, asked)),
            known.eq(Cat(self.request.payload < self._entries, known)),
        ]

        # Counting on takes two clocks, 32 bits each.
        last = Signal(64)
        carry = Signal()
        with m.If(looked[1]):
            m.d.sync += last.eq(memory.read_data)
        with m.If(looked[2]):
            m.d.sync += [
                Cat(self.number[:32], carry).eq(last[:32] + 1),
                self.exhausted.eq((last[:32] == LAST_NUMBER) | (last[32:] != 0)),
            ]
        with m.If(looked[3]):
            m.d.sync += self.number[32:].eq(last[32:] + carry)

        with m.If(self.response.valid & self.response.ready):
            m.d.sync += self.response.valid.eq(0)
        with m.If(asked[-1]):
            m.d.sync += [self.response.valid.eq(1), self.response.payload.eq(memory.read_data)]
            with m.If(~known[-1]):
                m.d.sync += self.response.payload.eq(0)

        m.d.comb += [
            memory.write_address.eq(index),
            memory.write_data.eq(self.number),
            memory.write_enable.eq(self.take),
        ]
        with m.If(~self.take):
            m.d.comb += [
                memory.write_address.eq(write.index),
                memory.write_data.eq(replay.sequence),
                memory.write_enable.eq(
                    self.tables.valid
                    & (write.table == Table.SA)
                    & (write.row == REPLAY_ROW)
                    & (write.index < self._entries)
                ),
            ]
        return m
