# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The ports of a gateway in hardware as devices of this host: Linux speaks there itself (IKE, ARP,
neighbour discovery), and so knows the neighbours.

Each port has a TAP device with the port's own Ethernet and IP addresses. It carries what the gateway punts
for the host, and what the host sends; protected traffic never goes through it.
"""

import json
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from spigate.firmware_py.control.topology import Interface, Neighbour, NetworkRoute, Topology, parse_mac
from spigate.firmware_py.daemon.links import Changes, Tap
from spigate.firmware_py.daemon.routes import run
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.sa import Address
from spigate.hdl.contract.enums import Port

_UNKNOWN = frozenset({"FAILED", "INCOMPLETE", "NOARP", "NONE"})
"""States of neighbours that have no Ethernet address, or none of their own."""


class Ports:
    """Parameters
    ----------
    interfaces : iterable of Interface
        One for each port; ``name`` is the device's.
    routes : iterable of NetworkRoute

    Members
    -------
    taps : dict of Port to Tap
    changes : Changes
        Readable when neighbours have changed: then call :meth:`topology`.

    Raises
    ------
    InputError
        A device cannot be made, or Linux refuses an address or a route; the message says which.
    """

    def __init__(self, interfaces: Iterable[Interface], routes: Iterable[NetworkRoute]):
        self.interfaces, self._routes = {each.port: each for each in interfaces}, tuple(routes)
        self.taps: dict[Port, Tap] = {}
        self.changes = Changes(Changes.NEIGHBOURS)
        try:
            for port, interface in self.interfaces.items():
                self.taps[port] = Tap(interface.name)
                _believe_no_router(interface.name)
                run(
                    "link",
                    "set",
                    interface.name,
                    "address",
                    interface.mac.hex(":"),
                    "mtu",
                    interface.mtu,
                    "up",
                )
                for address in interface.addresses:
                    # without duplicate address detection, during which an IPv6 address cannot be used (RFC
                    # 4862 5.4)
                    run(
                        "address",
                        "replace",
                        address,
                        "dev",
                        interface.name,
                        *["nodad"] * (address.version == 6),
                    )
            for route in self._routes:
                run(
                    f"-{route.destination.version}",
                    "route",
                    "replace",
                    route.destination,
                    "via",
                    route.gateway,
                    "dev",
                    self.interfaces[route.port].name,
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Takes the devices away, and with them addresses and routes."""
        self.changes.close()
        for tap in self.taps.values():
            tap.close()

    def topology(self) -> Topology:
        """What is known of the networks now. Neighbours may turn up later."""
        self.changes.seen()
        found = [
            neighbour
            for port, interface in self.interfaces.items()
            for neighbour in _neighbours(port, interface.name)
        ]
        return Topology(self.interfaces.values(), found, self._routes, complete=False)

    def resolve(self, port: Port, address: Address) -> None:
        """Lets Linux ask for a neighbour."""
        self._neighbour(port, address, "use")

    def confirm(self) -> None:
        """Lets Linux ask those neighbours again that it has not heard of lately: what goes through the
        hardware it does not see.
        """
        for port, interface in self.interfaces.items():
            for item in _shown(interface.name):
                if "STALE" in item.get("state", ()):
                    self._neighbour(port, ip_address(item["dst"]), "nud", "probe")

    def _neighbour(self, port: Port, address: Address, *words: str) -> None:
        try:
            run(
                f"-{address.version}",
                "neighbour",
                "replace",
                address,
                "dev",
                self.interfaces[port].name,
                *words,
            )
        except InputError:
            pass  # Linux has no room for it, or it is gone meanwhile: as if it did not answer


def _believe_no_router(device: str) -> None:
    """Whoever is at the port speaks neighbour discovery with this host, and does not configure it by that
    (RFC 4861 6, 8).
    """
    for name in ("accept_ra", "accept_redirects"):
        setting = Path("/proc/sys/net/ipv6/conf", device, name)
        try:
            if setting.exists():
                setting.write_text("0")
        except OSError as error:
            raise InputError(f"{setting}: {error.strerror}") from None


def _neighbours(port: Port, device: str) -> Iterable[Neighbour]:
    for item in _shown(device):
        if "lladdr" in item and not _UNKNOWN.intersection(item.get("state", ())):
            yield Neighbour(ip_address(item["dst"]), port, parse_mac(item["lladdr"]))


def _shown(device: str) -> list[dict[str, Any]]:
    """What ``ip`` knows of the neighbours there, as it says it in JSON."""
    found: list[dict[str, Any]] = json.loads(run("-j", "neighbour", "show", "dev", device) or "[]")
    return found
