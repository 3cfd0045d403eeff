# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The guard at the network port: what may leave there, and what becomes of all else."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.net.descriptor import FROM_FORWARDING, Egress, Report
from spigate.hdl.net.packet import packets


def may_leave(egress) -> Signal:
    """Whether a packet may leave where its :class:`~spigate.hdl.net.descriptor.Egress` says: at the network
    port only what a DFE protected, what a rule expressly bypassed, and what the control element sent there
    itself (RFC 4301 5.1, 3.1).
    """
    return (egress.port != Port.NETWORK) | egress.protected | egress.bypassed | egress.injected


class Guard(wiring.Component):
    """Stands between those who send and forwarding. It trusts none of the decisions before it, only what
    was done to the packet: an error in rules, tables or descriptors shows here as a drop and not as plain
    text on the wire.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    sources : int
        DFEs and the CFE.

    Members
    -------
    i : In(packets).array(sources)
    egress : In(stream of Egress).array(sources)
        One a packet, taken with its last beat.
    o : Out(packets).array(sources)
        What may leave where ``o_egress`` says; in the same clock as at ``i``.
    o_egress : Out(stream of Egress).array(sources)
        Likewise.
    reports : Out(stream of Report)
        GUARD for each packet that may not, with the SA that it came out of, if it did. The last beat of a
        stopped packet waits while an older one is not told.
    stopped : Out(1)
        A strobe: a packet was stopped. In a gateway without faults, whose tables are right, it never comes.
    """

    def __init__(self, *, beat_bytes: int, sources: int):
        if sources < 1:
            raise ValueError(f"sources must be 1 or more, not {sources!r}")
        self._sources = sources
        super().__init__(
            {
                "i": In(packets(beat_bytes)).array(sources),
                "egress": In(stream.Signature(Egress())).array(sources),
                "o": Out(packets(beat_bytes)).array(sources),
                "o_egress": Out(stream.Signature(Egress())).array(sources),
                "reports": Out(stream.Signature(Report())),
                "stopped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        report = self.reports.payload
        with m.If(self.reports.ready):
            m.d.sync += self.reports.valid.eq(0)
        ends = Signal(self._sources)
        m.d.comb += self.stopped.eq(ends.any() & ~self.reports.valid)
        for at in range(self._sources):
            packet, egress, out, out_egress = self.i[at], self.egress[at], self.o[at], self.o_egress[at]
            stops = Signal(name=f"stops_{at}")
            turn = ~self.reports.valid & ~ends[:at].any()
            m.d.comb += [
                stops.eq(~may_leave(egress.payload)),
                out.payload.eq(packet.payload),
                out_egress.payload.eq(egress.payload),
                ends[at].eq(
                    stops & egress.valid & packet.valid & packet.payload.last & ~packet.payload.abort
                ),
            ]
            with m.If(stops):
                m.d.comb += [
                    packet.ready.eq(egress.valid & (~packet.payload.last | packet.payload.abort | turn)),
                    egress.ready.eq(packet.valid & packet.ready & packet.payload.last),
                ]
            with m.Else():
                m.d.comb += [
                    # Before its descriptor is there, nothing is offered that could have to be taken back.
                    out.valid.eq(packet.valid & egress.valid),
                    packet.ready.eq(out.ready),
                    out_egress.valid.eq(egress.valid),
                    egress.ready.eq(out_egress.ready),
                ]
            with m.If(ends[at] & turn):
                out_of = egress.payload.out_of
                m.d.sync += [
                    self.reports.valid.eq(1),
                    report.reason.eq(Reason.GUARD),
                    report.dropped.eq(1),
                    report.dfe.eq(FROM_FORWARDING),
                    report.sa.eq(0),
                ]
                with m.If(out_of.valid):
                    m.d.sync += [report.dfe.eq(out_of.dfe), report.sa.eq(out_of.sa)]
        return m
