"""Traffic selectors (RFC 7296 2.9, 3.13) and the project's :class:`Selectors`: ranges to prefixes, and narrowing.

TSi and TSr mean every pair of one of TSi's and one of TSr's; :class:`Selectors` is one such pair, with prefixes.
Everywhere here a pair's source is the initiator's side.
"""
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import summarize_address_range
from itertools import islice, product

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.errors import TsUnacceptable
from spigate.firmware_py.ike.payloads import OPAQUE_PORTS, TrafficSelector, TrafficSelectors, TsI, TsR
from spigate.firmware_py.sa import ANY_PORTS, Address, Selectors

_ICMP = frozenset({1, 58})
_MOST_OFFERED, _MOST = 64, 32
"""Selectors a side that an offer is looked at for, and that several of ours may make in an answer together."""


def _sides(pair: Selectors) -> tuple[TrafficSelector, TrafficSelector]:
    """A pair as selectors of its two ends. ICMP's type and code are one number, the same at both ends (3.13.1)."""
    ports = pair.source_ports, pair.destination_ports
    if pair.protocol in _ICMP and ports != (ANY_PORTS, ANY_PORTS):
        types, codes = (tuple(min(each, 255) for each in of) for of in ports)
        if types[0] != types[1] and codes != (0, 255):
            raise InputError(f"selectors: ICMP types {types[0]} to {types[1]} must go with all codes, not {codes!r}")
        ports = 2 * ((types[0] << 8 | codes[0], types[1] << 8 | codes[1]),)
    return tuple(TrafficSelector(net[0], net[-1], pair.protocol or 0, each)
                 for net, each in zip((pair.source, pair.destination), ports, strict=True))


def _usable(payload: TrafficSelectors) -> list[TrafficSelector]:
    """Those that can be kept: of a known type, and about ports that can be seen."""
    return [each for each in payload.selectors if isinstance(each, TrafficSelector) and each.ports != OPAQUE_PORTS]


def _common(one: TrafficSelector, other: TrafficSelector) -> TrafficSelector | None:
    if one.start.version != other.start.version or one.protocol != other.protocol and one.protocol and other.protocol:
        return None
    start, end = max(one.start, other.start), min(one.end, other.end)
    ports = max(one.ports[0], other.ports[0]), min(one.ports[1], other.ports[1])
    if start > end or ports[0] > ports[1]:
        return None
    return TrafficSelector(start, end, one.protocol or other.protocol, ports)


def _within(inner: TrafficSelector, outer: TrafficSelector) -> bool:
    return (inner.start.version == outer.start.version and outer.start <= inner.start and inner.end <= outer.end
            and outer.protocol in (0, inner.protocol)
            and outer.ports[0] <= inner.ports[0] and inner.ports[1] <= outer.ports[1])


def _distinct(selectors: Iterable[TrafficSelector]) -> list[TrafficSelector]:
    """Without those that lie within another."""
    selectors = list(dict.fromkeys(selectors))
    return [each for each in selectors if not any(each != other and _within(each, other) for other in selectors)]


def _pairs(sources: Iterable[TrafficSelector], destinations: Sequence[TrafficSelector]) -> Iterator[tuple]:
    """Every pair that some packet can match, with the protocol that both ends agree on."""
    for source, destination in product(sources, destinations):
        protocol = source.protocol or destination.protocol
        if source.start.version == destination.start.version and destination.protocol in (0, protocol):
            yield replace(source, protocol=protocol), replace(destination, protocol=protocol)


def _covered(sources: Sequence[TrafficSelector], destinations: Sequence[TrafficSelector],
             allowed: Sequence[tuple[TrafficSelector, TrafficSelector]]) -> bool:
    return all(any(_within(source, own_source) and _within(destination, own_destination)
                   for own_source, own_destination in allowed)
               for source, destination in _pairs(sources, destinations))


def payloads(selectors: Sequence[Selectors], packet: Selectors | None = None) -> tuple[TsI, TsR]:
    """TSi and TSr that say traffic from source (initiator's side) to destination (responder's side).

    ``packet``: of the packet that asked for the SA; it goes in front (2.9).

    Raises
    ------
    InputError
        ``selectors`` are not all pairs of some sources and some destinations, so one child SA cannot have them.
    """
    pairs = [_sides(pair) for pair in selectors]
    sources, destinations = (_distinct(side) for side in zip(*pairs, strict=True))
    if not _covered(sources, destinations, pairs):
        raise InputError("selectors: expected all pairs of some sources and some destinations, for one child SA")
    first = [_sides(packet)] if packet else []
    return (TsI((*(source for source, _ in first), *sources)),
            TsR((*(destination for _, destination in first), *destinations)))


def _as_pair(source: TrafficSelector, destination: TrafficSelector) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Source and destination ports as Selectors has them; None: it cannot say that."""
    if source.protocol not in _ICMP:
        return source.ports, destination.ports
    low, high = max(source.ports[0], destination.ports[0]), min(source.ports[1], destination.ports[1])
    types, codes = (low >> 8, high >> 8), (low & 255, high & 255)
    if codes == (0, 255):
        return (ANY_PORTS if types == (0, 255) else types), ANY_PORTS
    return (types, codes) if types[0] == types[1] else None


def to_selectors(tsi: TrafficSelectors, tsr: TrafficSelectors, *, limit: int = 64) -> tuple[Selectors, ...]:
    """The traffic of TSi and TSr as pairs of prefixes.

    Raises
    ------
    TsUnacceptable
        There is none, it takes more than ``limit``, or no pair can say a range of ICMP types and codes in it.
    """
    found: list[Selectors] = []
    for source, destination in _pairs(_distinct(_usable(tsi)), _distinct(_usable(tsr))):
        ports = _as_pair(source, destination)
        if ports is None:
            raise TsUnacceptable(f"ICMP types and codes {source.ports[0]} to {source.ports[1]} are no rectangle")
        nets = product(*(list(islice(summarize_address_range(each.start, each.end), limit + 1))
                         for each in (source, destination)))
        found += [Selectors(*pair, source.protocol or None, *ports) for pair in islice(nets, limit + 1 - len(found))]
        if len(found) > limit:
            raise TsUnacceptable(f"traffic selectors that take more than {limit} pairs of prefixes")
    if not found:
        raise TsUnacceptable("traffic selectors that no packet matches")
    return tuple(found)


def narrow(tsi: TrafficSelectors, tsr: TrafficSelectors, ours: Sequence[Selectors]) -> tuple[TsI, TsR]:
    """The responder's answer: a subset of the offer, all of whose pairs ``ours`` allows, as large as it finds one.

    It begins with the first of ours that has anything in common with the offer; where the offer's first selectors are
    those of one packet (2.9), with the first of ours that takes this packet. Others are added as long as all pairs
    remain allowed.

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
        if max(len(wider), len(wider_destinations)) > _MOST and sources:
            continue
        if not sources or _covered(wider, wider_destinations, allowed):
            sources, destinations = wider, wider_destinations
    if not sources:
        raise TsUnacceptable("no traffic that both sides want to protect")
    return TsI(tuple(sources)), TsR(tuple(destinations))


def check(tsi: TrafficSelectors, tsr: TrafficSelectors, offered: tuple[TsI, TsR]) -> None:
    """Whether an answer is within what was offered. Raises TsUnacceptable."""
    for answer, offer in zip((tsi, tsr), offered, strict=True):
        known = _usable(answer)
        if not known or len(known) != len(answer.selectors):
            raise TsUnacceptable("an answer with traffic selectors that were not offered")
        if not all(any(_within(each, other) for other in _usable(offer)) for each in known):
            raise TsUnacceptable("an answer with more traffic than was offered")


def reverse(selectors: Sequence[Selectors]) -> tuple[Selectors, ...]:
    """The same traffic, seen from the other side. ICMP's type and code stay where they are."""
    return tuple(replace(each, source=each.destination, destination=each.source, **(
        {} if each.protocol in _ICMP else
        {"source_ports": each.destination_ports, "destination_ports": each.source_ports})) for each in selectors)


def readdress(payload: TsI | TsR, address: Address) -> TsI | TsR:
    """For transport mode through a NAT (2.23.1): its single addresses of the same family become ``address``."""
    def single(each) -> bool:
        return isinstance(each, TrafficSelector) and each.start == each.end and each.start.version == address.version

    return replace(payload, selectors=tuple(
        replace(each, start=address, end=address) if single(each) else each for each in payload.selectors))
