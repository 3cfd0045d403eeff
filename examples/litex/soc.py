# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A gateway between two LiteEth MACs, with registers behind a UART: soc.v for a simulator, and csr.csv.

For a board take its platform and its clock generator from litex-boards, its PHY from liteeth.phy, and
a baud rate that the host has.
"""

from pathlib import Path

from gateway import WIDTH, Gateway
from liteeth.mac.core import LiteEthMACCore
from liteeth.phy.gmii import LiteEthPHYGMII
from litex.build.generic_platform import Pins, Subsignal
from litex.build.io import CRG
from litex.build.sim import SimPlatform
from litex.soc.integration.export import get_csr_csv
from litex.soc.integration.soc import SoCRegion
from litex.soc.integration.soc_core import SoCMini
from migen import ClockDomainsRenamer

CLOCK = 125e6
REGISTERS = 0x3000_0000
GMII = [
    Subsignal("rx_dv", Pins(1)),
    Subsignal("rx_er", Pins(1)),
    Subsignal("rx_data", Pins(8)),
    Subsignal("tx_en", Pins(1)),
    Subsignal("tx_er", Pins(1)),
    Subsignal("tx_data", Pins(8)),
]
PADS = [
    ("clk", 0, Pins(1)),
    ("rst", 0, Pins(1)),
    ("serial", 0, Subsignal("tx", Pins(1)), Subsignal("rx", Pins(1))),
    ("network", 0, *GMII),
    ("server", 0, *GMII),
]


class SoC(SoCMini):
    def __init__(self, platform, verilog, baudrate):
        self.crg = CRG(platform.request("clk"), platform.request("rst"))
        SoCMini.__init__(self, platform, CLOCK, ident="spigate between two MACs", ident_version=False)
        self.add_uartbone(baudrate=baudrate)
        self.gateway = Gateway(platform, verilog)
        region = SoCRegion(origin=REGISTERS, size=0x1_0000, cached=False)
        self.bus.add_slave("spigate", self.gateway.bus, region)
        for port in ("network", "server"):
            self.add_port(port)

    def add_port(self, port):
        """A PHY and a MAC. ``model``: in simulation GMII's clocks are the system's."""
        phy = LiteEthPHYGMII(None, self.platform.request(port), with_hw_init_reset=False, model=True)
        # Two PHYs have clock domains of the same names, which migen tells apart by the modules' names.
        domains = {f"eth_{way}": f"{port}_phy_eth_{way}" for way in ("rx", "tx")}
        mac = ClockDomainsRenamer(domains)(LiteEthMACCore(phy, dw=WIDTH))
        self.add_module(f"{port}_phy", phy)
        self.add_module(f"{port}_mac", mac)
        self.comb += [
            # LiteEth 2024.12 looks at the frame check sequence where last_be marks a byte, and PHYs of 8 bits
            # mark none: without this no damaged frame is seen.
            phy.source.last_be.eq(phy.source.last),
            mac.source.connect(getattr(self.gateway, f"{port}_sink")),
            getattr(self.gateway, f"{port}_source").connect(mac.sink),
        ]


if __name__ == "__main__":
    platform = SimPlatform("SIM", PADS)
    soc = SoC(platform, "spigate.v", baudrate=CLOCK / 8)
    soc.finalize()
    # Of a board Builder(soc).build() makes this, and the bitstream.
    platform.get_verilog(soc, name="soc").write("soc.v")
    Path("csr.csv").write_text(get_csr_csv(soc.csr_regions, soc.constants, soc.mem_regions))
