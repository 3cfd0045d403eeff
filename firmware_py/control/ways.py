# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""By which ways packets go: the rules, routes and clear sources that the control element has written, and
where there is room for more.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from ipaddress import collapse_addresses

from spigate.firmware_py.control.places import Places
from spigate.firmware_py.errors import TableFull
from spigate.firmware_py.ipsec.decision import Decision
from spigate.firmware_py.ipsec.sa import Address, Network, Selectors
from spigate.firmware_py.tables.interface import Route, Rule, Source, Tables
from spigate.firmware_py.tables.punt import Place
from spigate.hdl.contract.enums import Action, Port

RULE_SECONDS = 10.0
"""So long a rule stays, whoever else would need its place."""
ABSENT_ROUTE = Route(Port.SERVER)
"""Of entries of SAs that no DFE has: no packet goes by it."""
RuleKey = tuple[frozenset[Port], Selectors]
"""What a rule is known by: ports and selectors."""


class Ways:
    """The gateway's rules, routes and clear sources.

    It takes them as empty at first. Where a table is full, :class:`~spigate.firmware_py.errors.TableFull`
    says which, and what the entry would be for has to go by the software path.

    Parameters
    ----------
    tables : Tables
    clock : callable
        Seconds.
    programmed : Counter of str
        Entries written, by table: it counts here.
    needed : callable
        The routes of SAs.
    """

    def __init__(
        self,
        tables: Tables,
        clock: Callable[[], float],
        programmed: Counter[str],
        needed: Callable[[], set[Route]],
    ):
        capabilities = tables.capabilities
        self._tables, self._capabilities, self.programmed, self._needed = (
            tables,
            capabilities,
            programmed,
            needed,
        )
        self._rules: OrderedDict[RuleKey, Rule] = OrderedDict()
        self._decided: dict[RuleKey, Decision] = {}
        self._rule_places: Places[RuleKey] = Places("rules", capabilities.rules, clock, stay=RULE_SECONDS)
        self._routes: Places[Route] = Places("routes", capabilities.routes - 1, clock)
        self._absent_route: int | None = None
        self._sources: list[Source] = []
        self._unlisted: list[Source] = []

    # Rules

    async def install(self, decision: Decision, rule: Rule) -> None:
        """Makes ``rule``, which does what was decided, one of the gateway's. Boxes of decisions have
        nothing in common, or the same becomes of what they have in common; so rules have no order. But a
        box from before a change of policies may be another one, and its rule may lead to nothing by now:
        such a one goes, or it would hand up what ``rule`` does."""
        key = (rule.ingress, rule.selectors)
        for other, known in list(self._rules.items()):
            if (
                other != key
                and not other[0].isdisjoint(rule.ingress)
                and other[1].overlaps(rule.selectors)
                and known.outcome != rule.outcome
            ):
                await self._drop_rule(other)
        await self.put(key, rule)
        self._decided[key] = decision

    async def forget_rules(self, about: Callable[[Decision], bool] = lambda decision: True) -> None:
        """Takes those rules back whose decisions are ``about`` something that has changed."""
        for key in [key for key, decision in self._decided.items() if about(decision)]:
            await self._drop_rule(key)

    def pointing_to(self, place: Place) -> list[tuple[RuleKey, Rule]]:
        """The rules that lead to the SA at ``place``, and what :meth:`put` knows them by."""
        return [
            (key, rule)
            for key, rule in self._rules.items()
            if rule.action == Action.PROTECT and rule.place == place
        ]

    async def put(self, key: RuleKey, rule: Rule) -> None:
        """Writes ``rule``, in the place of the one that has its ``key``.

        Raises
        ------
        TableFull
            It is new, and there is no room.
        """
        old = self._rules.get(key)
        if old == rule:
            return
        if old:
            await self._tables.replace_rule(old, rule)
        else:
            await self._make_room(key, rule)
            await self._tables.add_rule(rule)
        self._rules[key] = rule
        self.programmed["rule"] += 1

    async def _drop_rule(self, key: RuleKey) -> None:
        self._rule_places.release(key)
        self._decided.pop(key, None)
        await self._tables.remove_rule(self._rules.pop(key))

    async def _make_room(self, key: RuleKey, rule: Rule) -> None:
        """Takes a place for the rule ``key``, if need be that of another one, which can be learned again.
        The gateway does not say which rules it uses, so the oldest goes. Rules that discard have half of
        the places, for whoever is outside makes them.
        """
        if rule.action == Action.DISCARD:
            discards = sum(known.action == Action.DISCARD for known in self._rules.values())
            if 2 * discards >= self._capabilities.rules:
                raise TableFull(f"The rules that discard have their share: {discards} entries")
        _, loser = self._rule_places.take(key)
        if loser is not None:
            self._decided.pop(loser, None)
            await self._tables.remove_rule(self._rules.pop(loser))

    # Routes and clear sources

    async def route(self, route: Route) -> int:
        """The index of ``route``, which is written if it is new, if need be in the place of one that
        nothing needs.

        Raises
        ------
        TableFull
            All are needed.
        """
        index = self._routes.find(route)
        if index is None:
            needed = self._needed_routes() if len(self._routes) == self._routes.size else ()
            index, _ = self._routes.take(route, lambda other: other not in needed)
            await self._tables.write_route(index, route)
            self.programmed["route"] += 1
        return index

    def _needed_routes(self) -> set[Route]:
        """Those that an SA or a rule points to."""
        by_rules = {
            rule.route for rule in self._rules.values() if rule.action in (Action.BYPASS, Action.PROTECT)
        }
        return {route for route in self._routes if self._routes.index(route) in by_rules} | self._needed()

    async def rewrite_route(self, old: Route, new: Route) -> bool:
        """Writes ``new`` in the place of ``old``. False, and nothing is changed: there is no ``old``, or
        there is ``new`` already.
        """
        if old not in self._routes or new in self._routes:
            return False
        await self._tables.write_route(self._routes.index(old), new)
        self.programmed["route"] += 1
        self._routes.rename(old, new)
        return True

    async def punt_route(self, route: Route) -> None:
        """Lets the rules that lead to ``route`` punt, so that they are learned anew."""
        index = self._routes.index(route)
        for key, rule in list(self._rules.items()):
            if rule.route == index and rule.action in (Action.BYPASS, Action.PROTECT):
                await self.put(key, rule.punting())

    async def drop_route(self, route: Route) -> None:
        """Takes ``route`` back, where nothing needs it."""
        if route in self._routes and route not in self._needed_routes():
            index = self._routes.index(route)
            self._routes.release(route)
            await self._tables.write_route(index, None)

    async def route_of_absent(self) -> int:
        """The route of the entries that lead to nothing, which has a place of its own."""
        if self._absent_route is None:
            self._absent_route = self._routes.size
            await self._tables.write_route(self._absent_route, ABSENT_ROUTE)
        return self._absent_route

    def routes_to(self, port: Port, mac: bytes) -> list[Route]:
        """The routes that lead to that Ethernet address."""
        return [route for route in self._routes if (route.egress, route.destination_mac) == (port, mac)]

    async def allow(self, sources: Iterable[Source]) -> None:
        """Lets ``sources`` and nobody else speak in the clear, in every DFE. Once. Neighbouring networks
        are written as one; for those that find no room, and for IPv6, the control element knows it."""
        networks: dict[frozenset[Port], list[Network]] = {}
        for source in sources:
            networks.setdefault(source.ingress, []).append(source.network)
            self._sources.append(source)
        listed = [
            Source(network, ingress)
            for ingress, given in networks.items()
            for network in collapse_addresses(network for network in given if network.version == 4)
        ]
        listed.sort(key=lambda source: source.network.prefixlen)
        for index, source in enumerate(listed[: self._capabilities.sources]):
            for dfe in range(self._capabilities.dfes):
                await self._tables.write_source(dfe, index, source)
            self.programmed["source"] += 1
        self._unlisted = listed[self._capabilities.sources :]

    def lists(self, network: Network, ingress: Port) -> bool:
        """Whether the DFEs know of all that may speak in the clear at ``ingress`` and are in ``network``."""
        return not any(
            ingress in source.ingress and source.network.overlaps(network) for source in self._unlisted
        )

    def allowed(self, source: Address, ingress: Port) -> bool:
        """Whether ``source`` may speak in the clear at ``ingress``. What was in a tunnel did not come in
        the clear.
        """
        return ingress == Port.RECIRCULATE or any(
            source in known.network and ingress in known.ingress for known in self._sources
        )
