# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The anti-replay window is RFC 4303's."""

from amaranth.hdl import Assert

from spigate.hdl.dfe.replay import LATENCY, Replay
from tests.formal.proof import Bench, Mutation, proof

WIDTH = 64
MODULE = "spigate.hdl.dfe.replay"


@proof(
    "replay-window",
    "A number is fresh if and only if it is not 0, not left of the window and not seen before; taken in, it alone is added, "
    "and the right edge is the highest number seen (RFC 4303 3.4.3).",
    depth=LATENCY + 2,
    unbounded=True,
    limits="The whole block, for all numbers, windows and sizes 1 to 64.",
    mutations=(
        Mutation("0 is a number", MODULE, "usable.eq(self.sequence != 0)", "usable.eq(1)"),
        Mutation(
            "the window is one number longer",
            MODULE,
            "recent.eq(offset < reach)",
            "recent.eq(offset <= reach)",
        ),
        Mutation(
            "who was seen is fresh",
            MODULE,
            "possible & inside & ~held.bit_select(offset, 1)",
            "possible & inside",
        ),
        Mutation(
            "a jump keeps the old window",
            MODULE,
            "shift[coarse:]), 0), held)",
            "shift[coarse:]), held), held)",
        ),
        Mutation(
            "the edge moves back", MODULE, "edge.eq(Mux(behind, highest, sequence))", "edge.eq(sequence)"
        ),
    ),
)
def replay_window(bench: Bench) -> None:
    """The model is a set of numbers: what one asks, it answers for one number at a time, and shifts
    nothing.
    """
    dut = Replay(width=WIDTH)
    bench.block(dut)
    bench.assume((dut.size >= 1) & (dut.size <= WIDTH))
    sequence, highest, window, size = (
        bench.past(value, LATENCY) for value in (dut.sequence, dut.highest, dut.window, dut.size)
    )
    known = bench.past(bench.started, LATENCY)

    def has(number, edge, bits):
        """Whether a window with that edge holds that number, which is no more than 63 below it."""
        return bits.bit_select((edge - number)[:6], 1)

    # 33 bits, so that nothing wraps: numbers are 32 bits, and a window may reach below 0.
    too_old = (sequence + size) <= highest
    seen = (sequence <= highest) & has(sequence, highest, window)
    fresh = (sequence != 0) & ~too_old & ~seen
    bench.m.d.comb += Assert(~known | (dut.fresh == fresh), "fresh is not as RFC 4303 3.4.3 says")

    with bench.m.If(known & fresh):
        bench.m.d.comb += Assert(
            dut.next_highest == _greater(sequence, highest), "the right edge is not the highest number"
        )
        # Any number that the new window has a place for, below 2^32 and 1 or more.
        other = bench.fixed(32, "other")
        placed = (other <= dut.next_highest) & (other + WIDTH > dut.next_highest)
        was_in = (other <= highest) & (other + WIDTH > highest) & has(other, highest, window)
        bench.m.d.comb += Assert(
            ~placed | (has(other, dut.next_highest, dut.next_window) == (was_in | (other == sequence))),
            "a number is in the window and was not, or the other way about",
        )


def _greater(left, right):
    from amaranth.hdl import Mux

    return Mux(left > right, left, right)
