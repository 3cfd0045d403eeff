# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Who does an SA: which DFE, or the software path, and how it changes hands."""

from collections.abc import Callable, Collection

from spigate.firmware_py.control.programming import Placed, Programming
from spigate.firmware_py.control.routing import Routing
from spigate.firmware_py.ipsec.decision import Decision, Spd
from spigate.firmware_py.ipsec.packet import Refused
from spigate.firmware_py.ipsec.policy import Policy
from spigate.firmware_py.ipsec.sa import ESP, Address, Identity, Sa, Selectors
from spigate.firmware_py.ipsec.sad import SaDatabase
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.punt import PuntHeader
from spigate.hdl.contract.enums import Direction, Port, Reason

INSIDE, BEYOND, MOVED, IPV6 = (
    "an SA inside another one",
    "packets that no DFE can do",
    "a peer that moved",
    "IPv6",
)
BOXES, UNNAMED = "more than one selector for an SA", "no policy names it"
"""Why an SA is done in software, though a DFE could do it."""
QUIET_SECONDS = 10.0
"""So long after the last packet that no DFE can do, a DFE does the SA again."""
ELSEWHERE = frozenset({Reason.UNKNOWN_SPI, Reason.NO_RULE, Reason.RULE, Reason.SA_ABSENT, Reason.DFE_DOWN})
"""Reasons of punts of packets that come up because of where their SA is, not of what they are."""


class Assignment:
    """Puts SAs to work when their first packet comes.

    Parameters
    ----------
    sas, programming, routing
        The control element's.
    spd : callable
        What its policies are by now, compiled.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        sas: SaDatabase,
        spd: Callable[[], Spd],
        programming: Programming,
        routing: Routing,
        clock: Callable[[], float],
    ):
        self._sas, self._spd, self._programming, self._routing, self._clock = (
            sas,
            spd,
            programming,
            routing,
            clock,
        )
        programming.of_policy = frozenset({INSIDE, BOXES, UNNAMED})

    async def inbound(self, sa: Sa, header: PuntHeader) -> Placed:
        """Puts an inbound SA to work, if it is not yet; into a DFE, if there is room by now."""
        placed = self._programming.placed.get(sa.identity)
        if placed is None:
            permitted, why_not = self._permitted(sa)
            if why_not == UNNAMED:
                raise Refused(Reason.POLICY)
            placed = await self._programming.place(sa, _offered(header), permitted, why_not=why_not)
            if sa.source.version == 4 and sa.protocol == ESP and not sa.encapsulation:
                await self._programming.find_by(
                    placed, None if placed.soft else self._routing.inbound(placed, self._spd())
                )
        else:
            await self.bring_in(placed)
        return placed

    async def bring_in(self, placed: Placed) -> None:
        """Puts an SA that is done here for want of room into a DFE, if there is some by now."""
        if placed.wanting:
            inbound = placed.sa.direction == Direction.INBOUND
            await self._programming.give_back(
                placed,
                0 if inbound else self._mtu(placed.sa),
                self._routing.inbound(placed, self._spd()) if inbound else None,
            )

    async def lead_anew(self) -> None:
        """Packets of inbound SAs at work may go another way by now."""
        for placed in list(self._programming.placed.values()):
            await self._lead(placed)

    async def lead_straight(self, addresses: Collection[Address]) -> None:
        """Neighbours with these addresses have turned up: SAs whose packets went round, because nobody knew
        where to, may go straight.
        """
        for placed in list(self._programming.placed.values()):
            boxes = (
                placed.permitted
                if placed.route is not None and placed.route.egress == Port.RECIRCULATE
                else None
            )
            if any(
                self._routing.leads_to(box.destination, address)
                for box in boxes or ()
                for address in addresses
            ):
                await self._lead(placed)

    async def _lead(self, placed: Placed) -> None:
        if placed.route is not None:
            route = self._routing.inbound(placed, self._spd())
            if route != placed.route:
                await self._programming.find_by(placed, route)

    def _permitted(self, sa: Sa) -> tuple[list[Selectors] | None, str | None]:
        """The box of what an inbound SA may carry, and why no DFE can check that. In software policy is
        asked about each packet, and the box is the SA's own, if it has one."""
        spd = self._spd()
        boxes = spd.carried(sa)
        why_not = (
            INSIDE
            if spd.bundled(sa)
            else UNNAMED
            if not spd.named(sa)
            else BOXES
            if boxes is None or len(boxes) != 1
            else None
        )
        return ([sa.selectors] if sa.selectors else None) if why_not else boxes, why_not

    async def policy_changed(self, policy: Policy, before: Spd) -> None:
        """``policy`` has come or gone: SAs at work may carry something else by now, or their packets go
        another way. ``before``: the policies when they were compiled last; what came later concerned no SA
        at work."""
        for placed in list(self._programming.placed.values()):
            if placed.sa.direction == Direction.INBOUND and before.concerns(policy, placed.sa):
                await self._programming.permit(placed, *self._permitted(placed.sa))
                await self.bring_in(placed)
                await self._lead(placed)

    async def outbound(self, sa: Sa, header: PuntHeader, why_not: str | None = None) -> Placed:
        """Puts an outbound SA to work, if it is not yet; in software, if ``why_not`` is given."""
        placed = self._programming.placed.get(sa.identity)
        if placed is None:
            if not self._programming.capabilities.ipv6 and self._carries_ipv6_alone(sa):
                why_not = IPV6
            placed = await self._programming.place(sa, _offered(header), mtu=self._mtu(sa), why_not=why_not)
        elif why_not:
            await self._programming.take_over(placed, why_not)
        else:
            await self.bring_in(placed)
        return placed

    def _carries_ipv6_alone(self, sa: Sa) -> bool:
        """Whether the policies lead nothing but IPv6 to an outbound SA."""
        return self._spd().versions(sa) == {6}

    def _mtu(self, sa: Sa) -> int:
        """The longest packet that an outbound SA takes in a DFE."""
        return sa.mtu or self._routing.room(sa)

    def known(self, identity: Identity) -> Sa | None:
        """The inbound SA of that name."""
        return self._sas.inbound(identity)

    async def named(self, identity: Identity, header: PuntHeader, *, in_udp: bool) -> Placed | None:
        """The inbound SA of that name, at work; None where there is none, or it is not one for ESP in UDP
        as the packet has come (RFC 3948)."""
        sa = self._sas.inbound(identity)
        return await self.inbound(sa, header) if sa and bool(sa.encapsulation) == in_udp else None

    async def software_inbound(self, placed: Placed, header: PuntHeader, packet: bytes) -> None:
        """Does an inbound SA here for the sake of ``packet``, which no DFE can do. Who has not the SA's
        keys moves nothing.

        Raises
        ------
        Refused
            MALFORMED, REPLAY, ICV: the packet is not one of the SA, which stays where it is.
        """
        if placed.soft is None:
            SoftSa(placed.sa, placed.permitted, await self._programming.state(placed)).authentic(packet)
        await self._take(placed, header)

    async def software_outbound(self, decision: Decision, header: PuntHeader) -> list[Placed]:
        """The SAs that a decision to protect asks for, done in software from now on, innermost first."""
        chain = self._sas.outbound(decision.policies)
        why = INSIDE if len(chain) > 1 else BEYOND
        return [
            await self._take(
                self._programming.placed.get(sa.identity) or await self.outbound(sa, header, why), header, why
            )
            for sa in chain
        ]

    async def _take(self, placed: Placed, header: PuntHeader, why: str = BEYOND) -> Placed:
        """From now on it is done in software. What is there for want of room, and has a packet that a DFE
        could do, goes back as soon as there is some."""
        if placed.wanting and why == BEYOND and header.reason in ELSEWHERE:
            return placed
        if placed.soft is None or placed.beyond is None or header.reason not in ELSEWHERE:
            placed.beyond = self._clock()
        await self._programming.take_over(placed, why)
        return placed

    async def path_changed(self, destination: Address) -> None:
        """The path to ``destination`` takes less than before: a DFE does not know, so its SAs are done
        here.
        """
        for placed in self._programming.placed.values():
            sa = placed.sa
            if (
                sa.direction == Direction.OUTBOUND
                and sa.destination == destination
                and self._routing.room(sa) < placed.mtu
            ):
                await self._programming.take_over(placed, BEYOND)

    async def give_back(self) -> None:
        """Lets DFEs do those SAs again that were taken from them for packets that no DFE can do, when for a
        while none came.
        """
        for placed in list(self._programming.placed.values()):
            if (
                self._programming.refusals.get(placed.sa) == BEYOND
                and self._clock() - (placed.beyond or 0) >= QUIET_SECONDS
            ):
                placed.wanting = True
                await self.bring_in(placed)


def _offered(header: PuntHeader) -> int | None:
    """The DFE that the balancer chose for what came up; None: it is one that takes no packets."""
    return None if header.reason == Reason.DFE_DOWN else header.dfe
