# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Lattice's ECP5-5G Versa: LFE5UM5G-45F-8, two Marvell 88E1512 PHYs, the reference board.

Pins are those of amaranth-boards. Its PHYs delay both clocks themselves (Marvell's default), so the FPGA
adds nothing.
"""

from amaranth_boards.versa_ecp5_5g import VersaECP55GPlatform

from spigate.boards.mac import Delays
from spigate.boards.pins import Board, Pin, Port, from_resources

_RESOURCES = VersaECP55GPlatform.resources
_UART = from_resources(_RESOURCES, "uart")
_LEDS = [from_resources(_RESOURCES, "led", number)["led"] for number in range(8)]

BOARD = Board(
    name="versa_ecp5_5g",
    text="Lattice ECP5-5G Versa",
    device="um5g-45k",
    package="CABGA381",
    speed=8,
    clock=from_resources(_RESOURCES, "clk100")["clk100"],
    clock_mhz=100,
    reset_n=from_resources(_RESOURCES, "rst")["rst_n"],
    network=Port(from_resources(_RESOURCES, "eth_rgmii", 0)),
    server=Port(from_resources(_RESOURCES, "eth_rgmii", 1)),
    delays=Delays(),
    uart_rx=_UART["rx"],
    uart_tx=_UART["tx"],
    leds=Pin(tuple(site for led in _LEDS for site in led.sites), _LEDS[0].io_type),
    cable=("--cable", "ft2232"),
)
