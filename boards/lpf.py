# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A board's pins and clocks as nextpnr reads them: Lattice's preferences (LPF)."""

from spigate.boards.pins import RGMII, Board, Pin
from spigate.hdl.board.clocks import TX_MHZ

CLOCK = "clock"


def ports(board: Board) -> dict[str, Pin]:
    """The pins by the names that the ports of :class:`~spigate.hdl.board.top.Top` have in Verilog."""
    found = {CLOCK: board.clock, "uart_rx": board.uart_rx, "uart_tx": board.uart_tx, "leds_n": board.leds}
    if board.reset_n:
        found["reset_n"] = board.reset_n
    for side, port in board.ports().items():
        found |= {f"{side}__{name}": port.pins[name] for name in RGMII}
    sites = tuple(site for each in board.phy_resets() for site in each.sites)
    if sites:
        found["phy_reset_n"] = Pin(sites, board.phy_resets()[0].io_type)
    if buses := board.management():
        for name, pins in (("mdc", [bus.mdc for bus in buses]), ("mdio", [bus.mdio for bus in buses])):
            # Without a PHY nobody drives MDIO, and it must read as 1 then.
            attributes = {"PULLMODE": "UP"} if name == "mdio" else {}
            found[name] = Pin(
                tuple(site for each in pins for site in each.sites), pins[0].io_type, attributes
            )
    return found


def clocks(board: Board) -> dict[str, float]:
    """What is asked of the clocks that come in at pins, in MHz, by their ports. Of the PLL's outputs nextpnr
    knows it from its input.
    """
    return {CLOCK: board.clock_mhz} | {f"{side}__rx_clk": TX_MHZ for side in board.ports()}


def lpf(board: Board) -> str:
    """The file.

    Raises
    ------
    ValueError
        Two ports would be at one site.
    """
    lines, taken = [], dict[str, str]()
    for name, pin in ports(board).items():
        for bit, site in enumerate(pin.sites):
            port = f"{name}[{bit}]" if len(pin.sites) > 1 else name
            if site in taken:
                raise ValueError(f"{board.name}: {port} and {taken[site]} are both at {site}")
            taken[site] = port
            settings = {"IO_TYPE": pin.io_type} | pin.attributes
            lines.append(f'LOCATE COMP "{port}" SITE "{site}";')
            lines.append(
                f'IOBUF PORT "{port}" {" ".join(f"{key}={value}" for key, value in settings.items())};'
            )
    lines += [f'FREQUENCY PORT "{name}" {mhz:g} MHZ;' for name, mhz in clocks(board).items()]
    return "\n".join([*lines, ""])
