# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The message schedules of SHA-1 and SHA-256 (FIPS 180-4 6.1.2, 6.2.2), two messages interleaved."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.crypto.sha256 import small_sigma_0, small_sigma_1


class MessageSchedule(wiring.Component):
    """W of one round after the other. Stages as in :class:`~spigate.hdl.crypto.sha256.RoundPorts`.

    Members
    -------
    given_2 : In(1)
        The next W is ``word_2``, a word of the message. Otherwise it is computed from the last sixteen.
    word_2 : In(32)
    sha1_2 : In(1)
        It is computed by SHA-1's formula instead of SHA-256's.
    w_1 : Out(32)
        The W that the round before has made.
    """

    def __init__(self):
        super().__init__(
            {
                "given_2": In(1),
                "word_2": In(32),
                "sha1_2": In(1),
                "w_1": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Sixteen words each, the oldest in the low bits. Shift registers, because each round reads four of
        # them: that takes 270 LUTs and 1088 flip-flops on ECP5 and reaches 304 MHz, LUT RAM 849 LUTs and 166
        # MHz.
        window1 = Signal(16 * 32)
        window2 = Signal(16 * 32)
        w = [window1[32 * at : 32 * at + 32] for at in range(16)]
        low = Signal(32)
        high = Signal(32)
        mixed = Signal(32)
        m.d.sync += [
            low.eq(small_sigma_0(w[1]) + w[0]),
            high.eq(small_sigma_1(w[14]) + w[9]),
            mixed.eq((w[0] ^ w[2] ^ w[8] ^ w[13]).rotate_left(1)),
            window2.eq(window1),
            window1.eq(
                Cat(window2[32:], Mux(self.given_2, self.word_2, Mux(self.sha1_2, mixed, (low + high)[:32])))
            ),
        ]
        m.d.comb += self.w_1.eq(w[15])
        return m
