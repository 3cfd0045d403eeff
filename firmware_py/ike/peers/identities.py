# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Who a peer says it is: identities of IDi and IDr (RFC 7296 3.5), from and to text, matched with what is
expected.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import Self

from cryptography import x509
from cryptography.x509.oid import NameOID

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.wire.errors import AuthenticationFailed, InvalidSyntax
from spigate.firmware_py.ike.wire.payloads import Identification
from spigate.firmware_py.ike.wire.registry import IdType, label
from spigate.firmware_py.words import counted

MAX_IDENTITY = 1024
"""Bytes of an identity, and of a certificate's subject, that are looked at: who sends one may be anybody."""
MAX_OID = 64
MAX_ARC = 19
"""Bytes of one arc of an OID: enough for the 128 bits of a UUID (ITU-T X.667)."""
_ADDRESS_BYTES: dict[int, int] = {IdType.IPV4_ADDR: 4, IdType.IPV6_ADDR: 16}
_WORD = re.compile(rb"[!-~]{1,255}")
_MAIL = re.compile(rb"[!-~]{1,255}@[!-~]{1,255}")
_ATTRIBUTES = {
    "CN": NameOID.COMMON_NAME,
    "C": NameOID.COUNTRY_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "E": NameOID.EMAIL_ADDRESS,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "STREET": NameOID.STREET_ADDRESS,
    "SN": NameOID.SURNAME,
    "SERIALNUMBER": NameOID.SERIAL_NUMBER,
}
_OTHER_NAMES = {"EMAIL": "E", "EMAILADDRESS": "E", "S": "ST"}
_SHORT = {oid.dotted_string: name for name, oid in _ATTRIBUTES.items()}
_STRINGS = {
    0x0C: "utf-8",
    0x13: "ascii",
    0x16: "ascii",
    0x14: "latin-1",
    0x1E: "utf-16-be",
    0x1C: "utf-32-be",
    0x12: "ascii",
    0x1A: "ascii",
}

Rdn = frozenset[tuple[str, str]]
"""A relative distinguished name: pairs of OID and value."""


def _der(data: bytes, tag: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Tags and contents of a run of DER elements, all of them ``tag`` if that is given."""
    offset = 0
    while offset < len(data):
        if offset + 2 > len(data):
            raise InvalidSyntax("distinguished name cut short")
        found, length, start = data[offset], data[offset + 1], offset + 2
        if length & 0x80:
            size = length & 0x7F
            length, start = int.from_bytes(data[start : start + size]), start + size
            if not 1 <= size <= 2:
                raise InvalidSyntax("distinguished name with a length that is too long")
        if start + length > len(data) or tag not in (None, found):
            raise InvalidSyntax("distinguished name is not DER")
        yield found, data[start : start + length]
        offset = start + length


def _oid(data: bytes) -> str:
    """In dotted decimals. Arcs are bounded: the digits of a number cost the square of its bytes."""
    if not 1 <= len(data) <= MAX_OID or data[-1] & 0x80:
        raise InvalidSyntax(
            f"distinguished name with an attribute type of {counted(len(data), 'byte')} that is no OID"
        )
    arcs, value, size = [], 0, 0
    for byte in data:
        value, size = value << 7 | byte & 0x7F, size + 1
        if size > MAX_ARC:
            raise InvalidSyntax(f"distinguished name with an OID whose arc has more than {MAX_ARC} bytes")
        if not byte & 0x80:
            arcs.append(value)
            value, size = 0, 0
    first = arcs[0]
    root = min(first // 40, 2)
    return ".".join(map(str, (root, first - 40 * root, *arcs[1:])))


def distinguished_name(data: bytes) -> tuple[Rdn, ...]:
    """The parts of a Name in DER, in its order. Raises InvalidSyntax."""
    if len(data) > MAX_IDENTITY:
        raise InvalidSyntax(
            f"distinguished name of {counted(len(data), 'byte')}, where at most {MAX_IDENTITY} are looked at"
        )
    outer = list(_der(data, 0x30))
    if len(outer) != 1:
        raise InvalidSyntax("distinguished name is not one sequence")
    parts = []
    for _, members in _der(outer[0][1], 0x31):
        part = set()
        for _, attribute in _der(members, 0x30):
            fields = list(_der(attribute))
            if len(fields) != 2 or fields[0][0] != 6 or fields[1][0] not in _STRINGS:
                raise InvalidSyntax("distinguished name with an attribute that is no text")
            try:
                value = fields[1][1].decode(_STRINGS[fields[1][0]])
            except UnicodeDecodeError:
                raise InvalidSyntax("distinguished name with an attribute that is no text") from None
            part.add((_oid(fields[0][1]), value))
        parts.append(frozenset(part))
    return tuple(parts)


def folded(parts: tuple[Rdn, ...]) -> tuple[Rdn, ...]:
    """Without regard to case and to how much white space there is (RFC 5280 7.1)."""
    return tuple(
        frozenset((oid, " ".join(value.split()).casefold()) for oid, value in part) for part in parts
    )


def _parts(text: str) -> list[list[tuple[x509.ObjectIdentifier, str]]]:
    """The attributes of a name in words, in their order; a backslash takes away the meaning of what
    follows.
    """
    parts: list[list[tuple[x509.ObjectIdentifier, str]]] = []
    for part in re.split(r"(?<!\\),", text):
        parts.append([])
        for attribute in re.split(r"(?<!\\)\+", part):
            name, _, value = attribute.strip().partition("=")
            oid = _ATTRIBUTES.get(_OTHER_NAMES.get(name.strip().upper(), name.strip().upper()))
            value = re.sub(r"\\(.)", r"\1", value.strip())
            if oid is None or not value:
                raise InputError(
                    f"identity {text!r}: expected attributes such as CN=gw, not {attribute.strip()!r}; "
                    f"known ones are {', '.join(_ATTRIBUTES)}"
                )
            parts[-1].append((oid, value))
    return parts


def _name(text: str) -> bytes:
    """DER of a name in words, in their order."""
    try:
        return x509.Name(
            [
                x509.RelativeDistinguishedName([x509.NameAttribute(*attribute) for attribute in part])
                for part in _parts(text)
            ]
        ).public_bytes()
    except ValueError as error:
        raise InputError(
            f"identity {text!r}: expected a name such as C=CH, O=Example, CN=gw; {error}"
        ) from None


def _same_name(name: tuple[Rdn, ...], pattern: tuple[Rdn, ...]) -> bool:
    """``pattern`` may have ``*`` as a value, and be in either order."""

    def fits(part: Rdn, expected: Rdn) -> bool:
        return len(part) == len(expected) and all(
            any(oid == other and wanted in (value, "*") for other, value in part) for oid, wanted in expected
        )

    return len(name) == len(pattern) and any(
        all(map(fits, name, order)) for order in (pattern, pattern[::-1])
    )


@dataclass(frozen=True, eq=False)
class Identity:
    """An identity. Two are equal that name the same one, however it is written: what one identity may have
    is counted by it.

    Members
    -------
    id_type : IdType
        IPV4_ADDR, IPV6_ADDR, FQDN, RFC822_ADDR, DER_ASN1_DN or KEY_ID.
    data : bytes
        As in the payload.
    """

    id_type: IdType
    data: bytes

    @cached_property
    def _named(self) -> tuple[int, object]:
        """What makes it differ from others: host names and mail addresses are compared without regard to
        case, DNs as in RFC 5280 7.1.
        """
        if self.id_type in (IdType.FQDN, IdType.RFC822_ADDR):
            return self.id_type, self.data.lower()
        if self.id_type == IdType.DER_ASN1_DN:
            try:
                return self.id_type, folded(distinguished_name(self.data))
            except InvalidSyntax:
                pass
        return self.id_type, self.data

    def __eq__(self, other: object) -> bool:
        return self._named == other._named if isinstance(other, Identity) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._named)

    @classmethod
    def parse(cls, text: str) -> Self:
        """An identity in words.

        ``192.0.2.1``, ``2001:db8::1``, ``gw.example`` or ``@gw.example`` (FQDN), ``user@example``
        (RFC822_ADDR), ``C=CH, O=Example, CN=gw`` (DN, in the certificate's order), ``keyid:branch-7`` or
        ``@#00ff`` (KEY_ID, as text or in hex). Raises InputError.
        """
        if len(text.encode()) > MAX_IDENTITY:
            raise InputError(f"identity of {len(text)} characters: expected at most {MAX_IDENTITY} bytes")
        if text.startswith("@#"):
            try:
                return cls(IdType.KEY_ID, bytes.fromhex(text[2:]))
            except ValueError:
                raise InputError(f"identity {text!r}: expected hexadecimal digits behind @#") from None
        if text.startswith("keyid:"):
            return cls(IdType.KEY_ID, text[6:].encode())
        try:
            address = ip_address(text)
        except ValueError:
            pass
        else:
            return cls(IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR, address.packed)
        if "=" in text:
            return cls(IdType.DER_ASN1_DN, _name(text))
        kind, data = IdType.FQDN, text.removeprefix("@").encode()
        if "@" in text[1:]:
            kind, data = IdType.RFC822_ADDR, text.encode()
        if not (_MAIL if kind == IdType.RFC822_ADDR else _WORD).fullmatch(data):
            raise InputError(
                f"identity {text!r}: expected an address, a host name, a mail address, "
                "a distinguished name or keyid:TEXT"
            )
        return cls(kind, data)

    @classmethod
    def of(cls, payload: Identification) -> Self:
        """The identity that IDi or IDr names.

        Raises
        ------
        InvalidSyntax
            Its data is not what its type demands.
        AuthenticationFailed
            Its type is none that anybody is known by here.
        """
        kind, data = payload.id_type, payload.data
        if len(data) > MAX_IDENTITY:
            raise InvalidSyntax(
                f"identity of {counted(len(data), 'byte')}, where at most {MAX_IDENTITY} are looked at"
            )
        if kind in _ADDRESS_BYTES:
            sound = len(data) == _ADDRESS_BYTES[kind]
        elif kind == IdType.FQDN:
            sound = _WORD.fullmatch(data) is not None
        elif kind == IdType.RFC822_ADDR:
            sound = _MAIL.fullmatch(data) is not None
        elif kind == IdType.DER_ASN1_DN:
            sound = bool(distinguished_name(data))
        elif kind == IdType.KEY_ID:
            sound = bool(data)
        else:
            raise AuthenticationFailed(f"identities of type {label(IdType, kind)} are not known here")
        if not sound:
            raise InvalidSyntax(f"{counted(len(data), 'byte')} that are no {label(IdType, kind)}")
        return cls(IdType(kind), data)

    @classmethod
    def of_subject(cls, certificate: x509.Certificate) -> Self:
        """The DN that a certificate is for."""
        return cls(IdType.DER_ASN1_DN, certificate.subject.public_bytes())

    def payload(self, kind: type[Identification]) -> Identification:
        """As ``IdI`` or ``IdR``."""
        return kind(self.id_type, self.data)

    def matches(self, pattern: str) -> bool:
        """Whether it is the identity that ``pattern`` says, or one of those that it says.

        Patterns are what :meth:`parse` reads, ``%any``, ``*.example``, ``*@example``, ``O=Example, CN=*``
        (a value each) and networks (``192.0.2.0/24``). Host names and mail addresses without regard to
        case, DNs in either order. Raises InputError.
        """
        if pattern == "%any":
            return True
        if self.id_type in _ADDRESS_BYTES and "/" in pattern:
            try:
                return ip_address(self.data) in ip_network(pattern)
            except ValueError as error:
                raise InputError(f"identity {pattern!r}: expected a network; {error}") from None
        if pattern.startswith(("*.", "*@")):
            kind = IdType.FQDN if pattern[1] == "." else IdType.RFC822_ADDR
            suffix = pattern[1:].lower().encode()
            return (
                self.id_type == kind and self.data.lower().endswith(suffix) and len(self.data) > len(suffix)
            )
        if "/" in pattern and "=" not in pattern and not pattern.startswith(("keyid:", "@")):
            return False  # a network, and this is no address
        if self.id_type == IdType.DER_ASN1_DN and "=" in pattern and not pattern.startswith(("keyid:", "@")):
            expected = tuple(
                frozenset((oid.dotted_string, value) for oid, value in part) for part in _parts(pattern)
            )
            return _same_name(folded(distinguished_name(self.data)), folded(expected))
        return self == Identity.parse(pattern)

    def in_certificate(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate speaks for it: its subject DN, or a subjectAltName of the same type (RFC
        4945 3.1).

        Never for a KEY_ID. Raises InvalidSyntax where the certificate's subject cannot be read.
        """
        if self.id_type == IdType.DER_ASN1_DN:
            own, subject = map(distinguished_name, (self.data, certificate.subject.public_bytes()))
            return folded(own) == folded(subject)
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return False
        except (ValueError, x509.DuplicateExtension):
            raise InvalidSyntax("subjectAltName cannot be read") from None
        if self.id_type in _ADDRESS_BYTES:
            return ip_address(self.data) in names.get_values_for_type(x509.IPAddress)
        if self.id_type not in (IdType.FQDN, IdType.RFC822_ADDR):
            return False
        kind = x509.DNSName if self.id_type == IdType.FQDN else x509.RFC822Name
        return self.data.decode("latin-1").lower() in map(str.lower, names.get_values_for_type(kind))

    def __str__(self) -> str:
        """As :meth:`parse` reads it; nothing but printable characters."""
        if self.id_type in _ADDRESS_BYTES:
            return str(ip_address(self.data))
        if self.id_type == IdType.DER_ASN1_DN:
            return ", ".join(
                "+".join(f"{_SHORT.get(oid, oid)}={_escaped(value)}" for oid, value in sorted(part))
                for part in distinguished_name(self.data)
            )
        if self.id_type == IdType.KEY_ID:
            return f"keyid:{self.data.decode()}" if _WORD.fullmatch(self.data) else f"@#{self.data.hex()}"
        return self.data.decode("latin-1")


def _escaped(value: str) -> str:
    value = re.sub(r'([,+"\\<>;=])', r"\\\1", value)
    return "".join(
        each if each.isprintable() else "".join(f"\\{byte:02x}" for byte in each.encode()) for each in value
    )
