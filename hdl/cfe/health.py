# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Which DFEs work: a DFE's health is its progress, nothing else."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Reason
from spigate.hdl.net.descriptor import Report


class Health(wiring.Component):
    """Watches whether DFEs finish what they have.

    A DFE that has packets inside and finishes none for ``patience`` clocks is unhealthy, and a DFE_STALLED
    is told, whose ``dfe`` is that DFE. It is healthy again when it finishes a packet, or when it is enabled
    anew. A DFE that is slow, or whose queue is full, is healthy: it makes progress.

    Parameters
    ----------
    dfes : int

    Members
    -------
    busy, gone : In(dfes)
        Bit n: DFE n has a packet inside; for a clock: one has left it, or was dropped there.
    enable : In(dfes)
    patience : In(16)
        Clocks; more than a DFE takes for its longest packet.
    healthy : Out(dfes)
        At first, all are.
    reports : Out(stream of Report)
        DFE_STALLED, once each time that a DFE becomes unhealthy. DFEs that become so while one waits to be
        told are told of behind it.
    """

    def __init__(self, *, dfes: int):
        self._dfes = dfes
        super().__init__(
            {
                "busy": In(dfes),
                "gone": In(dfes),
                "enable": In(dfes),
                "patience": In(16),
                "healthy": Out(dfes, init=(1 << dfes) - 1),
                "reports": Out(stream.Signature(Report())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        enabled = Signal(self._dfes)
        untold = Signal(self._dfes)
        m.d.sync += enabled.eq(self.enable)
        for at in range(self._dfes):
            waited = Signal(16, name=f"waited_{at}")
            over = Signal(name=f"over_{at}")
            m.d.sync += [waited.eq(waited + ~over), over.eq(waited >= self.patience)]
            with m.If(over & self.healthy[at]):
                m.d.sync += [self.healthy[at].eq(0), untold[at].eq(1)]
            with m.If(~self.busy[at] | self.gone[at] | self.enable[at] & ~enabled[at]):
                m.d.sync += [waited.eq(0), over.eq(0)]
            with m.If(self.gone[at] | self.enable[at] & ~enabled[at]):
                m.d.sync += [self.healthy[at].eq(1), untold[at].eq(0)]

        report = self.reports
        with m.If(~report.valid):
            for at in reversed(range(self._dfes)):
                with m.If(untold[at]):
                    m.d.sync += [
                        report.valid.eq(1),
                        report.payload.dfe.eq(at),
                        untold.eq(untold & ~(1 << at)),
                    ]
            m.d.sync += report.payload.reason.eq(Reason.DFE_STALLED)
        with m.Elif(report.ready):
            m.d.sync += report.valid.eq(0)
        return m
