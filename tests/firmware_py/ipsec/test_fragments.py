# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Fragments: scapy's put together here, ours by scapy; what is hostile; bounds."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption, defragment, fragment
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    RouterAlert,
    defragment6,
    fragment6,
)

from spigate.firmware_py.ipsec import fragments as module
from spigate.firmware_py.ipsec.fragments import TIMEOUT_S, Reassembly, fragments
from spigate.firmware_py.ipsec.packet import Ip, Refused

OPTIONS = [IPOption(b"\x94\4\0\0"), IPOption(b"\x07\x07\x04" + bytes(4))]


def packet(version, size, tos=0, options=False, part=None):
    """A UDP packet; ``part``: with an IPv6 Fragment header."""
    data = random.Random(size).randbytes(size)
    if version == 4:
        return bytes(
            IP(src="10.1.0.1", dst="10.2.0.1", id=99, tos=tos, options=OPTIONS if options else [])
            / UDP(chksum=0)
            / data
        )
    made = IPv6(src="2001:db8::1", dst="2001:db8::2", tc=tos)
    if options:
        made /= IPv6ExtHdrHopByHop(options=[RouterAlert()])
    return made / part / UDP(chksum=1) / data if part else bytes(made / UDP(chksum=1) / data)


def pieces(version, size, **more):
    """A packet, and its fragments by scapy."""
    whole = packet(version, size, **more)
    if version == 4:
        return whole, [bytes(piece) for piece in fragment(IP(whole), 600)]
    return whole, [
        bytes(piece) for piece in fragment6(packet(version, size, part=IPv6ExtHdrFragment(id=7), **more), 700)
    ]


def join(parts, reassembly=None, now=0.0):
    """What each of ``parts`` gives."""
    reassembly = Reassembly() if reassembly is None else reassembly
    return [reassembly.add(part, Ip.parse(part), now) for part in parts]


@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1000, 3000, 9000])
def test_puts_together_what_scapy_takes_apart(size, version, options):
    whole, parts = pieces(version, size, options=options)
    assert len(parts) > 1
    for order in range(4):
        shuffled = random.Random(order).sample(parts, len(parts))
        *before, last = join(shuffled)
        assert before == [None] * (len(parts) - 1) and last == whole


@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize("mtu", [576, 1280, 1500])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [100, 1452, 1473, 3000])
def test_scapy_puts_together_what_is_taken_apart_here(size, version, mtu, options):
    whole = packet(version, size, options=options)
    parts = fragments(whole, mtu, 77)
    assert all(len(part) <= mtu for part in parts) and (len(parts) > 1) == (len(whole) > mtu)
    assert join(parts)[-1][40:] == whole[40:] if len(parts) > 1 else parts == [whole]
    if len(parts) > 1 and version == 4:
        assert bytes(defragment([IP(part) for part in parts])[0].payload) == bytes(IP(whole).payload)
    elif len(parts) > 1:
        assert bytes(defragment6([IPv6(part) for part in parts])[UDP]) == bytes(IPv6(whole)[UDP])


def test_a_fragment_is_taken_apart_once_more():
    whole, parts = pieces(4, 3000)
    smaller = [piece for part in parts for piece in fragments(part, 300)]
    assert len(smaller) > len(parts) and join(smaller)[-1] == whole


def test_options_are_copied_where_their_type_says_so():
    first, *others = fragments(packet(4, 1000, options=True), 576)
    assert Ip.parse(first).header_bytes == 32
    assert all(other[20:24] == b"\x94\4\0\0" and Ip.parse(other).header_bytes == 24 for other in others)


@pytest.mark.parametrize(("version", "flags"), [(4, 2), (6, 0)])
def test_a_router_does_not_fragment_what_may_not_be(version, flags):
    whole = bytes(IP(flags=flags) / bytes(1000)) if version == 4 else packet(6, 1000)
    with pytest.raises(Refused, match="^too_big$"):
        fragments(whole, 576)
    assert len(fragments(whole, 576, 5)) > 1


@pytest.mark.parametrize("version", [4, 6])
def test_overlaps_end_the_packet(version):
    """RFC 5722; the same fragment twice is no harm."""
    whole, parts = pieces(version, 3000)
    assert join([parts[0], *parts])[-1] == whole
    reassembly = Reassembly()
    join(parts[:-1], reassembly)
    changed = parts[1][:-1] + bytes([parts[1][-1] ^ 1])
    with pytest.raises(Refused, match="^malformed$"):
        join([changed], reassembly)
    assert not reassembly.held and not len(reassembly)


@pytest.mark.parametrize(
    "parts",
    [
        [IP(flags=1, frag=0) / bytes(7)],
        [IP(frag=8191) / bytes(100)],
        [IP(flags=1, frag=1)],
        [IP(frag=4) / bytes(8), IP(flags=1, frag=9) / bytes(8)],
        [IP(frag=4) / bytes(8), IP(frag=9) / bytes(8)],
        [IPv6() / IPv6ExtHdrFragment(m=1, nh=17) / bytes(9)],
        [IPv6() / IPv6ExtHdrFragment(offset=8191, nh=17) / bytes(9)],
    ],
)
def test_impossible_fragments(parts):
    reassembly = Reassembly()
    with pytest.raises(Refused, match="^malformed$"):
        join([bytes(part) for part in parts], reassembly)
    assert not reassembly.held


def test_congestion_marks_are_not_lost():
    """RFC 3168 5.3."""
    _, parts = pieces(4, 1000, tos=2)
    marked = [bytes(IP(part).__class__(part)) for part in parts]
    first = IP(marked[0])
    first.tos, first.chksum = 3, None
    assert join([bytes(first), *marked[1:]])[-1][1] == 3
    whole, parts = pieces(4, 1000)
    first = IP(parts[0])
    first.tos, first.chksum = 3, None
    with pytest.raises(Refused, match="^malformed$"):
        join([bytes(first), *parts[1:]])


def test_an_atomic_fragment_is_a_packet():
    """RFC 6946."""
    assert join([bytes(packet(6, 100, part=IPv6ExtHdrFragment(id=5)))]) == [packet(6, 100)]


def test_memory_and_time_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_PACKETS", 8)
    monkeypatch.setattr(module, "MAX_BYTES", 4000)
    reassembly = Reassembly()
    for number in range(50):
        join([bytes(IP(id=number, flags=1) / bytes(8))], reassembly)
        assert len(reassembly) <= 8
    join([bytes(IP(id=100, flags=1) / bytes(3000)), bytes(IP(id=101, flags=1) / bytes(3000))], reassembly)
    assert reassembly.held <= 4000 and len(reassembly) == 1
    _, parts = pieces(4, 1000)
    join(parts[:1], reassembly, 10.0)
    assert join(parts[1:], reassembly, 10.0 + TIMEOUT_S)[-1] is None
    many = [bytes(IP(id=1, flags=1, frag=number) / bytes(8)) for number in range(module.MAX_FRAGMENTS + 1)]
    with pytest.raises(Refused):
        join(many)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 64), st.booleans(), st.integers(0, 2)), max_size=30)
)
def test_any_fragments(given_):
    reassembly = Reassembly()
    for offset, size, more, number in given_:
        part = bytes(IP(id=number, flags=int(more), frag=offset) / bytes(size))
        ip = Ip.parse(part)
        if not ip.fragment:
            continue
        try:
            whole = reassembly.add(part, ip, 0.0)
        except Refused:
            continue
        assert whole is None or not Ip.parse(whole).fragment
    assert 0 <= reassembly.held <= 30 * 64 and (reassembly.held or not len(reassembly))
