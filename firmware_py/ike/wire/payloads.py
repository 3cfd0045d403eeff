# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Payloads of IKEv2 (RFC 7296 3.2 to 3.16, RFC 7383 2.5): one frozen dataclass each, to bytes and back.

``X.parse_body(body)`` reads what follows the generic payload header, ``x.body()`` makes it; ``parse_chain``
and ``pack_chain`` do whole chains. Reserved bits are zero in what is made and ignored in what is read. Work
and memory are linear in the bytes given.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Self

from spigate.firmware_py.ike.wire.errors import UnsupportedCriticalPayload
from spigate.firmware_py.ike.wire.registry import (
    AuthMethod,
    CertEncoding,
    IdType,
    Ke,
    NotifyType,
    PayloadType,
    ProtocolId,
    named,
)
from spigate.firmware_py.ike.wire.structures import (
    MAX_PROPOSALS,
    MAX_TRANSFORMS,
    Proposal,
    TrafficSelector,
    UnknownSelector,
    need,
    number_at,
    parse_selector,
    substructures,
)
from spigate.firmware_py.ike.wire.structures import OPAQUE_PORTS as OPAQUE_PORTS
from spigate.firmware_py.ike.wire.structures import Transform as Transform
from spigate.firmware_py.words import counted

CRITICAL = 0x80
GENERIC_HEADER = 4
MAX_PAYLOADS = 128
"""In one message. A handshake with a chain of certificates and all notifies that are known has about forty.
"""
MAX_DELETED = 1024
"""SPIs in one D payload: four times the child SAs that one IKE SA may have."""
_SPI_BYTES: dict[int, int] = {ProtocolId.IKE: 0, ProtocolId.AH: 4, ProtocolId.ESP: 4}
"""Of an SPI in a D payload."""


class Payload(ABC):
    """What all payloads have: a type, and a body that can be made and read."""

    payload_type: int

    @classmethod
    @abstractmethod
    def parse_body(cls, body: bytes) -> Self:
        """The payload of ``body``. Raises InvalidSyntax."""

    @abstractmethod
    def body(self) -> bytes:
        """What follows the generic payload header."""


@dataclass(frozen=True)
class SecurityAssociation(Payload):
    """SA: what is offered, in order of preference, or the one proposal that was chosen."""

    payload_type = PayloadType.SA
    proposals: tuple[Proposal, ...]

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        parts = substructures(body, 0, 2, "proposal", MAX_PROPOSALS)
        need(bool(parts), "SA payload without a proposal")
        need(
            sum(part[7] for part in parts) <= MAX_TRANSFORMS,
            f"SA payload with more than {MAX_TRANSFORMS} transforms",
        )
        return cls(tuple(map(Proposal.parse, parts)))

    def body(self) -> bytes:
        count = len(self.proposals)
        return b"".join(each.pack(index == count - 1) for index, each in enumerate(self.proposals))


@dataclass(frozen=True)
class KeyExchange(Payload):
    """KE: the public value for a key exchange method."""

    payload_type = PayloadType.KE
    group: Ke | int
    data: bytes

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        need(len(body) > 4, "KE payload without a public value")
        return cls(named(Ke, number_at(body, 0, 2)), body[4:])

    def body(self) -> bytes:
        return self.group.to_bytes(2) + bytes(2) + self.data


@dataclass(frozen=True)
class Identification(Payload):
    """IDi and IDr. ``data`` is judged by :mod:`identities`, not here. ``reserved`` is signed as it came
    (2.15).
    """

    id_type: IdType | int
    data: bytes
    reserved: bytes = field(default=bytes(3), repr=False)

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        need(len(body) >= 4, "ID payload cut short")
        return cls(named(IdType, body[0]), body[4:], body[1:4])

    def body(self) -> bytes:
        return bytes([self.id_type]) + self.reserved + self.data


@dataclass(frozen=True)
class IdI(Identification):
    payload_type = PayloadType.IDI


@dataclass(frozen=True)
class IdR(Identification):
    payload_type = PayloadType.IDR


@dataclass(frozen=True)
class _Encoded(Payload):
    encoding: CertEncoding | int
    data: bytes

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        need(len(body) >= 1, f"{cls.__name__} payload without an encoding")
        return cls(named(CertEncoding, body[0]), body[1:])

    def body(self) -> bytes:
        return bytes([self.encoding]) + self.data


@dataclass(frozen=True)
class Cert(_Encoded):
    """CERT: one certificate; X.509 in DER where ``encoding`` is X509_SIGNATURE."""

    payload_type = PayloadType.CERT


@dataclass(frozen=True)
class CertReq(_Encoded):
    """CERTREQ: ``data`` is a run of SHA-1 hashes of authorities' SubjectPublicKeyInfo."""

    payload_type = PayloadType.CERTREQ


@dataclass(frozen=True)
class Auth(Payload):
    """AUTH: a signature, or a MAC with a pre-shared key."""

    payload_type = PayloadType.AUTH
    method: AuthMethod | int
    data: bytes

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        need(len(body) >= 4, "AUTH payload cut short")
        return cls(named(AuthMethod, body[0]), body[4:])

    def body(self) -> bytes:
        return bytes([self.method, 0, 0, 0]) + self.data


@dataclass(frozen=True)
class Nonce(Payload):
    """Ni and Nr: 16 to 256 bytes."""

    payload_type = PayloadType.NONCE
    data: bytes

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        need(16 <= len(body) <= 256, f"nonce of {counted(len(body), 'byte')}, where 16 to 256 are allowed")
        return cls(body)

    def body(self) -> bytes:
        return self.data


@dataclass(frozen=True)
class Notify(Payload):
    """N. ``protocol`` and ``spi`` name the child SA that it concerns, if it does one."""

    payload_type = PayloadType.NOTIFY
    notify_type: NotifyType | int
    data: bytes = b""
    protocol: ProtocolId | int = ProtocolId.NONE
    spi: bytes = b""

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        need(len(body) >= 4 and 4 + body[1] <= len(body), "N payload cut short")
        end = 4 + body[1]
        return cls(
            named(NotifyType, number_at(body, 2, 2)), body[end:], named(ProtocolId, body[0]), body[4:end]
        )

    def body(self) -> bytes:
        return bytes([self.protocol, len(self.spi)]) + self.notify_type.to_bytes(2) + self.spi + self.data


@dataclass(frozen=True)
class Delete(Payload):
    """D: SPIs of 4 bytes that their sender receives on; none where ``protocol`` is IKE: this IKE SA."""

    payload_type = PayloadType.DELETE
    protocol: ProtocolId
    spis: tuple[bytes, ...] = ()

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        need(len(body) >= 4, "D payload cut short")
        size, count = body[1], number_at(body, 2, 2)
        need(
            size == _SPI_BYTES.get(body[0]) and (size > 0 or not count) and count <= MAX_DELETED,
            f"D payload for protocol {body[0]} with {count} SPIs of {size} bytes",
        )
        need(len(body) == 4 + size * count, f"D payload of {counted(len(body), 'byte')} for {count} SPIs")
        return cls(ProtocolId(body[0]), tuple(body[at : at + size] for at in range(4, len(body), size or 1)))

    def body(self) -> bytes:
        size = 0 if self.protocol == ProtocolId.IKE else 4
        return bytes([self.protocol, size]) + len(self.spis).to_bytes(2) + b"".join(self.spis)


@dataclass(frozen=True)
class TrafficSelectors(Payload):
    """TSi and TSr: traffic that matches any of them."""

    selectors: tuple[TrafficSelector | UnknownSelector, ...]

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        need(len(body) >= 4, "TS payload cut short")
        selectors: list[TrafficSelector | UnknownSelector] = []
        offset = 4
        while offset < len(body):
            need(
                offset + 4 <= len(body) and len(selectors) < body[0],
                f"{body[0]} traffic selectors announced, and there are more",
            )
            end = offset + number_at(body, offset + 2, 2)
            need(offset + 4 <= end <= len(body), "length of a traffic selector is wrong")
            selectors.append(parse_selector(body[offset:end]))
            offset = end
        need(len(selectors) == body[0] > 0, f"{body[0]} traffic selectors announced, {len(selectors)} found")
        return cls(tuple(selectors))

    def body(self) -> bytes:
        return bytes([len(self.selectors), 0, 0, 0]) + b"".join(each.pack() for each in self.selectors)


@dataclass(frozen=True)
class TsI(TrafficSelectors):
    payload_type = PayloadType.TSI


@dataclass(frozen=True)
class TsR(TrafficSelectors):
    payload_type = PayloadType.TSR


@dataclass(frozen=True)
class _Opaque(Payload):
    data: bytes

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        return cls(body)

    def body(self) -> bytes:
        return self.data


@dataclass(frozen=True)
class Vendor(_Opaque):
    """V."""

    payload_type = PayloadType.VENDOR


@dataclass(frozen=True)
class Configuration(_Opaque):
    """CP, as it came: recognised, not understood."""

    payload_type = PayloadType.CP


@dataclass(frozen=True)
class Eap(_Opaque):
    """EAP, as it came: recognised, not understood."""

    payload_type = PayloadType.EAP


@dataclass(frozen=True)
class Sk(_Opaque):
    """SK: ``data`` is IV, cipher text and ICV; ``first`` the type of the first payload inside."""

    payload_type = PayloadType.SK
    first: int = PayloadType.NONE


@dataclass(frozen=True)
class Skf(Payload):
    """SKF: fragment ``number`` of ``total``; ``first`` is the type of the first payload inside, in fragment
    1 only.
    """

    payload_type = PayloadType.SKF
    number: int
    total: int
    data: bytes
    first: int = PayloadType.NONE

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        need(len(body) >= 4, "SKF payload cut short")
        number, total = number_at(body, 0, 2), number_at(body, 2, 2)
        need(1 <= number <= total, f"fragment {number} of {total}")
        return cls(number, total, body[4:])

    def body(self) -> bytes:
        return self.number.to_bytes(2) + self.total.to_bytes(2) + self.data


@dataclass(frozen=True)
class Unknown(_Opaque):
    """A payload of a type that is not known and need not be. With ``critical`` only to be sent."""

    payload_type: int = field(kw_only=True)
    critical: bool = field(default=False, kw_only=True)


PAYLOADS: dict[int, type[Payload]] = {
    each.payload_type: each
    for each in (
        SecurityAssociation,
        KeyExchange,
        IdI,
        IdR,
        Cert,
        CertReq,
        Auth,
        Nonce,
        Notify,
        Delete,
        Vendor,
        TsI,
        TsR,
        Sk,
        Configuration,
        Eap,
        Skf,
    )
}


def parse_chain(first: int, data: bytes) -> tuple[Payload, ...]:
    """The payloads of ``data``, of which the first has type ``first``.

    Raises
    ------
    InvalidSyntax
        A length is wrong, a body is not what its type demands, or there are more than :data:`MAX_PAYLOADS`.
    UnsupportedCriticalPayload
        A payload of unknown type is marked critical (RFC 7296 2.5); said even where a later one is wrong.
    """
    payloads: list[Payload] = []
    kind, offset = first, 0
    while kind != PayloadType.NONE:
        need(len(payloads) < MAX_PAYLOADS, f"more than {MAX_PAYLOADS} payloads")
        need(offset + GENERIC_HEADER <= len(data), f"payload {kind} cut short")
        following, critical, length = (
            data[offset],
            data[offset + 1] & CRITICAL,
            number_at(data, offset + 2, 2),
        )
        end = offset + length
        need(GENERIC_HEADER <= length and end <= len(data), f"length {length} of payload {kind} is wrong")
        body = data[offset + GENERIC_HEADER : end]
        known = PAYLOADS.get(kind)
        if known is not None:
            payload = known.parse_body(body)
        elif critical:
            raise UnsupportedCriticalPayload(kind)
        else:
            payload = Unknown(body, payload_type=kind)
        if isinstance(payload, Sk | Skf):  # their next payload is inside them, not behind
            payload, following = replace(payload, first=following), PayloadType.NONE
        payloads.append(payload)
        kind, offset = following, end
    need(offset == len(data), f"{len(data) - offset} bytes behind the last payload")
    return tuple(payloads)


def pack_chain(payloads: Iterable[Payload]) -> tuple[int, bytes]:
    """The type of the first payload, and the bytes of all. SK and SKF can only be the last."""
    payloads = tuple(payloads)
    packed = []
    for payload, after in zip(payloads, (*payloads[1:], None), strict=False):  # none at all is a message too
        following = after.payload_type if after is not None else getattr(payload, "first", PayloadType.NONE)
        body = payload.body()
        critical = CRITICAL if getattr(payload, "critical", False) else 0
        packed.append(bytes([following, critical]) + (GENERIC_HEADER + len(body)).to_bytes(2) + body)
    return (payloads[0].payload_type if payloads else PayloadType.NONE), b"".join(packed)
