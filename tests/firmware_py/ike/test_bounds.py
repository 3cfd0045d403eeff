# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Whatever a datagram contains: no exception but the named ones, and work that grows no faster than its
bytes.
"""

import tracemalloc
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spigate.firmware_py.ike.crypto import proposals
from spigate.firmware_py.ike.crypto.proposals import ESP_DEFAULT, IKE_DEFAULT
from spigate.firmware_py.ike.peers.identities import (
    MAX_ARC,
    MAX_IDENTITY,
    MAX_OID,
    Identity,
    distinguished_name,
)
from spigate.firmware_py.ike.wire import selectors
from spigate.firmware_py.ike.wire.errors import InvalidSyntax, PeerError
from spigate.firmware_py.ike.wire.message import HEADER, Message
from spigate.firmware_py.ike.wire.payloads import (
    MAX_DELETED,
    MAX_PAYLOADS,
    IdI,
    Nonce,
    SecurityAssociation,
    TrafficSelector,
    TsI,
    TsR,
    pack_chain,
    parse_chain,
)
from spigate.firmware_py.ike.wire.registry import ExchangeType, IdType, NotifyType, PayloadType
from spigate.firmware_py.ike.wire.structures import MAX_PROPOSALS, MAX_TRANSFORMS, Proposal, Transform
from spigate.firmware_py.ipsec.sa import ANY_IPV4, ANY_IPV6
from tests.firmware_py.ike.messages import message
from tests.firmware_py.ike.network import FAST_ESP, child, net
from tests.firmware_py.ike.raw import connected, gateway
from tests.firmware_py.ike.work import lines

ROOM = 0xFFFF - HEADER
PER_BYTE, FIXED = 12, 5_000
"""Lines of Python for each byte of a message, and besides."""


def tlv(tag: int, data: bytes) -> bytes:
    size = len(data)
    return bytes([tag]) + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2)) + data


def name(*oids: bytes, value: bytes = b"x") -> bytes:
    return tlv(0x30, b"".join(tlv(0x31, tlv(0x30, tlv(6, oid) + tlv(0x0C, value))) for oid in oids))


def test_an_oid_s_arcs_are_bounded():
    """An arc of more than 4300 digits was a ValueError of int, and took the square of its bytes before."""
    for size in (MAX_ARC, MAX_OID, 2_100, 8_000, 30_000, 60_000):
        with pytest.raises(InvalidSyntax):
            Identity.of(IdI(IdType.DER_ASN1_DN, name(b"\x2a" + b"\xff" * size + b"\x7f")))
    with pytest.raises(InvalidSyntax, match="no OID"):
        distinguished_name(name(b"\x2a\x83"))
    longest = name(b"\x69" + b"\x83" + b"\xff" * (MAX_ARC - 2) + b"\x7f")
    assert str(Identity.of(IdI(IdType.DER_ASN1_DN, longest))) == f"2.25.{(1 << 7 * (MAX_ARC - 1) + 2) - 1}=x"


@pytest.mark.parametrize("kind", [each for each in IdType if each.value])
def test_an_identity_is_bounded(kind):
    with pytest.raises(InvalidSyntax, match="identity of"):
        Identity.of(IdI(kind, b"x" * (MAX_IDENTITY + 1)))


# Hypothesis: names from pieces that are nearly right

_oids = st.binary(max_size=80) | st.builds(
    lambda size: b"\x2a" + b"\xff" * size + b"\x7f", st.integers(0, 20_000)
)
_leaves = st.builds(
    lambda tag, data: tlv(tag, data),
    st.sampled_from((6, 0x0C, 0x13, 0x1C, 0x1E, 0x16, 4, 0x30)),
    st.binary(max_size=40),
) | st.builds(lambda oid: tlv(6, oid), _oids)
_trees = st.recursive(
    _leaves,
    lambda inner: st.builds(
        lambda tag, parts, times: tlv(tag, (b"".join(parts) * times)[:60_000]),
        st.sampled_from((0x30, 0x31)),
        st.lists(inner, max_size=4),
        st.sampled_from((1, 1, 1, 30, 3_000)),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(_trees | st.binary(max_size=200))
def test_names_give_an_identity_or_invalid_syntax_in_linear_work(data):
    def look() -> str:
        return str(Identity.of(IdI(IdType.DER_ASN1_DN, data)))

    count, result = lines(look)
    assert isinstance(result, str | PeerError), result
    assert count <= FIXED + 60 * min(len(data), MAX_IDENTITY)


# Messages that are stuffed with one thing


def chain(kind: PayloadType, body: bytes, times: int) -> tuple[PayloadType, bytes]:
    payload = (4 + len(body)).to_bytes(2) + body
    return kind, (bytes([kind, 0]) + payload) * (times - 1) + bytes(2) + payload


def one(kind: PayloadType, body: bytes) -> tuple[PayloadType, bytes]:
    return chain(kind, body[: ROOM - 4], 1)


def proposals_of(count: int, transforms: int) -> bytes:
    return SecurityAssociation(
        tuple(
            Proposal(
                number & 0xFF, 1, b"", tuple(Transform(1 + each % 250, each) for each in range(transforms))
            )
            for number in range(count)
        )
    ).body()


def transform_with(attributes: int) -> bytes:
    return SecurityAssociation(
        (Proposal(1, 1, b"", (Transform(1, 20, None, b"\x80\x63\0\0" * attributes),)),)
    ).body()


STUFFED = {
    "payloads": lambda n: chain(PayloadType.VENDOR, b"", min(n, ROOM // 4)),
    "notifies": lambda n: chain(PayloadType.NOTIFY, bytes(4), min(n, ROOM // 8)),
    "certificates": lambda n: chain(PayloadType.CERT, b"\4\x30\0", min(n, ROOM // 7)),
    "proposals": lambda n: one(PayloadType.SA, proposals_of(min(n, 8_000), 0)),
    "transforms": lambda n: one(PayloadType.SA, proposals_of(1 + n // 255 if n < 7_000 else 28, min(n, 255))),
    "attributes": lambda n: one(PayloadType.SA, transform_with(min(n, 16_000))),
    "selectors": lambda n: one(
        PayloadType.TSI,
        bytes([min(n, 255), 0, 0, 0])
        + TsI((TrafficSelector(ANY_IPV4.source[0], ANY_IPV4.source[-1]),)).body()[4:] * min(n, 4_000),
    ),
    "deletions": lambda n: one(
        PayloadType.DELETE, b"\3\4" + min(n, 16_000).to_bytes(2) + bytes(4 * min(n, 16_000))
    ),
    "hashes": lambda n: one(PayloadType.CERTREQ, b"\4" + bytes(20 * min(n, 3_000))),
    "fragments": lambda n: chain(PayloadType.SKF, b"\0\1\0\2", min(n, ROOM // 8)),
}


@pytest.mark.parametrize("what", STUFFED)
def test_work_and_memory_are_linear(what):
    for times in (1, 10, 100, 1_000, 16_000):
        first, data = STUFFED[what](times)
        assert len(data) <= ROOM
        datagram = message(exchange=ExchangeType.IKE_SA_INIT).header(first).pack(HEADER + len(data)) + data
        count, result = lines(lambda datagram=datagram: Message.parse(datagram))
        assert isinstance(result, Message | PeerError), result
        assert count <= FIXED + PER_BYTE * len(datagram), (times, count)
        tracemalloc.start()
        try:
            Message.parse(datagram)
        except PeerError:
            pass
        assert tracemalloc.get_traced_memory()[1] <= 100_000 + 30 * len(datagram)
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("what", "most"),
    [
        ("payloads", MAX_PAYLOADS),
        ("notifies", MAX_PAYLOADS),
        ("certificates", MAX_PAYLOADS),
        ("proposals", MAX_PROPOSALS),
        ("attributes", 8),
        ("selectors", 255),
        ("deletions", MAX_DELETED),
        ("transforms", MAX_TRANSFORMS),
    ],
)
def test_numbers_are_bounded(what, most):
    assert parse_chain(*STUFFED[what](most if what != "transforms" else 255))
    with pytest.raises(InvalidSyntax):
        parse_chain(*STUFFED[what](most + 1 if what != "transforms" else 1_000))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(STUFFED)), st.integers(1, 300), st.data())
def test_what_is_nearly_right_gives_only_named_errors(what, times, data):
    first, chained = STUFFED[what](times)
    changed = bytearray(chained)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, min(len(changed), 400) - 1))] = data.draw(st.integers(0, 255))
    count, result = lines(lambda: parse_chain(first, bytes(changed)))
    assert isinstance(result, tuple | PeerError), result
    assert count <= FIXED + PER_BYTE * len(changed)


def test_what_is_made_of_the_largest_offers_is_bounded():
    """Choosing and narrowing compare each with each: their numbers are bounded, and so is that."""
    many = tuple(
        Proposal(
            number, 1, b"", tuple(Transform(kind, 9_000 + each) for kind in (1, 2, 3, 4) for each in range(2))
        )
        for number in range(1, MAX_PROPOSALS + 1)
    )
    widest = (Proposal(1, 1, b"", tuple(Transform(4, each) for each in range(255))),) * 2
    for offered in (many, widest):
        (parsed,) = parse_chain(*pack_chain([SecurityAssociation(offered)]))
        for ours in (IKE_DEFAULT, ESP_DEFAULT):
            count, result = lines(lambda parsed=parsed, ours=ours: proposals.choose(parsed.proposals, ours))
            assert isinstance(result, PeerError) and count < 200_000, count
            assert len(str(result)) < 1_000
    nets = [
        TrafficSelector(ANY_IPV4.source[at << 20], ANY_IPV4.source[(at << 20) + 2 * at + 1])
        for at in range(1, 256)
    ]
    count, _ = lines(lambda: selectors.narrow(TsI(tuple(nets)), TsR(tuple(nets)), (ANY_IPV4, ANY_IPV6)))
    assert count < 200_000
    count, _ = lines(lambda: selectors.to_selectors(TsI(tuple(nets)), TsR(tuple(nets))))
    assert count < 1_000_000


def _hosts(kind: type, first: str, number: int):
    return kind(
        tuple(TrafficSelector(ip_address(first) + 2 * at, ip_address(first) + 2 * at) for at in range(number))
    )


def _ports(kind: type, number: int):
    return kind(
        tuple(
            TrafficSelector(ANY_IPV4.source[0], ANY_IPV4.source[-1], 17, (2 * at, 2 * at))
            for at in range(number)
        )
    )


@pytest.mark.parametrize(
    "traffic",
    [
        ("10.2.0.0/16=10.1.0.0/16",),
        tuple(f"10.2.{one}.0/24=10.1.{other}.0/24" for one in range(8) for other in range(8)),
    ],
    ids=["one pair", "as many as there may be"],
)
@pytest.mark.parametrize(
    ("tsi", "tsr"),
    [
        (_hosts(TsI, "10.1.0.0", 64), _hosts(TsR, "10.2.0.0", 64)),
        (_hosts(TsI, "10.1.0.0", 255), _hosts(TsR, "10.2.0.0", 1)),
        (_ports(TsI, 64), _ports(TsR, 64)),
        (_ports(TsI, 64), _ports(TsR, 1)),
    ],
    ids=["hosts", "many hosts and one", "ports", "ports and any"],
)
def test_answering_for_a_child_is_bounded(traffic, tsi, tsr):
    """64 hosts a side are 4096 pairs, and each was compared with each: one request of 2 KB took the gateway
    46 seconds.
    """
    endpoint = gateway(children=(replace(child(), traffic=tuple(map(net, traffic))),))
    raw = connected(endpoint)
    offer = SecurityAssociation(proposals.offer(FAST_ESP, b"\0\0\x10\1"))
    count, answer = lines(lambda: raw.ask(1, ExchangeType.CREATE_CHILD_SA, offer, Nonce(bytes(32)), tsi, tsr))
    assert isinstance(answer, Message) and (answer.optional(TsI) or answer.notify(NotifyType.TS_UNACCEPTABLE))
    assert count < 100_000 + 50_000 * len(traffic), count


def test_an_answer_of_many_pieces_is_bounded():
    """A peer takes 64 pairs out of an offer, and says that it would take more."""
    taken = tuple(net(f"10.1.0.{2 * one}/32=10.2.0.{2 * other}/32") for one in range(8) for other in range(8))
    count, rest = lines(lambda: selectors.without((net("10.1.0.0/16=10.2.0.0/16"),), taken))
    assert len(rest) == selectors.MOST_PAIRS and count < 400_000, count
