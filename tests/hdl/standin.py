# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A component with the gateway's ports and its control plane, but no packet path to speak of: for tests of
what stands around the gateway.
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Reason
from spigate.hdl.csr.axil import AxiLite
from spigate.hdl.csr.control import ControlPlane
from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.packet import packets

WAYS = {"network_i": "server_o", "server_i": "network_o", "inject": "punt"}


class StandIn(wiring.Component):
    """Passes whole frames on: network to server, server to network, inject to punt. Aborted ones vanish and
    are counted as ``bad_frame``.
    """

    def __init__(self, *, beat_bytes: int = 16, dfes: int = 2):
        self.beat_bytes, self.dfes = beat_bytes, dfes
        super().__init__(
            {
                **{name: In(packets(beat_bytes)) for name in WAYS},
                **{name: Out(packets(beat_bytes)) for name in WAYS.values()},
                "axil": In(AxiLite()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.control = control = ControlPlane(
            dfes=self.dfes,
            reporters=len(WAYS),
            beat_bytes=self.beat_bytes,
            lanes=1,
            sa_entries=256,
            sources=16,
            cam_entries=1024,
            rules=32,
            routes=64,
        )
        wiring.connect(m, wiring.flipped(self.axil), control.axil)
        m.d.comb += control.tables.ready.eq(1)
        for number, (i, o) in enumerate(WAYS.items()):
            m.submodules[i] = fifo = PacketFifo(beat_bytes=self.beat_bytes, depth=256)
            wiring.connect(m, wiring.flipped(getattr(self, i)), fifo.i)
            wiring.connect(m, fifo.o, wiring.flipped(getattr(self, o)))
            report = control.reports[number]
            m.d.comb += [report.payload.reason.eq(Reason.BAD_FRAME), report.payload.dropped.eq(1)]
            lost = Signal(8)
            m.d.comb += report.valid.eq(lost != 0)
            m.d.sync += lost.eq(
                lost
                + (fifo.i.valid & fifo.i.ready & fifo.i.payload.last & fifo.i.payload.abort)
                - (report.valid & report.ready)
            )
        return m
