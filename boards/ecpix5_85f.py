# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""LambdaConcept's ECPIX-5 with the LFE5UM5G-85F-8: one KSZ9031RNX PHY, so that two VLANs are the two sides.

Pins are those of amaranth-boards. The PHY delays the clock that it sends (Microchip's default); the one that
it is sent the FPGA delays by 2 ns, as litex-boards has it.
"""

from amaranth_boards.ecpix5 import ECPIX585Platform

from spigate.boards.mac import Delays
from spigate.boards.pins import Board, Pin, Port, from_resources

_RESOURCES = ECPIX585Platform.resources
_UART = from_resources(_RESOURCES, "uart")
_RGB = [from_resources(_RESOURCES, "rgb_led", number) for number in range(4)]
_LEDS = [led[colour] for colour in ("g", "r") for led in _RGB]

BOARD = Board(
    name="ecpix5_85f",
    text="LambdaConcept ECPIX-5 85F",
    device="um5g-85k",
    package="CABGA554",
    speed=8,
    clock=from_resources(_RESOURCES, "clk100")["clk100"],
    clock_mhz=100,
    reset_n=from_resources(_RESOURCES, "rst")["rst_n"],
    network=Port(from_resources(_RESOURCES, "eth_rgmii")),
    server=None,
    delays=Delays(tx_ps=2000),
    uart_rx=_UART["rx"],
    uart_tx=_UART["tx"],
    leds=Pin(tuple(site for led in _LEDS for site in led.sites), _LEDS[0].io_type),
    cable=("--cable", "ft2232"),
)
