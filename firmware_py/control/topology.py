# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Interfaces, neighbours and routes, and what follows from them: by which port, and to which Ethernet
address, a packet leaves.

:func:`from_ip` reads what ``ip -j addr``, ``ip -j link``, ``ip -j neigh`` and ``ip -j route`` print on the
machine that the gateway replaces.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TypeVar

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.sa import Address, Network, within
from spigate.hdl.contract.enums import Port

AddressWithPrefix = IPv4Interface | IPv6Interface
Value = TypeVar("Value")


@dataclass(frozen=True)
class Interface:
    """A port of the gateway: its Ethernet address and the addresses on it, with their prefix lengths."""

    name: str
    port: Port
    mac: bytes
    addresses: tuple[AddressWithPrefix, ...] = ()
    mtu: int = 1500


@dataclass(frozen=True)
class Neighbour:
    """Who answers to ``address`` behind ``port``."""

    address: Address
    port: Port
    mac: bytes


@dataclass(frozen=True)
class NetworkRoute:
    """Packets to ``destination`` leave at ``port``, to ``gateway``; None: to the destination itself."""

    destination: Network
    port: Port
    gateway: Address | None = None
    metric: int = 0


@dataclass(frozen=True)
class NextHop:
    """Where a packet leaves, and the Ethernet addresses that it leaves with."""

    port: Port
    destination_mac: bytes
    source_mac: bytes


class Topology:
    """What the gateway knows of the networks around it.

    Parameters
    ----------
    interfaces, neighbours, routes : iterables
        One interface a port. Networks of interfaces' addresses are routes of themselves.
    complete : bool
        These are all neighbours. False: more may turn up.
    """

    def __init__(
        self,
        interfaces: Iterable[Interface],
        neighbours: Iterable[Neighbour] = (),
        routes: Iterable[NetworkRoute] = (),
        *,
        complete: bool = True,
    ):
        self._complete = complete
        self.interfaces = {interface.port: interface for interface in interfaces}
        self.neighbours = {(neighbour.port, neighbour.address): neighbour for neighbour in neighbours}
        connected = [
            NetworkRoute(address.network, interface.port)
            for interface in self.interfaces.values()
            for address in interface.addresses
        ]
        self.routes = sorted(
            dict.fromkeys([*routes, *connected]),
            key=lambda route: (-route.destination.prefixlen, route.metric),
        )
        self.local = frozenset(
            address.ip for interface in self.interfaces.values() for address in interface.addresses
        )

    def route(self, destination: Address) -> NetworkRoute | None:
        """The route to ``destination``: the longest prefix, the lowest metric."""
        return next((route for route in self.routes if destination in route.destination), None)

    def reach(self, destination: Address) -> Network:
        """The largest network around ``destination`` whose packets all have its next hop: what no longer
        route cuts from its route's network, or, where that leads to neighbours, the neighbour itself."""
        route = self.route(destination)
        if route is not None and route.gateway is None:
            return ip_network(destination)
        found = (
            route.destination if route else ip_network("0.0.0.0/0" if destination.version == 4 else "::/0")
        )
        for other in self.routes:
            if other.destination != found and within(other.destination, found):
                differ = (int(destination) ^ int(other.destination.network_address)).bit_length()
                found = ip_network((destination, destination.max_prefixlen - differ + 1), strict=False)
        return found

    def next_hop(self, destination: Address) -> NextHop | None:
        """How a packet to ``destination`` leaves; None where there is no route or the neighbour is not
        known.
        """
        route = self.route(destination)
        return self._hop(route.port, route.gateway or destination) if route else None

    def next_hops(self, destinations: Network) -> set[NextHop]:
        """All next hops that packets to ``destinations`` may take."""
        return {hop for hop in self._hops(destinations) if hop is not None}

    def one_hop(self, destinations: Network) -> NextHop | None:
        """The next hop of all packets to ``destinations``; None where there are several, or one may yet
        turn up.
        """
        hops = self._hops(destinations)
        if self._complete:
            hops.discard(None)
        return hops.pop() if len(hops) == 1 and (self._complete or self._routed(destinations)) else None

    def _routed(self, destinations: Network) -> bool:
        """Whether all packets to ``destinations`` go to routers, or to one neighbour."""
        met = [route for route in self.routes if route.destination.overlaps(destinations)]
        return destinations.num_addresses == 1 or all(
            route.gateway or route.destination.num_addresses == 1 for route in met
        )

    def _hops(self, destinations: Network) -> set[NextHop | None]:
        """The same, and None where one is not known."""
        found: set[NextHop | None] = set()
        for route in self.routes:
            if not route.destination.overlaps(destinations):
                continue
            if route.gateway:
                found.add(self._hop(route.port, route.gateway))
            else:
                found.update(
                    self._hop(port, address)
                    for port, address in self.neighbours
                    if port == route.port and address in route.destination and address in destinations
                )
            if within(destinations, route.destination):
                break
        return found

    def behind(self, source: Address, port: Port) -> Network | None:
        """The network of ``source``, if it lies behind ``port``."""
        route = self.route(source)
        return route.destination if route and route.port == port else None

    def _hop(self, port: Port, address: Address) -> NextHop | None:
        neighbour, interface = self.neighbours.get((port, address)), self.interfaces.get(port)
        return NextHop(port, neighbour.mac, interface.mac) if neighbour and interface else None


def parse_mac(text: object) -> bytes:
    """Six bytes from ``02:00:00:00:00:01``."""
    parts = str(text).split(":")
    try:
        if len(parts) == 6 and all(len(part) == 2 for part in parts):
            return bytes(int(part, 16) for part in parts)
    except ValueError:
        pass
    raise InputError(f"expected an Ethernet address such as 02:00:00:00:00:01, not {text!r}")


@dataclass(frozen=True)
class IpFiles:
    """Files with what ``ip -j`` printed: ``addr``, ``neigh``, ``route``, and ``link`` and ``-6 route`` where
    they are.
    """

    addresses: Path
    neighbours: Path
    routes: Path
    links: Path | None = None
    routes6: Path | None = None

    @classmethod
    def of(cls, folder: Path) -> "IpFiles":
        """``addr.json``, ``neigh.json``, ``route.json``, ``link.json`` and ``route6.json`` of a folder."""
        links, routes6 = folder / "link.json", folder / "route6.json"
        return cls(
            folder / "addr.json",
            folder / "neigh.json",
            folder / "route.json",
            links if links.exists() else None,
            routes6 if routes6.exists() else None,
        )


def from_ip(
    files: IpFiles,
    *,
    endpoints: Iterable[Address] = (),
    network: str | None = None,
    server: str | None = None,
) -> Topology:
    """The topology that the JSON files of ``ip`` describe.

    Parameters
    ----------
    endpoints : iterable of Address
        Addresses at which SAs end.
    network, server : str or None
        Names of the interfaces behind the ports. None: the network port is the Ethernet interface that has
        one of ``endpoints``, the server port the other one.

    Raises
    ------
    InputError
        A file is missing or not what ``ip`` prints (the message names file and key), or the ports are not
        clear.
    """
    where = files.addresses
    links = _links(where)
    if files.links is not None:
        for name, item in _links(files.links).items():
            links[name] = {**links.get(name, {}), **item}
    addresses = {
        name: tuple(_address(where, entry) for entry in _get(where, item, "addr_info", list, []))
        for name, item in links.items()
    }
    ports = _ports(where, links, addresses, set(endpoints), network, server)
    interfaces = [
        Interface(
            name,
            port,
            _mac(where, links[name], "address"),
            addresses[name],
            _get(where, links[name], "mtu", int, 1500),
        )
        for name, port in ports.items()
    ]
    file = files.neighbours
    neighbours = [
        Neighbour(_ip(file, item, "dst"), port, _mac(file, item, "lladdr"))
        for item, port in _at_ports(file, ports)
        if "lladdr" in item
    ]
    routes: list[NetworkRoute] = []
    for each, six in ((files.routes, False), (files.routes6, True)):
        if each is not None:
            routes += [_route(each, item, port, six=six) for item, port in _at_ports(each, ports)]
    return Topology(interfaces, neighbours, routes)


def _at_ports(file: Path, ports: Mapping[str, Port]) -> Iterator[tuple[dict[str, object], Port]]:
    """The objects of ``file`` that belong to one of the ports' interfaces, and the port."""
    for item in _load(file):
        port = ports.get(_get(file, item, "dev", str, ""))
        if port is not None:
            yield item, port


def _load(file: Path) -> list[dict[str, object]]:
    try:
        items = json.loads(file.read_text())
    except FileNotFoundError:
        raise InputError(f"{file}: expected the output of ip -j, but there is no such file") from None
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file}: expected JSON as ip -j prints it: {error}") from None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{file}: expected a list of objects as ip -j prints it, not {str(items)[:40]!r}")
    return items


def _links(file: Path) -> dict[str, dict[str, object]]:
    return {
        _get(file, item, "ifname", str): item
        for item in _load(file)
        if item.get("link_type", "ether") == "ether"
    }


def _get(
    file: Path, item: Mapping[str, object], key: str, kind: type[Value], default: Value | None = None
) -> Value:
    value = item.get(key, default)
    if not isinstance(value, kind):
        raise InputError(f"{file}, key {key}: expected {kind.__name__}, not {value!r}")
    return value


def _ip(file: Path, item: Mapping[str, object], key: str) -> Address:
    try:
        return ip_address(_get(file, item, key, str))
    except ValueError:
        raise InputError(f"{file}, key {key}: expected an IP address, not {item.get(key)!r}") from None


def _address(file: Path, entry: object) -> AddressWithPrefix:
    if isinstance(entry, dict):
        with suppress(ValueError, KeyError):
            return ip_interface(f"{entry['local']}/{entry['prefixlen']}")
    raise InputError(f"{file}, key addr_info: expected local and prefixlen of an address, not {entry!r}")


def _mac(file: Path, item: Mapping[str, object], key: str) -> bytes:
    try:
        return parse_mac(item.get(key))
    except InputError as error:
        raise InputError(f"{file}, key {key}: {error}") from None


def _route(file: Path, item: Mapping[str, object], port: Port, *, six: bool) -> NetworkRoute:
    text = _get(file, item, "dst", str)
    gateway = _ip(file, item, "gateway") if "gateway" in item else None
    default = "::/0" if (gateway and gateway.version == 6) or six else "0.0.0.0/0"
    try:
        destination = ip_network(default if text == "default" else text)
    except ValueError:
        raise InputError(f"{file}, key dst: expected a network, not {text!r}") from None
    return NetworkRoute(destination, port, gateway, _get(file, item, "metric", int, 0))


def _ports(
    file: Path,
    links: Collection[str],
    addresses: Mapping[str, Iterable[AddressWithPrefix]],
    endpoints: set[Address],
    network: str | None,
    server: str | None,
) -> dict[str, Port]:
    for name in (network, server):
        if name is not None and name not in links:
            raise InputError(
                f"{file}: expected an Ethernet interface {name!r}, there are {', '.join(links) or 'none'}"
            )
    if network is None:
        outside = [
            name
            for name in links
            if name != server and endpoints & {address.ip for address in addresses[name]}
        ]
        if len(outside) != 1:
            raise InputError(
                f"{file}: expected one interface with the address of an SA's end, "
                f"not {', '.join(outside) or 'none'}"
            )
        network = outside[0]
    if server is None:
        inside = [name for name in links if name != network]
        if len(inside) != 1:
            raise InputError(
                f"{file}: expected one Ethernet interface beside {network}, not {', '.join(inside) or 'none'}"
            )
        server = inside[0]
    return {network: Port.NETWORK, server: Port.SERVER}
