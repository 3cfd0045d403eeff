"""Punted frames of a gateway in hardware that have to wait: for a child SA that they start, for the inbound SA that they are on, for a
neighbour's answer. Sans-I/O.

What has waited is done once more, before what came later. Each place takes a few frames; of more than that the oldest go.
"""
from collections import Counter, deque
from collections.abc import Callable, Iterable
from ipaddress import ip_network

from spigate.firmware_py.decision import Flow
from spigate.firmware_py.host.dataplane import HELD_PACKETS, Hooks
from spigate.firmware_py.host.plane import configured
from spigate.firmware_py.ike.children import UNSPECIFIED
from spigate.firmware_py.ike.config import START_ON_TRAFFIC
from spigate.firmware_py.ike.pad import Pad
from spigate.firmware_py.network import Topology
from spigate.firmware_py.packet import Ethernet, Ip, Refused, spi
from spigate.firmware_py.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.punt import Port, PuntHeader, Reason
from spigate.firmware_py.sa import ANY_PORTS, Address, Selectors

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


def trap_policies(pad: Pad, starts: dict[tuple[str, str], str]) -> dict[Policy, tuple[str, str]]:
    """Policies that no SA fulfils, for the children that traffic starts, and names of peer and child."""
    found = {}
    for peer in pad:
        for child in peer.children:
            for traffic in configured(peer, child) if starts[peer.name, child.name] == START_ON_TRAFFIC else ():
                anywhere = UNSPECIFIED[traffic.source.version]
                template = Template(source=anywhere, destination=anywhere, mode=child.mode, spi=TRAP_SPI)
                policy = Policy(selectors=traffic, direction=PolicyDirection.OUT, action=PolicyAction.PROTECT, templates=(template,),
                                priority=TRAP_PRIORITY)
                found[policy] = (peer.name, child.name)
    return found


class Waiting:
    """Parameters
    ----------
    traps : dict
        From :func:`trap_policies`.
    hooks : Hooks
    decide : callable
        The policy that decides about a flow that comes in at a port; None: none.
    again : callable
        Called with the punts that are to be done now.

    Members
    -------
    drops : Counter of str
        What waited in vain, by reason.
    """

    def __init__(self, traps: dict[Policy, tuple[str, str]], hooks: Hooks, decide: Callable[[Port, Flow], Policy | None],
                 again: Callable[[Iterable[Punt]], None]):
        self._traps, self._hooks, self._decide, self._again = traps, hooks, decide, again
        self._held: dict[tuple[str, str], deque[Punt]] = {}
        self._early: dict[int, deque[Punt]] = {}
        self._unresolved: dict[tuple[Port, Address], tuple[float, deque[Punt]]] = {}
        self.drops: Counter[str] = Counter()

    def waits(self, header: PuntHeader, frame: bytes, inbound: Callable[[int], bool]) -> bool:
        """Keeps a frame that waits for an SA. ``inbound`` says of an SPI whether there is such an SA."""
        try:
            _, packet = Ethernet.parse(frame)
            ip = Ip.parse(packet)
        except Refused:
            return False
        number = spi(packet, ip) if header.reason in _PROTECTED else None
        if number is not None and not inbound(number) and self._hooks.expects(number):
            return self._keep(self._early, number, (header, frame))
        return header.reason in _CLEAR and header.ingress == Port.SERVER and self._waits_for_child(header, frame, ip)

    def _keep(self, kept: dict[int, deque[Punt]], key: int, punt: Punt) -> bool:
        if key not in kept and len(kept) >= MAX_WAITING:
            return False
        kept.setdefault(key, deque(maxlen=HELD_PACKETS)).append(punt)
        return True

    def _waits_for_child(self, header: PuntHeader, frame: bytes, ip: Ip) -> bool:
        key = self._traps.get(self._decide(header.ingress, Flow.of(ip)))
        if key is None:
            return False
        if key not in self._held:
            self._held[key] = deque(maxlen=HELD_PACKETS)
            ports = [ANY_PORTS if port is None else (port, port) for port in ip.ports or (None, None)]
            self._hooks.wanted(*key, Selectors(ip_network(ip.source), ip_network(ip.destination), ip.protocol, *ports))
        self._held[key].append((header, frame))
        return True

    def child_is_up(self, peer: str, child: str) -> None:
        """What started it can go on."""
        self._again(self._held.pop((peer, child), ()))

    def forget(self, peer: str) -> None:
        """What waits for children of that peer waits in vain."""
        for key in [key for key in self._held if key[0] == peer]:
            self.drops["no_sa"] += len(self._held.pop(key))

    def inbound_is_up(self, inbound: Callable[[int], bool]) -> None:
        """What came before its SA can go on where that is there by now, and is given up where it will not be."""
        for number in list(self._early):
            if inbound(number):
                self._again(self._early.pop(number))
            elif not self._hooks.expects(number):
                self.drops["no_sa"] += len(self._early.pop(number))

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
