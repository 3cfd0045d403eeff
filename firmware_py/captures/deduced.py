# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a gateway's interfaces, neighbours and routes were, from its policies and the frames at its ports
alone: for a capture without what ``ip -j`` prints of them.

Policies say which ends of tunnels are the gateway's own and which networks it protects; frames say which
Ethernet addresses these have. Who never sent a frame stands behind a router that is made up.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import ip_address, ip_interface, ip_network

from spigate.firmware_py.captures.frames import Captured
from spigate.firmware_py.control.topology import Interface, Neighbour, NetworkRoute, Topology
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.packet import Ethernet, Ip, Refused
from spigate.firmware_py.ipsec.policy import Policy, PolicyDirection
from spigate.firmware_py.ipsec.sa import Address, Network
from spigate.hdl.contract.enums import Port

MADE_UP = {
    Port.NETWORK: (bytes.fromhex("020000005301"), bytes.fromhex("020000005302")),
    Port.SERVER: (bytes.fromhex("020000005311"), bytes.fromhex("020000005312")),
}
"""Ethernet addresses, locally administered, of a port and of a router behind it that no frame shows."""
ROUTERS = {
    (Port.NETWORK, 4): ip_address("169.254.83.1"),
    (Port.SERVER, 4): ip_address("169.254.83.2"),
    (Port.NETWORK, 6): ip_address("fe80::5301"),
    (Port.SERVER, 6): ip_address("fe80::5302"),
}
DEFAULT = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
MTU = 1500
_IP = (0x0800, 0x86DD)
Header = tuple[Ethernet, Ip]


def own_ends(policies: Iterable[Policy], ends: Collection[Address]) -> set[Address]:
    """Which of ``ends``, where SAs begin and end, are this gateway's own."""
    found: set[Address] = set()
    for policy in policies:
        out = policy.direction == PolicyDirection.OUT
        traffic = policy.selectors.source if out else policy.selectors.destination
        if policy.templates and traffic.num_addresses == 1:
            found.add(traffic.network_address)
        found |= {template.source if out else template.destination for template in policy.templates}
    return found & set(ends)


def topology(
    policies: Sequence[Policy],
    ends: Collection[Address],
    network: Sequence[Captured],
    server: Sequence[Captured],
    *,
    names: tuple[str, str] = ("network", "server"),
) -> Topology:
    """What it was.

    Parameters
    ----------
    policies
        The gateway's.
    ends
        Addresses at which its SAs begin and end.
    network, server
        Frames at the two ports; those that the gateway sent there itself may be among them.
    names
        Of the interfaces.

    Raises
    ------
    InputError
        No policy says which ends are the gateway's own.
    """
    local = own_ends(policies, ends)
    if not local:
        raise InputError(
            "no policy has a template that says which end of an SA is this gateway's: give what `ip -j` "
            "prints of it (--ip-address, --ip-neighbour, --ip-route)"
        )
    outward = [policy for policy in policies if policy.direction == PolicyDirection.OUT and policy.templates]
    inside = {policy.selectors.source for policy in outward} - {ip_network(each) for each in local}
    outside, behind = list(_headers(network)), list(_headers(server))
    own = {
        Port.NETWORK: _own(outside, [ip_network(each) for each in local]) or MADE_UP[Port.NETWORK][0],
        Port.SERVER: _behind(behind, inside) or MADE_UP[Port.SERVER][0],
    }
    interfaces = [
        Interface(
            names[0],
            Port.NETWORK,
            own[Port.NETWORK],
            tuple(ip_interface(each) for each in sorted(local, key=str)),
            _mtu(network),
        ),
        Interface(names[1], Port.SERVER, own[Port.SERVER], (), _mtu(server)),
    ]
    neighbours: list[Neighbour] = []
    routes: list[NetworkRoute] = []
    # Those at the network port: the other ends, and one of them for all that nothing else is known of.
    peers = {
        ip.source: ethernet.source
        for ethernet, ip in outside
        if ethernet.destination == own[Port.NETWORK] and ip.source in set(ends) - local
    }
    common = Counter(peers.values()).most_common(1)
    router = common[0][0] if common else MADE_UP[Port.NETWORK][1]
    for peer in set(ends) - local:
        neighbours.append(Neighbour(peer, Port.NETWORK, peers.get(peer, router)))
        routes.append(NetworkRoute(ip_network(peer), Port.NETWORK))
    # Those at the server port: whoever spoke there, and a router for the others.
    hosts = {
        ip.source: ethernet.source
        for ethernet, ip in behind
        if ethernet.destination == own[Port.SERVER] and not ip.source.is_unspecified
    }
    for host, mac in hosts.items():
        neighbours.append(Neighbour(host, Port.SERVER, mac))
        routes.append(NetworkRoute(ip_network(host), Port.SERVER))
    for version in (4, 6):
        neighbours.append(Neighbour(ROUTERS[Port.NETWORK, version], Port.NETWORK, router))
        neighbours.append(Neighbour(ROUTERS[Port.SERVER, version], Port.SERVER, MADE_UP[Port.SERVER][1]))
        routes.append(NetworkRoute(DEFAULT[version], Port.NETWORK, ROUTERS[Port.NETWORK, version], metric=1))
    routes += [NetworkRoute(each, Port.SERVER, ROUTERS[Port.SERVER, each.version]) for each in inside]
    return Topology(interfaces, neighbours, routes)


def _headers(frames: Iterable[Captured]) -> Iterator[Header]:
    for each in frames:
        try:
            ethernet, packet = Ethernet.parse(each.frame)
            if ethernet.kind in _IP:
                yield ethernet, Ip.parse(packet)
        except Refused:
            continue


def _own(headers: Iterable[Header], to: Collection[Network]) -> bytes | None:
    """The Ethernet address that most frames for one of these addresses are for."""
    counts = Counter(
        ethernet.destination
        for ethernet, ip in headers
        if not ethernet.destination[0] & 1 and any(ip.destination in each for each in to)
    )
    return counts.most_common(1)[0][0] if counts else None


def _behind(headers: Sequence[Header], inside: Collection[Network]) -> bytes | None:
    """The gateway's own address in front of ``inside``: where frames from there go, and those for there come
    from.
    """
    counts: Counter[bytes] = Counter()
    for ethernet, ip in headers:
        comes, goes = (any(address in each for each in inside) for address in (ip.source, ip.destination))
        if ethernet.destination[0] & 1 or comes == goes:
            continue
        counts[ethernet.destination if comes else ethernet.source] += 1
    if not counts:
        counts.update(ethernet.destination for ethernet, _ in headers if not ethernet.destination[0] & 1)
    return counts.most_common(1)[0][0] if counts else None


def _mtu(frames: Iterable[Captured]) -> int:
    longest = max((len(each.frame) - 14 for each in frames), default=0)
    return max(MTU, longest)
