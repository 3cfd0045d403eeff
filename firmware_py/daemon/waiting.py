# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Packets that have to wait: for a child SA that they start, for the inbound SA that they are on, and, of a
gateway in hardware, for a neighbour's answer. Sans-I/O.

What has waited is done once more, before what came later. Each place takes a few frames; of more than that
the oldest go.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network
from typing import Generic, TypeVar

from spigate.firmware_py.control.topology import Topology
from spigate.firmware_py.daemon.dataplane import HELD_PACKETS, Hooks
from spigate.firmware_py.daemon.peer_keys import START_ON_TRAFFIC
from spigate.firmware_py.ike.engine.children import UNSPECIFIED
from spigate.firmware_py.ike.peers.pad import ChildConfig, Pad, Peer
from spigate.firmware_py.ipsec.boxes import Flow
from spigate.firmware_py.ipsec.packet import Ethernet, Ip, Refused, spi
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import ANY_PORTS, Address, Selectors
from spigate.firmware_py.tables.punt import PuntHeader
from spigate.hdl.contract.enums import Port, Reason

MAX_WAITING = 256
"""Neighbours, and unknown SPIs, that frames may wait for."""
RESOLVE_SECONDS = 5.0
"""So long a frame waits for a neighbour's answer."""
TRAP_PRIORITY = 1
"""Behind all policies that are negotiated."""
TRAP_SPI = 1
"""Of the templates of policies that wait for traffic: reserved (RFC 4303 2.1), so that no SA has it."""
_PROTECTED = frozenset({Reason.UNKNOWN_SPI, Reason.AH, Reason.NATT, Reason.IPV6, Reason.FRAGMENT})
_CLEAR = frozenset({Reason.NO_RULE, Reason.RULE, Reason.IPV6, Reason.FRAGMENT})
"""Reasons of punts of what may be ESP or AH, and of what may be clear."""

Punt = tuple[PuntHeader, bytes]
Item = TypeVar("Item")


def configured(peer: Peer, child: ChildConfig) -> tuple[Selectors, ...]:
    """What a child may carry, as far as is known before it is negotiated; source: this side."""
    if child.traffic or peer.address is None or peer.local_address is None:
        return child.traffic
    return (Selectors(ip_network(peer.local_address), ip_network(peer.address)),)


def trap_policies(pad: Pad, starts: dict[tuple[str, str], str]) -> dict[Policy, tuple[str, str]]:
    """Policies that no SA fulfils, for the children that traffic starts, and names of peer and child."""
    found = {}
    for peer in pad:
        for child in peer.children:
            for traffic in (
                configured(peer, child) if starts[peer.name, child.name] == START_ON_TRAFFIC else ()
            ):
                anywhere = UNSPECIFIED[traffic.source.version]
                template = Template(source=anywhere, destination=anywhere, mode=child.mode, spi=TRAP_SPI)
                policy = Policy(
                    selectors=traffic,
                    direction=PolicyDirection.OUT,
                    action=PolicyAction.PROTECT,
                    templates=(template,),
                    priority=TRAP_PRIORITY,
                )
                found[policy] = (peer.name, child.name)
    return found


class Held(Generic[Item]):
    """What waits for a child that traffic starts, and for an inbound SA whose peer has been quicker than
    its answer (RFC 7296 2.8). Both data planes have one; an item is whatever a packet is to them.

    Parameters
    ----------
    traps : dict
        From :func:`trap_policies`.

    Members
    -------
    wanted : callable
        Called with names of peer and child, and the packet's selectors, for the first that waits for it.
    expects : callable
        Says of an SPI that no inbound SA has whether it will have one.
    drops : Counter of str
        What waited in vain, by reason.
    """

    def __init__(self, traps: dict[Policy, tuple[str, str]]):
        self.wanted: Callable[[str, str, Selectors], None] = lambda peer, child, packet: None
        self.expects: Callable[[int], bool] = lambda number: False
        self.drops: Counter[str] = Counter()
        self._traps = traps
        self._children: dict[tuple[str, str], deque[Item]] = {}
        self._early: dict[int, deque[Item]] = {}

    def for_child(self, policies: Iterable[Policy], ip: Ip, item: Item) -> bool:
        """Keeps a packet for which ``policies`` decided, if they wait for traffic."""
        key = next((self._traps[policy] for policy in policies if policy in self._traps), None)
        if key is None:
            return False
        if key not in self._children:
            self._children[key] = deque(maxlen=HELD_PACKETS)
            ports = [ANY_PORTS if port is None else (port, port) for port in ip.ports or (None, None)]
            self.wanted(
                *key, Selectors(ip_network(ip.source), ip_network(ip.destination), ip.protocol, *ports)
            )
        self._children[key].append(item)
        return True

    def for_sa(self, number: int | None, item: Item) -> bool:
        """Keeps a packet with an SPI that no inbound SA has yet."""
        if (
            number is None
            or not self.expects(number)
            or (number not in self._early and len(self._early) >= MAX_WAITING)
        ):
            return False
        self._early.setdefault(number, deque(maxlen=HELD_PACKETS)).append(item)
        return True

    def child_is_up(self, peer: str, child: str) -> Iterable[Item]:
        """What started it can go on."""
        return self._children.pop((peer, child), ())

    def forget(self, peer: str) -> None:
        """What waits for children of that peer waits in vain."""
        for key in [key for key in self._children if key[0] == peer]:
            self.drops["no_sa"] += len(self._children.pop(key))

    def inbound_is_up(self, inbound: Callable[[int], bool]) -> list[Item]:
        """What came before its SA and can go on, for that is there by now; given up is what will not have
        one. ``inbound`` says of an SPI whether there is such an SA."""
        found: list[Item] = []
        for number in list(self._early):
            if inbound(number):
                found += self._early.pop(number)
            elif not self.expects(number):
                self.drops["no_sa"] += len(self._early.pop(number))
        return found


class Waiting:
    """Parameters
    ----------
    traps : dict
        From :func:`trap_policies`.
    hooks : Hooks
    decide : callable
        The policies that decide about a flow that comes in at a port.
    again : callable
        Called with the punts that are to be done now.

    Members
    -------
    drops : Counter of str
        What waited in vain, by reason.
    """

    def __init__(
        self,
        traps: dict[Policy, tuple[str, str]],
        hooks: Hooks,
        decide: Callable[[Port, Flow], Sequence[Policy]],
        again: Callable[[Iterable[Punt]], None],
    ):
        self._decide, self._again = decide, again
        self._held: Held[Punt] = Held(traps)
        self._held.wanted, self._held.expects = hooks.wanted, hooks.expects
        self.drops = self._held.drops
        self._unresolved: dict[tuple[Port, Address], tuple[float, deque[Punt]]] = {}

    def waits(self, header: PuntHeader, frame: bytes, inbound: Callable[[int], bool]) -> bool:
        """Keeps a frame that waits for an SA. ``inbound`` says of an SPI whether there is such an SA."""
        try:
            _, packet = Ethernet.parse(frame)
            ip = Ip.parse(packet)
        except Refused:
            return False
        number = spi(packet, ip) if header.reason in _PROTECTED else None
        if number is not None and not inbound(number) and self._held.for_sa(number, (header, frame)):
            return True
        return (
            header.reason in _CLEAR
            and header.ingress == Port.SERVER
            and self._held.for_child(self._decide(header.ingress, Flow.of(ip)), ip, (header, frame))
        )

    def child_is_up(self, peer: str, child: str) -> None:
        """What started it can go on."""
        self._again(self._held.child_is_up(peer, child))

    def forget(self, peer: str) -> None:
        """What waits for children of that peer waits in vain."""
        self._held.forget(peer)

    def inbound_is_up(self, inbound: Callable[[int], bool]) -> None:
        """What came before its SA can go on where that is there by now, and is given up where it will not
        be.
        """
        self._again(self._held.inbound_is_up(inbound))

    def for_neighbour(self, now: float, port: Port, address: Address, punt: Punt) -> bool:
        """Keeps a frame until its next hop has said where it is; whether that one is to be asked."""
        known = self._unresolved.get((port, address))
        if known is None:
            if len(self._unresolved) >= MAX_WAITING:
                self.drops["no_neighbour"] += 1
                return False
            self._unresolved[port, address] = known = (now, deque(maxlen=HELD_PACKETS))
        known[1].append(punt)
        return len(known[1]) == 1

    def neighbours_are(self, topology: Topology) -> None:
        """What waited for one that is known by now can go on."""
        for key in [key for key in self._unresolved if key in topology.neighbours]:
            self._again(self._unresolved.pop(key)[1])

    def tick(self, now: float) -> None:
        """Gives up what has waited too long."""
        for key in [key for key, (since, _) in self._unresolved.items() if now - since >= RESOLVE_SECONDS]:
            self.drops["no_neighbour"] += len(self._unresolved.pop(key)[1])
