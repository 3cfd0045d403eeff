# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The exported core as a LiteX module: LiteEth's streams at its ports, a bus for its registers, and CSRs for
the control element's frames.
"""

from liteeth.common import eth_phy_description
from litex.gen import LiteXModule
from litex.soc.interconnect import axi, packet, stream
from litex.soc.interconnect.csr import CSRField, CSRStatus, CSRStorage
from migen import ClockSignal, If, Instance, Mux, ResetSignal

WIDTH = 64  # of spigate export --beat-bytes 8
FRAME = 512  # beats; room for two frames, because a MAC cannot wait
SIGNALS = ("tdata", "tkeep", "tlast", "tvalid", "tready")


class Gateway(LiteXModule):
    """Module ``spigate``.

    ``network_sink``, ``server_sink``: frames from MACs; ``network_source``, ``server_source``: frames to
    them. All have the layout of ``LiteEthMACCore(phy, dw=64)``. ``bus``: AXI4-Lite, the registers.

    CSRs. ``punt_data`` has the first beat that waits for the control element, ``punt_status`` says what it
    is, and a write to ``punt_next`` takes it. ``inject_data`` is a beat to the core, and a write to
    ``inject_push`` gives it; the core gets a frame when all of it is there.
    """

    def __init__(self, platform, verilog):
        platform.add_source(verilog)
        layout = eth_phy_description(WIDTH)
        self.bus = axi.AXILiteInterface(data_width=32, address_width=32)
        self.ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        for name in ("network", "server"):
            fifo = stream.SyncFIFO(layout, FRAME, buffered=True)
            self.add_module(f"{name}_fifo", fifo)
            setattr(self, f"{name}_sink", fifo.sink)
            setattr(self, f"{name}_source", stream.Endpoint(layout))
            self.add_sink(f"s_axis_{name}", fifo.source)
            self.add_source(f"m_axis_{name}", getattr(self, f"{name}_source"))
        self.add_punt(layout)
        self.add_inject(layout)
        self.add_registers()
        self.specials += Instance("spigate", **self.ports)

    def add_sink(self, prefix, endpoint):
        """Frames into the core. LiteEth marks a frame's last byte, AXI4-Stream all that are there."""
        axis = axi.AXIStreamInterface(data_width=WIDTH, keep_width=WIDTH // 8, user_width=1)
        marks = [endpoint.last_be[at:] != 0 for at in range(WIDTH // 8)]
        self.comb += [
            endpoint.connect(axis, keep={"data", "last", "valid", "ready"}),
            axis.user.eq(endpoint.last & (endpoint.error != 0)),
            *(axis.keep[at].eq(~endpoint.last | marked) for at, marked in enumerate(marks)),
        ]
        self.ports[f"i_{prefix}_tuser"] = axis.user
        self.connect_port("i", prefix, axis)

    def add_source(self, prefix, endpoint):
        """Frames out of the core."""
        axis = axi.AXIStreamInterface(data_width=WIDTH, keep_width=WIDTH // 8)
        self.comb += [
            axis.connect(endpoint, keep={"data", "last", "valid", "ready"}),
            endpoint.last_be.eq(Mux(axis.last, axis.keep & ~(axis.keep >> 1), 0)),
        ]
        self.connect_port("o", prefix, axis)

    def connect_port(self, towards, prefix, axis):
        """AXI4-Stream at the core; ``towards``: whether its data go in or out."""
        back = {"i": "o", "o": "i"}[towards]
        for signal in SIGNALS:
            direction = back if signal == "tready" else towards
            self.ports[f"{direction}_{prefix}_{signal}"] = getattr(axis, signal[1:])

    def add_punt(self, layout):
        self.punt_data = CSRStatus(WIDTH)
        self.punt_status = CSRStatus(
            fields=[
                CSRField("valid", size=1),
                CSRField("last", size=1),
                CSRField("last_be", size=8, offset=8),
            ]
        )
        self.punt_next = CSRStorage(1)
        self.punt_fifo = fifo = stream.SyncFIFO(layout, FRAME, buffered=True)
        self.add_source("m_axis_punt", fifo.sink)
        self.comb += [
            self.punt_data.status.eq(fifo.source.data),
            self.punt_status.fields.valid.eq(fifo.source.valid),
            self.punt_status.fields.last.eq(fifo.source.last),
            self.punt_status.fields.last_be.eq(fifo.source.last_be),
            fifo.source.ready.eq(self.punt_next.re),
        ]

    def add_inject(self, layout):
        self.inject_data = CSRStorage(WIDTH)
        self.inject_push = CSRStorage(
            fields=[CSRField("last", size=1), CSRField("last_be", size=8, offset=8)]
        )
        self.inject_full = CSRStatus(1)
        self.inject_fifo = fifo = packet.PacketFIFO(layout, payload_depth=FRAME, buffered=True)
        self.add_sink("s_axis_inject", fifo.source)
        self.comb += [
            fifo.sink.data.eq(self.inject_data.storage),
            fifo.sink.last.eq(self.inject_push.fields.last),
            If(fifo.sink.last, fifo.sink.last_be.eq(self.inject_push.fields.last_be)),
            fifo.sink.valid.eq(self.inject_push.re),
            self.inject_full.status.eq(~fifo.sink.ready),
        ]

    def add_registers(self):
        for channel, inputs, outputs in (
            ("aw", ("addr", "prot", "valid"), ("ready",)),
            ("w", ("data", "strb", "valid"), ("ready",)),
            ("b", ("ready",), ("resp", "valid")),
            ("ar", ("addr", "prot", "valid"), ("ready",)),
            ("r", ("ready",), ("data", "resp", "valid")),
        ):
            for direction, names in (("i", inputs), ("o", outputs)):
                for name in names:
                    signal = 0 if name == "prot" else getattr(getattr(self.bus, channel), name)
                    self.ports[f"{direction}_s_axil_{channel}{name}"] = (
                        signal[:16] if name == "addr" else signal
                    )
