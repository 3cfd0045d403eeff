# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A whole gateway in software: classifier, decryptors and forwarding with the semantics and the reasons of
the gateware.

It keeps the same tables (:class:`~spigate.firmware_py.tables.interface.Tables`), so the control element
programs it as it programs the gateware; what it makes of a frame is what the gateware is compared with. See
docs/architecture.md for the packet's way.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from spigate.firmware_py.errors import InputError, TableFull, UnsupportedError
from spigate.firmware_py.ipsec.identification import DfeIdentifications
from spigate.firmware_py.ipsec.packet import (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ICMPV6,
    IKE_PORT,
    NATT_PORT,
    NEIGHBOUR_DISCOVERY,
    TCP,
    UDP,
    Ethernet,
    Ip,
    Refused,
    martian,
    rewrite,
)
from spigate.firmware_py.ipsec.sa import AH, ANY_IPV4, ESP, Sa, SaState, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.ipsec.tunnel import keeps_whole
from spigate.firmware_py.tables.interface import (
    ANY_VLAN,
    GATEWARE,
    Attention,
    CamEntry,
    CamKey,
    Capabilities,
    CfeSettings,
    Counters,
    Event,
    Route,
    Rule,
    Source,
)
from spigate.firmware_py.tables.punt import InjectMode, Place, PuntHeader
from spigate.hdl.contract.enums import Action, Direction, Mode, Port, Reason
from spigate.hdl.contract.reasons import AUDITABLE, PUNTS

Entry = TypeVar("Entry")

FROM_CFE = 15
"""The DFE of a punt with which no DFE has to do."""
FROM_FORWARDING = 14
"""The DFE of an event of the forwarding element's."""
VLAN_IDENTIFIER = 0xFFF
"""Of 802.1Q tag control information."""
MAX_DEPTH = 3
"""Recirculations that headers can count."""
FIRST_SPI = 256
"""Lower ones are reserved (RFC 4303 2.1)."""


@dataclass(frozen=True)
class Sent:
    """A frame that leaves at ``port``, NETWORK or SERVER."""

    port: Port
    frame: bytes


@dataclass(frozen=True)
class Punted:
    """A frame for the control element."""

    header: PuntHeader
    frame: bytes


@dataclass(frozen=True)
class Dropped:
    """A frame that is gone."""

    reason: Reason


Outcome = Sent | Punted | Dropped


@dataclass(frozen=True)
class Held:
    """An SA of a DFE."""

    soft: SoftSa
    generation: int


@dataclass(frozen=True)
class _Packet:
    """An IPv4 packet, with its Ethernet header."""

    ethernet: Ethernet
    data: bytes
    ip: Ip

    @property
    def spi(self) -> int:
        at = self.ip.header_bytes
        return int.from_bytes(self.data[at : at + 4])


@dataclass
class _Arrival:
    """A frame on its way through. ``packet``: what it carries, once its headers are known to be sound."""

    frame: bytes
    ingress: Port
    depth: int
    injected: bool
    out_of: Place | None
    packet: _Packet | None = None


class SoftGateway:
    """A gateway in software.

    It balances round robin over the enabled DFEs, whatever the setting says: which DFE holds an SA changes
    nothing of a packet but the Identification.

    Parameters
    ----------
    capabilities : Capabilities
        What it refuses beyond, and how large its tables are.
    clock : callable
        The time for punt headers and events, in clocks.

    Members
    -------
    drops : Counter of Reason
        Dropped frames.
    programmed : Counter of str
        Entries written, by table.
    """

    def __init__(self, *, capabilities: Capabilities = GATEWARE, clock: Callable[[], int] = lambda: 0):
        self.capabilities = capabilities
        self.drops: Counter[Reason] = Counter()
        self.programmed: Counter[str] = Counter()
        self._clock = clock
        self._settings = CfeSettings()
        self._stations: dict[Port, bytes | None] = {}
        self._vlans: dict[Port, int | str | None] = {}
        self._turn = 0
        self._sas: list[dict[int, Held]] = [{} for _ in range(capabilities.dfes)]
        self._identifications = [
            DfeIdentifications(index, capabilities.dfes) for index in range(capabilities.dfes)
        ]
        self._sources: list[dict[int, Source]] = [{} for _ in range(capabilities.dfes)]
        self._cam: dict[CamKey, CamEntry] = {}
        self._rules: list[Rule] = []
        self._routes: dict[int, Route] = {}
        self._events: list[Event] = []
        self._cfe: Counter[str] = Counter()
        self._forward: Counter[str] = Counter()
        self._dfes: list[Counter[str]] = [Counter() for _ in range(capabilities.dfes)]

    # Packets

    def process(self, port: Port, frame: bytes) -> list[Outcome]:
        """What becomes of ``frame``, which came in at NETWORK or SERVER: one outcome, in a list as
        :meth:`inject` gives it."""
        self._cfe["network_in" if port == Port.NETWORK else "server_in"] += 1
        return [self._classify(frame, port, 0)]

    def inject(
        self, mode: InjectMode, port: Port, depth: int, frame: bytes, out_of: Place | None = None
    ) -> list[Outcome]:
        """What becomes of a frame that the control element sends down."""
        self._cfe["inject_in"] += 1
        if mode == InjectMode.DIRECT:
            return [self._leave(port, frame, depth, may_leave=True)]
        return [self._classify(frame, port, depth, injected=True, out_of=out_of)]

    def _classify(
        self, frame: bytes, ingress: Port, depth: int, injected: bool = False, out_of: Place | None = None
    ) -> Outcome:
        dfe, sa = FROM_CFE, 0
        rule: int | None = None
        action: Action | None = None
        entry: CamEntry | Rule
        arrival = _Arrival(frame, ingress, depth, injected, out_of)
        try:
            packet = self._parse(arrival)
            if packet.ip.protocol == ESP:
                entry = self._look_up(packet)
            else:
                rule = self._match(packet, ingress)
                entry = self._rules[rule]
                action = entry.action
                if action in (Action.DISCARD, Action.PUNT):
                    raise Refused(Reason.POLICY if action == Action.DISCARD else Reason.RULE)
            route = self._routes[entry.route]
            if route.egress == Port.RECIRCULATE and depth == MAX_DEPTH:
                raise Refused(Reason.NESTED)
            if action == Action.BYPASS:
                dfe = self._balance()
                if dfe == FROM_CFE:
                    raise Refused(Reason.NO_DFE)
            else:
                dfe, sa = entry.dfe, entry.sa
                if action is None and depth > self._settings.depth_limit:
                    raise Refused(Reason.NESTED)
                if not self._settings.enable >> dfe & 1:
                    raise Refused(Reason.DFE_DOWN)
            return self._run_dfe(arrival, packet, dfe, entry, route)
        except Refused as refusal:
            reason = refusal.reason
            if reason in (Reason.UNKNOWN_SPI, Reason.NO_RULE):
                dfe = self._balance()
                reason = Reason.NO_DFE if dfe == FROM_CFE else reason
            return self._refuse(reason, arrival, dfe, sa, rule)

    def _parse(self, arrival: _Arrival) -> _Packet:
        """Adds what the headers say; refused where that alone decides."""
        frame = arrival.frame
        ethernet, data = Ethernet.parse(frame)
        group = bool(frame[0] & 1)
        if arrival.ingress in (Port.NETWORK, Port.SERVER) and not arrival.injected:
            station, vlan = self._stations.get(arrival.ingress), self._vlans.get(arrival.ingress)
            if station and not group and frame[:6] != station:
                raise Refused(Reason.OTHER_STATION)
            if vlan != ANY_VLAN and (ethernet.vlan or 0) & VLAN_IDENTIFIER != (vlan or 0):
                raise Refused(Reason.VLAN)
        if ethernet.kind == ETHERTYPE_IPV6:
            raise Refused(self._ipv6(data))
        if ethernet.kind != ETHERTYPE_IPV4:
            raise Refused(Reason.NOT_IP)
        ip = Ip.parse(data, 4)
        arrival.packet = packet = _Packet(ethernet, data, ip)
        if martian(ip, group=group and arrival.ingress != Port.RECIRCULATE):
            raise Refused(Reason.MARTIAN)
        if ip.fragment:
            raise Refused(Reason.FRAGMENT)
        if ip.protocol == AH:
            raise Refused(Reason.AH)
        payload = ip.total_length - ip.header_bytes
        if (ip.protocol == ESP and payload < 8) or (ip.protocol in (TCP, UDP) and ip.ports is None):
            raise Refused(Reason.MALFORMED)
        if ip.protocol == ESP and packet.spi < FIRST_SPI:
            raise Refused(Reason.RESERVED_SPI)
        if ip.protocol == UDP and ip.ports is not None and ip.destination in self._settings.own:
            marked = payload >= 12 and not any(data[ip.header_bytes + 8 : ip.header_bytes + 12])
            if ip.ports[1] in (IKE_PORT, NATT_PORT):
                raise Refused(Reason.IKE if ip.ports[1] == IKE_PORT or marked else Reason.NATT)
        return packet

    def _ipv6(self, packet: bytes) -> Reason:
        """Why IPv6 is punted; it always is."""
        if len(packet) < 44 or packet[0] >> 4 != 6:
            return Reason.IPV6
        if packet[6:8] == bytes([ICMPV6, 255]) and packet[40] in NEIGHBOUR_DISCOVERY:
            return Reason.NEIGHBOUR
        port = int.from_bytes(packet[42:44])
        ike = port == IKE_PORT or port == NATT_PORT and not any(packet[48:52])
        own = IPv6Address(packet[24:40]) in self._settings.own
        return Reason.IKE if packet[6] == UDP and len(packet) >= 52 and ike and own else Reason.IPV6

    def _look_up(self, packet: _Packet) -> CamEntry:
        entry = self._cam.get(CamKey(packet.ip.destination, packet.spi))
        if entry and entry.route in self._routes:
            self._cfe["hits"] += 1
            return entry
        self._cfe["misses"] += 1
        raise Refused(Reason.NO_SA if self._settings.miss_drop else Reason.UNKNOWN_SPI)

    def _match(self, packet: _Packet, ingress: Port) -> int:
        """The index of the first rule that matches. One whose route is not there leads nowhere."""
        ip = packet.ip
        for index, rule in enumerate(self._rules):
            meant = rule.selectors.matches(ip.source, ip.destination, ip.protocol, ip.ports)
            if meant and ingress in rule.ingress:
                if rule.action in (Action.DISCARD, Action.PUNT) or rule.route in self._routes:
                    self._cfe["clear"] += 1
                    return index
                break
        self._cfe["misses"] += 1
        raise Refused(Reason.POLICY if self._settings.rule_miss == Action.DISCARD else Reason.NO_RULE)

    def _balance(self) -> int:
        for _ in range(self.capabilities.dfes):
            self._turn = (self._turn + 1) % self.capabilities.dfes
            if self._settings.enable >> self._turn & 1:
                return self._turn
        return FROM_CFE

    def _run_dfe(
        self, arrival: _Arrival, packet: _Packet, dfe: int, entry: CamEntry | Rule, route: Route
    ) -> Outcome:
        counts = self._dfes[dfe]
        counts["packets_in"] += 1
        counts["bytes_in"] += len(arrival.frame)
        out_of, may_leave = None, False
        if isinstance(entry, CamEntry):
            data, kind = self._decrypt(arrival, packet, dfe, entry), "decrypted"
            data, route = self._count_down(data, route, arrival.depth)
            out_of = Place(dfe, entry.sa, entry.generation)
        elif entry.action == Action.PROTECT:
            data, kind, may_leave = self._encrypt(arrival, packet, dfe, entry, route), "encrypted", True
        else:
            data, kind, may_leave = self._bypass(packet, arrival.ingress, dfe, route), "bypassed", entry.clear
        frame = route.ethernet(packet.ethernet, ETHERTYPE_IPV4).pack() + data
        counts[kind] += 1
        counts["packets_out"] += 1
        counts["bytes_out"] += len(frame)
        return self._leave(route.egress, frame, arrival.depth + 1, out_of=out_of, may_leave=may_leave)

    def _bypass(self, packet: _Packet, ingress: Port, dfe: int, route: Route) -> bytes:
        ip = packet.ip
        listed = any(
            ip.source in source.network and ingress in source.ingress
            for source in self._sources[dfe].values()
        )
        if not listed and ingress != Port.RECIRCULATE:
            raise Refused(Reason.POLICY)
        data = packet.data[: ip.total_length]
        if not route.decrement_ttl:
            return data
        if ip.ttl <= 1:
            raise Refused(Reason.TTL_EXPIRED)
        return rewrite(data, ip.header_bytes, ttl=ip.ttl - 1)

    def _encrypt(self, arrival: _Arrival, packet: _Packet, dfe: int, rule: Rule, route: Route) -> bytes:
        soft = self._sa(dfe, rule, Direction.OUTBOUND)
        numbered = soft.sa.mode == Mode.TUNNEL and not keeps_whole(soft.sa, packet.ip)
        data = soft.encapsulate(
            packet.data,
            decrement_ttl=route.decrement_ttl,
            identification=self._identifications[dfe].next() if numbered else None,
        )
        if soft.soft_reached:
            self._tell(Reason.SOFT_LIFETIME, False, arrival, dfe, rule.sa)
        return data

    def _decrypt(self, arrival: _Arrival, packet: _Packet, dfe: int, entry: CamEntry) -> bytes:
        soft = self._sa(dfe, entry, Direction.INBOUND)
        if soft.sa.spi != packet.spi:
            raise Refused(Reason.SA_ABSENT)
        data = soft.decapsulate(packet.data)
        if soft.soft_reached:
            self._tell(Reason.SOFT_LIFETIME, False, arrival, dfe, entry.sa)
        return data

    def _count_down(self, packet: bytes, route: Route, depth: int) -> tuple[bytes, Route]:
        """A decrypted packet and its way. What has lived too long for it goes through the classifier once
        more, whose rules hand it to the control element."""
        ip = Ip.parse(packet)
        if not route.decrement_ttl:
            return packet, route
        if ip.ttl > 1:
            return rewrite(packet, ip.header_bytes, ttl=ip.ttl - 1), route
        if depth == MAX_DEPTH:
            raise Refused(Reason.NESTED)
        return packet, Route(Port.RECIRCULATE)

    def _sa(self, dfe: int, entry: CamEntry | Rule, direction: Direction) -> SoftSa:
        """The SA that an entry leads to, if that is still the one that was meant."""
        held = self._sas[dfe].get(entry.sa)
        if not held or held.generation != entry.generation or held.soft.sa.direction != direction:
            raise Refused(Reason.SA_ABSENT)
        return held.soft

    def _leave(
        self, port: Port, frame: bytes, depth: int, *, out_of: Place | None = None, may_leave: bool = False
    ) -> Outcome:
        """``may_leave``: a DFE has encrypted it, a rule lets it pass in the clear, or the control element
        sent it. Nothing else leaves at the network port."""
        if port == Port.RECIRCULATE:
            self._forward["recirculated"] += 1
            self._cfe["recirculate_in"] += 1
            return self._classify(frame, port, depth, out_of=out_of)
        if port == Port.NETWORK and not may_leave:
            self.drops[Reason.GUARD] += 1
            self._tell(
                Reason.GUARD, True, None, *((out_of.dfe, out_of.sa) if out_of else (FROM_FORWARDING, 0))
            )
            return Dropped(Reason.GUARD)
        self._forward["network_out" if port == Port.NETWORK else "server_out"] += 1
        return Sent(port, frame)

    def _refuse(self, reason: Reason, arrival: _Arrival, dfe: int, sa: int, rule: int | None) -> Outcome:
        if reason in PUNTS:
            if dfe == FROM_CFE:
                self._cfe["punts"] += 1
            else:
                self._dfes[dfe]["punts"] += 1
            self._forward["punt_out"] += 1
            tagged = arrival.frame[12:14] == b"\x81\x00"
            return Punted(
                PuntHeader(
                    reason,
                    arrival.ingress,
                    dfe,
                    sa,
                    arrival.depth,
                    tagged,
                    self._clock(),
                    arrival.out_of,
                    rule,
                ),
                arrival.frame,
            )
        self.drops[reason] += 1
        self._tell(reason, True, arrival, dfe, sa)
        return Dropped(reason)

    def _tell(self, reason: Reason, dropped: bool, arrival: _Arrival | None, dfe: int, sa: int) -> None:
        if dropped and reason not in AUDITABLE:
            return
        packet = arrival.packet if arrival else None
        ip, nowhere = packet.ip if packet else None, IPv4Address(0)
        spi = sequence = 0
        if packet and packet.ip.protocol == ESP and not packet.ip.fragment:
            at = packet.ip.header_bytes + 4
            if len(packet.data) >= at + 4:
                spi, sequence = packet.spi, int.from_bytes(packet.data[at : at + 4])
        self._events.append(
            Event(
                reason,
                dropped,
                arrival.ingress if arrival else Port.NETWORK,
                dfe,
                sa,
                spi,
                sequence,
                ip.source if ip else nowhere,
                ip.destination if ip else nowhere,
                self._clock(),
            )
        )

    # Tables

    async def configure(self, settings: CfeSettings) -> None:
        self._settings = settings
        self._stations = {Port.NETWORK: settings.network_mac, Port.SERVER: settings.server_mac}
        self._vlans = {Port.NETWORK: settings.network_vlan, Port.SERVER: settings.server_vlan}

    async def write_sa(
        self, dfe: int, index: int, sa: Sa, selectors: Selectors | None, *, generation: int = 0
    ) -> None:
        lacking = self.capabilities.lacks(sa, [selectors] if selectors else [])
        if lacking:
            raise UnsupportedError(f"The gateway lacks {lacking}, which {sa} needs")
        self._in_dfe("sa", index, dfe, self.capabilities.sa_entries)
        self._sas[dfe][index] = Held(SoftSa(sa, [selectors or ANY_IPV4]), generation)
        self.programmed["sa"] += 1

    async def erase_sa(self, dfe: int, index: int) -> None:
        self._in_dfe("sa", index, dfe, self.capabilities.sa_entries)
        self._sas[dfe].pop(index, None)

    async def read_state(self, dfe: int, index: int) -> SaState:
        self._in_dfe("sa", index, dfe, self.capabilities.sa_entries)
        held = self._sas[dfe].get(index)
        return held.soft.state if held else SaState()

    async def attention(self) -> list[Attention]:
        return [
            Attention(dfe, index, held.soft.over)
            for dfe, sas in enumerate(self._sas)
            for index, held in sas.items()
            if held.soft.worn or held.soft.over
        ]

    async def stop_sa(self, dfe: int, index: int) -> bool:
        return True  # nothing comes while the control element is at work

    async def add_cam(self, entry: CamEntry) -> None:
        if entry.key not in self._cam and len(self._cam) >= self.capabilities.cam_entries:
            raise TableFull(f"The CAM is full: {self.capabilities.cam_entries} entries")
        self._cam[entry.key] = entry
        self.programmed["cam"] += 1

    async def remove_cam(self, key: CamKey) -> None:
        self._cam.pop(key, None)

    async def add_rule(self, rule: Rule) -> None:
        if len(self._rules) >= self.capabilities.rules:
            raise TableFull(f"The rules are full: {self.capabilities.rules} entries")
        self._rules.append(rule)
        self.programmed["rule"] += 1

    async def replace_rule(self, old: Rule, new: Rule) -> None:
        if old not in self._rules:
            raise InputError(f"{old!r} must be there")
        self._rules[self._rules.index(old)] = new
        self.programmed["rule"] += 1

    async def remove_rule(self, rule: Rule) -> None:
        if rule in self._rules:
            self._rules.remove(rule)

    async def write_route(self, index: int, route: Route | None) -> None:
        self._in_range("route index", index, self.capabilities.routes)
        self._put(self._routes, "route", index, route)

    async def write_source(self, dfe: int, index: int, source: Source | None) -> None:
        self._in_dfe("source", index, dfe, self.capabilities.sources)
        self._put(self._sources[dfe], "source", index, source)

    def _put(self, table: dict[int, Entry], name: str, index: int, entry: Entry | None) -> None:
        if entry is None:
            table.pop(index, None)
        else:
            table[index] = entry
            self.programmed[name] += 1

    def _in_dfe(self, table: str, index: int, dfe: int, size: int) -> None:
        self._in_range(f"{table} index", index, size)
        self._in_range("dfe", dfe, self.capabilities.dfes)

    def _in_range(self, name: str, value: int, size: int) -> None:
        if not 0 <= value < size:
            raise InputError(f"{name} must be 0 to {size - 1}, not {value!r}")

    async def counters(self) -> Counters:
        return Counters(
            self._cfe.copy(), self._forward.copy(), [*map(Counter, self._dfes)], self.drops.copy()
        )

    async def events(self) -> list[Event]:
        events, self._events = self._events, []
        return events
