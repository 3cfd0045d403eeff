# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""An Ethernet port that sends what it receives, with the ECP5 primitives that stand at its pins."""

from pathlib import Path

from amaranth.hdl import ClockDomain, ClockSignal, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from spigate import sim
from spigate.boards import mac
from spigate.hdl.board.ethernet import EthernetPort, Statistics
from spigate.hdl.board.mac import Inband, Rgmii
from spigate.sim.build import Model, build, verilog

PRIMITIVES = Path(sim.__file__).parent / "ecp5.v"
WRAPPER = """\
// The PHY's side: it delays the clock that it is sent, as RGMII PHYs do. What nobody drives is 0.
module pins (input clk, rst, tx125, hold, reset, input rx_clk, rx_ctl, input [3:0] rx_data,
             output reg tx_clk, output tx_ctl, output [3:0] tx_data, output [{top}:0] statistics,
             output [3:0] inband);
  wire at_pin;
  wire [3:0] data = {{rx_data[3] === 1, rx_data[2] === 1, rx_data[1] === 1, rx_data[0] === 1}};
  initial tx_clk = 0;
  always @(at_pin) tx_clk <= #2 at_pin;
  Loop loop (.clk(clk), .rst(rst !== 0), .tx125(tx125), .hold(hold === 1), .reset(reset === 1),
    .statistics(statistics),
    .inband(inband), .rgmii__rx_clk(rx_clk), .rgmii__rx_ctl(rx_ctl === 1), .rgmii__rx_data(data),
    .rgmii__tx_clk(at_pin), .rgmii__tx_ctl(tx_ctl), .rgmii__tx_data(tx_data));
endmodule
"""


class Loop(wiring.Component):
    """An :class:`~spigate.hdl.board.ethernet.EthernetPort` whose frames go out where they came in; none
    while ``hold``.
    """

    def __init__(self, *, beat_bytes: int):
        self._beat_bytes = beat_bytes
        super().__init__(
            {
                "tx125": In(1),
                "rgmii": Out(Rgmii()),
                "hold": In(1),
                "reset": In(1),
                "statistics": Out(Statistics()),
                "inband": Out(Inband()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.domains.tx = ClockDomain("tx", reset_less=True)
        m.submodules.port = port = EthernetPort(beat_bytes=self._beat_bytes)
        connect(m, port.rgmii, wiring.flipped(self.rgmii))
        m.d.comb += [
            ClockSignal("tx").eq(self.tx125),
            port.i.payload.eq(port.o.payload),
            port.i.valid.eq(port.o.valid & ~self.hold),
            port.o.ready.eq(port.i.ready & ~self.hold),
            port.reset.eq(self.reset),
            self.statistics.eq(port.statistics),
            self.inband.eq(port.inband),
        ]
        return m


def model(folder: Path, *, beat_bytes: int, delays: mac.Delays) -> Model:
    """The port at its pins, for Icarus: Verilator has no delays."""
    wrapper = folder / "pins.v"
    wrapper.write_text(WRAPPER.format(top=Statistics().size - 1))
    sources = [wrapper, verilog(Loop(beat_bytes=beat_bytes), "Loop"), mac.mac(delays), PRIMITIVES]
    return build(sources, top="pins", simulator="icarus")
