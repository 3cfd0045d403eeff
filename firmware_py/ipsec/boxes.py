# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What policies are about, as numbers: entries that match flows, and the boxes of packets around a flow that
all entries have wholly or not at all (:mod:`spigate.firmware_py.ipsec.decision`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from spigate.firmware_py.ipsec.packet import Ip
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction
from spigate.firmware_py.ipsec.sa import ANY_PORTS, Address, Network, Sa, Selectors
from spigate.hdl.contract.protocols import TCP, UDP

_BITS = {4: 32, 6: 128}
_NETWORKS: dict[int, type[Network]] = {4: IPv4Network, 6: IPv6Network}


@dataclass(frozen=True)
class Flow:
    """What selectors look at in a packet. ``ports`` is None where its protocol has none, or they are not
    there.
    """

    source: Address
    destination: Address
    protocol: int
    ports: tuple[int, int] | None

    @classmethod
    def of(cls, ip: Ip) -> "Flow":
        return cls(ip.source, ip.destination, ip.protocol, ip.ports)

    def matches(self, selectors: Selectors) -> bool:
        return selectors.matches(self.source, self.destination, self.protocol, self.ports)


class Entry:
    """Policies of one direction that have selectors and priority in common, as numbers. ``ports``: they
    look at ports.
    """

    def __init__(self, policies: tuple[Policy, ...]):
        self.policies, self.selectors = policies, policies[0].selectors
        self.action = policies[0].action
        what = self.selectors
        self.version, self.protocol = what.source.version, what.protocol
        self.source, self.destination = _span(what.source), _span(what.destination)
        self.source_ports, self.destination_ports = what.source_ports, what.destination_ports
        self.ports = (what.source_ports, what.destination_ports) != (ANY_PORTS, ANY_PORTS)

    def matches(self, flow: Flow) -> bool:
        return (
            self.between(flow)
            and self.protocol in (None, flow.protocol)
            and (
                not self.ports
                or (
                    flow.ports is not None
                    and _inside(flow.ports[0], self.source_ports)
                    and _inside(flow.ports[1], self.destination_ports)
                )
            )
        )

    def between(self, flow: Flow) -> bool:
        """Whether it is about the flow's addresses."""
        return (
            self.version == flow.source.version
            and _inside(int(flow.source), self.source)
            and _inside(int(flow.destination), self.destination)
        )

    def permits(self, through: Sequence[Sa]) -> bool:
        """Whether exactly ``through`` is what it asks for."""
        return len(through) in self.consumed(through)

    def consumed(self, through: Sequence[Sa]) -> list[int]:
        """How many of ``through``, from the innermost on, it may have asked for. BYPASS asks for none; an
        optional template for one or none."""
        if self.action == PolicyAction.BYPASS:
            return [0] if not through else []
        return sorted(
            {
                count
                for policy in self.policies
                if policy.action == PolicyAction.PROTECT
                for count in _taken(policy, through)
                if count or not through
            }
        )


def _taken(policy: Policy, through: Sequence[Sa]) -> set[int]:
    counts = {0}
    for template in policy.templates:
        taken = {count + 1 for count in counts if count < len(through) and template.accepts(through[count])}
        counts = taken | counts if template.optional else taken
    return counts


_Group = tuple[int, Selectors]
"""Priority and selectors."""


def entries(policies: Iterable[Policy]) -> tuple[list[Entry], dict[_Group, list[Policy]]]:
    """One for each policy that can decide. PROTECT policies of different children with the same selectors
    and priority are one (a peer that came back without a word has two children for one traffic). Beside
    them those that decide nothing as long as the first one of their group is there.
    """
    groups: dict[_Group, list[Policy]] = {}
    hidden: dict[_Group, list[Policy]] = {}
    for policy in policies:
        named = policy.priority, policy.selectors
        group = groups.setdefault(named, [])
        if not group or policy.action == group[0].action == PolicyAction.PROTECT:
            group.append(policy)
        else:
            hidden.setdefault(named, []).append(policy)
    return [Entry(tuple(group)) for group in groups.values()], hidden


class Box:
    """A flow, and the box around it that is left of all packets after some cuts: first and last of each
    number.
    """

    def __init__(self, flow: Flow):
        self.flow, self.version = flow, flow.source.version
        whole = (0, (1 << _BITS[self.version]) - 1)
        self._source, self._destination = int(flow.source), int(flow.destination)
        self.source, self.destination = whole, whole
        self.protocol: int | None = None
        self.source_ports, self.destination_ports = ANY_PORTS, ANY_PORTS
        self.exact = True
        """Whether a box says it: where later fragments are treated otherwise than whole packets none does."""

    def cut(self, entry: Entry) -> bool:
        """Whether the flow matches ``entry``. Afterwards the entry has all of the box, or nothing."""
        if entry.version != self.version:
            return False
        self.source, same = _cut(self.source, entry.source, self._source)
        if not same:
            return False
        self.destination, same = _cut(self.destination, entry.destination, self._destination)
        if not same:
            return False
        if self.protocol is None and (entry.protocol is not None or entry.ports):
            self.protocol = self.flow.protocol
        if entry.protocol not in (None, self.flow.protocol):
            return False
        if not entry.ports:
            return True
        if self.flow.ports is None:
            self.exact = self.exact and self.protocol not in (TCP, UDP)
            return False
        self.source_ports, same = _cut_range(self.source_ports, entry.source_ports, self.flow.ports[0])
        if not same:
            return False
        self.destination_ports, same = _cut_range(
            self.destination_ports, entry.destination_ports, self.flow.ports[1]
        )
        return same

    def cut_addresses(self, end: str, addresses: Iterable[Address]) -> None:
        """Leaves of the box one of ``addresses`` alone, or none of them. ``end``: ``source`` or
        ``destination``.
        """
        x, span = getattr(self, f"_{end}"), getattr(self, end)
        for address in addresses:
            if address.version == self.version:
                span, _ = _cut(span, (int(address), int(address)), x)
        setattr(self, end, span)

    def cut_network(self, network: Network) -> None:
        """Leaves of the destinations those in ``network``, which the flow's is in."""
        self.destination, _ = _cut(self.destination, _span(network), self._destination)

    def selectors(self) -> Selectors | None:
        """The box."""
        if not self.exact:
            return None
        return Selectors(
            _network(self.version, self.source),
            _network(self.version, self.destination),
            self.protocol,
            self.source_ports,
            self.destination_ports,
        )


def _inside(x: int, span: tuple[int, int]) -> bool:
    return span[0] <= x <= span[1]


def _span(network: Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)


def _cut(block: tuple[int, int], other: tuple[int, int], x: int) -> tuple[tuple[int, int], bool]:
    """The piece of ``block`` with ``x`` when it is halved until ``other``, a block too, has all of a piece
    or nothing; and whether it has this one."""
    low, high = other
    if low <= block[0] and block[1] <= high:
        return block, True
    if high < block[0] or block[1] < low:
        return block, False
    if low <= x <= high:
        return other, True
    bits = (x ^ low).bit_length() - 1
    first = x >> bits << bits
    return (first, first + (1 << bits) - 1), False


def _cut_range(span: tuple[int, int], other: tuple[int, int], x: int) -> tuple[tuple[int, int], bool]:
    """The same of a range, in up to three pieces."""
    low, high = max(span[0], other[0]), min(span[1], other[1])
    if low > high:
        return span, False
    if x < low:
        return (span[0], low - 1), False
    if x > high:
        return (high + 1, span[1]), False
    return (low, high), True


def _network(version: int, span: tuple[int, int]) -> Network:
    return _NETWORKS[version]((span[0], _BITS[version] - (span[1] - span[0]).bit_length()))
