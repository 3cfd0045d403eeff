# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import re

import pytest

from spigate.boards import mac
from spigate.hdl.board.top import LEDS, Top
from spigate.sim.build import build, verilog
from tests.hdl.board.loop import PRIMITIVES

BAUD = 10e6
SIDE = """\
  wire {side}_pin;
  initial {side}_tx_clk = 0;
  always @({side}_pin) {side}_tx_clk <= #2 {side}_pin;
"""
PINS = """\
    .{side}__rx_clk({side}_rx_clk), .{side}__rx_ctl({side}_rx_ctl), .{side}__rx_data({side}_rx_data),
    .{side}__tx_clk({side}_pin), .{side}__tx_ctl({side}_tx_ctl), .{side}__tx_data({side}_tx_data),
"""
PORTS = """\
  input {side}_rx_clk, {side}_rx_ctl, input [3:0] {side}_rx_data,
  output reg {side}_tx_clk, output {side}_tx_ctl, output [3:0] {side}_tx_data,
"""
WRAPPER = """\
// The PHYs' side: they delay the clock that they are sent.
module board (
{ports}  input clock, reset_n, uart_rx, output uart_tx, ready, output {resets} phy_reset_n, output [7:0] leds_n,
  input mdio_drives, mdio_value, output mdc, mdio
);
  assign ready = &phy_reset_n === 1;
  pullup (mdio);
  assign mdio = mdio_drives ? mdio_value : 1'bz;
{sides}  Top top (
{pins}    .clock(clock), .reset_n(reset_n), .uart_rx(uart_rx), .uart_tx(uart_tx), .phy_reset_n(phy_reset_n),
    .leds_n(leds_n), .mdc(mdc), .mdio(mdio)
  );
endmodule
"""


def wrapper(*sides: str) -> str:
    every = {
        name: "".join(part.format(side=side) for side in sides)
        for name, part in (("ports", PORTS), ("sides", SIDE), ("pins", PINS))
    }
    return WRAPPER.format(resets=f"[{len(sides) - 1}:0]", **every)


def top(**changes):
    given = {
        "beat_bytes": 8,
        "input_mhz": 25,
        "core_mhz": 62.5,
        "baud": BAUD,
        "management": ({"network": 3, "server": 1},),
        "phy_resets": 2,
        "leds": 8,
        "button": True,
        "phy_reset_seconds": 2e-6,
        "poll_seconds": 1e-6,
    }
    return Top(None, **given | changes)


@pytest.mark.slow
def test_a_board_from_pin_to_pin(tmp_path):
    """With the clocks of a Colorlight i9; the core's is the slower one, and all of them are off."""
    path = tmp_path / "board.v"
    path.write_text(wrapper("network", "server"))
    sources = [path, verilog(top(), "Top"), mac.mac(mac.Delays(rx_ps=2000)), PRIMITIVES]
    model = build(sources, top="board", simulator="icarus")
    assert model.run("tests.hdl.board.bench_top", parameters={"baud": BAUD, "clock_ps": 40_000}) == 1


@pytest.mark.parametrize(
    ("vlans", "buses", "ports", "named"),
    [
        (None, ({"network": 0}, {"network": 1}), "network and server", "['network', 'network']"),
        (None, ({"sfp": 0},), "network and server", "['sfp']"),
        ((2, 3), ({"network": 0, "server": 1},), "network", "['network', 'server']"),
    ],
)
def test_a_management_bus_of_something_else_is_refused(vlans, buses, ports, named):
    message = re.escape(f"management must name {ports} once at most, not {named}")
    with pytest.raises(ValueError, match=message):
        top(vlans=vlans, management=buses)


@pytest.mark.slow
def test_a_board_with_one_port_from_pin_to_pin(tmp_path):
    """With the clocks of an ECPIX-5: what comes in one VLAN leaves in the other."""
    path = tmp_path / "board.v"
    path.write_text(wrapper("network"))
    design = top(vlans=(100, 200), management=({"network": 3},), phy_resets=1, input_mhz=100, core_mhz=100)
    sources = [path, verilog(design, "Top"), mac.mac(mac.Delays(rx_ps=2000)), PRIMITIVES]
    model = build(sources, top="board", simulator="icarus")
    values = {"baud": BAUD, "clock_ps": 10_000}
    assert model.run("tests.hdl.board.bench_one_port", parameters=values) == 1


@pytest.mark.parametrize("leds", [0, LEDS + 1])
def test_leds_without_a_meaning_are_refused(leds):
    with pytest.raises(ValueError, match=f"leds must be 1 to 8, not {leds}"):
        top(leds=leds)
