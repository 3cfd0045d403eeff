# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Lets a rate pass: a token bucket."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.net import descriptor


class Policer(wiring.Component):
    """Members
    -------
    limit : In(Policer)
        See :class:`spigate.hdl.net.descriptor.Policer`.
    spend : In(1)
        Takes a token, if there is one.
    open : Out(1)
        There is one, or no limit. At first there are as many as a bucket can hold.
    """

    def __init__(self):
        super().__init__({"limit": In(descriptor.Policer()), "spend": In(1), "open": Out(1)})

    def elaborate(self, platform):
        m = Module()
        limit = self.limit
        tokens = Signal.like(limit.burst, init=(1 << len(limit.burst)) - 1)
        timer = Signal.like(limit.period)
        due = Signal()
        full = Signal()
        unlimited = Signal()
        m.d.sync += [
            timer.eq(timer + 1),
            due.eq(timer >= limit.period),
            full.eq(tokens >= limit.burst),
            unlimited.eq(limit.period == 0),
        ]
        # `due` and `full` are a clock old: the timer runs from 2, and a bucket that is full for one clock
        # more loses nothing.
        with m.If(due):
            m.d.sync += [timer.eq(2), due.eq(0)]
        some = Signal()
        spends = Signal()
        m.d.comb += [
            some.eq(tokens != 0),
            spends.eq(self.spend & some & ~unlimited),
            self.open.eq(unlimited | some),
        ]
        with m.If(spends & ~due):
            m.d.sync += tokens.eq(tokens - 1)
        with m.Elif(due & ~full & ~spends):
            m.d.sync += [tokens.eq(tokens + 1), full.eq(1)]
        return m
