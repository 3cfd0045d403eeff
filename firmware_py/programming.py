"""What the control element has written to the gateway's tables, and where there is room for more."""
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, replace

from spigate.firmware_py.decision import EXACT, NO_POLICY, Decision
from spigate.firmware_py.errors import TableFull
from spigate.firmware_py.packet import Refused
from spigate.firmware_py.punt import Port, Reason
from spigate.firmware_py.sa import Address, Direction, Lifetime, Sa, Selectors
from spigate.firmware_py.soft.sa import SoftSa
from spigate.firmware_py.tables import Action, CamEntry, CamKey, Route, Rule, SaState, Source, Tables

SEQUENCE_MARGIN = 1 << 20
"""Numbers that an outbound SA skips when it leaves a DFE that may still have packets of it: none comes twice."""

GENERATIONS = 256
"""Numbers that tell the SAs apart that have one place of a DFE one after the other."""


@dataclass
class Placed:
    """An SA at work: in DFE ``dfe``, at ``index``; or, where ``soft`` is set, here (then the DFE's entry
    stays empty, so that it punts). ``permitted`` is what it may carry, for an inbound one, and ``inside`` says
    that its packets must have been inside another SA. ``mtu`` is the DFE's limit for an outbound one, ``route`` the way
    of an inbound one that the CAM points to. ``before`` is how far it was when it came to this DFE, ``beyond`` when it last had a packet
    that no DFE can do, or was taken over for want of room; None: not since a DFE has it. ``generation`` tells it from
    those that were in its place before."""

    sa: Sa
    dfe: int
    index: int
    permitted: list[Selectors] | None = None
    soft: SoftSa | None = None
    inside: bool = False
    mtu: int = 0
    route: Route | None = None
    before: SaState = SaState()
    beyond: float | None = None
    generation: int = 0


class Programming:
    """The contents of a gateway's tables.

    It takes them as empty at first. Where a table is full, :class:`~spigate.firmware_py.errors.TableFull` says which.

    Parameters
    ----------
    tables : Tables

    Members
    -------
    capabilities : Capabilities
        Of the gateway.
    enabled : int
        Bit n: DFE n may get SAs.
    placed : dict
        SAs at work, by their identity.
    programmed : Counter of str
        Entries written, by table.
    refusals : dict of Sa to str
        Why an SA is done in software.
    """

    def __init__(self, tables: Tables):
        capabilities = tables.capabilities
        self._tables, self.capabilities = tables, capabilities
        self.enabled = (1 << capabilities.dfes) - 1
        self.placed: dict[tuple, Placed] = {}
        self.programmed: Counter[str] = Counter()
        self.refusals: dict[Sa, str] = {}
        self._generations: Counter[tuple[int, int]] = Counter()
        self._free = [deque(range(capabilities.sa_entries)) for _ in range(capabilities.dfes)]
        self._rules: OrderedDict[tuple, Rule] = OrderedDict()
        self._routes: dict[Route, int] = {}
        self._free_routes = deque(range(capabilities.routes))
        self._sources: list[Source] = []
        self._ipv6_sources: list[Source] = []

    # SAs

    async def place(self, sa: Sa, dfe: int, permitted: list[Selectors] | None = None, *, inside: bool = False,
                    mtu: int = 0, why_not: str | None = None) -> Placed:
        """Puts ``sa`` to work: in ``dfe``, or another one if that has no room, or in software, if the gateway lacks
        something that it needs, or for the reason ``why_not``. ``mtu`` is the longest packet
        that an outbound one takes in a DFE; 0: any.

        Raises
        ------
        Refused
            NO_DFE: no enabled DFE has room.
        """
        room = self._room(prefer=dfe)
        if room is None:
            raise Refused(Reason.NO_DFE)
        placed = Placed(sa, room, self._free[room].popleft(), permitted, inside=inside, mtu=mtu)
        self._take_place(placed)
        lacking = self.capabilities.lacks(sa, permitted or ()) or why_not
        if lacking:
            await self.to_software(placed, lacking)
        else:
            await self._tables.write_sa(placed.dfe, placed.index, replace(sa, mtu=mtu), permitted[0] if permitted else None,
                                        generation=placed.generation)
            self.programmed["sa"] += 1
        self.placed[sa.identity] = placed
        return placed

    async def to_software(self, placed: Placed, why: str) -> None:
        """Does a new SA here from now on."""
        self.refusals[placed.sa] = why
        placed.soft = SoftSa(placed.sa, placed.permitted)
        await self._tables.erase_sa(placed.dfe, placed.index)

    async def take_over(self, placed: Placed, why: str) -> None:
        """Does an SA here from now on that a DFE has done so far. What points to its empty place stays, so that its packets come up, and
        not as misses, whose number may be limited."""
        if placed.soft:
            return
        state = await self._withdraw(placed)
        self.refusals[placed.sa] = why
        placed.soft, placed.before = SoftSa(placed.sa, placed.permitted, state), SaState()

    async def give_back(self, placed: Placed, mtu: int) -> None:
        """Lets the DFE do an SA again that :meth:`take_over` took from it. ``mtu`` as in :meth:`place`."""
        del self.refusals[placed.sa]
        state, placed.soft, placed.mtu, placed.beyond = placed.soft.state, None, mtu, None
        await self._write(placed, state)

    async def state(self, placed: Placed) -> SaState:
        """How far an SA is."""
        if placed.soft:
            return placed.soft.state
        state, before = await self._tables.read_state(placed.dfe, placed.index), placed.before
        return replace(state, bytes=before.bytes + state.bytes, packets=before.packets + state.packets)

    async def _write(self, placed: Placed, state: SaState) -> None:
        """Writes an SA that goes on to its DFE."""
        sa = placed.sa
        placed.before = state
        await self._tables.write_sa(placed.dfe, placed.index, replace(
            sa, mtu=placed.mtu, sequence=state.sequence, window=state.window, soft=_remaining(sa.soft, state),
            hard=_remaining(sa.hard, state)), placed.permitted[0] if placed.permitted else None, generation=placed.generation)
        self.programmed["sa"] += 1

    async def find_by(self, placed: Placed, route: Route) -> None:
        """Makes the CAM point to an inbound SA, whose packets then go by ``route``."""
        sa = placed.sa
        key = CamKey(sa.destination, sa.spi, sa.protocol)
        await self._tables.add_cam(CamEntry(key, placed.dfe, placed.index, await self.route(route), placed.generation))
        placed.route = route
        self.programmed["cam"] += 1

    async def move(self, placed: Placed, route: Route | None) -> None:
        """Puts an SA into another DFE, where it goes on; ``route`` as in :meth:`find_by`, for an inbound one.

        Raises
        ------
        Refused
            NO_DFE: no other one has room. All is as it was.
        """
        target = self._room(avoid=placed.dfe)
        if target is None:
            raise Refused(Reason.NO_DFE)
        old = (placed.dfe, placed.index)
        state = await self._withdraw(placed)
        placed.dfe, placed.index = target, self._free[target].popleft()
        self._take_place(placed)
        await self._write(placed, state)
        if placed.sa.direction == Direction.INBOUND:
            await self.find_by(placed, route)
        for key, rule in self._pointing_to(*old):
            await self._put_rule(key, replace(rule, dfe=target, sa=placed.index, generation=placed.generation))
        self._free[old[0]].append(old[1])

    async def remove(self, sa: Sa) -> None:
        """Takes an SA back: what points to it goes first, then its keys. Nothing happens where it is not at work."""
        placed = self.placed.get(sa.identity)
        if placed is None or placed.sa != sa:
            return
        del self.placed[sa.identity]
        self.refusals.pop(sa, None)
        await self._hide(placed)
        if not placed.soft:
            await self._tables.stop_sa(placed.dfe, placed.index)
        await self._tables.erase_sa(placed.dfe, placed.index)
        self._free[placed.dfe].append(placed.index)

    async def _withdraw(self, placed: Placed) -> SaState:
        """Takes an SA from its DFE; gives where it goes on. Nothing is lost meanwhile, and no number comes between: its packets come up
        from when it stops."""
        stopped = await self._tables.stop_sa(placed.dfe, placed.index)
        state = await self.state(placed)
        await self._tables.erase_sa(placed.dfe, placed.index)
        return _going_on(placed.sa, state, 0 if stopped else SEQUENCE_MARGIN)

    async def _hide(self, placed: Placed) -> None:
        """Lets nothing point to an SA any more."""
        sa = placed.sa
        if placed.route is not None:
            await self._tables.remove_cam(CamKey(sa.destination, sa.spi, sa.protocol))
            placed.route = None
        for key, rule in self._pointing_to(placed.dfe, placed.index):
            await self._put_rule(key, replace(rule, action=Action.PUNT, dfe=0, sa=0, route=0, generation=0))

    async def rename(self, old: Sa, new: Sa, why: str) -> None:
        """Goes on with ``old`` as ``new``, which has other addresses or UDP ports outside, in software: an SA's place in a DFE
        cannot be told of others without a break."""
        placed = self.placed.pop(old.identity, None)
        self.refusals.pop(old, None)
        if placed is None:
            return
        await self.take_over(placed, why)
        await self._hide(placed)
        self.refusals.pop(old, None)
        self.refusals[new] = why
        placed.sa, placed.soft = new, SoftSa(new, placed.permitted, placed.soft.state)
        self.placed[new.identity] = placed

    def _take_place(self, placed: Placed) -> None:
        """Gives an SA that is new in its place the next generation there. A packet that was classified when another SA was in this place
        is then none of this one's: it would have to wait while the place is given away 256 times."""
        at = (placed.dfe, placed.index)
        placed.generation = self._generations[at] = (self._generations[at] + 1) % GENERATIONS

    def _room(self, *, prefer: int | None = None, avoid: int | None = None) -> int | None:
        """An enabled DFE with room: ``prefer``, or the one with most."""
        usable = [dfe for dfe, free in enumerate(self._free) if free and dfe != avoid and self.enabled >> dfe & 1]
        return max(usable, key=lambda dfe: (dfe == prefer, len(self._free[dfe])), default=None)

    # Rules

    async def install(self, decision: Decision, rule: Rule) -> None:
        """Makes ``rule`` one of the gateway's; what must be tried before it and is not yet known is punted
        until it is."""
        for step in decision.before:
            key = (step.order, step.ingress, step.selectors)
            if key not in self._rules:
                await self._put_rule(key, Rule(step.selectors, step.ingress, Action.PUNT, step.order))
        await self._put_rule((decision.order, decision.ingress, decision.selectors), rule)

    async def forget_rules(self) -> None:
        """Takes all rules back, the last ones first, so that no packet sees less than it must."""
        for rule in sorted(self._rules.values(), key=lambda rule: rule.order, reverse=True):
            await self._tables.remove_rule(rule)
        self._rules.clear()

    def _pointing_to(self, dfe: int, index: int) -> list[tuple[tuple, Rule]]:
        return [(key, rule) for key, rule in self._rules.items()
                if rule.action == Action.PROTECT and (rule.dfe, rule.sa) == (dfe, index)]

    async def _put_rule(self, key: tuple, rule: Rule) -> None:
        old = self._rules.get(key)
        if old == rule:
            return
        if old:
            await self._tables.replace_rule(old, rule)
        else:
            await self._make_room()
            await self._tables.add_rule(rule)
        self._rules[key] = rule
        self.programmed["rule"] += 1

    async def _make_room(self) -> None:
        """Gives up the oldest rule of a single flow, which can be learned again, where there is no room for
        another one."""
        if len(self._rules) < self.capabilities.rules:
            return
        for key, rule in self._rules.items():
            if rule.order[0] in (EXACT, NO_POLICY):
                await self._tables.remove_rule(rule)
                del self._rules[key]
                return
        raise TableFull(f"The rules are full: {len(self._rules)} entries")

    # Routes and clear sources

    async def route(self, route: Route) -> int:
        """The index of ``route``, which is written if it is new."""
        if route not in self._routes:
            if not self._free_routes:
                raise TableFull(f"The routes are full: {len(self._routes)} entries")
            index = self._free_routes.popleft()
            await self._tables.write_route(index, route)
            self._routes[route] = index
            self.programmed["route"] += 1
        return self._routes[route]

    async def forget_routes(self) -> None:
        """Takes those routes back that no SA needs, when there are no rules."""
        needed = {placed.route for placed in self.placed.values()}
        for route in [route for route in self._routes if route not in needed]:
            index = self._routes.pop(route)
            await self._tables.write_route(index, None)
            self._free_routes.append(index)

    async def allow(self, source: Source) -> None:
        """Lets ``source`` speak in the clear, in every DFE."""
        if source.network.version == 6:
            if source not in self._ipv6_sources:
                self._ipv6_sources.append(source)
            return
        if len(self._sources) >= self.capabilities.sources:
            raise TableFull(f"The clear sources are full: {len(self._sources)} entries")
        for dfe in range(self.capabilities.dfes):
            await self._tables.write_source(dfe, len(self._sources), source)
        self._sources.append(source)
        self.programmed["source"] += 1

    def allowed(self, source: Address, ingress: Port) -> bool:
        """Whether ``source`` may speak in the clear at ``ingress``. What was in a tunnel did not come in the clear."""
        return ingress == Port.RECIRCULATE or any(
            source in known.network and ingress in known.ingress for known in self._sources + self._ipv6_sources)


def _going_on(sa: Sa, state: SaState, margin: int) -> SaState:
    """Where an SA goes on that leaves its DFE; ``margin``: numbers that an outbound one skips."""
    if sa.direction == Direction.INBOUND:
        return replace(state, window=state.window & (1 << sa.replay_window) - 1)
    last = (1 << (64 if sa.esn else 32)) - 1
    return replace(state, sequence=min(state.sequence + margin, last), window=0)


def _remaining(limit: Lifetime, state: SaState) -> Lifetime:
    """What an SA has left of a lifetime; at least one, so that the next packet ends it."""
    return Lifetime(limit.bytes and max(limit.bytes - state.bytes, 1),
                    limit.packets and max(limit.packets - state.packets, 1), limit.seconds)
