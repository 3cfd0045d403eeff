# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What RFC 4301 says becomes of a packet, written from its text (5.1, 5.2) as a second hand: policy after
policy, address by address, nothing compiled, nothing kept, nothing of the project's decisions."""

from dataclasses import dataclass, field
from ipaddress import ip_address


@dataclass
class Gateway:
    """``policies`` in the order in which they were added; ``default``: ``bypass`` or ``discard``;
    ``local``: own addresses; ``sides``: which side an address lies on, ``network``, ``server`` or None."""

    policies: list
    default: str
    local: set = field(default_factory=set)
    sides: object = None

    def __post_init__(self):
        self._spds = {outbound: self.entries(outbound) for outbound in (False, True)}

    def entries(self, outbound: bool) -> list[list]:
        """The SPD of one direction, ordered (4.4.1: by the administrator; here by priority, then by age).
        Entries of equal selectors and priority that protect are one entry, to which several SAs belong
        (4.4.1: an entry may lead to several).
        """
        found = []
        ordered = sorted(
            (policy for policy in self.policies if (policy.direction.value == "out") == outbound),
            key=lambda policy: policy.priority,
        )
        for policy in ordered:
            for entry in found:
                first = entry[0]
                if (first.priority, first.selectors) == (policy.priority, policy.selectors):
                    if first.action.value == policy.action.value == "protect":
                        entry.append(policy)
                    break
            else:
                found.append([policy])
        return found

    def first(self, outbound: bool, packet: tuple) -> list | None:
        return next((entry for entry in self._spds[outbound] if meant(entry[0].selectors, packet)), None)

    def inbound(self, packet: tuple, sas: list) -> bool:
        """5.2: clear traffic must be bypassed by the first entry that it matches; traffic that was
        protected must match an entry that asks for just this protection (5.2 step 4)."""
        entry = self.first(False, packet)
        if entry is None:
            return not sas and self.default == "bypass"
        if entry[0].action.value == "bypass":
            return not sas
        if entry[0].action.value == "discard":
            return False
        return any(self.asked(policy.templates, sas) for policy in entry)

    def asked(self, templates: tuple, sas: list) -> bool:
        """Whether templates, the innermost first, and SAs, the innermost first, belong together one by one.
        Behind the last template there may be a tunnel that an entry of its own asks for, around the packet
        that the inner SAs came in.
        """
        if not templates:
            return not sas
        first, rest = templates[0], templates[1:]
        if sas and first.accepts(sas[0]):
            if self.asked(rest, sas[1:]):
                return True
            outer = sas[0]
            if (
                all(template.optional for template in rest)
                and sas[1:]
                and self.inbound((outer.source, outer.destination, outer.protocol, None), sas[1:])
            ):
                return True
        return first.optional and self.asked(rest, sas)

    def decide(self, packet: tuple, ingress: str, sas: list = ()) -> tuple[str, list]:
        """``protect`` (and the policies that may say how), ``bypass``, ``discard`` or ``host``."""
        sas = list(sas)
        local = packet[1] in self.local
        if (ingress in ("network", "recirculate") or local) and not self.inbound(packet, sas):
            return "discard", []
        if local:
            return "host", []
        entry = self.first(True, packet)
        if entry is not None:
            return entry[0].action.value, entry if entry[0].action.value == "protect" else []
        side = self.sides(packet[1])
        if side == "server" and ingress != "server":
            return "bypass", []  # it stays on the protected side, and 5.2 has let it in
        if ingress == "recirculate":
            return "discard", []  # 5.1: no match is discard
        return self.default, []


def meant(selectors, packet: tuple) -> bool:
    source, destination, protocol, ports = packet
    for address, network in ((source, selectors.source), (destination, selectors.destination)):
        first = network.network_address
        if address.version != first.version:
            return False
        bits = address.max_prefixlen - network.prefixlen
        if int(address) >> bits != int(first) >> bits:
            return False
    if selectors.protocol is not None and selectors.protocol != protocol:
        return False
    anything = (0, 65535)
    if ports is None:
        return selectors.source_ports == anything and selectors.destination_ports == anything
    return all(
        low <= port <= high
        for port, (low, high) in zip(
            ports, (selectors.source_ports, selectors.destination_ports), strict=True
        )
    )


def addresses(*texts: str) -> set:
    return set(map(ip_address, texts))
