# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What policies say about a packet (RFC 4301 5.1, 5.2), and around which box of selectors they say the same.

A packet meets policies twice. Coming in, the first inbound policy that matches it must ask for the SAs that
it really came out of; going on, the first outbound policy that matches it protects, bypasses or discards
it. All data planes ask :meth:`Spd.decide`.

The gateway's rules cache its answers. A rule's box lies inside the matched policy and outside all policies
before it that overlap it (RFC 4301 appendix B, cut when a packet asks, like the SPD cache of 4.4.1). The
cuts depend on the policies and not on the packet, so two boxes of one SPD are the same or have nothing in
common: rules need no order.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import takewhile

from spigate.firmware_py.ipsec.boxes import Box, Entry, Flow, entries
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDatabase
from spigate.firmware_py.ipsec.sa import Address, Network, Sa, Selectors
from spigate.hdl.contract.enums import Mode, Port
from spigate.hdl.contract.protocols import ICMP, ICMPV6, UDP

OWN = Port.CE
"""Where the gateway's own messages, such as ICMP errors, come in: they cross no boundary towards the server
port.
"""


class Verdict(StrEnum):
    """What becomes of a packet. HOST: it is for the gateway itself, which may have it."""

    PROTECT = "protect"
    BYPASS = "bypass"
    DISCARD = "discard"
    HOST = "host"


@dataclass(frozen=True)
class Decision:
    """What becomes of a packet, and of all in ``region``.

    Members
    -------
    action : Verdict
    policies : tuple of Policy
        The one that decided. PROTECT: besides, those of the same selectors and priority, of other children;
        the newest SA of them all sends. Empty: no policy matched.
    region : Selectors or None
        Of packets that come in at ``ingress`` and meet the same. None: it was not asked for, or no rule can
        say it.
    ingress : Port
    clear : bool
        It may leave at the network port as it is: bypassed, and its way leads there.
    """

    action: Verdict
    ingress: Port
    policies: tuple[Policy, ...] = ()
    region: Selectors | None = None
    clear: bool = False

    @property
    def policy(self) -> Policy | None:
        return self.policies[0] if self.policies else None


@dataclass(frozen=True)
class Way:
    """How packets go on: all those to ``network`` have one next hop, behind ``egress``; None:
    nobody knows.
    """

    network: Network
    egress: Port | None


class Spd:
    """The policies, compiled. It does not follow changes of its arguments: make a new one.

    Parameters
    ----------
    policies : PolicyDatabase
    default : PolicyAction
        BYPASS or DISCARD: what becomes of a clear packet that no policy names.
    local : iterable of Address
        The gateway's own addresses.
    way : callable or None
        Gives the :class:`Way` to an address. None: everything goes out opposite to where it came in, as in
        a host's TUN device.
    """

    def __init__(
        self,
        policies: PolicyDatabase,
        default: PolicyAction = PolicyAction.DISCARD,
        local: Iterable[Address] = (),
        way: Callable[[Address], Way] | None = None,
    ):
        self._default = Verdict(default.value)
        self._local = frozenset(local)
        self._way = way
        self._inbound, self._hidden = entries(policies.inbound())
        self._outbound, _ = entries(policies.outbound())
        self._of_reqid: dict[int, list[int]] = {}
        for at, entry in enumerate(self._inbound):
            for reqid in {template.reqid for policy in entry.policies for template in policy.templates}:
                self._of_reqid.setdefault(reqid, []).append(at)
        self._known = lru_cache(maxsize=4096)(self._decide)

    # Packets

    def decide(self, flow: Flow, ingress: Port, through: Sequence[Sa] | None = ()) -> Decision:
        """What becomes of a packet of ``flow``.

        Parameters
        ----------
        ingress : Port
            NETWORK, SERVER (the host's own packets too), RECIRCULATE (decrypted) or :data:`OWN`.
        through : sequence of Sa or None
            The SAs that it came out of, innermost first. None: whoever decrypted it has made sure that
            inbound policy permits it, as a DFE does by the box of its SA.
        """
        if ingress == Port.RECIRCULATE and through is not None and not self.admits(flow, through):
            return Decision(Verdict.DISCARD, ingress)
        return self._known(flow, ingress)

    def _decide(self, flow: Flow, ingress: Port) -> Decision:
        box = Box(flow)
        local = flow.destination in self._local
        box.cut_addresses("destination", self._local)
        if local:
            # What ICMP says of a path is looked at in each message, whatever becomes of it: no rule may
            # swallow it.
            box.protocol, box.exact = flow.protocol, flow.protocol not in (ICMP, ICMPV6)
        if ingress == Port.NETWORK or (local and ingress == Port.SERVER):
            entry = self._walk(self._inbound, box)
            passes = entry.permits(()) if entry else self._default == Verdict.BYPASS
            if not passes:
                return Decision(Verdict.DISCARD, ingress, entry.policies if entry else (), box.selectors())
        if local:
            return Decision(Verdict.HOST, ingress, (), box.selectors())
        entry = self._walk(self._outbound, box)
        if entry and entry.action != PolicyAction.BYPASS:
            return Decision(Verdict(entry.action.value), ingress, entry.policies, box.selectors())
        egress = self._go(box, ingress)
        action = Verdict.BYPASS if entry else self._unnamed(ingress, egress)
        if action == Verdict.BYPASS:
            box.cut_addresses("source", self._local)  # the host's own go as it says
        return Decision(
            action,
            ingress,
            entry.policies if entry else (),
            box.selectors(),
            action == Verdict.BYPASS and egress == Port.NETWORK,
        )

    def _walk(self, entries: Sequence[Entry], box: Box) -> Entry | None:
        """The first entry that matches the box's flow. The box becomes one in which no other one is the
        first.
        """
        return next((entry for entry in entries if box.cut(entry)), None)

    def _go(self, box: Box, ingress: Port) -> Port | None:
        if self._way is None:
            return Port.NETWORK if ingress == Port.SERVER else Port.SERVER
        way = self._way(box.flow.destination)
        box.cut_network(way.network)
        return way.egress

    def _unnamed(self, ingress: Port, egress: Port | None) -> Verdict:
        """What becomes of what no outbound policy names. What has passed inbound, or was decrypted, and
        stays on the protected side passes; what was decrypted never leaves it so."""
        if egress == Port.SERVER and ingress != Port.SERVER:
            return Verdict.BYPASS
        return Verdict.DISCARD if ingress == Port.RECIRCULATE else self._default

    def admits(self, flow: Flow, through: Sequence[Sa]) -> bool:
        """Whether a packet of ``flow`` may have come out of the SAs ``through``, innermost first; of none
        of them: in the clear. The first inbound policy that matches asks for these and no others, in their
        order (RFC 4301 5.2, 4). Where it asks for the inner ones alone, the packet that they were in was
        one for this gateway, which policy has let out of the rest."""
        entry = next((entry for entry in self._inbound if entry.matches(flow)), None)
        if entry is None:
            return not through and self._default == Verdict.BYPASS
        for count in entry.consumed(through):
            if count == len(through):
                return True
            inner = through[count - 1] if count else None
            if inner and self.admits(outside(inner), through[count:]):
                return True
        return False

    def wants_whole(self, flow: Flow, ingress: Port, through: Sequence[Sa] = ()) -> bool:
        """Whether a fragment must be put together with the others before anything is decided: a policy that
        its packet may meet looks at what only the first one has (RFC 4301 7), or the packet is for the
        gateway itself or for transport mode. ``flow`` is that of a fragment. ``through``: the SAs that it
        came out of, where no DFE has decrypted it: what lies in the box of a DFE's SA needs no more of
        inbound policy, for that box has no ports if there are later fragments in it.
        """
        if flow.destination in self._local:
            return True
        inbound = (
            self._inbound if ingress == Port.NETWORK else self._before_later(flow, through) if through else ()
        )
        met = [entry for entries in (inbound, self._outbound) for entry in entries if entry.between(flow)]
        for entry in met:
            # Behind IPv6's Fragment header there may be other headers in front of the one that selectors
            # mean.
            unknown = flow.source.version == 6 and entry.protocol is not None
            if unknown or (entry.protocol in (None, flow.protocol) and entry.ports):
                return True
        decided = self.decide(flow, ingress, None)
        return decided.action == Verdict.PROTECT and any(
            template.mode == Mode.TRANSPORT for policy in decided.policies for template in policy.templates
        )

    def _before_later(self, flow: Flow, through: Sequence[Sa]) -> Sequence[Entry]:
        """The inbound policies that may meet the first fragment of a packet and not the later ones, for
        these have no ports; none where inbound policy lets no later one out of ``through`` at all (RFC 4301
        7.2)."""
        later = replace(flow, ports=None)
        if not self.admits(later, through):
            return ()
        return [*takewhile(lambda entry: not entry.matches(later), self._inbound)]

    # SAs

    def _naming(self, sa: Sa) -> Iterable[tuple[int, Entry]]:
        """The inbound policies that name ``sa``, and their places."""
        for at in sorted({*self._of_reqid.get(sa.reqid, ()), *self._of_reqid.get(0, ())}):
            if any(
                template.accepts(sa) for policy in self._inbound[at].policies for template in policy.templates
            ):
                yield at, self._inbound[at]

    def named(self, sa: Sa) -> bool:
        """Whether an inbound policy names ``sa``."""
        return any(self._naming(sa))

    def concerns(self, policy: Policy, sa: Sa) -> bool:
        """Whether it matters for what the inbound ``sa`` may carry that ``policy`` has come or gone."""
        hidden = self._hidden.get((policy.priority, policy.selectors), ())
        return any(template.accepts(sa) for each in (policy, *hidden) for template in each.templates) or any(
            entry.selectors.overlaps(policy.selectors) for _, entry in self._naming(sa)
        )

    def versions(self, sa: Sa) -> set[int]:
        """IP versions of what outbound policies lead to ``sa``."""
        return {
            entry.version
            for entry in self._outbound
            for policy in entry.policies
            if any(template.accepts(sa) for template in policy.templates)
        }

    def bundled(self, sa: Sa) -> bool:
        """Whether an inbound policy names ``sa`` beside others: then only who has seen them all knows
        whether it may have been used."""
        return any(
            len(policy.templates) > 1 and any(template.accepts(sa) for template in policy.templates)
            for _, entry in self._naming(sa)
            for policy in entry.policies
        )

    def carried(self, sa: Sa) -> list[Selectors] | None:
        """The boxes of all packets that inbound policy lets out of ``sa`` alone, none inside another; None:
        no boxes say it, for an earlier policy that wants something else cuts one."""
        found: list[Selectors] = []
        for at, entry in self._naming(sa):
            if not entry.permits((sa,)):
                continue
            box = entry.selectors.intersection(sa.selectors) if sa.selectors else entry.selectors
            if box is None:
                continue
            others = [
                before
                for before in self._inbound[:at]
                if before.selectors.overlaps(box) and not before.permits((sa,))
            ]
            if any(before.selectors.covers(box) for before in others):
                continue
            if others:
                return None
            if not any(known.covers(box) for known in found):
                found = [known for known in found if not box.covers(known)] + [box]
        return found

    def straight(self, box: Selectors) -> bool:
        """Whether all packets in ``box`` that came out of an SA which carries nothing else go on by their
        destination alone: no outbound policy names one, and none is for the gateway itself or claims to
        come from it. Then no rule need be asked.
        """
        return not any(entry.selectors.overlaps(box) for entry in self._outbound) and not any(
            address in box.destination or address in box.source for address in self._local
        )


def way_of(through: Iterable[Sa]) -> tuple[tuple[int, int, Mode, Address, Address], ...]:
    """What tells fragments that came out of the SAs ``through`` from others: all that templates look at,
    but not the SPI, for in the midst of a packet an SA may get a successor."""
    return tuple((sa.reqid, sa.protocol, sa.mode, sa.source, sa.destination) for sa in through)


def outside(sa: Sa) -> Flow:
    """The flow of the packets of ``sa``."""
    if sa.encapsulation:
        return Flow(
            sa.source, sa.destination, UDP, (sa.encapsulation.source_port, sa.encapsulation.destination_port)
        )
    return Flow(sa.source, sa.destination, sa.protocol, None)
