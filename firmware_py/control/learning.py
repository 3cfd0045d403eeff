# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What the gateway's tables learn from punts: which entries a packet and its like need, and whether the
packet goes down again or is done in software.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

from spigate.firmware_py.control.assignment import INSIDE, Assignment
from spigate.firmware_py.control.programming import Programming
from spigate.firmware_py.control.routing import Consumed, Routing
from spigate.firmware_py.control.slow_path import SlowPath
from spigate.firmware_py.errors import TableFull
from spigate.firmware_py.ipsec.boxes import Flow
from spigate.firmware_py.ipsec.decision import Decision, Spd, Verdict
from spigate.firmware_py.ipsec.packet import Ethernet, Ip, Refused
from spigate.firmware_py.ipsec.sa import Address, Sa, Selectors
from spigate.firmware_py.ipsec.sad import SaDatabase
from spigate.firmware_py.ipsec.tunnel import keeps_whole
from spigate.firmware_py.tables.interface import Rule
from spigate.firmware_py.tables.punt import InjectMode, Place, PuntHeader
from spigate.hdl.contract.enums import Action, Direction, Port, Reason
from spigate.hdl.contract.protocols import ESP

Handler = Callable[[PuntHeader, bytes, Ethernet, bytes, Ip], Awaitable[None]]
"""Does what a punt asks for: its header, its frame, and what that is."""
REPEATS = 4
"""How often a clear frame may come up and go down again, the tables being as they are, before it is done in
software; copies in flight count as one."""
LOOP_LIMIT = 64
"""The same of any frame, before it is lost. That never happens."""
MAX_RETURNS = 4096
"""Frames of which that is remembered."""


class Owner(Protocol):
    """What learning asks of the control element."""

    @property
    def spd(self) -> Spd:
        """Its policies."""

    @property
    def drops_misses(self) -> bool:
        """Whether a packet is lost that the tables did not know."""

    def through(self, header: PuntHeader) -> tuple[Sa, ...] | None:
        """The SA that a DFE has decrypted a frame with."""

    async def may_speak(self, source: Address, ingress: Port) -> None:
        """Refused as POLICY where ``source`` may not speak in the clear."""

    async def misses_changed(self) -> None:
        """The CAM may have got room for all SAs, or have none for one."""

    async def inject(
        self, mode: InjectMode, port: Port, depth: int, frame: bytes, out_of: Place | None = None
    ) -> None:
        """Sends a frame down."""


class Learning:
    """Parameters
    ----------
    owner : Owner
    sas, programming, assignment, routing, slow
        The control element's.

    Members
    -------
    handlers : dict of Reason to callable
        What is done with each kind of punt; refused or consumed where that is its end.
    """

    def __init__(
        self,
        owner: Owner,
        sas: SaDatabase,
        programming: Programming,
        assignment: Assignment,
        routing: Routing,
        slow: SlowPath,
    ):
        self._owner, self._sas, self._programming = owner, sas, programming
        self._assignment, self._routing, self._slow = assignment, routing, slow
        self._written = 0
        self._returns: Counter[tuple[Port, int, bytes]] = Counter()
        self.handlers: dict[Reason, Handler] = {
            Reason.UNKNOWN_SPI: self._encrypted,
            Reason.NO_RULE: self._clear,
            Reason.RULE: self._clear,
            Reason.SA_ABSENT: self._absent,
            Reason.DFE_DOWN: self._absent,
            Reason.IPV6: self._beyond,
            Reason.NEIGHBOUR: self._beyond,
            Reason.AH: self._beyond,
            Reason.NATT: self._beyond,
            Reason.FRAGMENT: self._beyond,
            Reason.IKE: self._beyond,
            Reason.TTL_EXPIRED: self._expired,
            Reason.TOO_BIG: self._too_big,
        }

    # Punts of encrypted packets

    async def _encrypted(
        self, header: PuntHeader, frame: bytes, ethernet: Ethernet, packet: bytes, ip: Ip
    ) -> None:
        spi = int.from_bytes(packet[ip.header_bytes : ip.header_bytes + 4])
        sa = self._sas.inbound((ip.destination, ip.protocol, spi))
        if sa is None:
            if self._routing.is_local(ip.destination):
                raise Refused(Reason.NO_SA)
            # On its way through to somebody else: rules do not see it, so it goes through here.
            await self._slow.forward(header, ethernet, packet, ip)
            return
        if sa.encapsulation:
            raise Refused(Reason.NO_SA)  # RFC 3948: only in UDP
        known = sa.identity in self._programming.placed
        placed = await self._assignment.inbound(sa, header)
        await self._owner.misses_changed()
        if not known and not placed.soft:
            await self._miss(header, frame)
        elif placed.soft:
            await self._slow.decrypt(placed, header, ethernet, packet)
        else:
            await self._again(header, frame)

    async def _absent(
        self, header: PuntHeader, frame: bytes, ethernet: Ethernet, packet: bytes, ip: Ip
    ) -> None:
        """The DFE of an entry has not the SA, or takes no packets."""
        identity = (
            ip.destination,
            ip.protocol,
            int.from_bytes(packet[ip.header_bytes : ip.header_bytes + 4]),
        )
        if ip.protocol == ESP and (self._routing.is_local(ip.destination) or self._sas.inbound(identity)):
            placed = self._programming.placed.get(identity)
        else:
            decision = self._decide(header, ip)
            if decision.action != Verdict.PROTECT:
                await self._clear(header, frame, ethernet, packet, ip)
                return
            chain = self._sas.outbound(decision.policies)
            placed = self._programming.placed.get(chain[0].identity)
            if placed is None:  # the SA that was meant has a successor
                await self._clear(header, frame, ethernet, packet, ip)
                return
        if placed is None:
            raise Refused(Reason.NO_SA)
        inbound = placed.sa.direction == Direction.INBOUND
        await self._assignment.bring_in(placed)
        if header.reason == Reason.DFE_DOWN and placed.place.dfe == header.dfe and not placed.soft:
            await self._programming.move(
                placed, self._routing.inbound(placed, self._owner.spd) if inbound else None
            )
        there = (placed.place.dfe, placed.place.sa) == (header.dfe, header.sa)
        if placed.soft and inbound:
            await self._slow.decrypt(placed, header, ethernet, packet)
        elif placed.soft:
            await self._slow.encrypt(
                await self._assignment.software_outbound(decision, header), header, ethernet, packet
            )
        elif not there and not inbound:
            await self._clear(
                header, frame, ethernet, packet, ip
            )  # a rule that says otherwise is written anew
        elif there and (header.ingress, header.depth, frame) in self._returns:
            raise Refused(Reason.NO_SA)  # not just written there: it is not there
        else:
            await self._again(header, frame)

    # Punts of clear packets

    def _decide(self, header: PuntHeader, ip: Ip) -> Decision:
        """What the policies say about a packet that came up. What came out of an SA that has gone
        meanwhile, or that policy does not let out of it any more, is discarded."""
        return self._owner.spd.decide(Flow.of(ip), header.ingress, self._owner.through(header))

    async def _clear(
        self, header: PuntHeader, frame: bytes, ethernet: Ethernet, packet: bytes, ip: Ip
    ) -> None:
        await self._slow.notice_mtu(packet, ip)
        decision = self._decide(header, ip)
        action = Action.PUNT
        try:
            if decision.region is not None:
                rule = await self._rule(decision, decision.region, header, ip)
                await self._programming.ways.install(decision, rule)
                absent = rule.action == Action.PROTECT and self._programming.is_absent(rule.place)
                action = Action.PUNT if absent else rule.action
        except TableFull:
            action = Action.PUNT
        if action == Action.PUNT or decision.action == Verdict.DISCARD or self._comes_again(header, frame):
            await self._slow.forward(header, ethernet, packet, ip)
        else:
            await self._miss(header, frame)

    async def _rule(self, decision: Decision, region: Selectors, header: PuntHeader, ip: Ip) -> Rule:
        """The rule that does in ``region`` what was decided; what it points to is written."""
        ingress = frozenset({decision.ingress})
        if decision.action in (Verdict.BYPASS, Verdict.HOST):
            await self._owner.may_speak(ip.source, header.ingress)
            route = self._routing.clear(header.ingress, ip)
            if not self._programming.ways.lists(region.source, header.ingress):
                raise TableFull("Some of these sources have no place in the DFEs")
            at = await self._programming.ways.route(route)
            return Rule(region, ingress, Action.BYPASS, route=at, clear=decision.clear)
        if decision.action == Verdict.PROTECT:
            chain = self._sas.outbound(decision.policies)
            placed = await self._assignment.outbound(chain[0], header, INSIDE if len(chain) > 1 else None)
            route = self._routing.outbound(chain)
            at = await (
                self._programming.ways.route_of_absent()
                if placed.soft
                else self._programming.ways.route(route)
            )
            return Rule(region, ingress, Action.PROTECT, route=at).to(placed.place)
        return Rule(region, ingress, Action.DISCARD)

    async def _expired(
        self, header: PuntHeader, frame: bytes, ethernet: Ethernet, packet: bytes, ip: Ip
    ) -> None:
        await self._slow.expired(header, ethernet, packet)

    async def _too_big(
        self, header: PuntHeader, frame: bytes, ethernet: Ethernet, packet: bytes, ip: Ip
    ) -> None:
        """A DFE's SA has no room for it: who made it hears so, or it goes in pieces."""
        decision = self._decide(header, ip)
        if decision.action == Verdict.PROTECT and ip.dont_fragment:
            outermost = self._sas.outbound(decision.policies)[-1]
            room = self._routing.room(outermost)  # by now it may be more than the DFE was told
            if keeps_whole(outermost, ip) and ip.total_length > room:
                await self._slow.too_big(header, ethernet, packet, room)
        await self._slow.forward(header, ethernet, packet, ip)

    async def _beyond(
        self, header: PuntHeader, frame: bytes, ethernet: Ethernet, packet: bytes, ip: Ip
    ) -> None:
        """What the gateware does not look into."""
        await self._slow.handle(header, ethernet, packet)

    # Sending down

    async def _miss(self, header: PuntHeader, frame: bytes) -> None:
        """The tables now know what to do with ``frame``."""
        if self._owner.drops_misses:
            raise Refused(Reason.NO_SA)
        await self._again(header, frame)

    def _comes_again(self, header: PuntHeader, frame: bytes) -> bool:
        """Whether a frame came up that was sent down several times already, with nothing written meanwhile:
        whatever the tables make of it, it goes by software. Copies in flight look the same."""
        return (
            self._written == self._programming.programmed.total()
            and self._returns[header.ingress, header.depth, frame] >= REPEATS
        )

    async def _again(self, header: PuntHeader, frame: bytes) -> None:
        """Sends a frame back to where it came from, now that the tables know what to do with it. That one
        goes round is a fault of ours: ``loop`` is counted, and the frame ends here."""
        if self._written != self._programming.programmed.total() or len(self._returns) >= MAX_RETURNS:
            self._written = self._programming.programmed.total()
            self._returns.clear()
        key = (header.ingress, header.depth, frame)
        self._returns[key] += 1
        if self._returns[key] > LOOP_LIMIT:
            raise Consumed("loop")
        await self._owner.inject(InjectMode.CLASSIFY, header.ingress, header.depth, frame, header.out_of)
