# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Where packets leave: the control element's routes, for the gateway's tables and for the software path
alike.
"""

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address

from spigate.firmware_py.control.programming import Placed
from spigate.firmware_py.control.topology import NextHop, Topology
from spigate.firmware_py.ipsec.decision import Spd, Way
from spigate.firmware_py.ipsec.packet import UDP, Ip
from spigate.firmware_py.ipsec.sa import AH, ESP, Address, Network, Sa, within
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.ipsec.tunnel import HEADER_BYTES
from spigate.firmware_py.tables.interface import Route
from spigate.firmware_py.tables.punt import PuntHeader
from spigate.hdl.contract.enums import Direction, Mode, Port

SMALLEST_MTU = {4: 576, 6: 1280}
"""What no error message may talk a path's MTU below."""
PATH_MTU_AGE_S = 600
"""How long an error message is believed (RFC 1191 6.3)."""
MAX_PATHS = 1024
TAGGED_BYTES = 18
"""Of an Ethernet header with a tag."""


class Consumed(Exception):
    """A packet that ends at the control element, for a cause that is no reason of the gateway's. ``header``
    and ``frame``: what it had become by then; None where it was still as it came up."""

    def __init__(self, cause: str, header: PuntHeader | None = None, frame: bytes | None = None):
        super().__init__(cause)
        self.header, self.frame = header, frame


class Unresolved(Consumed):
    """Nobody knows the Ethernet address of the next hop ``address`` at ``port``."""

    def __init__(self, port: Port, address: Address):
        super().__init__("no_route")
        self.port, self.address = port, address


class Routing:
    """Routes by the topology, and what the links and paths take.

    Parameters
    ----------
    topology : Topology
    sas : callable
        The SAs of the control element.
    clock : callable
        Seconds.
    own_host : bool
        As in :class:`~spigate.firmware_py.control.settings.Settings`.
    frame_bytes : int
        The longest frame that the gateway takes; longer packets do not leave, whatever a link's MTU is.

    Members
    -------
    topology : Topology
        May be replaced by what the networks have become.
    """

    def __init__(
        self,
        topology: Topology,
        sas: Callable[[], Iterable[Sa]],
        clock: Callable[[], float],
        *,
        own_host: bool = False,
        frame_bytes: int = 1 << 16,
    ):
        self.own_host, self._largest = own_host, frame_bytes - TAGGED_BYTES
        self.topology, self._sas, self._clock = topology, sas, clock
        self._paths: dict[Address, tuple[int, float]] = {}

    def is_local(self, address: Address) -> bool:
        """Whether it is the gateway's own, or the host's that stands behind it in transport mode."""
        return address in self.topology.local

    def inbound(self, placed: Placed, spd: Spd) -> Route:
        """The way of all that an inbound SA carries: once more through the classifier, whose rules say what
        policy does with each packet. Straight to the next hop only where policy and destinations leave no
        other way; never to the network port. Transport mode: to the host, or, where that is the control
        element's, up to it by way of the classifier.
        """
        transport = placed.sa.mode == Mode.TRANSPORT
        if layered(placed) or (transport and self.own_host):
            return Route(Port.RECIRCULATE)
        if transport:
            return Route(Port.SERVER)
        for box in placed.permitted or ():
            first = box.destination.network_address
            if spd.straight(box) and within(box.destination, self.topology.reach(first)):
                hop = self.topology.next_hop(first)
                if hop is not None and hop.port == Port.SERVER:
                    return routed(hop)
        return Route(Port.RECIRCULATE)

    def outbound(self, chain: Sequence[Sa]) -> Route:
        """The way of what a chain of outbound SAs sends. Transport mode alone: as the frame says."""
        transport = all(sa.mode == Mode.TRANSPORT for sa in chain)
        return Route(Port.NETWORK) if transport else routed(self.next_hop(chain[-1].destination))

    def way(self, destination: Address) -> Way:
        """How packets to ``destination`` go on."""
        route = self.topology.route(destination)
        return Way(self.topology.reach(destination), route.port if route else None)

    def clear(self, ingress: Port, ip: Ip) -> Route:
        """How a clear packet goes on. The host of a transport SA stands behind the server port: to it and
        from it as a cable would.

        Raises
        ------
        Consumed
            It is for the gateway itself, or there is no way.
        """
        if self.is_local(ip.destination) or self.is_local(ip.source):
            hosts = {
                sa.destination if sa.direction == Direction.INBOUND else sa.source
                for sa in self._sas()
                if sa.mode == Mode.TRANSPORT and not self.own_host
            }
            if ip.destination in hosts and ingress != Port.SERVER:
                return Route(Port.SERVER)
            if ip.source in hosts and ingress == Port.SERVER:
                return Route(Port.NETWORK)
            raise Consumed("local")
        if ip.version == 6 and (
            ip.destination.is_link_local or ip.source.is_link_local or ip.destination.is_multicast
        ):
            raise Consumed("local")
        return routed(self.next_hop(ip.destination))

    def next_hop(self, destination: Address) -> NextHop:
        """The way to ``destination``.

        Raises
        ------
        Unresolved
            The neighbour is not known.
        Consumed
            There is no way.
        """
        hop, route = self.topology.next_hop(destination), self.topology.route(destination)
        if route is None:
            raise Consumed("no_route")
        if hop is None:
            raise Unresolved(route.port, route.gateway or destination)
        return hop

    def leads_to(self, destinations: Network, neighbour: Address) -> bool:
        """Whether packets to some of ``destinations`` may have ``neighbour`` as their next hop."""
        return neighbour in destinations or any(
            route.gateway == neighbour and route.destination.overlaps(destinations)
            for route in self.topology.routes
        )

    def address(self, port: Port, version: int) -> Address | None:
        """The gateway's own address at ``port``, of that IP version and not of the link alone."""
        interface = self.topology.interfaces.get(port)
        addresses = [ip_address(str(address.ip)) for address in interface.addresses] if interface else []
        return next(
            (address for address in addresses if address.version == version and not address.is_link_local),
            None,
        )

    def is_outbound(self, about: Ip, number: int | None) -> bool:
        """Whether the packet ``about`` with the SPI ``number`` is one that an SA here has made."""
        return any(
            sa.spi == number
            and sa.destination == about.destination
            and sa.source == about.source
            and about.protocol == (UDP if sa.encapsulation else sa.protocol)
            for sa in self._sas()
            if sa.direction == Direction.OUTBOUND
        )

    # What links and paths take

    def mtu(self, port: Port, destination: Address | None = None) -> int:
        """Of the link at ``port``, or, where less is known to pass, of the path to ``destination``."""
        interface = self.topology.interfaces.get(port)
        link = min(interface.mtu if interface else 0xFFFF, self._largest)
        if destination is None or destination not in self._paths:
            return link
        mtu, since = self._paths[destination]
        if mtu < link and self._clock() - since >= PATH_MTU_AGE_S:
            del self._paths[destination]
            return link
        return min(mtu, link)

    def room(self, sa: Sa) -> int:
        """Bytes of the longest IPv4 packet without options that an outbound SA makes one of that fits its
        path.
        """
        return SoftSa(sa).room(self.mtu(Port.NETWORK, sa.destination), HEADER_BYTES[4])

    def learn_mtu(self, destination: Address, mtu: int) -> None:
        """Takes up what an error message said of a path (RFC 4301 8.2.1).

        It never makes the path wider than is known: only age does (RFC 1191 6.3, RFC 8201 4). Less than
        IPv4's smallest counts as that; a message about IPv6 that says so is not believed at all (RFC 8201
        4)."""
        smallest = SMALLEST_MTU[destination.version]
        if destination.version == 6 and mtu < smallest:
            return
        mtu = max(mtu, smallest)
        if mtu > self.mtu(Port.NETWORK, destination) or mtu >= self.mtu(Port.NETWORK):
            return
        if destination not in self._paths and len(self._paths) >= MAX_PATHS:
            self._paths.pop(next(iter(self._paths)))
        self._paths[destination] = (mtu, self._clock())


def layered(placed: Placed) -> bool:
    """Whether what an inbound SA carries is IPsec again."""
    return any(selectors.protocol in (ESP, AH) for selectors in placed.permitted or ())


def routed(hop: NextHop) -> Route:
    return Route(hop.port, hop.destination_mac, hop.source_mac, decrement_ttl=True)
