# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Traffic selectors: narrowing never allows what either side does not, and loses nothing that it need not."""

import time
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.wire.errors import TsUnacceptable
from spigate.firmware_py.ike.wire.payloads import OPAQUE_PORTS, TrafficSelector, TsI, TsR, UnknownSelector
from spigate.firmware_py.ike.wire.selectors import (
    check,
    leaves,
    narrow,
    pairs_text,
    payloads,
    products,
    readdress,
    reverse,
    single,
    text,
    to_selectors,
    without,
)
from spigate.firmware_py.ipsec.sa import ANY_IPV4, ANY_IPV6, ANY_PORTS, Selectors


def pair(source: str, destination: str, protocol=None, *ports) -> Selectors:
    return Selectors(ip_network(source), ip_network(destination), protocol, *ports)


def ts(start: str, end: str, protocol: int = 0, ports=(0, 0xFFFF)) -> TrafficSelector:
    return TrafficSelector(ip_address(start), ip_address(end), protocol, ports)


OFFICE = pair("10.1.0.0/16", "10.2.0.0/16")


@pytest.mark.parametrize(
    "selectors",
    [
        [OFFICE],
        [ANY_IPV4],
        [ANY_IPV6],
        [ANY_IPV4, ANY_IPV6],
        [pair("2001:db8::/32", "::/0", 6, (0, 65535), (443, 443))],
        [pair("10.0.0.0/24", "10.9.0.0/24"), pair("10.0.0.0/24", "10.8.0.0/24")],
        [pair("10.0.0.1/32", "10.9.0.1/32", 17, (500, 600), (4500, 4500))],
        [pair("10.0.0.1/32", "10.9.0.1/32", 1)],
        [pair("2001:db8::1/128", "2001:db8::2/128", 58)],
    ],
)
def test_there_and_back(selectors):
    tsi, tsr = payloads(selectors)
    assert set(to_selectors(TsI.parse_body(tsi.body()), TsR.parse_body(tsr.body()))) == set(selectors)
    assert narrow(tsi, tsr, selectors) == (tsi, tsr)
    check(tsi, tsr, (tsi, tsr))


@pytest.mark.parametrize(
    ("protocol", "ports"),
    [
        (1, ((0x0800, 0x08FF), (0, 0xFF))),
        (1, ((0x0800, 0x0800), (0x0800, 0x0800))),
        (58, ((0x8000, 0x80FF), (0, 0xFFFF))),
        (132, ((0, 0xFFFF), (5000, 5000))),
        (135, ((0x0500, 0x0500), (0, 0xFFFF))),
        (17, (OPAQUE_PORTS, (0, 0xFFFF))),
    ],
)
def test_ports_that_nobody_looks_at(protocol, ports):
    """Types and codes of ICMP (whose halves may also differ), ports of SCTP, types of Mobility Header,
    OPAQUE: RFC 7296 2.9 has TS_UNACCEPTABLE for what cannot be kept. Halves of ICMP without a type in
    common were an InputError."""
    tsi, tsr = (
        side((ts("10.0.0.1", "10.0.0.1", protocol, each),))
        for side, each in zip((TsI, TsR), ports, strict=True)
    )
    with pytest.raises(TsUnacceptable, match="no packet"):
        to_selectors(tsi, tsr)
    with pytest.raises(TsUnacceptable, match="the peer offers 10.0.0.1/32 protocol"):
        narrow(tsi, tsr, [ANY_IPV4])
    offered = payloads([ANY_IPV4])
    with pytest.raises(TsUnacceptable, match="not offered"):
        check(tsi, tsr, offered)


def test_ranges_become_prefixes():
    selectors = to_selectors(
        TsI((ts("10.0.0.1", "10.0.0.6"),)), TsR((ts("10.9.0.0", "10.9.0.255", 6, (80, 90)),))
    )
    assert [str(each.source) for each in selectors] == [
        "10.0.0.1/32",
        "10.0.0.2/31",
        "10.0.0.4/31",
        "10.0.0.6/32",
    ]
    assert {(each.protocol, each.destination_ports) for each in selectors} == {(6, (80, 90))}


def test_as_many_prefixes_as_are_allowed():
    tsi, tsr = TsI((ts("0.0.0.1", "255.255.255.254"),)), TsR((ts("10.0.0.0", "10.0.0.0"),))
    assert len(to_selectors(tsi, tsr)) == 62
    for limit, sides in ((61, (tsi, tsr)), (64, (tsi, TsR(tsi.selectors)))):
        with pytest.raises(TsUnacceptable, match="more than"):
            to_selectors(*sides, limit=limit)
    many = tuple(ts(f"::{2 * each:x}", f"::{2 * each:x}") for each in range(255))
    with pytest.raises(TsUnacceptable, match="more than 64"):
        to_selectors(TsI(many), TsR(many))


@pytest.mark.parametrize(
    ("tsi", "tsr"),
    [
        (ts("10.0.0.1", "10.0.0.1"), ts("::1", "::1")),
        (ts("10.0.0.1", "10.0.0.1", 6), ts("10.9.0.1", "10.9.0.1", 17)),
        (ts("10.0.0.1", "10.0.0.1", 6, OPAQUE_PORTS), ts("10.9.0.1", "10.9.0.1")),
        (UnknownSelector(9, 0, b""), ts("10.9.0.1", "10.9.0.1")),
    ],
)
def test_selectors_that_nothing_matches(tsi, tsr):
    with pytest.raises(TsUnacceptable, match="no packet"):
        to_selectors(TsI((tsi,)), TsR((tsr,)))
    with pytest.raises(TsUnacceptable, match="no traffic"):
        narrow(TsI((tsi,)), TsR((tsr,)), [ANY_IPV4, ANY_IPV6])


def test_narrowing():
    wide = payloads([ANY_IPV4])
    assert to_selectors(*narrow(*wide, [OFFICE])) == (OFFICE,)
    assert to_selectors(*narrow(*payloads([OFFICE]), [ANY_IPV4])) == (OFFICE,)
    both = narrow(*payloads([OFFICE]), [pair("10.1.2.0/24", "0.0.0.0/0", 17, (0, 65535), (53, 53))])
    assert to_selectors(*both) == (pair("10.1.2.0/24", "10.2.0.0/16", 17, (0, 65535), (53, 53)),)
    with pytest.raises(TsUnacceptable, match="no traffic"):
        narrow(*payloads([OFFICE]), [pair("10.3.0.0/16", "10.2.0.0/16")])


def test_several_of_ours_in_one_answer():
    """As long as every pair of the answer is allowed: 10.3 to 10.4 and 10.1 to 10.4 would come with it, so
    it stays out.
    """
    ours = [OFFICE, pair("10.1.0.0/16", "10.5.0.0/16"), pair("10.3.0.0/16", "10.4.0.0/16")]
    assert set(to_selectors(*narrow(*payloads([ANY_IPV4]), ours))) == set(ours[:2])


def test_the_packet_that_asked_decides():
    """RFC 7296 2.9: the first selectors are those of the packet."""
    ours = [OFFICE, pair("10.3.0.0/16", "10.4.0.0/16")]
    packet = pair("10.3.1.1/32", "10.4.1.1/32", 6, (40000, 40000), (443, 443))
    tsi, tsr = payloads([ANY_IPV4], packet)
    assert len(tsi.selectors) == len(tsr.selectors) == 2
    assert to_selectors(*narrow(tsi, tsr, ours)) == (ours[1],)


def test_one_child_sa_has_all_pairs():
    with pytest.raises(InputError, match="all pairs"):
        payloads([OFFICE, pair("10.3.0.0/16", "10.4.0.0/16")])


def test_what_is_no_product_becomes_several():
    """../cases/traffic-no-product: it was accepted, and a child of it never came up."""
    other = pair("10.3.0.0/16", "10.4.0.0/16")
    assert products([OFFICE, other]) == [(OFFICE,), (other,)]
    row = [
        pair("10.1.0.0/16", "10.5.0.0/16"),
        pair("10.6.0.0/16", "10.2.0.0/16"),
        pair("10.6.0.0/16", "10.5.0.0/16"),
    ]
    assert products([OFFICE, *row]) == [(OFFICE, *row)]
    assert products([OFFICE, other, *row]) == [(OFFICE, *row), (other,)]
    assert products([ANY_IPV4, ANY_IPV6]) == [(ANY_IPV4, ANY_IPV6)]
    assert products([]) == [()]


def test_what_is_left():
    assert without([OFFICE], [OFFICE]) == () and without([OFFICE], [ANY_IPV4]) == ()
    assert without([OFFICE], [ANY_IPV6]) == (OFFICE,)
    assert without([OFFICE], [pair("10.0.0.0/8", "10.2.0.0/17")]) == (pair("10.1.0.0/16", "10.2.128.0/17"),)
    assert len(without([ANY_IPV4], [pair("10.0.0.1/32", "10.0.0.2/32")])) == 64


def test_a_text_is_short():
    many = [pair(f"10.0.{each}.0/24", "10.9.0.0/16") for each in range(200)]
    shown = text(*payloads(many))
    assert (
        shown.startswith("10.0.0.0/24, 10.0.1.0/24")
        and shown.endswith("and 196 more to 10.9.0.0/16")
        and len(shown) < 120
    )
    assert pairs_text(many).endswith("10.0.3.0/24 to 10.9.0.0/16 and 196 more")
    assert text(
        TsI((ts("10.0.0.1", "10.0.0.9", 17, (53, 53)), UnknownSelector(9, 0, b""))),
        TsR((ts("::", "::ffff", 6, OPAQUE_PORTS),)),
    ) == ("10.0.0.1-10.0.0.9 protocol 17 53-53, type 9 to ::/112 protocol 6 opaque")


def test_an_answer_within_the_offer():
    offered = payloads([OFFICE])
    check(TsI((ts("10.1.1.0", "10.1.1.255", 6),)), TsR((ts("10.2.0.0", "10.2.0.0", 6),)), offered)
    for tsi, tsr in (
        (ts("10.1.0.0", "10.2.0.0"), ts("10.2.0.0", "10.2.0.1")),
        (ts("::", "::"), ts("10.2.0.0", "10.2.0.1")),
        (UnknownSelector(9, 0, b""), ts("10.2.0.0", "10.2.0.1")),
    ):
        with pytest.raises(TsUnacceptable, match="an answer"):
            check(TsI((tsi,)), TsR((tsr,)), offered)


def test_from_the_other_side():
    one = pair("10.0.0.0/24", "10.9.0.0/24", 6, (1, 2), (3, 4))
    assert reverse([one]) == (pair("10.9.0.0/24", "10.0.0.0/24", 6, (3, 4), (1, 2)),)
    assert reverse(reverse([one, OFFICE])) == (one, OFFICE)


def test_readdressed():
    """RFC 7296 2.23.1: in transport mode through a NAT the address inside is replaced by the one seen."""
    tsi = TsI((ts("10.0.0.5", "10.0.0.5", 17), ts("10.0.0.0", "10.0.0.255"), ts("::1", "::1")))
    assert readdress(tsi, ip_address("203.0.113.7")).selectors == (
        ts("203.0.113.7", "203.0.113.7", 17),
        *tsi.selectors[1:],
    )


def test_an_offer_of_many_selectors_costs_little():
    many = tuple(ts(f"10.0.{each}.0", f"10.0.{each}.255", 6, (each, 65535 - each)) for each in range(255))
    ours = [pair(f"10.0.{each}.0/24", "10.0.0.0/8") for each in range(64)]
    begun = time.process_time()
    tsi, tsr = narrow(TsI(many), TsR(many), [ANY_IPV4, *ours])
    assert time.process_time() - begun < 2
    assert len(tsi.selectors) == len(tsr.selectors) == 32


_nets = st.sampled_from(
    [ip_network(each) for each in ("10.0.0.0/30", "10.0.0.0/31", "10.0.0.2/31", "10.0.0.3/32")]
)
_ports = st.sampled_from([(0, 0xFFFF), (1, 2), (2, 3)])
_pairs = st.builds(Selectors, _nets, _nets, st.sampled_from([None, 6, 17]), _ports, _ports)


@settings(max_examples=200, deadline=None)
@given(st.lists(_pairs, min_size=1, max_size=6), st.lists(_pairs, max_size=3))
def test_parts_and_rests_by_packets(wanted, taken):
    def meant(pairs) -> set:
        pairs = list(pairs)
        return {packet for packet in PACKETS if any(each.matches(*packet) for each in pairs)}

    parts = products(wanted)
    assert all(map(payloads, parts)) and meant(each for part in parts for each in part) == meant(wanted)
    rest = meant(without(wanted, taken))
    assert rest <= meant(wanted) - meant(taken)
    if all(
        (each.protocol, each.source_ports, each.destination_ports) == (None, ANY_PORTS, ANY_PORTS)
        for each in taken
    ):
        assert rest == meant(wanted) - meant(taken)
    answer = payloads(parts[0])
    assert leaves(*payloads([pair("10.0.0.0/30", "10.0.0.0/30")]), answer, wanted) >= bool(
        meant(wanted) - meant(parts[0])
    )


def test_a_single_pair():
    assert single([OFFICE], None) == pair("10.1.0.1/32", "10.2.0.1/32")
    assert single([pair("10.1.0.0/31", "10.2.0.7/32", 6)], None) == pair("10.1.0.0/32", "10.2.0.7/32", 6)
    assert single([OFFICE], pair("10.1.0.5/32", "10.2.0.6/32", 6, (1, 1))) == pair(
        "10.1.0.5/32", "10.2.0.6/32"
    )


_addresses = [ip_address(f"10.0.0.{last}") for last in range(4)]
_sides = st.builds(
    lambda start, end, protocol, ports: TrafficSelector(min(start, end), max(start, end), protocol, ports),
    st.sampled_from(_addresses),
    st.sampled_from(_addresses),
    st.sampled_from([0, 6, 17]),
    _ports,
)
PACKETS = [
    (source, destination, protocol, (sport, dport))
    for source in _addresses
    for destination in _addresses
    for protocol in (6, 17, 50)
    for sport in (0, 1, 2, 3)
    for dport in (0, 2, 3)
]


def _matches(tsi: TsI, tsr: TsR) -> set:
    """The packets that TSi and TSr mean, by RFC 7296 2.9 alone."""

    def one(selector, address, protocol, port):
        return (
            selector.start <= address <= selector.end
            and selector.protocol in (0, protocol)
            and selector.ports[0] <= port <= selector.ports[1]
        )

    return {
        each
        for each in PACKETS
        if any(one(side, each[0], each[2], each[3][0]) for side in tsi.selectors)
        and any(one(side, each[1], each[2], each[3][1]) for side in tsr.selectors)
    }


@settings(max_examples=120, deadline=None)
@given(
    st.lists(_sides, min_size=1, max_size=3),
    st.lists(_sides, min_size=1, max_size=3),
    st.lists(_pairs, min_size=1, max_size=3),
)
def test_narrowing_by_packets(sources, destinations, ours):
    offered = TsI(tuple(sources)), TsR(tuple(destinations))
    allowed = {packet for packet in PACKETS if any(each.matches(*packet) for each in ours)}
    common = _matches(*offered) & allowed
    try:
        answer = narrow(*offered, ours)
    except TsUnacceptable:
        assert not common
    else:
        found = _matches(*answer)
        assert found <= common
        assert found
        check(*answer, offered)
        assert {
            packet for packet in PACKETS if any(each.matches(*packet) for each in to_selectors(*answer))
        } == found
        if len(ours) == 1:
            assert found == common
