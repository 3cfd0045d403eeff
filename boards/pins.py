# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a board file says, and the one place where names of pins are made the same for all boards."""

from dataclasses import dataclass, field
from typing import Any

from spigate.boards.mac import Delays

RGMII = ("tx_clk", "tx_ctl", "tx_data", "rx_clk", "rx_ctl", "rx_data")
ALIASES = {"tx_ctrl": "tx_ctl", "rx_ctrl": "rx_ctl", "rst": "rst_n", "reset": "rst_n"}
"""Names that board files have for a pin, and what it is called here."""
WIDTHS = {"tx_data": 4, "rx_data": 4}


@dataclass(frozen=True)
class Pin:
    """One or more pins of a port of the design.

    Members
    -------
    sites : tuple of str
        Where they are, bit 0 first.
    io_type : str
        Lattice's name of the electrical standard.
    attributes : dict of str to str
        Further ones of Lattice's, such as PULLMODE.
    """

    sites: tuple[str, ...]
    io_type: str
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Port:
    """An Ethernet port.

    Members
    -------
    pins : dict of str to Pin
        Those of :data:`RGMII`; beside them ``rst_n``, ``mdc`` and ``mdio`` where the board has them.
    phy_address : int or None
        Of its PHY on the management bus. None: the first one that answers; only where it is alone there.
    """

    pins: dict[str, Pin]
    phy_address: int | None = None

    def __post_init__(self) -> None:
        for name in RGMII:
            if name not in self.pins:
                raise ValueError(f"a port needs the pin {name!r}; it has {', '.join(self.pins)}")
            width = WIDTHS.get(name, 1)
            if len(self.pins[name].sites) != width:
                raise ValueError(f"{name} must be {width} pins, not {len(self.pins[name].sites)}")


@dataclass(frozen=True)
class Management:
    """A management bus (MDIO).

    Members
    -------
    mdc, mdio : Pin
    addresses : dict of str to (int or None)
        Of its PHYs, by the side that each serves, as of :class:`Port`.
    """

    mdc: Pin
    mdio: Pin
    addresses: dict[str, int | None]


@dataclass(frozen=True)
class Board:
    """A board.

    Members
    -------
    name : str
    text : str
        What it is.
    device, package, speed : str, str, int
        As nextpnr calls them.
    clock : Pin
        Its oscillator.
    clock_mhz : float
    reset_n : Pin or None
        A button that is 0 while it is pressed.
    network : Port
    server : Port or None
        None: there is one port, ``network``, which the two sides share as two VLANs.
    delays : Delays
        What the FPGA adds at the pins of each port.
    uart_rx, uart_tx : Pin
    leds : Pin
        Lit by 0.
    cable : tuple of str
        What openFPGALoader is told: ``--board`` or ``--cable``, and a name.
    """

    name: str
    text: str
    device: str
    package: str
    speed: int
    clock: Pin
    clock_mhz: float
    reset_n: Pin | None
    network: Port
    server: Port | None
    delays: Delays
    uart_rx: Pin
    uart_tx: Pin
    leds: Pin
    cable: tuple[str, ...]

    def ports(self) -> dict[str, Port]:
        """The Ethernet ports by name."""
        return {"network": self.network} | ({"server": self.server} if self.server else {})

    def phy_resets(self) -> tuple[Pin, ...]:
        """The pins that reset PHYs, each once: PHYs may share one."""
        pins = [port.pins["rst_n"] for port in self.ports().values() if "rst_n" in port.pins]
        return tuple({each.sites: each for each in pins}.values())

    def management(self) -> tuple[Management, ...]:
        """The management buses, each once: PHYs may share one."""
        found = dict[tuple[str, ...], Management]()
        for side, port in self.ports().items():
            if not {"mdc", "mdio"} <= set(port.pins):
                continue
            mdc, mdio = port.pins["mdc"], port.pins["mdio"]
            bus = found.setdefault(mdio.sites, Management(mdc, mdio, {}))
            bus.addresses[side] = port.phy_address
        return tuple(found.values())


def pin(sites: str, io_type: str, **attributes: str) -> Pin:
    """``sites`` with spaces between them."""
    return Pin(tuple(sites.split()), io_type, attributes)


def from_resources(resources: list[Any], name: str, number: int = 0) -> dict[str, Pin]:
    """The pins of a resource of a board of amaranth-boards: by the names of its parts, made the same for
    all boards; of one without parts, under its own name. Of a differential pair it is the positive pin.

    Raises
    ------
    ValueError
        There is no such resource.
    """
    for resource in resources:
        if (resource.name, resource.number) == (name, number):
            break
    else:
        raise ValueError(f"no resource {name!r} {number}")
    found = {}
    for part in resource.ios:
        attributes = dict(resource.attrs) | dict(getattr(part, "attrs", {}))
        pins = part.ios[0] if hasattr(part, "ios") else part
        sites = tuple(getattr(pins, "p", pins).names)
        called = getattr(part, "name", name) if hasattr(part, "ios") else name
        io_type = attributes.pop("IO_TYPE")
        found[ALIASES.get(called, called)] = Pin(sites, io_type, attributes)
    return found
