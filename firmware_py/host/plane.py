"""What becomes of a host's packets: policies, SAs, ESP and AH. Sans-I/O: IP packets in, IP packets out.

Clear packets come from the TUN device and go there; protected ones come from the network and go there.
"""
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network

from spigate.firmware_py.host.dataplane import HELD_PACKETS, KINDS, NEARLY_USED_UP, Metric, SaOrPolicy, packets_and_drops
from spigate.firmware_py.ike.events import AddPolicy, InstallSa, MoveSa, RemovePolicy, RemoveSa, Socket
from spigate.firmware_py.ike.pad import ChildConfig, Pad, Peer
from spigate.firmware_py.ike.selectors import reverse
from spigate.firmware_py.packet import NATT_PORT, UDP, Ip, Refused, spi
from spigate.firmware_py.policy import Policy, PolicyAction, PolicyDatabase, PolicyDirection
from spigate.firmware_py.punt import Reason
from spigate.firmware_py.sa import ANY_PORTS, ESP, Direction, Mode, Sa, Selectors
from spigate.firmware_py.soft.fragments import Reassembly, fragments
from spigate.firmware_py.soft.identification import Identifications
from spigate.firmware_py.soft.sa import SoftSa
from spigate.firmware_py.tables import SaState

ALIVE_SECONDS = 1.0
"""A peer is called alive so often at most."""


@dataclass
class Active:
    """An SA at work. ``since``: when it was installed; ``heard``: when its peer was last called alive."""

    peer: str
    child: str
    sa: Sa
    soft: SoftSa
    since: float
    heard: float = -ALIVE_SECONDS
    where = "software"

    @property
    def state(self) -> SaState:
        """How far it is."""
        return self.soft.state


@dataclass(frozen=True)
class Wanted:
    """A child that is to be made when there is traffic for it."""

    peer: Peer
    config: ChildConfig
    traffic: tuple[Selectors, ...]


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

    Members
    -------
    on_alive : callable
        Called with the SPI of an inbound SA on which an authentic packet came.
    on_moved : callable
        Called with the SPI of an inbound SA on which an authentic packet came in UDP from elsewhere, and with its local and
        remote ends.
    on_expired : callable
        Called with an SA, as it was installed, that is to be replaced, or (True) that is used up.
    on_wanted : callable
        Called with names of peer and child, and the packet's selectors, where a packet waits for a child SA.
    expects : callable
        Says of an SPI that no inbound SA has whether it will have one: a peer that answers may send on a child SA before its
        answer is here (RFC 7296 2.8).
    counts : Counter of str
        ``encrypted``, ``decrypted``, ``bypassed``, by packets, and with ``_bytes`` by bytes of the clear packet.
    drops : Counter of str
        By reason.
    """

    def __init__(self, pad: Pad, on_traffic=(), policies=(), *, mtu: int = 1500, clock: Callable[[], float]):
        self.policies = PolicyDatabase(policies)
        self.inbound: dict[tuple, Active] = {}
        self.outbound: defaultdict[int, list[Active]] = defaultdict(list)
        self.on_alive: Callable[[int], None] = lambda spi: None
        self.on_moved: Callable[[int, Socket, Socket], None] = lambda spi, local, remote: None
        self.expects: Callable[[int], bool] = lambda spi: False
        self.on_expired: Callable[[Sa, bool], None] = lambda sa, hard: None
        self.on_wanted: Callable[[str, str, Selectors], None] = lambda peer, child, packet: None
        self.counts: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self._wanted = [Wanted(peer, child, configured(peer, child)) for peer in pad for child in peer.children
                        if (peer.name, child.name) in on_traffic]
        self._held: dict[tuple[str, str], deque[bytes]] = {}
        self._early: dict[int, deque[bytes]] = {}
        self._reassembly = Reassembly()
        self._mtu, self._clock, self._identifications = mtu, clock, Identifications()
        self._sort()

    @property
    def sas(self) -> list[Active]:
        """All SAs, for tables."""
        return [*self.inbound.values(), *(each for group in self.outbound.values() for each in group)]

    # What IKE wants

    def apply(self, output: SaOrPolicy) -> list[bytes]:
        """Does what an endpoint wants; gives packets for the network that waited for it."""
        match output:
            case InstallSa(peer=peer, child=child, sa=sa):
                active = Active(peer, child, sa, SoftSa(sa), self._clock())
                if sa.direction == Direction.INBOUND:
                    self.inbound[sa.identity] = active
                    return []
                self.outbound[sa.reqid].append(active)
                return [each for packet in self._held.pop((peer, child), ()) for each in self.send(packet, waits=False)]
            case RemoveSa(sa=sa) if sa.direction == Direction.INBOUND:
                del self.inbound[sa.identity]
            case RemoveSa(sa=sa):
                self.outbound[sa.reqid].remove(self._sending(sa))
                if not self.outbound[sa.reqid]:
                    del self.outbound[sa.reqid]
            case MoveSa(old=old, new=new):
                active = self.inbound.pop(old.identity) if old.direction == Direction.INBOUND else self._sending(old)
                active.soft = SoftSa(new, state=active.soft.state)
                active.sa = new
                if new.direction == Direction.INBOUND:
                    self.inbound[new.identity] = active
            case AddPolicy(policy=policy):
                self.policies.add(policy)
                self._sort()
            case RemovePolicy(policy=policy):
                self.policies.remove(policy)
                self._sort()
        return []

    def _sort(self) -> None:
        self._outward, self._inward = self.policies.outbound(), self.policies.inbound()

    def _sending(self, sa: Sa) -> Active:
        return next(active for active in self.outbound[sa.reqid] if active.sa == sa)

    # Packets

    def send(self, packet: bytes, *, waits: bool = True) -> list[bytes]:
        """A clear packet of the TUN device's: the packets for the network that come of it. With ``waits`` it may wait for a
        child SA that traffic starts."""
        try:
            return self._send(packet, waits)
        except Refused as refusal:
            self.drops[refusal.reason.name.lower()] += 1
            return []

    def _send(self, packet: bytes, waits: bool) -> list[bytes]:
        ip = Ip.parse(packet)
        if ip.fragment and self._wants_whole(ip):
            whole = self._reassembly.add(packet, ip, self._clock())
            if whole is None:
                return []
            packet, ip = whole, Ip.parse(whole)
        policy = next((each for each in self._outward if _matches(each.selectors, ip)), None)
        if policy is None and waits:
            self._wait(packet, ip)
            return []
        if policy is None or policy.action == PolicyAction.DISCARD:
            raise Refused(Reason.POLICY)
        if policy.action == PolicyAction.BYPASS:
            self._count("bypassed", packet)
            return self._pieces(packet)
        template = policy.templates[0]
        active = next((each for each in reversed(self.outbound.get(template.reqid, ())) if template.accepts(each.sa)), None)
        if active is None:
            raise Refused(Reason.NO_SA)
        return self._protect(active, packet, ip)

    def _protect(self, active: Active, packet: bytes, ip: Ip) -> list[bytes]:
        pieces, room = [packet], active.soft.room(0xFFFF, ip.unfragmentable[0])
        if len(packet) > room and active.sa.mode == Mode.TUNNEL:
            pieces = fragments(packet, room, self._identifications.next(ip.source, ip.destination))
        sealed = []
        for piece in pieces:
            # before AH covers it (RFC 4302 3.3.3.1.1)
            identification = self._identifications.next(active.sa.source, active.sa.destination)
            sealed += self._pieces(self._run(active, partial(active.soft.encapsulate, identification=identification), piece))
        self._count("encrypted", packet)
        if active.soft.state.sequence == NEARLY_USED_UP and not active.sa.esn:
            self.on_expired(active.sa, False)
        return sealed

    def _run(self, active: Active, do: Callable[[bytes], bytes], packet: bytes) -> bytes:
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

    def _wants_whole(self, ip: Ip) -> bool:
        """Fragments go through tunnels as they are, unless a policy looks at what only the first of them has (RFC
        4301 7); transport mode has no fragments."""
        hosts = Selectors(ip_network(ip.source), ip_network(ip.destination))
        met = [each for each in self._outward if each.selectors.overlaps(hosts)]
        return not met or ip.version == 6 or any(
            (each.selectors.source_ports, each.selectors.destination_ports) != (ANY_PORTS, ANY_PORTS)
            or any(template.mode == Mode.TRANSPORT for template in each.templates) for each in met)

    def _wait(self, packet: bytes, ip: Ip) -> None:
        """Keeps a packet for whose child traffic is to start. Refused as POLICY where there is none."""
        wanted = next((each for each in self._wanted if any(_matches(traffic, ip) for traffic in each.traffic)), None)
        if wanted is None:
            raise Refused(Reason.POLICY)
        key = wanted.peer.name, wanted.config.name
        if key in self._held:
            self._held[key].append(packet)
            return
        self._held[key] = deque([packet], HELD_PACKETS)
        ports = [ANY_PORTS if port is None else (port, port) for port in ip.ports or (None, None)]
        self.on_wanted(*key, Selectors(ip_network(ip.source), ip_network(ip.destination), ip.protocol, *ports))

    def forget_held(self, peer: str) -> None:
        """The packets that wait for that peer wait in vain."""
        for key in [key for key in self._held if key[0] == peer]:
            self.drops["no_sa"] += len(self._held.pop(key))

    def receive(self, packet: bytes, *, waits: bool = True) -> bytes | None:
        """A protected packet from the network, ESP in UDP with its UDP header: the clear packet for the TUN device. With
        ``waits`` it may wait for its SA; see :meth:`early`."""
        try:
            return self._receive(packet, waits)
        except Refused as refusal:
            self.drops[refusal.reason.name.lower()] += 1
            return None

    def early(self) -> list[bytes]:
        """The clear packets of those that came before their inbound SA, which is there by now."""
        if not self._early:
            return []
        there = {active.sa.spi for active in self.inbound.values()}
        for number in [number for number in self._early if number not in there and not self.expects(number)]:
            self.drops["no_sa"] += len(self._early.pop(number))
        packets = [packet for number in there & self._early.keys() for packet in self._early.pop(number)]
        return [plain for packet in packets if (plain := self.receive(packet, waits=False)) is not None]

    def _receive(self, packet: bytes, waits: bool) -> bytes | None:
        ip = Ip.parse(packet)
        in_udp = ip.protocol == UDP and ip.ports is not None and ip.ports[1] == NATT_PORT
        number = spi(packet, ip)
        active = self.inbound.get((ip.destination, ESP if in_udp else ip.protocol, number))
        if active is None and waits and self.expects(number):
            self._early.setdefault(number, deque(maxlen=HELD_PACKETS)).append(packet)
            return None
        if active is None or bool(active.sa.encapsulation) != in_udp:
            raise Refused(Reason.NO_SA)
        plain = self._run(active, active.soft.decapsulate, packet)
        now = self._clock()
        if now - active.heard >= ALIVE_SECONDS:
            active.heard = now
            self.on_alive(active.sa.spi)
        if in_udp and (ip.source, ip.ports[0]) != (active.sa.source, active.sa.encapsulation.source_port):
            self.on_moved(active.sa.spi, Socket(ip.destination, ip.ports[1]), Socket(ip.source, ip.ports[0]))
        inner = Ip.parse(plain)
        if not self._may_carry(active.sa, inner):
            raise Refused(Reason.POLICY)
        self._count("decrypted", plain)
        return plain

    def _may_carry(self, sa: Sa, ip: Ip) -> bool:
        """Whether the policies want the packet ``ip`` to have come through ``sa`` (RFC 4301 5.2)."""
        for policy in self._inward:
            if _matches(policy.selectors, ip):
                if policy.action != PolicyAction.PROTECT:
                    return False
                if any(template.accepts(sa) for template in policy.templates):
                    return True
        return False

    def metrics(self) -> list[Metric]:
        """What it counts, for Prometheus."""
        octets = {kind: self.counts[f"{kind}_bytes"] for kind in KINDS}
        return [*packets_and_drops(self.counts, self.drops),
                Metric("bytes_total", "counter", "Bytes of clear packets done, by kind.", "kind", octets)]

    def _count(self, kind: str, packet: bytes) -> None:
        self.counts[kind] += 1
        self.counts[f"{kind}_bytes"] += len(packet)


def _matches(selectors: Selectors, ip: Ip) -> bool:
    return selectors.matches(ip.source, ip.destination, ip.protocol, ip.ports)


def configured(peer: Peer, child: ChildConfig) -> tuple[Selectors, ...]:
    """What a child may carry, as far as is known before it is negotiated; source: this side."""
    if child.traffic or peer.address is None:
        return child.traffic
    return (Selectors(ip_network(peer.local_address), ip_network(peer.address)),)


def outward(policy: Policy) -> bool:
    """Whether it is about what is sent."""
    return policy.direction == PolicyDirection.OUT


def exceptions(action: PolicyAction, traffic: Selectors) -> tuple[Policy, Policy]:
    """Policies for ``traffic`` that is sent and not protected; and what an SA carries may not be of it. What comes in the clear does not
    come this way."""
    return (Policy(selectors=traffic, direction=PolicyDirection.OUT, action=action),
            Policy(selectors=reverse([traffic])[0], direction=PolicyDirection.IN, action=PolicyAction.DISCARD))
