# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The control element: owns SAs and policies, learns from punts what the gateway's tables need, and writes
it there.

The gateware starts cold. A packet that it cannot place comes up (punt); the control element writes the
entries that the packet and its like need, and sends the packet down again (inject), so that the first packet
of a stream is late, not lost. What the gateware cannot do at all is done here, in software.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_network
from time import monotonic

from spigate.firmware_py.control.assignment import MOVED, Assignment
from spigate.firmware_py.control.learning import Learning
from spigate.firmware_py.control.programming import Placed, Programming
from spigate.firmware_py.control.routing import Consumed, Routing, Unresolved
from spigate.firmware_py.control.settings import Miss, Settings
from spigate.firmware_py.control.slow_path import SlowPath
from spigate.firmware_py.control.topology import Topology
from spigate.firmware_py.errors import UnsupportedError
from spigate.firmware_py.ipsec.boxes import Flow
from spigate.firmware_py.ipsec.decision import Decision, Spd
from spigate.firmware_py.ipsec.packet import Ethernet, Ip, Refused
from spigate.firmware_py.ipsec.policy import Policy, PolicyDatabase
from spigate.firmware_py.ipsec.sa import ANY_PORTS, Address, Sa, SaState
from spigate.firmware_py.ipsec.sad import SaDatabase
from spigate.firmware_py.tables.bus import PacketPort
from spigate.firmware_py.tables.interface import CfeSettings, Event, Source, Tables
from spigate.firmware_py.tables.punt import InjectMode, Place, PuntHeader
from spigate.hdl.contract.enums import Direction, Mode, Port, Reason
from spigate.hdl.contract.protocols import TCP, UDP
from spigate.hdl.contract.reasons import PUNTS

ENDS_HERE = frozenset({Reason.NOT_IP})
"""Punts that nothing is done for, but that the host gets them."""
EVERYBODY = (Source(ip_network("0.0.0.0/0"), frozenset({Port.NETWORK, Port.SERVER})),)
"""Where no sources are given, policy alone says who may speak in the clear: one entry, which nobody's
made-up addresses can use up.
"""
FOR_HOST = frozenset({"ike", "local", "not_ip"})
"""What the host itself may want of the frames that end here."""


class ControlElement:
    """The control element of one gateway.

    It is a coroutine on a :class:`~spigate.firmware_py.tables.interface.Tables` and a
    :class:`~spigate.firmware_py.tables.bus.PacketPort`, and waits for nothing else; so it runs wherever
    those do,
    also in a simulator. Call :meth:`start` first, then :meth:`run`, or :meth:`handle` for one punt after the
    other.

    Parameters
    ----------
    tables : Tables
        A :class:`~spigate.firmware_py.tables.driver.Driver` or a
        :class:`~spigate.firmware_py.tables.model.SoftGateway`.
    port : PacketPort
    topology : Topology
    sas, policies
    settings : Settings
    clock : callable
        Seconds, for lifetimes.

    Members
    -------
    punted : Counter of Reason
        Frames that came up. Each is injected, dropped or consumed.
    injected : Counter of InjectMode
        Frames that went down: CLASSIFY again, or, after the software path, DIRECT to a port or CLASSIFY as
        recirculated.
    dropped : Counter of Reason
    consumed : Counter of str
        Frames that ended here, by what they were: ``ike``, ``not_ip``, ``fragment``, ``local``,
        ``no_route``, ...
    programmed : Counter of str
        Entries written, by table.
    software, made : Counter of str
        Packets that the software path did, and frames that it added:
        :class:`~spigate.firmware_py.control.slow_path.SlowPath`.
    refusals : dict of Sa to str
        Why an SA is done in software.
    on_host : callable
        Called with header and frame of what is for the host itself: IKE, what the policies let pass to its
        own addresses or from them, and what is not IP.
    on_unresolved : callable
        Called with port and address of a neighbour that is not known, and header and frame of what waits
        for it:
        :meth:`handle` does it once more.
    on_moved : callable
        Called with an inbound SA on which an authentic packet came in UDP from elsewhere, and with that
        packet's header.

    Raises
    ------
    UnsupportedError
        A policy selects by what the gateway does not look at; the message names it.
    """

    def __init__(
        self,
        *,
        tables: Tables,
        port: PacketPort,
        topology: Topology,
        sas: Iterable[Sa] = (),
        policies: Iterable[Policy] = (),
        settings: Settings = Settings(),  # noqa: B008 (immutable)
        clock: Callable[[], float] = monotonic,
    ):
        self._tables, self._port, self._topology, self._settings, self._clock = (
            tables,
            port,
            topology,
            settings,
            clock,
        )
        self._sas, self._policies = SaDatabase(), PolicyDatabase()
        self._programming = Programming(tables, clock)
        self.punted: Counter[Reason] = Counter()
        self.injected: Counter[InjectMode] = Counter()
        self.dropped: Counter[Reason] = Counter()
        self.consumed: Counter[str] = Counter()
        self.programmed = self._programming.programmed
        self._routing = Routing(
            topology,
            lambda: self._sas,
            clock,
            own_host=settings.own_host,
            frame_bytes=tables.capabilities.frame_bytes,
        )
        self._assignment = Assignment(self._sas, lambda: self.spd, self._programming, self._routing, clock)
        self._slow = SlowPath(
            self,
            self._assignment,
            self._routing,
            frame_bytes=tables.capabilities.frame_bytes,
            depth_limit=lambda: self._settings.cfe.depth_limit,
            clock=clock,
        )
        self.software, self.made = self._slow.software, self._slow.made
        self.refusals = self._programming.refusals
        self._limits_misses = True
        self._learning = Learning(
            self, self._sas, self._programming, self._assignment, self._routing, self._slow
        )
        self.handlers = self._learning.handlers
        self._spd: Spd | None = None
        self._compiled = False
        for sa in sas:
            self._sas.add(sa, self._clock())
        for policy in policies:
            _check_policy(policy)
            self._policies.add(policy)
        self.on_host: Callable[[PuntHeader, bytes], None] = lambda header, frame: None
        self.on_unresolved: Callable[[Port, Address, PuntHeader, bytes], None] = (
            lambda port, address, header, frame: None
        )
        self.on_moved: Callable[[Sa, Ip], None] = lambda sa, outer: None

    async def start(self) -> None:
        """Sets up the classifier and the clear sources."""
        await self.configure(self._settings.cfe)
        await self._programming.ways.allow(
            EVERYBODY if self._settings.sources is None else self._settings.sources
        )

    async def configure(self, cfe: CfeSettings) -> None:
        """Sets up the classifier anew, for example with another set of DFEs: SAs of one that is off move when
        their next packet comes."""
        cfe = self._with_stations(replace(cfe, enable=cfe.enable & (1 << self._tables.capabilities.dfes) - 1))
        self._settings = replace(self._settings, cfe=cfe)
        self._programming.enable(cfe.enable)
        self._programming.shares = cfe.shares
        self._limits_misses = not self._programming.unfound
        # Packets of an SA that the CAM has no room for are misses, each of which is wanted.
        await self._tables.configure(cfe if self._limits_misses else replace(cfe, miss_interval=0))

    async def run(self) -> None:
        """Handles punts for ever, one after the other."""
        while True:
            await self.handle(*await self._port.receive())

    async def handle(self, header: PuntHeader, frame: bytes) -> None:
        """Handles one punt: afterwards its frame is injected, dropped or consumed."""
        self.punted[header.reason] += 1
        handler = self.handlers.get(header.reason)
        if handler is None:
            self._end(Consumed(header.reason.name.lower()), header, frame)
            return
        try:
            ethernet, packet = Ethernet.parse(frame)
            await handler(header, frame, ethernet, packet, Ip.parse(packet))
        except Consumed as cause:
            self._end(cause, cause.header or header, cause.frame or frame)
        except Refused as refusal:
            if refusal.reason in PUNTS:
                self.consumed[refusal.reason.name.lower()] += 1
            else:
                self.dropped[refusal.reason] += 1

    def _end(self, cause: Consumed, header: PuntHeader, frame: bytes) -> None:
        """A frame ends here."""
        self.consumed[str(cause)] += 1
        if isinstance(cause, Unresolved):
            self.on_unresolved(cause.port, cause.address, header, frame)
        elif str(cause) in FOR_HOST:
            self.on_host(header, frame)

    # SAs and policies

    async def add_sa(self, sa: Sa) -> None:
        """Takes up ``sa``; the tables learn of it when its first packet comes.

        Raises
        ------
        InputError
            There is one with the same {destination, protocol, SPI}.
        """
        self._sas.add(sa, self._clock())
        await self._led_to(sa)

    async def remove_sa(self, sa: Sa) -> None:
        """Gives up ``sa``: its entries go first, then its keys."""
        self._sas.remove(sa)
        await self._programming.remove(sa)

    async def move_sa(self, old: Sa, new: Sa) -> None:
        """Goes on with ``old`` as ``new``: other addresses or UDP ports outside, everything else as it
        stands. From now on it is done in software.

        Raises
        ------
        InputError
            ``old`` is not there, or another one has the name of ``new``.
        """
        self._sas.replace(old, new)
        await self._programming.rename(old, new, MOVED)
        await self._led_to(new)

    async def _led_to(self, sa: Sa) -> None:
        """An outbound SA is new: rules of policies that name it are learned anew."""
        if sa.direction == Direction.OUTBOUND:
            await self._programming.ways.forget_rules(
                lambda decision: any(
                    template.accepts(sa) for policy in decision.policies for template in policy.templates
                )
            )

    async def state(self, sa: Sa) -> SaState:
        """How far ``sa`` is."""
        placed = self.placed(sa)
        return SaState(sa.sequence, sa.window) if placed is None else await self._programming.state(placed)

    async def give_back(self) -> None:
        """Lets DFEs do those SAs again that were taken from them for packets that no DFE can do, when for a
        while none came.
        """
        await self._assignment.give_back()

    async def change_topology(self, topology: Topology) -> None:
        """Goes on with what the networks have become. What the tables say of neighbours that are others now
        is learned anew.
        """
        before, self._topology, self._routing.topology = self._topology, topology, topology
        self._compiled = False
        if before.local != topology.local:
            await self.configure(self._settings.cfe)
        if (topology.routes, topology.interfaces) != (before.routes, before.interfaces):
            await self._programming.ways.forget_rules()
            await self._assignment.lead_anew()
        else:
            await self._neighbours_changed(before)

    async def _neighbours_changed(self, before: Topology) -> None:
        """Only what used a neighbour that is another now, or is gone, is written anew: where all that had
        an Ethernet address has the same other one now, the routes that lead to it; otherwise what goes by
        them is learned anew."""
        topology = self._topology
        left: dict[tuple[Port, bytes], set[bytes | None]] = {}
        for at, neighbour in before.neighbours.items():
            known = topology.neighbours.get(at)
            left.setdefault((neighbour.port, neighbour.mac), set()).add(known.mac if known else None)
        for (port, mac), now in left.items():
            if now == {mac}:
                continue
            for route in self._programming.ways.routes_to(port, mac):
                # Two may have changed their addresses with each other, or have one together now: that is no
                # rewriting.
                moved = (
                    replace(route, destination_mac=next(iter(now)))
                    if len(now) == 1 and None not in now
                    else None
                )
                if moved is None or not await self._programming.rewrite_route(route, moved):
                    await self._programming.forget_route(
                        route, lambda placed: self._routing.inbound(placed, self.spd)
                    )
        changed = {
            at[1] for at, neighbour in topology.neighbours.items() if before.neighbours.get(at) != neighbour
        }
        if changed:
            await self._assignment.lead_straight(changed)

    async def add_policy(self, policy: Policy) -> None:
        """Adds a policy."""
        _check_policy(policy)
        self._policies.add(policy)
        await self._policies_changed(policy)

    async def remove_policy(self, policy: Policy) -> None:
        """Removes a policy."""
        self._policies.remove(policy)
        await self._policies_changed(policy)

    async def _policies_changed(self, policy: Policy) -> None:
        """Rules and SAs about packets that ``policy`` is about are learned anew."""
        before, self._compiled, selectors = self._spd, False, policy.selectors
        await self._programming.ways.forget_rules(
            lambda decision: decision.region is None or selectors.overlaps(decision.region)
        )
        if before is not None:  # otherwise no SA is at work yet
            await self._assignment.policy_changed(policy, before)
        if self._with_stations(self._settings.cfe) != self._settings.cfe:
            await self.configure(self._settings.cfe)

    @property
    def spd(self) -> Spd:
        """The policies, compiled for the networks as they are."""
        if self._spd is None or not self._compiled:
            self._compiled = True
            self._spd = Spd(self._policies, self._settings.default, self._topology.local, self._routing.way)
        return self._spd

    def _with_stations(self, cfe: CfeSettings) -> CfeSettings:
        """``cfe`` with the gateway's own addresses, and the ports' own Ethernet addresses, where they filter.

        A router takes what is sent to it; in front of a host with transport mode it has to take that host's
        frames.
        """
        macs = {port: interface.mac for port, interface in self._topology.interfaces.items()}
        routes = self._settings.own_host or all(
            template.mode == Mode.TUNNEL for policy in self._policies for template in policy.templates
        )
        return replace(
            cfe,
            own=self._topology.local,
            network_mac=macs.get(Port.NETWORK),
            server_mac=macs.get(Port.SERVER) if routes else None,
        )

    async def expire(self) -> list[Sa]:
        """Gives up the SAs whose hard lifetime in seconds is over, and says which."""
        over = self._sas.over(self._clock())
        for sa in over:
            await self.remove_sa(sa)
        return over

    async def poll(self) -> list[tuple[Event, Sa | None]]:
        """The gateway's events since the last call and the software path's, and the SAs that they are
        about.
        """
        at = self._programming.by_place()
        return [
            *((event, at.get((event.dfe, event.sa))) for event in await self._tables.events()),
            *self._slow.take_events(),
        ]

    async def worn(self) -> list[tuple[Sa, bool]]:
        """The SAs that are to be replaced, because they have reached a soft byte or packet lifetime or have
        few sequence numbers left, and whether they have stopped at a hard one."""
        placed = list(self._programming.placed.values())
        at = self._programming.by_place()
        return [
            *(
                (at[each.dfe, each.index], each.over)
                for each in await self._tables.attention()
                if (each.dfe, each.index) in at
            ),
            *((one.sa, one.soft.over) for one in placed if one.soft and (one.soft.worn or one.soft.over)),
        ]

    @property
    def policies(self) -> Iterable[Policy]:
        """Policies in the order in which they decide."""
        return iter(self._policies)

    def placed(self, sa: Sa) -> Placed | None:
        """Where ``sa`` is at work; None where it is not yet."""
        return self._programming.placed.get(sa.identity)

    # Asked on the way of a punt

    def decide(self, ingress: Port, flow: Flow) -> Decision:
        """What the policies say about a packet that came up and had come in at ``ingress``. What a DFE has
        decrypted is in the box of its SA."""
        return self.spd.decide(flow, ingress, None)

    def through(self, header: PuntHeader) -> tuple[Sa, ...] | None:
        """The SA that a DFE has decrypted a frame with; None: the control element did it, and has asked
        policy.
        """
        if header.out_of is None:
            return None
        sa = self._programming.at(header.out_of)
        return (sa,) if sa else ()

    async def may_speak(self, source: Address, ingress: Port) -> None:
        """Refused as POLICY where ``source`` may not speak in the clear."""
        if self._settings.sources is not None and not self._programming.ways.allowed(source, ingress):
            raise Refused(Reason.POLICY)

    @property
    def drops_misses(self) -> bool:
        """Whether a packet is lost that the tables did not know."""
        return self._settings.miss == Miss.DROP

    async def misses_changed(self) -> None:
        """The CAM may have got room for all SAs, or have none for one: then no miss may be left out."""
        if self._limits_misses == bool(self._programming.unfound):
            await self.configure(self._settings.cfe)

    def tell_host(self, header: PuntHeader, frame: bytes) -> None:
        """A frame is for the control element's own host."""
        self.on_host(header, frame)

    def heard(self, sa: Sa, outer: Ip) -> None:
        """An authentic packet came on ``sa``, in UDP."""
        known = sa.encapsulation
        if outer.ports and known and (outer.source, outer.ports[0]) != (sa.source, known.source_port):
            self.on_moved(sa, outer)

    async def inject(
        self, mode: InjectMode, port: Port, depth: int, frame: bytes, out_of: Place | None = None
    ) -> None:
        """Sends a frame down; ``out_of``: the SA that it came out of."""
        await self._port.inject(mode, port, depth, frame, out_of)
        self.injected[mode] += 1


def _check_policy(policy: Policy) -> None:
    selectors = policy.selectors
    if (selectors.source_ports, selectors.destination_ports) != (
        ANY_PORTS,
        ANY_PORTS,
    ) and selectors.protocol not in (None, TCP, UDP):
        raise UnsupportedError(
            f"The gateway looks at ports of TCP and UDP only, not of protocol {selectors.protocol} "
            f"(policy {selectors.source} to {selectors.destination})"
        )
