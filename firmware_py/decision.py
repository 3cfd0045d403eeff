"""What the policies say about a clear packet, and for which others the same holds: from the SPD to the
gateway's rules.

The gateway tries its rules in order and knows only those that the control element has given it so far. So a
decision names, beside the packets that it is about, the policies in front of it that overlap them: they must
be among the rules first.

Which policies a packet meets depends on where it comes in (RFC 4301 5.1, 5.2): at the network port those for
inbound traffic, which demand that what they protect does not arrive in the clear; at the server port, and
after decryption, those for outbound traffic.
"""
from dataclasses import dataclass
from ipaddress import ip_network

from spigate.firmware_py.packet import Ip
from spigate.firmware_py.policy import Policy, PolicyAction, PolicyDatabase, PolicyDirection
from spigate.firmware_py.punt import Port
from spigate.firmware_py.sa import ANY_IPV4, Address, Selectors

EXACT, POLICY, NO_POLICY, REST = range(4)
"""First part of a rule's order: single flows, policies, what no policy names, everything else."""

_EVERYWHERE = frozenset({Port.NETWORK, Port.SERVER, Port.RECIRCULATE})


@dataclass(frozen=True)
class Flow:
    """What selectors look at in a packet. ``ports`` is None where its protocol has none."""

    source: Address
    destination: Address
    protocol: int
    ports: tuple[int, int] | None

    @classmethod
    def of(cls, ip: Ip) -> "Flow":
        return cls(ip.source, ip.destination, ip.protocol, ip.ports)

    def matches(self, selectors: Selectors) -> bool:
        return selectors.matches(self.source, self.destination, self.protocol, self.ports)

    def selectors(self, *, exact: bool) -> Selectors:
        """Those of this flow alone, or of all between its two hosts."""
        source, destination = ip_network(self.source), ip_network(self.destination)
        if not exact:
            return Selectors(source, destination)
        if self.ports is None:
            return Selectors(source, destination, self.protocol)
        return Selectors(source, destination, self.protocol, (self.ports[0],) * 2, (self.ports[1],) * 2)


@dataclass(frozen=True)
class Step:
    """A policy as packets meet it that come in at ``ingress``. ``action`` None: it lets them pass to the
    outbound policies."""

    order: tuple[int, ...]
    selectors: Selectors
    ingress: frozenset[Port]
    action: PolicyAction | None
    policy: Policy


@dataclass(frozen=True)
class Decision:
    """What becomes of all packets with ``selectors`` that come in at ``ingress``, if the steps ``before`` are
    tried before.

    Members
    -------
    action : PolicyAction
    selectors, ingress, order
        As in :class:`~spigate.firmware_py.tables.Rule`.
    policy : Policy or None
        The one that decided; None: no policy names the packet.
    before : tuple of Step
    """

    action: PolicyAction
    selectors: Selectors
    ingress: frozenset[Port]
    order: tuple[int, ...]
    policy: Policy | None = None
    before: tuple[Step, ...] = ()


def steps(policies: PolicyDatabase) -> list[Step]:
    """All that packets may meet, in order."""
    found = []

    def add(policy: Policy, ingress: frozenset[Port], action: PolicyAction | None) -> None:
        found.append(Step((POLICY, len(found)), policy.selectors, ingress, action, policy))

    for policy in policies.inbound():
        passes = policy.action == PolicyAction.BYPASS or (
            policy.action == PolicyAction.PROTECT and all(template.optional for template in policy.templates))
        add(policy, frozenset({Port.NETWORK}), None if passes else PolicyAction.DISCARD)
    for policy in policies.outbound():
        if policy.action == PolicyAction.PROTECT:
            # What claims to come from the protected side, on the other one.
            add(policy, frozenset({Port.NETWORK}), PolicyAction.DISCARD)
            add(policy, frozenset({Port.SERVER, Port.RECIRCULATE}), PolicyAction.PROTECT)
        else:
            add(policy, _EVERYWHERE, policy.action)
    return found


def decide(found: list[Step], flow: Flow, ingress: Port, default: PolicyAction) -> Decision:
    """What becomes of a packet of ``flow`` that came in at ``ingress``; ``default``, BYPASS or DISCARD, where
    no policy names it."""
    met = [step for step in found if ingress in step.ingress]
    exact = False
    for at, step in enumerate(met):
        if not flow.matches(step.selectors) or (exact and step.policy.direction != PolicyDirection.OUT):
            continue
        if step.action is None:
            exact = True
        elif exact:
            return _exactly(flow, ingress, step.action, step.policy)
        else:
            before = tuple(other for other in met[:at] if other.selectors.overlaps(step.selectors))
            kept = frozenset({ingress}) if step.action == PolicyAction.BYPASS else step.ingress
            return Decision(step.action, step.selectors, kept, step.order, step.policy, before)
    if exact:
        return _exactly(flow, ingress, default, None)
    if default == PolicyAction.DISCARD:
        # For the gateway's rules, which are of IPv4 alone.
        before = tuple(step for step in met if step.selectors.source.version == 4)
        return Decision(default, ANY_IPV4, frozenset({ingress}), (REST,), None, before)
    between = flow.selectors(exact=False)
    if any(step.selectors.overlaps(between) for step in met):
        return _exactly(flow, ingress, default, None)
    return Decision(default, between, frozenset({ingress}), (NO_POLICY,))


def _exactly(flow: Flow, ingress: Port, action: PolicyAction, policy: Policy | None) -> Decision:
    return Decision(action, flow.selectors(exact=True), frozenset({ingress}), (EXACT,), policy)
