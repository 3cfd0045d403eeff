# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Traffic selectors (RFC 7296 2.9, 3.13) and the project's :class:`Selectors`: ranges to prefixes, and
narrowing.

TSi and TSr mean every pair of one of TSi's and one of TSr's; :class:`Selectors` is one such pair, with
prefixes. Everywhere here a pair's source is the initiator's side.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network, summarize_address_range
from itertools import islice, product
from typing import TypeVar

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.wire.errors import TsUnacceptable
from spigate.firmware_py.ike.wire.payloads import TrafficSelectors, TsI, TsR
from spigate.firmware_py.ike.wire.structures import OPAQUE_PORTS, TrafficSelector, UnknownSelector
from spigate.firmware_py.ipsec.packet import TCP, UDP
from spigate.firmware_py.ipsec.sa import ANY_PORTS, Address, Network, Selectors

_MOST_OFFERED, _MOST, MOST_PAIRS = 32, 32, 64
"""Selectors a side that an offer is looked at for, and that several of ours may make in an answer together;
pairs that a child SA may have. What is compared with each other is bounded by them: the other side says how
many there are."""
_MOST_TEXT = 4
"""Selectors a side that a text names."""
_Side = TypeVar("_Side", bound=TrafficSelectors)
"""TSi or TSr."""


def sees_ports(protocol: int | None) -> bool:
    """Whether the data plane looks at ports of an IP protocol, or (0, None) of those that have some. It
    does not at those of SCTP, nor at types of ICMP."""
    return protocol in (None, 0, TCP, UDP)


def _sides(pair: Selectors) -> tuple[TrafficSelector, TrafficSelector]:
    """A pair as selectors of its two ends."""
    protocol = pair.protocol or 0
    return (
        TrafficSelector(pair.source[0], pair.source[-1], protocol, pair.source_ports),
        TrafficSelector(pair.destination[0], pair.destination[-1], protocol, pair.destination_ports),
    )


def _usable(payload: TrafficSelectors) -> list[TrafficSelector]:
    """Those that can be kept: of a known type, and about ports that are looked at. OPAQUE ones are not, nor
    are types and codes of ICMP (RFC 7296 3.13.1)."""
    return [
        each
        for each in payload.selectors
        if isinstance(each, TrafficSelector)
        and (each.ports == ANY_PORTS or each.ports != OPAQUE_PORTS and sees_ports(each.protocol))
    ]


def _common(one: TrafficSelector, other: TrafficSelector) -> TrafficSelector | None:
    if (
        one.start.version != other.start.version
        or one.protocol != other.protocol
        and one.protocol
        and other.protocol
    ):
        return None
    start, end = max(one.start, other.start), min(one.end, other.end)
    ports = max(one.ports[0], other.ports[0]), min(one.ports[1], other.ports[1])
    if int(start) > int(end) or ports[0] > ports[1]:
        return None
    return TrafficSelector(start, end, one.protocol or other.protocol, ports)


def _box(selector: TrafficSelector) -> tuple[int, ...]:
    """Its numbers, which are compared many times: those of addresses take ten times as long."""
    return selector.start.version, int(selector.start), int(selector.end), selector.protocol, *selector.ports


def _inside(inner: tuple[int, ...], outer: tuple[int, ...]) -> bool:
    version, start, end, protocol, low, high = outer
    return (
        inner[0] == version
        and start <= inner[1]
        and inner[2] <= end
        and protocol in (0, inner[3])
        and low <= inner[4]
        and inner[5] <= high
    )


def _within(inner: TrafficSelector, outer: TrafficSelector) -> bool:
    return _inside(_box(inner), _box(outer))


def _distinct(selectors: Iterable[TrafficSelector]) -> list[TrafficSelector]:
    """Without those that lie within another."""
    boxes = {each: _box(each) for each in selectors}
    return [
        each
        for each, box in boxes.items()
        if not any(other is not box and _inside(box, other) for other in boxes.values())
    ]


def _pairs(
    sources: Iterable[TrafficSelector], destinations: Iterable[TrafficSelector]
) -> Iterator[tuple[TrafficSelector, TrafficSelector]]:
    """Every pair that some packet can match, with the protocol that both ends agree on."""
    for source, destination in product(sources, destinations):
        protocol = source.protocol or destination.protocol
        if source.start.version == destination.start.version and destination.protocol in (0, protocol):
            yield replace(source, protocol=protocol), replace(destination, protocol=protocol)


def _covered(
    sources: Sequence[TrafficSelector],
    destinations: Sequence[TrafficSelector],
    allowed: Sequence[tuple[TrafficSelector, TrafficSelector]],
) -> bool:
    boxes = [(_box(source), _box(destination)) for source, destination in allowed]
    return all(
        any(
            _inside(source, own_source) and _inside(destination, own_destination)
            for own_source, own_destination in boxes
        )
        for source, destination in (
            (_box(source), _box(destination)) for source, destination in _pairs(sources, destinations)
        )
    )


def payloads(selectors: Sequence[Selectors], packet: Selectors | None = None) -> tuple[TsI, TsR]:
    """TSi and TSr that say traffic from source (initiator's side) to destination (responder's side).

    ``packet``: of the packet that asked for the SA; it goes in front (2.9).

    Raises
    ------
    InputError
        ``selectors`` are not all pairs of some sources and some destinations, so one child SA cannot have
        them.
    """
    pairs = [_sides(pair) for pair in selectors]
    sources, destinations = (_distinct(side) for side in zip(*pairs, strict=True))
    if not _covered(sources, destinations, pairs):
        raise InputError(
            "selectors: expected all pairs of some sources and some destinations, for one child SA"
        )
    first = [_sides(packet)] if packet else []
    return (
        TsI((*(source for source, _ in first), *sources)),
        TsR((*(destination for _, destination in first), *destinations)),
    )


def to_selectors(
    tsi: TrafficSelectors, tsr: TrafficSelectors, *, limit: int = MOST_PAIRS
) -> tuple[Selectors, ...]:
    """The traffic of TSi and TSr as pairs of prefixes.

    Raises
    ------
    TsUnacceptable
        There is none, or it takes more than ``limit``.
    """
    found: list[Selectors] = []
    usable = _usable(tsi), _usable(tsr)
    if max(map(len, usable)) > limit:
        raise TsUnacceptable(f"more than {limit} traffic selectors")
    for source, destination in _pairs(*map(_distinct, usable)):
        nets = product(_prefixes(source, limit + 1), _prefixes(destination, limit + 1))
        found += [
            Selectors(*pair, source.protocol or None, source.ports, destination.ports)
            for pair in islice(nets, limit + 1 - len(found))
        ]
        if len(found) > limit:
            raise TsUnacceptable(f"traffic selectors that take more than {limit} pairs of prefixes")
    if not found:
        raise TsUnacceptable("traffic selectors that no packet matches")
    return tuple(found)


def _prefixes(selector: TrafficSelector, most: int) -> list[Network]:
    """The first of the prefixes that its range of addresses is."""
    return list(islice(summarize_address_range(selector.start, selector.end), most))


def narrow(tsi: TrafficSelectors, tsr: TrafficSelectors, ours: Sequence[Selectors]) -> tuple[TsI, TsR]:
    """The responder's answer: a subset of the offer, all of whose pairs ``ours`` allows, as large as it
    finds one.

    It begins with the first of ours that has anything in common with the offer; where the offer's first
    selectors are those of one packet (2.9), with the first of ours that takes this packet. Others are added
    as long as all pairs remain allowed.

    Raises
    ------
    TsUnacceptable
        Nothing in common.
    """
    offered_sources, offered_destinations = (_usable(each)[:_MOST_OFFERED] for each in (tsi, tsr))
    allowed = [_sides(pair) for pair in ours]
    order = list(allowed)
    packet = offered_sources[:1] + offered_destinations[:1]
    if len(packet) == 2 and all(each.start == each.end for each in packet):
        order.sort(key=lambda own: None in map(_common, packet, own))
    sources: list[TrafficSelector] = []
    destinations: list[TrafficSelector] = []
    for own_source, own_destination in order:
        some = [common for each in offered_sources if (common := _common(each, own_source))]
        others = [common for each in offered_destinations if (common := _common(each, own_destination))]
        if not any(_pairs(some, others)):
            continue
        wider, wider_destinations = _distinct(sources + some), _distinct(destinations + others)
        too_many = (
            max(len(wider), len(wider_destinations)) > _MOST
            or len(wider) * len(wider_destinations) > MOST_PAIRS
        )
        if too_many and sources:
            continue
        if not sources or _covered(wider, wider_destinations, allowed):
            sources, destinations = wider, wider_destinations
    if not sources:
        raise TsUnacceptable(f"no traffic that both sides want to protect; the peer offers {text(tsi, tsr)}")
    return TsI(tuple(sources)), TsR(tuple(destinations))


def leaves(
    tsi: TrafficSelectors, tsr: TrafficSelectors, answer: tuple[TsI, TsR], ours: Sequence[Selectors]
) -> bool:
    """Whether an offer has something that ``ours`` allows and that is not in the ``answer``: another child
    SA might have it (ADDITIONAL_TS_POSSIBLE, 2.9). An ``answer`` of which :func:`to_selectors` makes a
    child's traffic has MOST_PAIRS at most.
    """
    offered = [_usable(each)[:_MOST_OFFERED] for each in (tsi, tsr)]
    taken = list(islice(_pairs(*map(_usable, answer)), MOST_PAIRS))
    for own in map(_sides, ours):
        sources, destinations = (
            _distinct(found for each in side if (found := _common(each, wanted)))
            for side, wanted in zip(offered, own, strict=True)
        )
        pairs = list(islice(_pairs(sources, destinations), MOST_PAIRS + 1))
        if len(pairs) > MOST_PAIRS or not _covered(sources, destinations, taken):
            return True
    return False


def check(tsi: TrafficSelectors, tsr: TrafficSelectors, offered: tuple[TsI, TsR]) -> None:
    """Whether an answer is within what was offered. Raises TsUnacceptable."""
    for answer, offer in zip((tsi, tsr), offered, strict=True):
        known = _usable(answer)
        if not known or len(known) != len(answer.selectors):
            raise TsUnacceptable("an answer with traffic selectors that were not offered")
        if not all(any(_within(each, other) for other in _usable(offer)) for each in known):
            raise TsUnacceptable("an answer with more traffic than was offered")


def products(selectors: Sequence[Selectors]) -> list[tuple[Selectors, ...]]:
    """As few groups as are found without search, each of which one child SA can have: all pairs of some
    sources and some destinations."""
    pairs = {pair: _sides(pair) for pair in selectors}
    if not pairs or _is_product(pairs.values()):
        return [tuple(pairs)]
    destinations: dict[TrafficSelector, set[TrafficSelector]] = {}
    for source, destination in pairs.values():
        destinations.setdefault(source, set()).add(destination)
    groups: dict[frozenset[TrafficSelector], list[Selectors]] = {}
    for pair, (source, _) in pairs.items():
        groups.setdefault(frozenset(destinations[source]), []).append(pair)
    return [
        part
        for group in groups.values()
        for part in (
            [tuple(group)] if _is_product([pairs[each] for each in group]) else [(each,) for each in group]
        )
    ]


def _is_product(pairs: Iterable[tuple[TrafficSelector, TrafficSelector]]) -> bool:
    pairs = list(pairs)
    sources, destinations = map(_distinct, zip(*pairs, strict=True))
    return _covered(sources, destinations, pairs)


def without(
    wanted: Iterable[Selectors], taken: Iterable[Selectors], *, limit: int = MOST_PAIRS
) -> tuple[Selectors, ...]:
    """What ``wanted`` has and ``taken`` does not, in disjoint pairs of prefixes; where it takes more than
    ``limit``, the first of them. What is taken of some protocols or ports alone counts as taken."""
    rest = list(wanted)
    for each in taken:
        rest = list(islice((piece for pair in rest for piece in _without(pair, each)), limit))
    return tuple(rest)


def _without(pair: Selectors, taken: Selectors) -> Iterator[Selectors]:
    if not pair.overlaps(taken):
        yield pair
        return
    for source in _outside(pair.source, taken.source):
        yield replace(pair, source=source)
    common = max(pair.source, taken.source, key=lambda network: network.prefixlen)
    for destination in _outside(pair.destination, taken.destination):
        yield replace(pair, source=common, destination=destination)


def _outside(network: Network, taken: Network) -> Iterable[Network]:
    if isinstance(network, IPv4Network) and isinstance(taken, IPv4Network):
        return () if network.subnet_of(taken) else network.address_exclude(taken)
    if isinstance(network, IPv6Network) and isinstance(taken, IPv6Network):
        return () if network.subnet_of(taken) else network.address_exclude(taken)
    return (network,)


def single(traffic: Sequence[Selectors], packet: Selectors | None) -> Selectors:
    """One pair of addresses (SINGLE_PAIR_REQUIRED, 2.9): the packet's that waits, or else the first hosts'
    of ``traffic``.
    """
    if packet is not None:
        return Selectors(packet.source, packet.destination)
    return replace(
        traffic[0], source=_first_host(traffic[0].source), destination=_first_host(traffic[0].destination)
    )


def _first_host(network: Network) -> Network:
    return ip_network(network[network.num_addresses > 2])


def reverse(selectors: Sequence[Selectors]) -> tuple[Selectors, ...]:
    """The same traffic, seen from the other side."""
    return tuple(
        Selectors(each.destination, each.source, each.protocol, each.destination_ports, each.source_ports)
        for each in selectors
    )


def text(tsi: TrafficSelectors, tsr: TrafficSelectors) -> str:
    """An offer for the log, of which no more than the first few selectors are named."""
    return " to ".join(
        _listed([_named(each) for each in side.selectors[:_MOST_TEXT]], len(side.selectors))
        for side in (tsi, tsr)
    )


def pairs_text(traffic: Sequence[Selectors]) -> str:
    """Traffic for the log, of which no more than the first few pairs are named."""
    named = (" to ".join(map(_named, _sides(each))) for each in traffic[:_MOST_TEXT])
    return _listed(list(named), len(traffic))


def _listed(names: list[str], number: int) -> str:
    return ", ".join(names) + (f" and {number - len(names)} more" if number > len(names) else "")


def _named(selector: TrafficSelector | UnknownSelector) -> str:
    if isinstance(selector, UnknownSelector):
        return f"type {selector.ts_type}"
    nets = list(islice(summarize_address_range(selector.start, selector.end), 2))
    addresses = str(nets[0]) if len(nets) == 1 else f"{selector.start}-{selector.end}"
    ports = (
        ""
        if selector.ports == ANY_PORTS
        else " opaque"
        if selector.ports == OPAQUE_PORTS
        else " {}-{}".format(*selector.ports)
    )
    return addresses + (f" protocol {selector.protocol}" if selector.protocol else "") + ports


def readdress(payload: _Side, address: Address) -> _Side:
    """For transport mode through a NAT (2.23.1): its single addresses of the same family become
    ``address``.
    """

    def moved(each: TrafficSelector | UnknownSelector) -> TrafficSelector | UnknownSelector:
        if not isinstance(each, TrafficSelector):
            return each
        if each.start == each.end and each.start.version == address.version:
            return replace(each, start=address, end=address)
        return each

    return replace(payload, selectors=tuple(map(moved, payload.selectors)))
