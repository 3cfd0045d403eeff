# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Colorlight i9 7.2 on Muse Lab's extension board: LFE5U-45F-6, two Broadcom B50612D PHYs.

The pins are known from the schematics that Muse Lab published and from litex-boards. The PHYs share reset
and management bus, and delay the clock that they are sent. The clock that they send the FPGA meets by 2 ns
at its data pins. One of them is at address 0 of the bus, as litex-boards has it; that this is the network
port's, and the other one at 1, was not tried.
"""

from spigate.boards.mac import Delays
from spigate.boards.pins import Board, Port, pin

_IO = "LVCMOS33"
_SHARED = {"rst_n": pin("P4", _IO), "mdio": pin("P5", _IO), "mdc": pin("N5", _IO)}

BOARD = Board(
    name="colorlight_i9",
    text="Colorlight i9 7.2",
    device="45k",
    package="CABGA381",
    speed=6,
    clock=pin("P3", _IO),
    clock_mhz=25,
    reset_n=None,
    network=Port(
        {
            "tx_clk": pin("G1", _IO),
            "tx_ctl": pin("K1", _IO),
            "tx_data": pin("G2 H1 J1 J3", _IO),
            "rx_clk": pin("H2", _IO),
            "rx_ctl": pin("P2", _IO),
            "rx_data": pin("K2 L1 N1 P1", _IO),
            **_SHARED,
        },
        phy_address=0,
    ),
    server=Port(
        {
            "tx_clk": pin("U19", _IO),
            "tx_ctl": pin("P19", _IO),
            "tx_data": pin("U20 T19 T20 R20", _IO),
            "rx_clk": pin("L19", _IO),
            "rx_ctl": pin("M20", _IO),
            "rx_data": pin("P20 N19 N20 M19", _IO),
            **_SHARED,
        },
        phy_address=1,
    ),
    delays=Delays(rx_ps=2000),
    uart_rx=pin("H18", _IO, PULLMODE="UP"),
    uart_tx=pin("J17", _IO),
    leds=pin("L2", _IO),
    cable=("--cable", "cmsisdap"),
)
