# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Verifies the checksum of an IPv4 header on its way past, a beat a clock."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class HeaderChecksum(wiring.Component):
    """The one's complement sum of RFC 1071 over the words of a header, one short add a clock.

    The bytes of a 16-bit word may be swapped as long as all are (RFC 1071 2.B), so the sum is taken in the
    order in which beats have them.

    Parameters
    ----------
    words : int
        32-bit words in a beat, 2 or 4.

    Members
    -------
    data : In(32 * words)
    include : In(words)
        Words of ``data`` that belong to the header.
    add : In(1)
        A beat is there.
    first : In(1)
        With ``add``: a packet begins with it.
    right : Out(1)
        ``latency`` clocks after a packet's last beat: the sum of its header, checksum included, is right.
    """

    def __init__(self, *, words: int):
        if words not in (2, 4):
            raise ValueError(f"words must be 2 or 4, not {words!r}")
        self._words = words
        self.latency = words.bit_length() + 2
        super().__init__(
            {"data": In(32 * words), "include": In(words), "add": In(1), "first": In(1), "right": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        terms = []
        for word in range(self._words):
            masked = Mux(self.include[word], self.data[32 * word : 32 * word + 32], 0)
            terms += [masked[:16], masked[16:]]
        add, first = self.add, self.first
        while len(terms) > 1:
            level = len(terms) // 2
            sums = [Signal(len(terms[0]) + 1, name=f"sum_{level}_{at}") for at in range(level)]
            for at, total in enumerate(sums):
                m.d.sync += total.eq(terms[2 * at] + terms[2 * at + 1])
            added = Signal(name=f"add_{level}")
            begun = Signal(name=f"first_{level}")
            m.d.sync += [added.eq(add), begun.eq(first)]
            terms, add, first = sums, added, begun
        # At most 30 words of 16 bits give five bits of carries. What would need a second fold is not right
        # anyway.
        total = Signal(21)
        folded = Signal(17)
        with m.If(add):
            m.d.sync += total.eq(Mux(first, 0, total) + terms[0])
        m.d.sync += folded.eq(total[:16] + total[16:])
        m.d.comb += self.right.eq(folded == 0xFFFF)
        return m
