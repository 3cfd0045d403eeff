# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What becomes of a host's packets: policies, SAs, ESP and AH. Sans-I/O: IP packets in, IP packets out.

Clear packets come from the TUN device and go there; protected ones come from the network and go there.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial

from spigate.firmware_py.daemon.dataplane import (
    KINDS,
    NEARLY_USED_UP,
    Active,
    Metric,
    SaOrPolicy,
    packets_and_drops,
)
from spigate.firmware_py.daemon.peer_keys import START_ON_TRAFFIC
from spigate.firmware_py.daemon.waiting import Held, trap_policies
from spigate.firmware_py.ike.engine.actions import (
    AddPolicy,
    InstallSa,
    MoveSa,
    RemovePolicy,
    RemoveSa,
    Socket,
)
from spigate.firmware_py.ike.peers.pad import Pad
from spigate.firmware_py.ipsec.boxes import Flow
from spigate.firmware_py.ipsec.decision import Decision, Spd, Verdict, way_of
from spigate.firmware_py.ipsec.fragments import Reassembly, fragments
from spigate.firmware_py.ipsec.identification import Identifications
from spigate.firmware_py.ipsec.packet import Ip, Refused, is_neighbour_discovery, rewrite, spi
from spigate.firmware_py.ipsec.policy import Policy, PolicyDatabase, PolicyDirection
from spigate.firmware_py.ipsec.sa import Address, Identity, Sa, SaState, Selectors
from spigate.firmware_py.ipsec.sad import SaDatabase
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.hdl.contract.enums import Direction, Mode, Port, Reason
from spigate.hdl.contract.protocols import ESP, NATT_PORT, UDP

ALIVE_SECONDS = 1.0
"""A peer is called alive so often at most."""


@dataclass
class SoftwareActive(Active):
    """An SA that is done here. ``heard``: when its peer was last called alive."""

    soft: SoftSa
    heard: float = -ALIVE_SECONDS
    where = "software"

    @property
    def state(self) -> SaState:
        """How far it is."""
        return self.soft.state


class Plane:
    """Parameters
    ----------
    pad : Pad
    on_traffic : collection of (str, str)
        Names of peer and child that the first packet starts.
    policies : iterable of Policy
        What comes before what is negotiated.
    mtu : int
        Largest packet to the network, in bytes.
    clock : callable
        Seconds that only grow.
    local : callable
        Gives the host's own addresses; asked when they (:meth:`addresses_changed`) or policies have
        changed. What is decrypted for one of them goes no further, so outbound policy is not asked about it
        (RFC 4301 5.2).

    Members
    -------
    on_alive : callable
        Called with the SPI of an inbound SA on which an authentic packet came.
    on_moved : callable
        Called with the SPI of an inbound SA on which an authentic packet came in UDP from elsewhere, and
        with its local and remote ends.
    on_expired : callable
        Called with an SA, as it was installed, that is to be replaced, or (True) that is used up.
    on_wanted : callable
        Called with names of peer and child, and the packet's selectors, where a packet waits for a child SA.
    expects : callable
        Says of an SPI that no inbound SA has whether it will have one: a peer that answers may send on a
        child SA before its answer is here (RFC 7296 2.8).
    on_network : callable
        Called with packets for the network that came of one that was decrypted: policy protects it once more.
    counts : Counter of str
        ``encrypted``, ``decrypted``, ``bypassed``, by packets, and with ``_bytes`` by bytes of the clear
        packet.
    drops : Counter of str
        By reason.
    """

    def __init__(
        self,
        pad: Pad,
        on_traffic: Collection[tuple[str, str]] = (),
        policies: Iterable[Policy] = (),
        *,
        mtu: int = 1500,
        clock: Callable[[], float],
        local: Callable[[], Iterable[Address]] = tuple,
    ):
        starts = {
            (peer.name, child.name): START_ON_TRAFFIC if (peer.name, child.name) in on_traffic else ""
            for peer in pad
            for child in peer.children
        }
        self._traps = trap_policies(pad, starts)
        self.policies = PolicyDatabase([*policies, *self._traps])
        self._spd: Spd | None = None
        self._sas = SaDatabase()
        self._active: dict[Identity, SoftwareActive] = {}
        self.on_alive: Callable[[int], None] = lambda spi: None
        self.on_moved: Callable[[int, Socket, Socket], None] = lambda spi, local, remote: None
        self.on_expired: Callable[[Sa, bool], None] = lambda sa, hard: None
        self.on_network: Callable[[list[bytes]], None] = lambda packets: None
        self.on_wanted: Callable[[str, str, Selectors], None] = lambda peer, child, packet: None
        self.expects: Callable[[int], bool] = lambda spi: False
        self._held: Held[bytes] = Held(self._traps)
        self._held.wanted, self._held.expects = (
            (lambda *what: self.on_wanted(*what)),
            (lambda spi: self.expects(spi)),
        )
        self.counts: Counter[str] = Counter()
        self.drops = self._held.drops
        self._reassembly, self._decrypted = Reassembly(), Reassembly()  # none takes the room of the other
        self._mtu, self._clock, self._local, self._identifications = mtu, clock, local, Identifications()

    @property
    def sas(self) -> list[SoftwareActive]:
        """All SAs, for tables."""
        return sorted(self._active.values(), key=lambda active: active.sa.direction)

    @property
    def _decisions(self) -> Spd:
        if self._spd is None:
            self._spd = Spd(self.policies, local=self._local())
        return self._spd

    def addresses_changed(self) -> None:
        """The host has other addresses of its own."""
        self._spd = None

    # What IKE wants

    def apply(self, output: SaOrPolicy) -> list[bytes]:
        """Does what an endpoint wants; gives packets for the network that waited for it."""
        match output:
            case InstallSa(peer=peer, child=child, sa=sa):
                self._install(SoftwareActive(peer, child, sa, self._clock(), SoftSa(sa)))
                if sa.direction == Direction.OUTBOUND:
                    return [
                        each
                        for packet in self._held.child_is_up(peer, child)
                        for each in self.send(packet, waits=False)
                    ]
            case RemoveSa(sa=sa):
                self._remove(sa)
            case MoveSa(old=old, new=new):
                active = self._active[old.identity]
                if new.identity != old.identity and new.identity in self._active:
                    self._remove(self._active[new.identity].sa)
                self._sas.replace(old, new)
                del self._active[old.identity]
                active.sa, active.soft = new, SoftSa(new, state=active.soft.state)
                self._active[new.identity] = active
            case AddPolicy(policy=policy):
                self.policies.add(policy)
                self._spd = None
            case RemovePolicy(policy=policy):
                self.policies.remove(policy)
                self._spd = None
        return []

    def _install(self, active: SoftwareActive) -> None:
        """A peer that gives a name a second time means the new SA."""
        if active.sa.identity in self._active:
            self._remove(self._active[active.sa.identity].sa)
        self._sas.add(active.sa, active.since)
        self._active[active.sa.identity] = active

    def _remove(self, sa: Sa) -> None:
        if sa.identity in self._active and self._active[sa.identity].sa == sa:
            self._sas.remove(sa)
            del self._active[sa.identity]

    # Packets

    def send(self, packet: bytes, *, waits: bool = True) -> list[bytes]:
        """A clear packet of the TUN device's: the packets for the network that come of it. With ``waits``
        it may wait for a child SA that traffic starts."""
        try:
            return self._send(packet, waits)
        except Refused as refusal:
            self.drops[refusal.reason.name.lower()] += 1
            return []

    def _send(self, packet: bytes, waits: bool) -> list[bytes]:
        ip = Ip.parse(packet)
        if ip.fragment and self._decisions.wants_whole(Flow.of(ip), Port.SERVER):
            whole = self._reassembly.add(packet, ip, self._clock())
            if whole is None:
                return []
            packet, ip = whole, Ip.parse(whole)
        decision = self._decisions.decide(Flow.of(ip), Port.SERVER)
        waiting = any(policy in self._traps for policy in decision.policies)
        if waiting and waits and self._held.for_child(decision.policies, ip, packet):
            return []
        if waiting or decision.action in (Verdict.DISCARD, Verdict.HOST):
            raise Refused(Reason.POLICY)
        if decision.action == Verdict.BYPASS:
            self._count("bypassed", packet)
            return self._pieces(packet)
        return self._protect(decision, packet)

    def _protect(self, decision: Decision, packet: bytes) -> list[bytes]:
        pieces = [packet]
        for sa in self._sas.outbound(decision.policies):
            pieces = [sealed for piece in pieces for sealed in self._seal(self._active[sa.identity], piece)]
        self._count("encrypted", packet)
        return [piece for sealed in pieces for piece in self._pieces(sealed)]

    def _seal(self, active: SoftwareActive, packet: bytes) -> list[bytes]:
        ip = Ip.parse(packet)
        pieces, room = [packet], active.soft.room(0xFFFF, ip.unfragmentable[0])
        if len(packet) > room and active.sa.mode == Mode.TUNNEL:
            pieces = fragments(packet, room, self._identifications.next(ip.source, ip.destination))
        sealed = []
        for piece in pieces:
            # before AH covers it (RFC 4302 3.3.3.1.1)
            identification = self._identifications.next(active.sa.source, active.sa.destination)
            sealed.append(
                self._run(active, partial(active.soft.encapsulate, identification=identification), piece)
            )
        if active.soft.state.sequence == NEARLY_USED_UP and not active.sa.esn:
            self.on_expired(active.sa, False)
        return sealed

    def _run(self, active: SoftwareActive, do: Callable[[bytes], bytes], packet: bytes) -> bytes:
        """``do(packet)``, and tells where the SA's lifetime is."""
        try:
            done = do(packet)
        except Refused as refusal:
            if refusal.reason in (Reason.LIFETIME, Reason.SEQUENCE_OVERFLOW):
                self.on_expired(active.sa, True)
            raise
        if active.soft.soft_reached:
            self.on_expired(active.sa, False)
        return done

    def _pieces(self, packet: bytes) -> list[bytes]:
        """In fragments where the network's links are too small."""
        if len(packet) <= self._mtu:
            return [packet]
        ip = Ip.parse(packet)
        own = ip.identification if ip.version == 4 else 0
        return fragments(packet, self._mtu, own or self._identifications.next(ip.source, ip.destination))

    def forget_held(self, peer: str) -> None:
        """The packets that wait for that peer wait in vain."""
        self._held.forget(peer)

    def receive(self, packet: bytes, *, waits: bool = True) -> bytes | None:
        """A protected packet from the network, ESP in UDP with its UDP header: the clear packet for the TUN
        device. With ``waits`` it may wait for its SA; see :meth:`early`."""
        try:
            return self._receive(packet, waits)
        except Refused as refusal:
            self.drops[refusal.reason.name.lower()] += 1
            return None

    def early(self) -> list[bytes]:
        """The clear packets of those that came before their inbound SA, which is there by now."""
        there = {
            active.sa.spi for active in self._active.values() if active.sa.direction == Direction.INBOUND
        }
        packets = self._held.inbound_is_up(there.__contains__)
        return [plain for packet in packets if (plain := self.receive(packet, waits=False)) is not None]

    def _receive(self, packet: bytes, waits: bool) -> bytes | None:
        ip = Ip.parse(packet)
        in_udp = ip.protocol == UDP and ip.ports is not None and ip.ports[1] == NATT_PORT
        number = spi(packet, ip)
        if number is None:
            raise Refused(Reason.NO_SA)
        sa = self._sas.inbound((ip.destination, ESP if in_udp else ip.protocol, number))
        if sa is None:
            if waits and self._held.for_sa(number, packet):
                return None
            raise Refused(Reason.NO_SA)
        active, encapsulation = self._active[sa.identity], sa.encapsulation
        if (encapsulation is not None) != in_udp:
            raise Refused(Reason.NO_SA)
        plain = self._run(active, active.soft.decapsulate, packet)
        now = self._clock()
        if now - active.heard >= ALIVE_SECONDS:
            active.heard = now
            self.on_alive(active.sa.spi)
        if encapsulation and ip.ports and (ip.source, ip.ports[0]) != (sa.source, encapsulation.source_port):
            self.on_moved(active.sa.spi, Socket(ip.destination, ip.ports[1]), Socket(ip.source, ip.ports[0]))
        inner, through = Ip.parse(plain), (active.sa,)
        if (
            inner.fragment
            and self._decisions.admits(Flow.of(inner), through)
            and self._decisions.wants_whole(Flow.of(inner), Port.RECIRCULATE, through)
        ):
            whole = self._decrypted.add(plain, inner, self._clock(), way_of(through))
            if whole is None:
                return None
            plain, inner = whole, Ip.parse(whole)
        if active.sa.mode == Mode.TUNNEL and is_neighbour_discovery(plain, inner):
            raise Refused(Reason.MARTIAN)  # of another link: the host could not tell it from the device's own
        decision = self._decisions.decide(Flow.of(inner), Port.RECIRCULATE, through)
        if decision.action == Verdict.DISCARD:
            raise Refused(Reason.POLICY)
        self._count("decrypted", plain)
        if decision.action in (Verdict.BYPASS, Verdict.HOST):
            return plain
        if inner.ttl <= 1:
            raise Refused(Reason.TTL)
        self.on_network(self._protect(decision, rewrite(plain, inner.header_bytes, ttl=inner.ttl - 1)))
        return None

    def metrics(self) -> list[Metric]:
        """What it counts, for Prometheus."""
        octets = {kind: self.counts[f"{kind}_bytes"] for kind in KINDS}
        return [
            *packets_and_drops(self.counts, self.drops),
            Metric("bytes_total", "counter", "Bytes of clear packets done, by kind.", "kind", octets),
        ]

    def _count(self, kind: str, packet: bytes) -> None:
        self.counts[kind] += 1
        self.counts[f"{kind}_bytes"] += len(packet)


def outward(policy: Policy) -> bool:
    """Whether it is about what is sent."""
    return policy.direction == PolicyDirection.OUT
