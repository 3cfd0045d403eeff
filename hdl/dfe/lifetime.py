# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Lifetimes of an SA (RFC 4301 4.4.2.1): one counter against its soft and its hard limit."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

LATENCY = 4
"""Clocks from the inputs of :class:`Lifetime` to its outputs."""


class Lifetime(wiring.Component):
    """Counts on and compares. A question may be asked in every clock; the answer comes :data:`LATENCY`
    clocks later.

    Members
    -------
    used, soft, hard : In(64)
        Bytes or packets so far, and the limits.
    increment : In(12)
        What the packet adds.
    total : Out(64)
        ``used + increment``.
    expired : Out(1)
        ``total`` would be more than ``hard``.
    reached : Out(1)
        This packet reaches ``soft``: ``used < soft <= total``. So it is 1 for one packet in an SA's life.
    """

    def __init__(self):
        super().__init__(
            {
                "used": In(64),
                "soft": In(64),
                "hard": In(64),
                "increment": In(12),
                "total": Out(64),
                "expired": Out(1),
                "reached": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # 64-bit sums and differences in two halves, the low one a clock ahead.
        low = Signal(33)
        used_high = Signal(32)
        increment_1 = Signal(12)
        soft = Signal(64)
        hard = Signal(64)
        m.d.sync += [
            low.eq(self.used[:32] + self.increment),
            used_high.eq(self.used[32:]),
            increment_1.eq(self.increment),
            soft.eq(self.soft),
            hard.eq(self.hard),
        ]

        total_low = Signal(32)
        total_high = Signal(32)
        increment_2 = Signal(12)
        left_borrow = Signal()
        past_low = Signal(33)
        soft_high = Signal(32)
        hard_high = Signal(32)
        m.d.sync += [
            total_low.eq(low),
            total_high.eq(used_high + low[32]),
            increment_2.eq(increment_1),
            left_borrow.eq(hard[:32] < low[:32]),
            past_low.eq(low[:32] - soft[:32]),
            soft_high.eq(soft[32:]),
            hard_high.eq(hard[32:]),
        ]

        # The soft limit lies within this packet's share exactly where 0 <= total - soft < increment.
        total = Signal(64)
        expired = Signal(33)
        past_high = Signal(33)
        within = Signal()
        m.d.sync += [
            total[:32].eq(total_low),
            total[32:].eq(total_high),
            expired.eq(hard_high - total_high - left_borrow),
            past_high.eq(total_high - soft_high - past_low[32]),
            within.eq(past_low[:32] < increment_2),
        ]
        m.d.sync += [
            self.total.eq(total),
            self.expired.eq(expired[32]),
            self.reached.eq(~past_high.any() & within),
        ]
        return m
