# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Chooses the DFE for packets that no table entry binds to one."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Balance
from spigate.hdl.net.descriptor import MAX_DFES
from spigate.hdl.net.merge import rotate_pick

FLOW_BITS = 8
"""Bits of a flow's hash."""


class Balancer(wiring.Component):
    """Round robin, weighted rotation, least loaded, or by flow.

    A flow stays with its DFE as long as that may be used; when it may not, its flows go to the next one
    that may, and no other flow moves. Among equally loaded DFEs, least loaded goes round.

    Parameters
    ----------
    dfes : int
        1 to 8.

    Members
    -------
    balance, weights : In
        As in :class:`spigate.hdl.net.descriptor.CfeControl`.
    eligible : In(dfes)
        DFEs that may be chosen.
    free : In(12).array(dfes)
        Room in each DFE's queue.
    start : In(1)
        Asks for a choice. Not again before ``done``.
    flow : In(FLOW_BITS)
        The packet's hash, with ``start``.
    done : Out(1)
        :data:`LATENCY` clocks after ``start``; ``dfe`` and ``none`` then hold until the next.
    dfe : Out(4)
    none : Out(1)
        No DFE may be chosen.
    """

    LATENCY = 2

    def __init__(self, *, dfes: int):
        if not 1 <= dfes <= MAX_DFES:
            raise ValueError(f"dfes must be 1 to {MAX_DFES}, not {dfes!r}")
        self._dfes = dfes
        super().__init__(
            {
                "balance": In(Balance),
                "weights": In(data.ArrayLayout(4, MAX_DFES)),
                "eligible": In(dfes),
                "free": In(12).array(dfes),
                "start": In(1),
                "flow": In(FLOW_BITS),
                "done": Out(1),
                "dfe": Out(4),
                "none": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        dfes = self._dfes

        # The most room, always being worked out: one level of the tree a clock.
        level = [Mux(self.eligible[at], self.free[at], 0) for at in range(dfes)]
        levels = 0
        while len(level) > 1 or not levels:
            registered = [Signal(12, name=f"most_{levels}_{at}") for at in range((len(level) + 1) // 2)]
            for at, most in enumerate(registered):
                one, other = level[2 * at], level[min(2 * at + 1, len(level) - 1)]
                m.d.sync += most.eq(Mux(one > other, one, other))
            level, levels = registered, levels + 1
        roomiest = Signal(dfes)
        for at in range(dfes):
            older = self.free[at]
            for clock in range(levels):
                newer = Signal(12, name=f"free_{at}_{clock}")
                m.d.sync += newer.eq(older)
                older = newer
            m.d.sync += roomiest[at].eq(older == level[0])

        previous = Signal(range(dfes))
        current = Signal(range(dfes))
        left = Signal(4)
        candidates = Signal(dfes)
        deciding = Signal()
        staying = Signal()
        weight = Mux(self.weights[current] == 0, 0, self.weights[current] - 1)
        choice, found = rotate_pick(m, candidates, previous, count=dfes)
        arrived = Signal()
        m.d.sync += [deciding.eq(self.start), self.done.eq(deciding), arrived.eq(deciding & found & ~staying)]
        with m.If(self.start):
            m.d.sync += [candidates.eq(self.eligible), previous.eq(current), staying.eq(0)]
            with m.Switch(self.balance):
                with m.Case(Balance.WEIGHTED):
                    m.d.sync += staying.eq((left != 0) & self.eligible.bit_select(current, 1))
                with m.Case(Balance.LEAST_LOADED):
                    # While a DFE's eligibility changes, the tree may know none of those that are left.
                    with m.If((roomiest & self.eligible).any()):
                        m.d.sync += candidates.eq(roomiest & self.eligible)
                with m.Case(Balance.FLOW_HASH):
                    m.d.sync += previous.eq(
                        (self.flow * dfes >> FLOW_BITS)
                        + dfes
                        - 1
                        - Mux(self.flow * dfes >> FLOW_BITS == 0, 0, dfes)
                    )
        with m.If(deciding):
            m.d.sync += [self.dfe.eq(Mux(staying, current, choice)), self.none.eq(~found & ~staying)]
            with m.If(staying):
                m.d.sync += left.eq(left - 1)
            with m.Elif(found):
                m.d.sync += current.eq(choice)
        with m.If(arrived):
            m.d.sync += left.eq(weight)
        return m
