# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Identities: text, payloads, patterns, and the names in certificates."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.peers.identities import Identity, distinguished_name
from spigate.firmware_py.ike.wire.errors import AuthenticationFailed, InvalidSyntax
from spigate.firmware_py.ike.wire.payloads import IdI, IdR
from spigate.firmware_py.ike.wire.registry import IdType
from tests.firmware_py.ike.authority import Authority


@pytest.mark.parametrize(
    ("text", "kind", "data"),
    [
        ("192.0.2.1", IdType.IPV4_ADDR, b"\xc0\0\2\1"),
        ("2001:db8::1", IdType.IPV6_ADDR, bytes.fromhex("20010db8" + "00" * 11 + "01")),
        ("gw.example", IdType.FQDN, b"gw.example"),
        ("u@gw.example", IdType.RFC822_ADDR, b"u@gw.example"),
        ("keyid:branch-7", IdType.KEY_ID, b"branch-7"),
        ("@#00ff", IdType.KEY_ID, b"\0\xff"),
        ("C=CH, O=Example, CN=gw", IdType.DER_ASN1_DN, None),
        (r"C=CH, O=Example\, Inc\=, UID=7+CN=gw", IdType.DER_ASN1_DN, None),
    ],
)
def test_text_and_payload(text, kind, data):
    identity = Identity.parse(text)
    assert identity.id_type == kind
    assert data is None or identity.data == data
    assert str(identity) == text
    for payload in (IdI, IdR):
        assert Identity.of(identity.payload(payload)) == identity
    assert identity.matches(text)
    assert not identity.matches("other.example")


def test_a_dn_is_the_certificate_s():
    """In the certificate's order, as `cryptography` encodes it."""
    assert (
        Identity.parse("C=CH, O=Example, CN=gw").data
        == x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
                x509.NameAttribute(NameOID.COMMON_NAME, "gw"),
            ]
        ).public_bytes()
    )
    assert Identity.parse("@gw.example") == Identity.parse("gw.example")


@pytest.mark.parametrize(
    "text", ["", "@", "a b", "@#0", "@#xy", "CN=", "XX=gw", "C=CHE, CN=gw", "user@", "CN=gw,,O=x"]
)
def test_text_that_is_no_identity(text):
    with pytest.raises(InputError, match="identity"):
        Identity.parse(text)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (IdType.IPV4_ADDR, b"\1\2\3"),
        (IdType.IPV4_ADDR, bytes(16)),
        (IdType.IPV6_ADDR, bytes(4)),
        (IdType.FQDN, b""),
        (IdType.FQDN, b"gw\0.example"),
        (IdType.FQDN, b"gw.example\n"),
        (IdType.RFC822_ADDR, b"gw.example"),
        (IdType.KEY_ID, b""),
        (IdType.DER_ASN1_DN, b""),
        (IdType.DER_ASN1_DN, b"\x30\0"),
        (IdType.DER_ASN1_DN, b"\x30\2\x31\1"),
        (IdType.DER_ASN1_DN, b"\x30\x80\0\0"),
        (IdType.DER_ASN1_DN, b"\x30\x84\0\0\0\0"),
        (IdType.DER_ASN1_DN, b"CN=gw"),
    ],
)
def test_payloads_that_are_no_identity(kind, data):
    with pytest.raises(InvalidSyntax):
        Identity.of(IdI(kind, data))


def test_types_that_nobody_is_known_by():
    for kind in (IdType.DER_ASN1_GN, IdType.NULL, 200):
        with pytest.raises(AuthenticationFailed, match="are not known here"):
            Identity.of(IdI(kind, b"x"))


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("gw.example", "%any", True),
        ("gw.example", "GW.Example", True),
        ("gw.example", "*.example", True),
        ("a.b.example", "*.example", True),
        ("example", "*.example", False),
        ("gw.example.net", "*.example", False),
        ("gw.example", "u@gw.example", False),
        ("u@gw.example", "*@gw.example", True),
        ("u@gw.example", "*@example", False),
        ("u@gw.example", "*.example", False),
        ("192.0.2.7", "192.0.2.0/24", True),
        ("192.0.3.7", "192.0.2.0/24", False),
        ("2001:db8::7", "192.0.2.0/24", False),
        ("2001:db8::7", "2001:db8::/32", True),
        ("gw.example", "192.0.2.0/24", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "keyid:192.0.2.7", False),
        ("keyid:x/y", "keyid:x/y", True),
        ("C=CH, O=Example, CN=gw", "c=ch,o=example,cn=GW", True),
        ("C=CH, O=Example, CN=gw", "CN=gw, O=Example, C=CH", True),
        ("C=CH, O=Example, CN=gw", "C=CH, O=*, CN=*", True),
        ("C=CH, O=Example, CN=gw", "C=*, O=Example, CN=gw", True),
        ("C=CH, O=Example, CN=gw", "C=CH, O=Example", False),
        ("C=CH, O=Example, CN=gw", "C=CH, CN=*, O=Example", False),
        ("C=CH, O=Example, CN=gw", "C=CH, O=Example, CN=gw2", False),
        ("C=CH, O=Two  Words, CN=gw", "C=CH, O=two words, CN=gw", True),
        ("C=CH, O=Example, CN=gw", "gw.example", False),
        ("gw.example", "C=CH, CN=gw", False),
    ],
)
def test_patterns(text, pattern, expected):
    assert Identity.parse(text).matches(pattern) is expected


def test_a_star_in_a_peer_s_name_is_no_pattern():
    assert not Identity.parse("C=CH, CN=*").matches("C=CH, CN=gw")
    assert not Identity.of(IdI(IdType.FQDN, b"*.example")).matches("gw.example")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gw.example", True),
        ("GW.example", True),
        ("other.example", False),
        ("u@gw.example", True),
        ("v@gw.example", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8::1", True),
        ("2001:db8::2", False),
        ("C=CH, O=Example, CN=gw", True),
        ("C=CH, O=example, CN=GW", True),
        ("CN=gw, O=Example, C=CH", False),
        ("C=CH, O=Example, CN=*", False),
        ("C=CH, O=Example, CN=other", False),
        ("keyid:gw.example", False),
        ("gw", False),
    ],
)
def test_names_in_certificates(text, expected):
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = Authority(key).issue(key.public_key())
    assert Identity.parse(text).in_certificate(certificate) is expected
    assert Identity.of_subject(certificate).in_certificate(certificate)
    bare = Authority(key).issue(key.public_key(), extensions=())
    assert Identity.parse(text).in_certificate(bare) is (expected and "=" in text)


def test_names_of_every_kind_of_string():
    for kind in (
        _ASN1Type.UTF8String,
        _ASN1Type.PrintableString,
        _ASN1Type.IA5String,
        _ASN1Type.T61String,
        _ASN1Type.BMPString,
        _ASN1Type.UniversalString,
    ):
        encoded = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw", _type=kind)]).public_bytes()
        assert distinguished_name(encoded) == (frozenset({("2.5.4.3", "gw")}),)
        assert Identity.of(IdI(IdType.DER_ASN1_DN, encoded)).matches("CN=gw")


def test_nothing_that_a_terminal_obeys_in_a_log():
    encoded = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw\x1b[2J\n\u202e")]).public_bytes()
    assert str(Identity.of(IdI(IdType.DER_ASN1_DN, encoded))).isprintable()
    assert str(Identity.of(IdI(IdType.KEY_ID, b"\x1b[2J"))) == "@#1b5b324a"


@given(st.binary(max_size=60))
def test_any_bytes_as_a_distinguished_name(data):
    for candidate in (
        data,
        b"\x30" + bytes([len(data)]) + data,
        b"\x30" + bytes([len(data) + 2, 0x31, len(data)]) + data,
    ):
        try:
            assert str(Identity.of(IdI(IdType.DER_ASN1_DN, candidate))).isprintable()
        except InvalidSyntax:
            pass


def test_equal_is_who_is_the_same_one():
    for one, other in (
        ("gw.example", "GW.Example"),
        ("user@example", "User@EXAMPLE"),
        ("C=CH, O=Ex  Ample, CN=gw", "C=CH, O=ex ample, CN=GW"),
    ):
        assert (
            Identity.parse(one) == Identity.parse(other)
            and len({Identity.parse(one), Identity.parse(other)}) == 1
        )
    utf8 = bytes.fromhex("300d310b3009060355040a0c024578")  # O=Ex, in two kinds of string
    assert Identity(IdType.DER_ASN1_DN, utf8) == Identity(
        IdType.DER_ASN1_DN, utf8.replace(b"\x0c\2", b"\x13\2")
    )
    for one, other in (
        ("keyid:a", "keyid:A"),
        ("C=CH, O=a", "O=a, C=CH"),
        ("gw.example", "keyid:gw.example"),
        ("192.0.2.1", "192.0.2.2"),
    ):
        assert Identity.parse(one) != Identity.parse(other)
    assert Identity(IdType.DER_ASN1_DN, b"x") != Identity(IdType.DER_ASN1_DN, b"y")
