# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Header and payloads: round trips, what is refused and how, and the same bytes as another implementation
sees them.
"""

import pytest
from hypothesis import given, settings
from scapy.contrib import ikev2 as scapy_ike

from spigate.firmware_py.ike.wire.errors import (
    InvalidMajorVersion,
    InvalidSyntax,
    PeerError,
    UnsupportedCriticalPayload,
)
from spigate.firmware_py.ike.wire.message import HEADER, Header, Message
from spigate.firmware_py.ike.wire.payloads import (
    PAYLOADS,
    Delete,
    IdI,
    KeyExchange,
    Nonce,
    Notify,
    SecurityAssociation,
    Sk,
    Skf,
    TsI,
    Unknown,
    Vendor,
    pack_chain,
    parse_chain,
)
from spigate.firmware_py.ike.wire.registry import (
    ExchangeType,
    Ke,
    NotifyType,
    PayloadType,
    ProtocolId,
    TransformType,
)
from tests.firmware_py.ike.messages import EVERY_PAYLOAD, EVERYTHING, SPI_I, SPI_R, TSI, message, messages


@settings(max_examples=300, deadline=None)
@given(messages())
def test_what_is_packed_is_parsed_the_same(original):
    assert Message.parse(original.pack()) == original


def test_every_payload_survives():
    assert Message.parse(EVERYTHING.pack()) == EVERYTHING
    assert set(PAYLOADS) == set(PayloadType) - {PayloadType.NONE}
    assert {type(each) for each in EVERY_PAYLOAD} == {*PAYLOADS.values(), Unknown} - {Sk, Skf}


@pytest.mark.parametrize("payload", EVERY_PAYLOAD, ids=lambda each: type(each).__name__)
def test_every_truncation_is_refused(payload):
    whole = message(payload).pack()
    for length in range(len(whole)):
        with pytest.raises(InvalidSyntax):
            Message.parse(whole[:length])
        shortened = whole[:24] + length.to_bytes(4) + whole[28:length]  # the header says so too
        with pytest.raises(InvalidSyntax):
            Message.parse(shortened)


def test_header():
    data = message(
        Nonce(bytes(16)),
        exchange=ExchangeType.INFORMATIONAL,
        initiator=False,
        response=True,
        message_id=0x01020304,
    ).pack()
    # RFC 7296 3.1, by hand
    assert data[:HEADER] == SPI_I + SPI_R + bytes.fromhex("28 20 25 20 01020304 00000030")
    assert Header.parse(data) == Header(
        SPI_I, SPI_R, PayloadType.NONCE, ExchangeType.INFORMATIONAL, False, True, 0x01020304
    )


def test_another_version_is_named_so():
    data = bytearray(message(Nonce(bytes(16))).pack())
    data[17] = 0x2F  # a minor version that may come
    assert Message.parse(bytes(data)).one(Nonce)
    for version in (0x10, 0x30):
        data[17] = version
        with pytest.raises(InvalidMajorVersion) as caught:
            Message.parse(bytes(data))
        assert caught.value.notify == NotifyType.INVALID_MAJOR_VERSION


def test_only_a_critical_unknown_payload_is_refused():
    known_as_critical = bytearray(message(Nonce(bytes(16))).pack())
    known_as_critical[HEADER + 1] = 0x80
    assert Message.parse(bytes(known_as_critical)).one(Nonce)
    assert Message.parse(message(Unknown(b"x", payload_type=200)).pack()).all(Unknown)
    with pytest.raises(UnsupportedCriticalPayload) as caught:
        Message.parse(message(Unknown(b"x", payload_type=200, critical=True)).pack())
    assert (caught.value.notify, caught.value.data) == (NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xc8")


def _chain(kind: int, body: str) -> bytes:
    body = bytes.fromhex(body)
    return bytes([0, 0]) + (4 + len(body)).to_bytes(2) + body


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        (PayloadType.NONCE, "00" * 15, "nonce of 15 bytes"),
        (PayloadType.NONCE, "00" * 257, "nonce of 257 bytes"),
        (PayloadType.SA, "", "without a proposal"),
        (PayloadType.SA, "00000008 01010001", "1 transforms announced, 0 found"),
        (PayloadType.SA, "02000008 01010000", "not marked"),
        (PayloadType.SA, "00000008 01010900", "shorter than its SPI"),
        (PayloadType.SA, "00000010 01010001 03000008 0100000c", "last transform is not marked"),
        (PayloadType.SA, "00000012 01010001 0000000a 0100000c 800e", "attribute cut short"),
        (PayloadType.SA, "00000014 01010001 0000000c 0100000c 000e0004", "attribute longer"),
        (PayloadType.SA, "00000007 01010000", "length of a proposal"),
        (PayloadType.KE, "00130000", "without a public value"),
        (PayloadType.IDI, "010000", "cut short"),
        (PayloadType.CERT, "", "without an encoding"),
        (PayloadType.NOTIFY, "03044000", "cut short"),
        (PayloadType.DELETE, "03040002 01020304", "bytes for 2 SPIs"),
        (PayloadType.DELETE, "01080001 0102030405060708", "SPIs of 8 bytes"),
        (PayloadType.DELETE, "01000001", "1 SPIs of 0 bytes"),
        (PayloadType.DELETE, "09040001 01020304", "protocol 9"),
        (PayloadType.TSI, "00000000", "0 traffic selectors announced"),
        (
            PayloadType.TSI,
            "02000000 07000010 0000ffff 0a000000 0affffff",
            "2 traffic selectors announced, 1 found",
        ),
        (PayloadType.TSI, "01000000 07000010 0000ffff 0a000001 0a000000", "addresses"),
        (PayloadType.TSI, "01000000 07000010 00020001 0a000000 0a000000", "ports"),
        (PayloadType.TSI, "01000000 0700000c 0000ffff 0a000000", "with 12 bytes"),
        (PayloadType.TSI, "01000000 07000003", "length of a traffic selector"),
        (PayloadType.SKF, "00000001", "fragment 0 of 1"),
        (PayloadType.SKF, "00020001", "fragment 2 of 1"),
    ],
)
def test_what_the_rfc_forbids(kind, body, why):
    with pytest.raises(InvalidSyntax, match=why) as caught:
        parse_chain(kind, _chain(kind, body))
    assert caught.value.notify == NotifyType.INVALID_SYNTAX


def test_bytes_behind_the_last_payload():
    data = _chain(PayloadType.NONCE, "00" * 16)
    for more in (b"\0", b"\0" * 4):
        with pytest.raises(InvalidSyntax, match="behind the last payload"):
            parse_chain(PayloadType.NONCE, data + more)


def test_which_payloads_a_message_has():
    sample = message(
        Nonce(bytes(16)), Vendor(b"a"), Vendor(b"b"), Notify(NotifyType.COOKIE, b"c"), Notify(1, b"d")
    )
    assert sample.one(Nonce) == Nonce(bytes(16))
    assert [each.data for each in sample.all(Vendor)] == [b"a", b"b"]
    assert sample.optional(KeyExchange) is None
    assert sample.notify(NotifyType.COOKIE).data == b"c"
    assert sample.notify(NotifyType.INVALID_SYNTAX) is None
    for kind in (Vendor, KeyExchange):
        with pytest.raises(InvalidSyntax):
            sample.one(kind)


def test_a_transform_attribute_that_is_not_known_is_kept():
    data = bytes.fromhex("00000018 01030001 00000010 0100000c 800e0080 80630001")
    (transform,) = SecurityAssociation.parse_body(data).proposals[0].transforms
    assert (transform.key_bits, transform.foreign) == (128, bytes.fromhex("80630001"))
    assert SecurityAssociation.parse_body(data).body() == data


def test_scapy_reads_what_we_write():
    """scapy's dissector is written by others after the same RFC."""
    packet = scapy_ike.IKEv2(EVERYTHING.pack())
    assert (packet.init_SPI, packet.exch_type, int(packet.flags), packet.length) == (
        SPI_I,
        34,
        8,
        len(EVERYTHING.pack()),
    )
    transforms = []
    layer = packet[scapy_ike.IKEv2_SA].prop.trans
    while isinstance(layer, scapy_ike.IKEv2_Transform):
        transforms.append(
            (layer.transform_type, layer.transform_id, getattr(layer, "key_length", None) or None)
        )
        layer = layer.payload
    assert transforms == [
        (each.transform_type, each.transform_id, each.key_bits)
        for each in EVERYTHING.all(SecurityAssociation)[0].proposals[0].transforms
    ]
    assert packet[scapy_ike.IKEv2_KE].group == Ke.CURVE25519
    assert bytes(packet[scapy_ike.IKEv2_KE].ke) == bytes(range(32))
    assert bytes(packet[scapy_ike.IKEv2_Nonce].nonce) == bytes(range(32))
    assert packet[scapy_ike.IKEv2_IDi].ID == b"gw.example"
    first = packet[scapy_ike.IKEv2_TSi].traffic_selector[0]
    assert (first.starting_address_v4, first.ending_address_v4) == ("10.1.0.0", "10.1.255.255")


def test_we_read_what_scapy_writes():
    transform = scapy_ike.IKEv2_Transform
    proposal = scapy_ike.IKEv2_Proposal(
        proposal=1,
        proto=1,
        trans_nb=2,
        trans=(
            transform(next_payload=3, transform_type="Encryption", transform_id=12, length=12, key_length=256)
            / transform(next_payload=0, transform_type="PRF", transform_id=5)
        ),
    )
    packet = (
        scapy_ike.IKEv2(init_SPI=SPI_I, resp_SPI=bytes(8), exch_type=34, flags="Initiator", next_payload="SA")
        / scapy_ike.IKEv2_SA(next_payload="Nonce", prop=proposal)
        / scapy_ike.IKEv2_Nonce(next_payload="Notify", nonce=bytes(range(20)))
        / scapy_ike.IKEv2_Notify(next_payload="None", type=16390, notify=b"cookie")
    )
    parsed = Message.parse(bytes(packet))
    (ours,) = parsed.one(SecurityAssociation).proposals
    assert [(each.transform_type, each.transform_id, each.key_bits) for each in ours.transforms] == [
        (TransformType.ENCR, 12, 256),
        (TransformType.PRF, 5, None),
    ]
    assert parsed.one(Nonce).data == bytes(range(20))
    assert parsed.notify(NotifyType.COOKIE).data == b"cookie"


def test_errors_are_the_project_s():
    from spigate.firmware_py.errors import SpigateError

    assert issubclass(PeerError, SpigateError)


def test_reserved_bits_are_ignored():
    data = bytearray(message(IdI(2, b"gw"), TSI, Delete(ProtocolId.IKE)).pack())
    data[19] |= 0xC7
    data[HEADER + 1] = 0x7F
    parsed = Message.parse(bytes(data))
    assert parsed.payloads == (IdI(2, b"gw"), TSI, Delete(ProtocolId.IKE))
    assert parsed.one(TsI) == TSI


def test_an_empty_message():
    assert pack_chain(()) == (PayloadType.NONE, b"")
    assert Message.parse(message().pack()).payloads == ()
