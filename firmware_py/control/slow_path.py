# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The control element's own way of a packet: what the gateware cannot do, or has no room for.

A packet comes up with the reason why. It is put together where it came in pieces, then it is IPsec for this
gateway, or a clear packet on which the policies decide; it leaves encrypted, decrypted or as it is, in
pieces where its link is too small.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from spigate.firmware_py.control.assignment import Assignment
from spigate.firmware_py.control.programming import Placed
from spigate.firmware_py.control.routing import SMALLEST_MTU, Consumed, Routing, routed
from spigate.firmware_py.ipsec import icmp
from spigate.firmware_py.ipsec.boxes import Flow
from spigate.firmware_py.ipsec.decision import OWN, Decision, Spd, Verdict, way_of
from spigate.firmware_py.ipsec.fragments import Reassembly, fragments
from spigate.firmware_py.ipsec.identification import SOFTWARE_NUMBERS, Identifications
from spigate.firmware_py.ipsec.packet import (
    ETHERTYPES,
    HEADER_BYTES,
    Ethernet,
    Ip,
    Refused,
    is_neighbour_discovery,
    martian,
    rewrite,
    spi,
)
from spigate.firmware_py.ipsec.sa import Address, Identity, Sa
from spigate.firmware_py.ipsec.tunnel import keeps_whole
from spigate.firmware_py.tables.interface import Event, Route
from spigate.firmware_py.tables.punt import InjectMode, Place, PuntHeader
from spigate.hdl.contract.enums import Direction, Mode, Port, Reason
from spigate.hdl.contract.protocols import (
    AH,
    ESP,
    FIRST_SPI,
    IKE_PORT,
    NATT_KEEPALIVE,
    NATT_PORT,
    NON_ESP_MARKER,
    UDP,
)
from spigate.hdl.contract.reasons import AUDITABLE

ERRORS_PER_S, ERROR_BURST = 100, 20
"""ICMP errors that are made at most (RFC 1812 4.3.2.8)."""
MAX_EVENTS = 1024
"""Events that wait to be taken; the oldest go."""


class Owner(Protocol):
    """What the slow path asks of the control element."""

    @property
    def spd(self) -> Spd:
        """Its policies."""

    def through(self, header: PuntHeader) -> Sequence[Sa] | None:
        """The SA that a DFE has decrypted a frame with."""

    async def may_speak(self, source: Address, ingress: Port) -> None:
        """Refused as POLICY where ``source`` may not speak in the clear."""

    def tell_host(self, header: PuntHeader, frame: bytes) -> None:
        """A frame is for the control element's own host."""

    def heard(self, sa: Sa, outer: Ip) -> None:
        """An authentic packet came on ``sa``, in UDP."""

    async def inject(
        self, mode: InjectMode, port: Port, depth: int, frame: bytes, out_of: Place | None = None
    ) -> None:
        """Sends a frame down."""


class SlowPath:
    """Does packets in software.

    Parameters
    ----------
    owner : Owner
    assignment : Assignment
    routing : Routing
    frame_bytes : int
        The longest frame that the gateway takes.
    depth_limit : callable
        Layers of IPsec, at most.
    clock : callable
        Seconds.

    Members
    -------
    software : Counter of str
        Packets done, by kind: ``decrypted``, ``encrypted``, ``bypassed``.
    made : Counter of str
        Frames beyond those that came up: ``fragment``, ``icmp``.
    """

    def __init__(
        self,
        owner: Owner,
        assignment: Assignment,
        routing: Routing,
        *,
        frame_bytes: int,
        depth_limit: Callable[[], int],
        clock: Callable[[], float],
    ):
        self._owner, self._assignment, self._routing, self._frame_bytes = (
            owner,
            assignment,
            routing,
            frame_bytes,
        )
        self._depth_limit, self._clock = depth_limit, clock
        self._reassembly = {port: Reassembly() for port in Port}  # none takes the room of another
        self._identifications = Identifications(SOFTWARE_NUMBERS)
        self._allowance, self._allowed_at = float(ERROR_BURST), clock()
        self._events: deque[tuple[Event, Sa]] = deque(maxlen=MAX_EVENTS)
        self.software: Counter[str] = Counter()
        self.made: Counter[str] = Counter()

    def take_events(self) -> list[tuple[Event, Sa]]:
        """What happened since the last call, and to which SA: packets dropped for auditable reasons, soft
        lifetimes over.
        """
        events = list(self._events)
        self._events.clear()
        return events

    async def handle(self, header: PuntHeader, ethernet: Ethernet, packet: bytes) -> None:
        """Does a packet that the gateware does not look into: an IPv6 packet, AH, ESP in UDP, or a fragment.

        Raises
        ------
        Refused
            It is dropped.
        Consumed
            It ends here: a fragment that waits, a keep-alive, a packet for the gateway itself.
        """
        ip = Ip.parse(packet)
        if header.ingress != Port.RECIRCULATE and is_neighbour_discovery(packet, ip):
            raise Consumed("local")  # without it nobody finds the gateway, whatever the policies say
        if martian(ip, group=header.ingress != Port.RECIRCULATE and bool(ethernet.destination[0] & 1)):
            raise Refused(Reason.MARTIAN)
        if ip.fragment and self._owner.spd.wants_whole(Flow.of(ip), header.ingress):
            header, packet, ip = self._whole(header, packet, ip, self._owner.through(header) or ())
            frame = ethernet.pack() + packet
            if ip.version == 4 and len(frame) <= self._frame_bytes:
                # Now the gateware can do it, or say why not.
                await self._owner.inject(
                    InjectMode.CLASSIFY, header.ingress, header.depth, frame, header.out_of
                )
                return
        if await self._ipsec(header, ethernet, packet, ip):
            return
        await self.forward(header, ethernet, packet, ip)

    def _whole(
        self, header: PuntHeader, packet: bytes, ip: Ip, through: Sequence[Sa]
    ) -> tuple[PuntHeader, bytes, Ip]:
        """The packet that a fragment ends, which came out of ``through``; Consumed where others are still
        missing. Only what came by the same way is one packet: whoever sends in the clear would else write
        into what was decrypted."""
        whole = self._reassembly[header.ingress].add(
            packet[: ip.total_length], ip, self._clock(), way_of(through)
        )
        if whole is None:
            raise Consumed("fragment")
        return replace(header, reason=Reason.FRAGMENT), whole, Ip.parse(whole)

    async def _ipsec(self, header: PuntHeader, ethernet: Ethernet, packet: bytes, ip: Ip) -> bool:
        """Decrypts a packet for this gateway; False: it is clear."""
        if not self._is_ipsec(ip):
            return False
        in_udp = ip.protocol == UDP
        if self._is_ike(packet, ip):
            raise Consumed("ike", header, ethernet.pack() + packet)
        if in_udp and packet[ip.header_bytes + 8 : ip.total_length] == NATT_KEEPALIVE:
            raise Consumed("keepalive")
        placed = await self._assignment.named(self._identity(packet, ip), header, in_udp=in_udp)
        if placed is None:
            raise Refused(Reason.NO_SA)
        try:
            await self._assignment.software_inbound(placed, header, packet)
        except Refused as refusal:
            self._tell(refusal.reason, placed, header, packet)
            raise
        await self.decrypt(placed, header, ethernet, packet)
        return True

    def _is_ipsec(self, ip: Ip) -> bool:
        """Whether it is ESP, AH, ESP in UDP or IKE for this gateway."""
        in_udp = ip.protocol == UDP and ip.ports is not None and ip.ports[1] in (IKE_PORT, NATT_PORT)
        return self._routing.is_local(ip.destination) and (in_udp or ip.protocol in (ESP, AH))

    def _is_ike(self, packet: bytes, ip: Ip) -> bool:
        """Of IPsec for this gateway: whether it is IKE (RFC 7296 2.23, 3.1)."""
        at, to = ip.header_bytes + 8, ip.ports[1] if ip.ports else None
        marked = packet[at : min(at + len(NON_ESP_MARKER), ip.total_length)] == NON_ESP_MARKER
        return ip.protocol == UDP and (to == IKE_PORT or marked)

    def _identity(self, packet: bytes, ip: Ip) -> Identity:
        """The name of the SA of an IPsec packet."""
        number = spi(packet, ip)
        if number is None:
            raise Refused(Reason.MALFORMED)
        if number < FIRST_SPI:
            raise Refused(Reason.RESERVED_SPI)
        return ip.destination, ESP if ip.protocol == UDP else ip.protocol, number

    async def decrypt(
        self, placed: Placed, header: PuntHeader, ethernet: Ethernet, packet: bytes, outer: Sequence[Sa] = ()
    ) -> None:
        """Decrypts ``packet`` with an SA that is done in software, and sends on what was inside. ``outer``:
        the SAs that it came out of here, innermost first. What a DFE has decrypted before lay in the box of
        its SA, so inbound policy wants it in there."""
        if header.depth > self._depth_limit():
            raise Refused(Reason.NESTED)
        through = (placed.sa, *outer)
        try:
            plain = placed.here.decapsulate(packet)
        except Refused as refusal:
            self._tell(refusal.reason, placed, header, packet)
            raise
        self._tell_soft(placed, header, packet)
        if placed.sa.encapsulation:
            self._owner.heard(placed.sa, Ip.parse(packet))
        ip = Ip.parse(plain)
        ethernet = replace(ethernet, kind=ETHERTYPES[ip.version])
        again = PuntHeader(
            Reason.NO_RULE if ip.version == 4 else Reason.IPV6,
            Port.RECIRCULATE,
            header.dfe,
            header.sa,
            header.depth + 1,
        )
        spd = self._owner.spd
        if (
            ip.fragment
            and spd.admits(Flow.of(ip), through)
            and spd.wants_whole(Flow.of(ip), Port.RECIRCULATE, through)
        ):
            again, plain, ip = self._whole(again, plain, ip, through)
        if placed.sa.mode == Mode.TUNNEL and is_neighbour_discovery(plain, ip):
            raise Refused(Reason.MARTIAN)  # of another link: here nobody could tell it from this one's
        if self._is_ipsec(ip) and not self._is_ike(plain, ip):
            await self._next_layer(again, ethernet, plain, ip, through)
            self.software["decrypted"] += 1
            return
        decision = spd.decide(Flow.of(ip), Port.RECIRCULATE, through)
        if decision.action == Verdict.DISCARD:
            self._tell(Reason.POLICY, placed, header, packet)
        elif decision.action in (Verdict.PROTECT, Verdict.HOST):
            self.software["decrypted"] += 1
        await self._decided(decision, again, ethernet, plain, ip, "decrypted")

    async def _next_layer(
        self, header: PuntHeader, ethernet: Ethernet, packet: bytes, ip: Ip, through: Sequence[Sa]
    ) -> None:
        """Takes off one more layer of what came out of ``through``. An SA that a policy names beside others
        needs to know those; of any other one policy must ask for ``through`` around its packets."""
        if header.depth > self._depth_limit():
            raise Refused(Reason.NESTED)
        sa = self._assignment.known(self._identity(packet, ip))
        if sa is None or bool(sa.encapsulation) != (ip.protocol == UDP):
            raise Refused(Reason.NO_SA)
        spd = self._owner.spd
        if spd.bundled(sa):
            placed = await self._assignment.inbound(sa, header)
            await self.decrypt(placed, header, ethernet, packet, through)
        elif spd.admits(Flow.of(ip), through):
            await self._owner.inject(
                InjectMode.CLASSIFY, Port.RECIRCULATE, header.depth, ethernet.pack() + packet
            )
        else:
            raise Refused(Reason.POLICY)

    async def forward(self, header: PuntHeader, ethernet: Ethernet, packet: bytes, ip: Ip) -> None:
        """Does to a clear packet what the policies say."""
        decision = self._owner.spd.decide(Flow.of(ip), header.ingress, self._owner.through(header))
        await self._decided(decision, header, ethernet, packet[: ip.total_length], ip)

    async def _decided(
        self,
        decision: Decision,
        header: PuntHeader,
        ethernet: Ethernet,
        packet: bytes,
        ip: Ip,
        kind: str = "bypassed",
    ) -> None:
        if decision.action == Verdict.DISCARD:
            raise Refused(Reason.POLICY)
        if decision.action == Verdict.PROTECT:
            chain = await self._assignment.software_outbound(decision, header)
            await self.encrypt(chain, header, ethernet, packet)
            return
        await self.notice_mtu(packet, ip)
        if header.ingress != Port.RECIRCULATE:
            await self._owner.may_speak(ip.source, header.ingress)  # also to this host
        route = self._route(lambda: self._routing.clear(header.ingress, ip), header, ethernet, packet)
        if route.decrement_ttl:
            if ip.ttl <= 1:
                await self.expired(header, ethernet, packet)
                return
            packet = rewrite(packet, ip.header_bytes, ttl=ip.ttl - 1)
        await self._send(route, header, ethernet, packet, ip, kind)

    def _route(
        self, find: Callable[[], Route], header: PuntHeader, ethernet: Ethernet, packet: bytes
    ) -> Route:
        """What ``find`` gives. Where it raises Consumed, that says what the packet has become by now: what
        was decrypted cannot be decrypted once more."""
        try:
            return find()
        except Consumed as cause:
            cause.header, cause.frame = header, ethernet.pack() + packet
            raise

    async def encrypt(
        self, chain: list[Placed], header: PuntHeader, ethernet: Ethernet, packet: bytes
    ) -> None:
        """Encrypts ``packet`` with SAs that are done in software, the innermost first, and sends it."""
        sas = [placed.sa for placed in chain]
        outermost = sas[-1]
        ip = Ip.parse(packet)
        route = self._route(lambda: self._routing.outbound(sas), header, ethernet, packet)
        packet = packet[: ip.total_length]
        counts = route.decrement_ttl and header.ingress != OWN
        if counts and ip.ttl <= 1:
            await self.expired(header, ethernet, packet)
            return
        if 0 < chain[0].mtu < len(packet):
            chain[0].beyond = self._clock()  # no DFE could have done it
        # What IPv6 must carry in any case goes in fragments outside (RFC 2473 7.1).
        room = max(self._room(chain, ip), SMALLEST_MTU[6] * (ip.version == 6))
        mtu, pieces = self._routing.mtu(Port.NETWORK, outermost.destination), [packet]
        if len(packet) > room and keeps_whole(outermost, ip):
            if _came_in_pieces(header, ip):
                pieces = fragments(packet, room, self._own(ip)) if chain[0].sa.mode == Mode.TUNNEL else pieces
            elif ip.dont_fragment:
                await self.too_big(header, ethernet, packet, room)
            else:
                pieces = fragments(packet, room)
        for at, placed in enumerate(chain):
            sealed = []
            for piece in pieces:
                try:
                    sealed.append(
                        placed.here.encapsulate(
                            piece,
                            decrement_ttl=counts and not at,
                            mtu=mtu,
                            identification=self._identification(placed.sa),
                        )
                    )
                except Refused as refusal:
                    self._tell(refusal.reason, placed, header, packet)
                    raise
                self._tell_soft(placed, header, packet)
            pieces = sealed
        for piece in pieces:
            await self._send(route, header, ethernet, piece, Ip.parse(piece), "encrypted")
        self._count_fragments(pieces)

    def _identification(self, sa: Sa) -> int | None:
        """Of the next packet that ``sa`` makes: all SAs between two addresses share a sequence (RFC 6864
        4.3). None: in transport mode the packet keeps that of the host which sent it."""
        return self._identifications.next(sa.source, sa.destination) if sa.mode == Mode.TUNNEL else None

    def _room(self, chain: list[Placed], ip: Ip) -> int:
        """Bytes of the longest packet that fits through all of a chain."""
        header_bytes = [ip.unfragmentable[0]]
        for placed in chain:
            tunnel = placed.sa.mode == Mode.TUNNEL
            header_bytes.append(HEADER_BYTES[placed.sa.source.version] if tunnel else header_bytes[-1])
        room = self._routing.mtu(Port.NETWORK, chain[-1].sa.destination)
        for placed, size in zip(reversed(chain), header_bytes[-2::-1], strict=True):
            room = placed.here.room(room, size)
        return room

    def _tell_soft(self, placed: Placed, header: PuntHeader, packet: bytes) -> None:
        if placed.here.soft_reached:
            self._tell(Reason.SOFT_LIFETIME, placed, header, packet)

    def _tell(self, reason: Reason, placed: Placed, header: PuntHeader, packet: bytes) -> None:
        if reason not in AUDITABLE and reason != Reason.SOFT_LIFETIME:
            return
        sa, ip = placed.sa, Ip.parse(packet)
        inbound = sa.direction == Direction.INBOUND
        at = ip.header_bytes + {ESP: 4, AH: 8}[sa.protocol] + 8 * bool(sa.encapsulation)
        sequence = int.from_bytes(packet[at : at + 4]) if inbound else placed.here.state.sequence
        self._events.append(
            (
                Event(
                    reason,
                    reason != Reason.SOFT_LIFETIME,
                    header.ingress,
                    placed.place.dfe,
                    placed.place.sa,
                    sa.spi,
                    sequence,
                    ip.source,
                    ip.destination,
                    header.time,
                ),
                sa,
            )
        )

    # What routers say

    async def expired(self, header: PuntHeader, ethernet: Ethernet, packet: bytes) -> None:
        """Answers a clear packet that has lived too long; it ends here."""
        ip = Ip.parse(packet)
        source = self._routing.address(
            Port.SERVER if header.ingress == Port.RECIRCULATE else header.ingress, ip.version
        )
        if source:
            await self._say(icmp.time_exceeded(packet[: ip.total_length], ip, source), header, ethernet)
        raise Consumed("ttl_expired")

    async def too_big(self, header: PuntHeader, ethernet: Ethernet, packet: bytes, mtu: int) -> None:
        """Answers a packet that its SA or its link has no room for (RFC 4301 8.2.1); it ends here."""
        ip = Ip.parse(packet)
        source = self._routing.address(
            Port.SERVER if header.ingress == Port.RECIRCULATE else header.ingress, ip.version
        )
        if source:
            await self._say(icmp.too_big(packet[: ip.total_length], ip, source, mtu), header, ethernet)
        raise Consumed("too_big")

    async def _say(self, message: bytes | None, header: PuntHeader, ethernet: Ethernet) -> None:
        """Sends an ICMP error, as the policies have it: through a tunnel to who stands behind one."""
        now = self._clock()
        self._allowance = min(self._allowance + (now - self._allowed_at) * ERRORS_PER_S, ERROR_BURST)
        self._allowed_at = now
        if message is None or self._allowance < 1:
            return
        self._allowance -= 1
        ip = Ip.parse(message)
        own = PuntHeader(header.reason, OWN)
        ethernet = replace(ethernet, kind=ETHERTYPES[ip.version])
        decision = self._owner.spd.decide(Flow.of(ip), OWN)
        try:
            if decision.action == Verdict.HOST:
                self._owner.tell_host(replace(own, ingress=Port.RECIRCULATE), ethernet.pack() + message)
                return
            if decision.action == Verdict.PROTECT:
                await self.encrypt(
                    await self._assignment.software_outbound(decision, own), own, ethernet, message
                )
            elif decision.action == Verdict.BYPASS:
                await self._send(routed(self._routing.next_hop(ip.destination)), own, ethernet, message, ip)
            else:
                return
        except (Refused, Consumed):
            return
        self.made["icmp"] += 1

    async def notice_mtu(self, packet: bytes, ip: Ip) -> None:
        """Takes up what an error message to us says about a packet that we sent: it must quote one of our
        SAs (RFC 4301 8.2.1)."""
        if not self._routing.is_local(ip.destination):
            return
        told = icmp.path_mtu(packet, ip)
        if told is None:
            return
        mtu, beginning = told
        about = icmp.quoted(beginning)
        if about and self._routing.is_outbound(about, spi(beginning + bytes(16), about)):
            self._routing.learn_mtu(about.destination, mtu)
            await self._assignment.path_changed(about.destination)

    # Sending down

    async def _send(
        self,
        route: Route,
        header: PuntHeader,
        ethernet: Ethernet,
        packet: bytes,
        ip: Ip,
        kind: str | None = None,
    ) -> None:
        kept = route.destination_mac is None
        made = route.ethernet(ethernet, ETHERTYPES[ip.version])
        mtu = self._routing.mtu(route.egress, ip.destination)
        # What this gateway has encrypted begins here; and what it decrypts for a host would have arrived
        # there whole.
        begins = kind == "encrypted" or (kind == "decrypted" and kept) or _came_in_pieces(header, ip)
        try:
            pieces = fragments(packet, mtu, self._own(ip) if begins and len(packet) > mtu else None)
        except Refused:
            await self.too_big(
                replace(header, ingress=Port.RECIRCULATE) if kind == "decrypted" else header,
                ethernet,
                packet,
                mtu,
            )
            return
        for piece in pieces:
            await self._owner.inject(InjectMode.DIRECT, route.egress, header.depth, made.pack() + piece)
        self._count_fragments(pieces)
        if kind:
            self.software[kind] += 1

    def _own(self, ip: Ip) -> int:
        """The identification of the fragments of a packet that begins here: its own, which AH has signed
        too (RFC 4302 A1), where it has one."""
        own = ip.identification if ip.version == 4 else 0
        return own or self._identifications.next(ip.source, ip.destination)

    def _count_fragments(self, pieces: list[bytes]) -> None:
        if len(pieces) > 1:
            self.made["fragment"] += len(pieces) - 1


def _came_in_pieces(header: PuntHeader, ip: Ip) -> bool:
    """Whether an IPv6 packet was put together here, and so may leave in pieces: whoever sent it has
    fragmented it for a path as narrow as this one. IPv4's may be fragmented anyhow, for what is put
    together has no DF."""
    return ip.version == 6 and header.reason == Reason.FRAGMENT
