# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""SAs at work: which DFE has which, what leads there, and which are done in software for want of room."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

from spigate.firmware_py.control.ways import Ways
from spigate.firmware_py.errors import TableFull
from spigate.firmware_py.ipsec.sa import Identity, Lifetime, Sa, SaState, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.interface import CamEntry, CamKey, Route, Tables
from spigate.firmware_py.tables.punt import Place
from spigate.hdl.contract.constants import GENERATIONS
from spigate.hdl.contract.enums import Direction

SEQUENCE_MARGIN = 1 << 20
"""Numbers that an outbound SA skips when it leaves a DFE that may still have packets of it: none comes twice.
"""
NO_ROOM = "no room in a DFE"
"""Why an SA is done in software, though a DFE could do it."""
IDLE_SECONDS = 10.0
"""An SA that had no packet for so long may lose its place in a DFE to one that has some."""
EVICTION_SECONDS = 0.1
"""So often one loses it at most."""
DOWN_SECONDS = 30.0
"""So long a DFE gets no SA after it took none of one's packets, unless the balancer offers it again. Each
try may cost an outbound SA
:data:`SEQUENCE_MARGIN` numbers."""
LOOKED_AT = 4
"""SAs of which the DFEs are asked whether they are idle, each time."""

MAX_PLACES = 1 << 14
"""Places of SAs that are remembered, for packets that a DFE had when its SA went elsewhere."""


@dataclass(eq=False)
class Placed:
    """An SA at work.

    Members
    -------
    sa : Sa
    place : Place
        Where ``soft`` is set, one that no SA ever has, so that what points there comes up.
    permitted : list of Selectors or None
        What it may carry, for an inbound one, as far as boxes can say it. None: policy is asked about each
        packet.
    soft : SoftSa or None
        It is done here.
    mtu : int
        The DFE's limit for an outbound one.
    found : bool
        The CAM points to it.
    route : Route or None
        By which its packets leave the DFE, for an inbound one that has one.
    before : SaState
        How far it was when it came to this DFE.
    beyond : float or None
        When it last had a packet that no DFE can do; None: not since a DFE has it.
    wanting : bool
        It is done here for want of room alone.
    used, seen : float, SaState or None
        When it was last found to have gone on, and how far it was.
    """

    sa: Sa
    place: Place
    permitted: list[Selectors] | None = None
    soft: SoftSa | None = None
    mtu: int = 0
    found: bool = False
    route: Route | None = None
    before: SaState = SaState()
    beyond: float | None = None
    wanting: bool = False
    used: float = 0.0
    seen: SaState | None = None

    @property
    def here(self) -> SoftSa:
        """The SA at work here; only where ``soft`` is set."""
        assert self.soft is not None
        return self.soft


class Programming:
    """The SAs that a gateway's tables have, and their entries.

    It takes them as empty at first. Where a table is full, :class:`~spigate.firmware_py.errors.TableFull`
    says which; an SA for which there is no room is done in software, and comes into a DFE when there is.

    An SA that software does takes no place of a DFE. What finds it (the CAM, a rule) points to a place that
    is never filled, so that its packets come up as those of an SA, not as misses, whose number is limited.

    Parameters
    ----------
    tables : Tables
    clock : callable
        Seconds.

    Members
    -------
    capabilities : Capabilities
        Of the gateway.
    enabled : int
        Bit n: DFE n may get SAs.
    shares : tuple of int, or None
        For each DFE its share of the SAs. None: an SA goes to the DFE that it is offered to.
    placed : dict
        SAs at work, by their identity.
    programmed : Counter of str
        Entries written, by table.
    refusals : dict of Sa to str
        Why an SA is done in software.
    of_policy : frozenset of str
        Those of these reasons that go when policies change.
    ways : Ways
        Rules, routes and clear sources.
    unfound : set of Placed
        Inbound SAs for which the CAM has no room: their packets are misses.
    """

    def __init__(self, tables: Tables, clock: Callable[[], float] = monotonic):
        capabilities = tables.capabilities
        self._tables, self.capabilities, self._clock = tables, capabilities, clock
        self.enabled = (1 << capabilities.dfes) - 1
        self.shares: tuple[int, ...] | None = None
        self.placed: dict[Identity, Placed] = {}
        self.programmed: Counter[str] = Counter()
        self.refusals: dict[Sa, str] = {}
        self.of_policy: frozenset[str] = frozenset()
        self.unfound: set[Placed] = set()
        self._generations: Counter[tuple[int, int]] = Counter()
        self._places: OrderedDict[Place, Sa] = OrderedDict()
        # The last place of the last DFE is the one that is never filled.
        self._absent = Place(capabilities.dfes - 1, capabilities.sa_entries - 1, 0)
        self._free = [
            deque(range(capabilities.sa_entries - (dfe == self._absent.dfe)))
            for dfe in range(capabilities.dfes)
        ]
        self._held: Counter[tuple[int, Direction]] = Counter()
        self._down: dict[int, float] = {}
        self._evicted = -EVICTION_SECONDS
        self.ways = Ways(
            tables,
            clock,
            self.programmed,
            lambda: {placed.route for placed in self.placed.values() if placed.route},
        )

    def enable(self, dfes: int) -> None:
        """Bit n: DFE n may get SAs from now on. One that may again is taken for one that works."""
        self._down = {
            dfe: since for dfe, since in self._down.items() if self.enabled >> dfe & 1 or not dfes >> dfe & 1
        }
        self.enabled = dfes

    # SAs

    async def place(
        self,
        sa: Sa,
        dfe: int | None,
        permitted: list[Selectors] | None = None,
        *,
        mtu: int = 0,
        why_not: str | None = None,
    ) -> Placed:
        """Puts ``sa`` to work: in the DFE whose turn it is by ``shares``, or else in ``dfe``, the
        balancer's choice, or in another one if that has no room, or in software, if no DFE has, if the
        gateway lacks something that it needs, or for the reason ``why_not``. ``mtu`` is the longest packet
        that an outbound one takes in a DFE; 0: any."""
        placed = Placed(sa, self._absent, permitted, mtu=mtu, used=self._clock())
        lacking = self.capabilities.lacks(sa, permitted or ()) or why_not
        if dfe is not None:
            self._down.pop(dfe, None)  # The balancer chooses only those that work.
        place = None if lacking else await self._find_place(sa, prefer=dfe)
        self.placed[sa.identity] = placed
        if place is None:
            self._do_here(placed, lacking or NO_ROOM, SaState(sa.sequence, sa.window), wanting=not lacking)
            return placed
        self._take_place(placed, place)
        placed.seen = SaState(sa.sequence, sa.window)
        await self._tables.write_sa(
            placed.place.dfe,
            placed.place.sa,
            replace(sa, mtu=mtu),
            permitted[0] if permitted else None,
            generation=placed.place.generation,
        )
        self.programmed["sa"] += 1
        return placed

    def _do_here(self, placed: Placed, why: str, state: SaState, *, wanting: bool = False) -> None:
        self.refusals[placed.sa] = why
        placed.place = self._absent
        placed.soft, placed.before, placed.route, placed.wanting = (
            SoftSa(placed.sa, placed.permitted, state),
            SaState(),
            None,
            wanting,
        )

    async def take_over(self, placed: Placed, why: str, *, wanting: bool = False) -> None:
        """Does an SA here from now on that a DFE has done so far, whose place is free then. What pointed to
        it points to the place that is never filled. ``wanting``: it is to go back when there is room."""
        if placed.soft:
            if placed.wanting and not wanting:
                placed.wanting, self.refusals[placed.sa] = False, why
            return
        place = placed.place
        state = await self._withdraw(placed)
        self._do_here(placed, why, state, wanting=wanting)
        if placed.found:
            await self._add_cam(placed, await self.ways.route_of_absent())
        await self._lead_rules(place, placed.place)
        self._give_place_back(placed, place)

    async def give_back(self, placed: Placed, mtu: int, route: Route | None) -> None:
        """Lets a DFE do an SA again that is done here. ``mtu`` as in :meth:`place`, ``route`` as in
        :meth:`find_by`, for an inbound one. Where there is no room it stays here, wanting."""
        placed.wanting, placed.beyond = True, None
        try:
            at = None if route is None else await self.ways.route(route)
            place = await self._find_place(placed.sa)
        except TableFull as full:
            self.refusals[placed.sa] = str(full)
            return
        if place is None:
            self.refusals[placed.sa] = NO_ROOM
            return
        del self.refusals[placed.sa]
        state, placed.soft, placed.mtu, placed.wanting = placed.here.state, None, mtu, False
        self._take_place(placed, place)
        await self._write(placed, state)
        if at is not None:
            placed.route = route
            await self._add_cam_or_take_over(placed, at)

    async def permit(self, placed: Placed, permitted: list[Selectors] | None, why_not: str | None) -> None:
        """Goes on with an inbound SA that may carry something else from now on: here, and wanting, if a DFE
        can check it and could have had it before; ``why_not`` says why none can."""
        if placed.soft is None and why_not is None and placed.permitted == permitted:
            return
        able = placed.soft is None or placed.wanting or self.refusals[placed.sa] in self.of_policy
        await self.take_over(placed, why_not or NO_ROOM)
        placed.permitted, placed.soft = permitted, SoftSa(placed.sa, permitted, placed.here.state)
        if able:
            lacking = self.capabilities.lacks(placed.sa, permitted or ()) or why_not
            placed.wanting, self.refusals[placed.sa] = lacking is None, lacking or NO_ROOM

    def at(self, place: Place) -> Sa | None:
        """The SA that had ``place`` when a DFE took a packet there, if there still is one."""
        sa = self._places.get(place)
        return (
            sa
            if sa is not None and sa.identity in self.placed and self.placed[sa.identity].sa == sa
            else None
        )

    def by_place(self) -> dict[tuple[int, int], Sa]:
        """The SAs that DFEs have, by DFE and index there."""
        return {
            (placed.place.dfe, placed.place.sa): placed.sa
            for placed in self.placed.values()
            if not placed.soft
        }

    async def state(self, placed: Placed) -> SaState:
        """How far an SA is."""
        if placed.soft:
            state = placed.soft.state
        else:
            state, before = await self._tables.read_state(placed.place.dfe, placed.place.sa), placed.before
            state = replace(state, bytes=before.bytes + state.bytes, packets=before.packets + state.packets)
        if state != placed.seen:
            placed.used, placed.seen = self._clock(), state
        return state

    async def _write(self, placed: Placed, state: SaState) -> None:
        """Writes an SA that goes on to its DFE."""
        sa = placed.sa
        placed.before, placed.seen, placed.used = state, state, self._clock()
        await self._tables.write_sa(
            placed.place.dfe,
            placed.place.sa,
            replace(
                sa,
                mtu=placed.mtu,
                sequence=state.sequence,
                window=state.window,
                soft=_remaining(sa.soft, state),
                hard=_remaining(sa.hard, state),
            ),
            placed.permitted[0] if placed.permitted else None,
            generation=placed.place.generation,
        )
        self.programmed["sa"] += 1

    async def find_by(self, placed: Placed, route: Route | None) -> None:
        """Makes the CAM point to an inbound SA, whose packets then go by ``route``; None: it is done here.
        Where there is no room for the route or in the CAM, it is done here from then on."""
        at = None
        if not placed.soft and route is not None:
            try:
                at = await self.ways.route(route)
            except TableFull as full:
                await self.take_over(placed, str(full), wanting=True)
        if placed.soft or at is None:
            at = await self.ways.route_of_absent()
        else:
            placed.route = route
        await self._add_cam_or_take_over(placed, at)

    async def _add_cam_or_take_over(self, placed: Placed, route: int) -> None:
        try:
            await self._add_cam(placed, route)
        except TableFull as full:
            self.unfound.add(placed)
            await self.take_over(placed, str(full), wanting=True)

    async def _add_cam(self, placed: Placed, route: int) -> None:
        sa = placed.sa
        await self._tables.add_cam(
            CamEntry(
                CamKey(sa.destination, sa.spi, sa.protocol),
                placed.place.dfe,
                placed.place.sa,
                route,
                placed.place.generation,
            )
        )
        placed.found = True
        self.unfound.discard(placed)
        self.programmed["cam"] += 1

    def is_absent(self, place: Place) -> bool:
        """Whether that is the place that is never filled."""
        return place == self._absent

    async def move(self, placed: Placed, route: Route | None) -> None:
        """Puts an SA into another DFE, where it goes on; ``route`` as in :meth:`find_by`, for an inbound
        one. Where no other DFE has room it is done here."""
        self._down[placed.place.dfe] = self._clock()
        target = await self._find_place(placed.sa, avoid=placed.place.dfe)
        if target is None:
            await self.take_over(placed, NO_ROOM, wanting=True)
            return
        old = placed.place
        state = await self._withdraw(placed)
        self._take_place(placed, target)
        await self._write(placed, state)
        if placed.found:
            await self.find_by(placed, route)
        await self._lead_rules(old, placed.place)
        self._give_place_back(placed, old)

    async def _lead_rules(self, old: Place, new: Place) -> None:
        """Rules that point to the one place point to the other one."""
        for key, rule in self.ways.pointing_to(old):
            await self.ways.put(key, rule.to(new))

    async def remove(self, sa: Sa) -> None:
        """Takes an SA back: what points to it goes first, then its keys. Nothing happens where it is not at
        work.
        """
        placed = self.placed.get(sa.identity)
        if placed is None or placed.sa != sa:
            return
        del self.placed[sa.identity]
        self.refusals.pop(sa, None)
        self.unfound.discard(placed)
        await self._hide(placed)
        if not placed.soft:
            await self._tables.stop_sa(placed.place.dfe, placed.place.sa)
            await self._tables.erase_sa(placed.place.dfe, placed.place.sa)
            self._give_place_back(placed, placed.place)

    async def _withdraw(self, placed: Placed) -> SaState:
        """Takes an SA from its DFE; gives where it goes on. Nothing is lost meanwhile, and no number comes
        between: its packets come up from when it stops."""
        stopped = await self._tables.stop_sa(placed.place.dfe, placed.place.sa)
        state = await self.state(placed)
        await self._tables.erase_sa(placed.place.dfe, placed.place.sa)
        return _going_on(placed.sa, state, 0 if stopped else SEQUENCE_MARGIN)

    async def _hide(self, placed: Placed) -> None:
        """Lets nothing point to an SA any more. What points to the place that is never filled may stay: it
        is asked for anew.
        """
        sa = placed.sa
        if placed.found:
            await self._tables.remove_cam(CamKey(sa.destination, sa.spi, sa.protocol))
            placed.found, placed.route = False, None
        for key, rule in () if placed.soft else self.ways.pointing_to(placed.place):
            await self.ways.put(key, rule.punting())

    async def rename(self, old: Sa, new: Sa, why: str) -> None:
        """Goes on with ``old`` as ``new``, which has other addresses or UDP ports outside, in software: an
        SA's place in a DFE cannot be told of others without a break."""
        placed = self.placed.pop(old.identity, None)
        if placed is None:
            return
        await self.take_over(placed, why)
        await self._hide(placed)
        self.refusals.pop(old, None)
        self.unfound.discard(placed)
        placed.sa = new
        self._do_here(placed, why, placed.here.state)
        self.placed[new.identity] = placed

    # Places in DFEs

    def _take_place(self, placed: Placed, place: tuple[int, int]) -> None:
        """Gives an SA a place, and the next generation there. A packet that was classified when another SA
        was in this place is then none of this one's: it would have to wait while the place is given away
        256 times."""
        self._generations[place] = (self._generations[place] + 1) % GENERATIONS
        placed.place = Place(*place, self._generations[place])
        self._held[placed.place.dfe, placed.sa.direction] += 1
        self._places[placed.place] = placed.sa
        while len(self._places) > MAX_PLACES:
            self._places.popitem(last=False)

    def _give_place_back(self, placed: Placed, place: Place) -> None:
        self._held[place.dfe, placed.sa.direction] -= 1
        self._free[place.dfe].append(place.sa)

    async def _find_place(
        self, sa: Sa, *, prefer: int | None = None, avoid: int | None = None
    ) -> tuple[int, int] | None:
        """A place for ``sa`` in an enabled DFE that takes packets, or that of an SA that is idle. None:
        there is none.

        Inbound and outbound SAs have shares of their own, since one of each comes with every peer. Packets
        take turns in the balancer, and not SAs: those of one peer take the same number each time, so that
        its choices alone would come round to the same DFE.
        """

        def rank(dfe: int) -> tuple[float, bool, int]:
            turn = (self._held[dfe, sa.direction] + 1) / self.shares[dfe] if self.shares else 0
            return turn, dfe != prefer, -len(self._free[dfe])

        self._down = {dfe: since for dfe, since in self._down.items() if self._clock() - since < DOWN_SECONDS}
        usable = [
            dfe
            for dfe in range(len(self._free))
            if dfe != avoid and dfe not in self._down and self.enabled >> dfe & 1
        ]
        dfe = min((dfe for dfe in usable if self._free[dfe]), key=rank, default=None)
        if dfe is None:
            dfe = await self._evict(usable)
        return None if dfe is None else (dfe, self._free[dfe].popleft())

    async def _evict(self, dfes: list[int]) -> int | None:
        """Takes the SA that was used least recently over, if it is idle, and gives its DFE."""
        now = self._clock()
        if now - self._evicted < EVICTION_SECONDS:
            return None
        self._evicted = now
        idle = sorted(
            (
                placed
                for placed in self.placed.values()
                if not placed.soft and placed.place.dfe in dfes and now - placed.used >= IDLE_SECONDS
            ),
            key=lambda placed: placed.used,
        )
        for placed in idle[:LOOKED_AT]:
            await self.state(placed)
            if now - placed.used >= IDLE_SECONDS:
                dfe = placed.place.dfe
                await self.take_over(placed, NO_ROOM, wanting=True)
                return dfe
        return None

    # Routes

    async def rewrite_route(self, old: Route, new: Route) -> bool:
        """Lets all that goes by ``old`` go by ``new``. False, and nothing is changed: there is no ``old``,
        or there is ``new`` already.
        """
        if not await self.ways.rewrite_route(old, new):
            return False
        for placed in self.placed.values():
            if placed.route == old:
                placed.route = new
        return True

    async def forget_route(self, route: Route, lead: Callable[[Placed], Route]) -> None:
        """Takes ``route`` back. The rules that lead there punt, so that they are learned anew; SAs go by
        what ``lead`` says.
        """
        await self.ways.punt_route(route)
        for placed in [placed for placed in self.placed.values() if placed.route == route]:
            await self.find_by(placed, lead(placed))
        await self.ways.drop_route(route)


def _going_on(sa: Sa, state: SaState, margin: int) -> SaState:
    """Where an SA goes on that leaves its DFE; ``margin``: numbers that an outbound one skips."""
    if sa.direction == Direction.INBOUND:
        return replace(state, window=state.window & (1 << sa.replay_window) - 1)
    return replace(state, sequence=min(state.sequence + margin, sa.last_number), window=0)


def _remaining(limit: Lifetime, state: SaState) -> Lifetime:
    """What an SA has left of a lifetime; at least one, so that the next packet ends it."""
    return Lifetime(
        limit.bytes and max(limit.bytes - state.bytes, 1),
        limit.packets and max(limit.packets - state.packets, 1),
        limit.seconds,
    )
