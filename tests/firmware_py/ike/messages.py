# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Messages for tests: one of everything that IKE says, and hypothesis strategies for the rest."""

from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

from spigate.firmware_py.ike.crypto.proposals import AH_DEFAULT, ESP_DEFAULT, IKE_DEFAULT, offer
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import (
    Auth,
    Cert,
    CertReq,
    Configuration,
    Delete,
    Eap,
    IdI,
    IdR,
    KeyExchange,
    Nonce,
    Notify,
    SecurityAssociation,
    Sk,
    Skf,
    TrafficSelector,
    TsI,
    TsR,
    Unknown,
    UnknownSelector,
    Vendor,
)
from spigate.firmware_py.ike.wire.registry import (
    AuthMethod,
    CertEncoding,
    ExchangeType,
    IdType,
    Ke,
    NotifyType,
    PayloadType,
    ProtocolId,
)
from spigate.firmware_py.ike.wire.structures import Proposal, Transform

SPI_I, SPI_R = bytes.fromhex("0102030405060708"), bytes.fromhex("1112131415161718")
TSI = TsI(
    (
        TrafficSelector(IPv4Address("10.1.0.0"), IPv4Address("10.1.255.255")),
        TrafficSelector(IPv6Address("2001:db8::"), IPv6Address("2001:db8::ffff"), 6, (1024, 65535)),
        UnknownSelector(9, 0, b"whatever"),
    )
)
TSR = TsR(
    (
        TrafficSelector(IPv4Address("10.2.0.1"), IPv4Address("10.2.0.9"), 17, (500, 500)),
        TrafficSelector(IPv4Address("10.2.0.1"), IPv4Address("10.2.0.1"), 132, (0xFFFF, 0)),
    )
)
EVERY_PAYLOAD = (
    SecurityAssociation(offer(IKE_DEFAULT)),
    SecurityAssociation(offer((*ESP_DEFAULT, *AH_DEFAULT), b"\1\2\3\4")),
    KeyExchange(Ke.CURVE25519, bytes(range(32))),
    Nonce(bytes(range(32))),
    Notify(NotifyType.COOKIE, b"cookie"),
    Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, b"\1\2\3\4"),
    Vendor(b"vendor"),
    IdI(IdType.FQDN, b"gw.example"),
    IdR(IdType.IPV4_ADDR, b"\xc0\0\2\1"),
    Cert(CertEncoding.X509_SIGNATURE, b"\x30\0"),
    CertReq(CertEncoding.X509_SIGNATURE, bytes(40)),
    Auth(AuthMethod.PSK, bytes(32)),
    TSI,
    TSR,
    Delete(ProtocolId.ESP, (b"\1\2\3\4", b"\5\6\7\x08")),
    Delete(ProtocolId.IKE),
    Eap(b"\1\2\0\4"),
    Configuration(b"\1\0\0\0"),
    Unknown(b"x", payload_type=200),
)


def message(
    *payloads, exchange=ExchangeType.IKE_SA_INIT, initiator=True, response=False, message_id=0
) -> Message:
    """A message of the initiator's."""
    return Message(SPI_I, SPI_R, exchange, initiator, response, message_id, payloads)


EVERYTHING = message(*EVERY_PAYLOAD)

_u8, _u16 = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
_data = st.binary(max_size=40)
_transforms = st.builds(
    Transform,
    _u8,
    _u16,
    st.none() | _u16,
    st.binary(min_size=2, max_size=2).map(lambda value: b"\x80\x63" + value) | st.just(b""),
)
_proposals = st.builds(
    Proposal, _u8, _u8, st.binary(max_size=8), st.lists(_transforms, max_size=4).map(tuple)
)


@st.composite
def _selectors(draw):
    kind = draw(st.sampled_from((4, 6, 0)))
    if not kind:
        return UnknownSelector(draw(st.integers(9, 255)), draw(_u8), draw(_data))
    size, address = {4: (32, IPv4Address), 6: (128, IPv6Address)}[kind]
    start, end = sorted((draw(st.integers(0, 2**size - 1)), draw(st.integers(0, 2**size - 1))))
    ports = tuple(sorted((draw(_u16), draw(_u16))))
    return TrafficSelector(
        address(start), address(end), draw(_u8), draw(st.sampled_from((ports, (0xFFFF, 0))))
    )


_spis = st.lists(st.binary(min_size=4, max_size=4), max_size=4).map(tuple)
_selector_lists = st.lists(_selectors(), min_size=1, max_size=4).map(tuple)
_PAYLOADS = st.one_of(
    st.builds(SecurityAssociation, st.lists(_proposals, min_size=1, max_size=3).map(tuple)),
    st.builds(KeyExchange, _u16, st.binary(min_size=1, max_size=40)),
    *(st.builds(kind, _u8, _data, st.binary(min_size=3, max_size=3)) for kind in (IdI, IdR)),
    *(st.builds(kind, _u8, _data) for kind in (Cert, CertReq, Auth)),
    st.builds(Nonce, st.binary(min_size=16, max_size=256)),
    st.builds(Notify, _u16, _data, _u8, st.binary(max_size=8)),
    st.builds(Delete, st.sampled_from((ProtocolId.ESP, ProtocolId.AH)), _spis),
    st.just(Delete(ProtocolId.IKE)),
    *(st.builds(kind, _data) for kind in (Vendor, Configuration, Eap)),
    *(st.builds(kind, _selector_lists) for kind in (TsI, TsR)),
    st.builds(
        Unknown, _data, payload_type=st.integers(1, 255).filter(lambda kind: kind not in set(PayloadType))
    ),
)


@st.composite
def _fragment(draw):
    total = draw(st.integers(1, 0xFFFF))
    return Skf(draw(st.integers(1, total)), total, draw(_data), draw(_u8))


_LAST = st.none() | st.builds(Sk, _data, first=_u8) | _fragment()


@st.composite
def messages(draw) -> Message:
    """Any message that can be packed and says the same when parsed."""
    last = draw(_LAST)
    payloads = (*draw(st.lists(_PAYLOADS, max_size=5)), *([last] if last is not None else []))
    return Message(
        draw(st.binary(min_size=8, max_size=8)),
        draw(st.binary(min_size=8, max_size=8)),
        draw(_u8),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.integers(0, 0xFFFF_FFFF)),
        payloads,
    )
