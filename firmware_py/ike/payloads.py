"""Payloads of IKEv2 (RFC 7296 3.2 to 3.16, RFC 7383 2.5): one frozen dataclass each, to bytes and back.

``X.parse_body(body)`` reads what follows the generic payload header, ``x.body()`` makes it; ``parse_chain`` and
``pack_chain`` do whole chains. Reserved bits are zero in what is made and ignored in what is read.
Work and memory are linear in the bytes given.
"""
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import ClassVar, Self

from spigate.firmware_py.ike.errors import InvalidSyntax, UnsupportedCriticalPayload
from spigate.firmware_py.ike.registry import (
    KEY_LENGTH,
    TRANSFORM_IDS,
    AuthMethod,
    CertEncoding,
    IdType,
    Ke,
    NotifyType,
    PayloadType,
    ProtocolId,
    TransformType,
    TsType,
    label,
    named,
)
from spigate.firmware_py.sa import Address

CRITICAL = 0x80
GENERIC_HEADER = 4
OPAQUE_PORTS = (0xFFFF, 0)
"""The ports of a traffic selector that means packets whose ports cannot be seen (RFC 7296 3.13.1)."""


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise InvalidSyntax(what)


def _number(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset:offset + size], "big")


class Payload:
    """What all payloads have: a type, and a body that can be made and read."""

    payload_type: ClassVar[int]

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        """The payload of ``body``. Raises InvalidSyntax."""
        raise NotImplementedError

    def body(self) -> bytes:
        """What follows the generic payload header."""
        raise NotImplementedError


@dataclass(frozen=True)
class Transform:
    """One algorithm that a proposal offers.

    Members
    -------
    transform_type : TransformType or int
    transform_id : int
        Of the registry that ``transform_type`` names, or a number that it lacks.
    key_bits : int or None
        The attribute Key Length.
    foreign : bytes
        Attributes that are not known, as they came. A transform with any is unacceptable (RFC 7296 3.3.6).
    """

    transform_type: TransformType | int
    transform_id: int
    key_bits: int | None = None
    foreign: bytes = b""

    def __str__(self):
        registry = TRANSFORM_IDS.get(self.transform_type)
        name = label(registry, self.transform_id) if registry else str(self.transform_id)
        return f"{label(TransformType, self.transform_type)} {name}{f'-{self.key_bits}' if self.key_bits else ''}"

    def pack(self, last: bool) -> bytes:
        key = b"" if self.key_bits is None else (0x8000 | KEY_LENGTH).to_bytes(2) + self.key_bits.to_bytes(2)
        attributes = key + self.foreign
        return (bytes([0 if last else 3, 0]) + (8 + len(attributes)).to_bytes(2)
                + bytes([self.transform_type, 0]) + self.transform_id.to_bytes(2) + attributes)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Of exactly its bytes, from Last Substruc on."""
        kind = named(TransformType, data[4])
        number = _number(data, 6, 2)
        if kind in TRANSFORM_IDS:
            number = named(TRANSFORM_IDS[kind], number)
        key_bits, foreign, offset = None, b"", 8
        while offset < len(data):
            _need(offset + 4 <= len(data), "transform attribute cut short")
            attribute, value = _number(data, offset, 2), _number(data, offset + 2, 2)
            end = offset + 4 + (0 if attribute & 0x8000 else value)
            _need(end <= len(data), "transform attribute longer than its transform")
            if attribute == 0x8000 | KEY_LENGTH and key_bits is None:
                key_bits = value
            else:
                foreign += data[offset:end]
            offset = end
        return cls(kind, number, key_bits, foreign)


@dataclass(frozen=True)
class Proposal:
    """A set of transforms for one protocol: any one of each type, all types (RFC 7296 3.3.1)."""

    number: int
    protocol: ProtocolId | int
    spi: bytes
    transforms: tuple[Transform, ...]

    def of(self, transform_type: int) -> tuple[Transform, ...]:
        """Its transforms of one type, in order of preference."""
        return tuple(transform for transform in self.transforms if transform.transform_type == transform_type)

    def pack(self, last: bool) -> bytes:
        count = len(self.transforms)
        transforms = b"".join(each.pack(index == count - 1) for index, each in enumerate(self.transforms))
        return (bytes([0 if last else 2, 0]) + (8 + len(self.spi) + len(transforms)).to_bytes(2)
                + bytes([self.number, self.protocol, len(self.spi), count]) + self.spi + transforms)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Of exactly its bytes, from Last Substruc on."""
        spi_end = 8 + data[6]
        _need(spi_end <= len(data), "proposal shorter than its SPI")
        parts = _substructures(data, spi_end, 3, "transform")
        _need(len(parts) == data[7], f"{data[7]} transforms announced, {len(parts)} found")
        return cls(data[4], named(ProtocolId, data[5]), data[8:spi_end], tuple(map(Transform.parse, parts)))


def _substructures(data: bytes, offset: int, more: int, what: str) -> list[bytes]:
    """Splits a run of proposals (``more`` is 2) or transforms (3). The one without ``more`` must be the last."""
    parts = []
    while offset < len(data):
        _need(offset + 8 <= len(data), f"{what} cut short")
        end = offset + _number(data, offset + 2, 2)
        _need(offset + 8 <= end <= len(data), f"length of a {what} is wrong")
        _need(data[offset] == (0 if end == len(data) else more), f"last {what} is not marked as such")
        parts.append(data[offset:end])
        offset = end
    return parts


@dataclass(frozen=True)
class SecurityAssociation(Payload):
    """SA: what is offered, in order of preference, or the one proposal that was chosen."""

    payload_type: ClassVar[int] = PayloadType.SA
    proposals: tuple[Proposal, ...]

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        parts = _substructures(body, 0, 2, "proposal")
        _need(bool(parts), "SA payload without a proposal")
        return cls(tuple(map(Proposal.parse, parts)))

    def body(self) -> bytes:
        count = len(self.proposals)
        return b"".join(each.pack(index == count - 1) for index, each in enumerate(self.proposals))


@dataclass(frozen=True)
class KeyExchange(Payload):
    """KE: the public value for a key exchange method."""

    payload_type: ClassVar[int] = PayloadType.KE
    group: Ke | int
    data: bytes

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        _need(len(body) > 4, "KE payload without a public value")
        return cls(named(Ke, _number(body, 0, 2)), body[4:])

    def body(self) -> bytes:
        return self.group.to_bytes(2) + bytes(2) + self.data


@dataclass(frozen=True)
class Identification(Payload):
    """IDi and IDr. ``data`` is judged by :mod:`identities`, not here. ``reserved`` is signed as it came (2.15)."""

    id_type: IdType | int
    data: bytes
    reserved: bytes = field(default=bytes(3), repr=False)

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        _need(len(body) >= 4, "ID payload cut short")
        return cls(named(IdType, body[0]), body[4:], body[1:4])

    def body(self) -> bytes:
        return bytes([self.id_type]) + self.reserved + self.data


@dataclass(frozen=True)
class IdI(Identification):
    payload_type: ClassVar[int] = PayloadType.IDI


@dataclass(frozen=True)
class IdR(Identification):
    payload_type: ClassVar[int] = PayloadType.IDR


@dataclass(frozen=True)
class _Encoded(Payload):
    encoding: CertEncoding | int
    data: bytes

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        _need(len(body) >= 1, f"{cls.__name__} payload without an encoding")
        return cls(named(CertEncoding, body[0]), body[1:])

    def body(self) -> bytes:
        return bytes([self.encoding]) + self.data


@dataclass(frozen=True)
class Cert(_Encoded):
    """CERT: one certificate; X.509 in DER where ``encoding`` is X509_SIGNATURE."""

    payload_type: ClassVar[int] = PayloadType.CERT


@dataclass(frozen=True)
class CertReq(_Encoded):
    """CERTREQ: ``data`` is a run of SHA-1 hashes of authorities' SubjectPublicKeyInfo."""

    payload_type: ClassVar[int] = PayloadType.CERTREQ


@dataclass(frozen=True)
class Auth(Payload):
    """AUTH: a signature, or a MAC with a pre-shared key."""

    payload_type: ClassVar[int] = PayloadType.AUTH
    method: AuthMethod | int
    data: bytes

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        _need(len(body) >= 4, "AUTH payload cut short")
        return cls(named(AuthMethod, body[0]), body[4:])

    def body(self) -> bytes:
        return bytes([self.method, 0, 0, 0]) + self.data


@dataclass(frozen=True)
class Nonce(Payload):
    """Ni and Nr: 16 to 256 bytes."""

    payload_type: ClassVar[int] = PayloadType.NONCE
    data: bytes

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        _need(16 <= len(body) <= 256, f"nonce of {len(body)} bytes, where 16 to 256 are allowed")
        return cls(body)

    def body(self) -> bytes:
        return self.data


@dataclass(frozen=True)
class Notify(Payload):
    """N. ``protocol`` and ``spi`` name the child SA that it concerns, if it does one."""

    payload_type: ClassVar[int] = PayloadType.NOTIFY
    notify_type: NotifyType | int
    data: bytes = b""
    protocol: ProtocolId | int = ProtocolId.NONE
    spi: bytes = b""

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        _need(len(body) >= 4 and 4 + body[1] <= len(body), "N payload cut short")
        end = 4 + body[1]
        return cls(named(NotifyType, _number(body, 2, 2)), body[end:], named(ProtocolId, body[0]), body[4:end])

    def body(self) -> bytes:
        return bytes([self.protocol, len(self.spi)]) + self.notify_type.to_bytes(2) + self.spi + self.data


@dataclass(frozen=True)
class Delete(Payload):
    """D: SPIs of 4 bytes that their sender receives on; none where ``protocol`` is IKE: this IKE SA."""

    payload_type: ClassVar[int] = PayloadType.DELETE
    protocol: ProtocolId
    spis: tuple[bytes, ...] = ()

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        _need(len(body) >= 4, "D payload cut short")
        protocol, size, count = named(ProtocolId, body[0]), body[1], _number(body, 2, 2)
        expected = {ProtocolId.IKE: 0, ProtocolId.AH: 4, ProtocolId.ESP: 4}.get(protocol)
        _need(size == expected and (size or not count), f"D payload for protocol {body[0]} with {count} SPIs of {size} bytes")
        _need(len(body) == 4 + size * count, f"D payload of {len(body)} bytes for {count} SPIs")
        return cls(protocol, tuple(body[at:at + size] for at in range(4, len(body), size or 1)))

    def body(self) -> bytes:
        size = 0 if self.protocol == ProtocolId.IKE else 4
        return bytes([self.protocol, size]) + len(self.spis).to_bytes(2) + b"".join(self.spis)


@dataclass(frozen=True)
class TrafficSelector:
    """A range of addresses and ports (RFC 7296 3.13.1).

    Members
    -------
    start, end : Address
        First and last.
    protocol : int
        0: every one.
    ports : (int, int)
        First and last; for ICMP, type and code as 16 bits. :data:`OPAQUE_PORTS`: see there.
    """

    start: Address
    end: Address
    protocol: int = 0
    ports: tuple[int, int] = (0, 0xFFFF)

    def pack(self) -> bytes:
        kind = TsType.IPV4_ADDR_RANGE if self.start.version == 4 else TsType.IPV6_ADDR_RANGE
        addresses = self.start.packed + self.end.packed
        return (bytes([kind, self.protocol]) + (8 + len(addresses)).to_bytes(2)
                + self.ports[0].to_bytes(2) + self.ports[1].to_bytes(2) + addresses)


@dataclass(frozen=True)
class UnknownSelector:
    """A traffic selector of a type that is not known: never matches, is never chosen."""

    ts_type: int
    protocol: int
    data: bytes

    def pack(self) -> bytes:
        return bytes([self.ts_type, self.protocol]) + (4 + len(self.data)).to_bytes(2) + self.data


_ADDRESS_BYTES = {TsType.IPV4_ADDR_RANGE: 4, TsType.IPV6_ADDR_RANGE: 16}


def _selector(part: bytes) -> TrafficSelector | UnknownSelector:
    size = _ADDRESS_BYTES.get(part[0])
    if size is None:
        return UnknownSelector(part[0], part[1], part[4:])
    _need(len(part) == 8 + 2 * size, f"traffic selector of type {part[0]} with {len(part)} bytes")
    ports = _number(part, 4, 2), _number(part, 6, 2)
    start, end = ip_address(part[8:8 + size]), ip_address(part[8 + size:])
    _need(ports[0] <= ports[1] or ports == OPAQUE_PORTS, f"traffic selector with ports {ports[0]} to {ports[1]}")
    _need(start <= end, f"traffic selector with addresses {start} to {end}")
    return TrafficSelector(start, end, part[1], ports)


@dataclass(frozen=True)
class TrafficSelectors(Payload):
    """TSi and TSr: traffic that matches any of them."""

    selectors: tuple[TrafficSelector | UnknownSelector, ...]

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        _need(len(body) >= 4, "TS payload cut short")
        selectors, offset = [], 4
        while offset < len(body):
            _need(offset + 4 <= len(body), "traffic selector cut short")
            end = offset + _number(body, offset + 2, 2)
            _need(offset + 4 <= end <= len(body), "length of a traffic selector is wrong")
            selectors.append(_selector(body[offset:end]))
            offset = end
        _need(len(selectors) == body[0] > 0, f"{body[0]} traffic selectors announced, {len(selectors)} found")
        return cls(tuple(selectors))

    def body(self) -> bytes:
        return bytes([len(self.selectors), 0, 0, 0]) + b"".join(each.pack() for each in self.selectors)


@dataclass(frozen=True)
class TsI(TrafficSelectors):
    payload_type: ClassVar[int] = PayloadType.TSI


@dataclass(frozen=True)
class TsR(TrafficSelectors):
    payload_type: ClassVar[int] = PayloadType.TSR


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

    payload_type: ClassVar[int] = PayloadType.VENDOR


@dataclass(frozen=True)
class Configuration(_Opaque):
    """CP, as it came: recognised, not understood."""

    payload_type: ClassVar[int] = PayloadType.CP


@dataclass(frozen=True)
class Eap(_Opaque):
    """EAP, as it came: recognised, not understood."""

    payload_type: ClassVar[int] = PayloadType.EAP


@dataclass(frozen=True)
class Sk(_Opaque):
    """SK: ``data`` is IV, cipher text and ICV; ``first`` the type of the first payload inside."""

    payload_type: ClassVar[int] = PayloadType.SK
    first: int = PayloadType.NONE


@dataclass(frozen=True)
class Skf(Payload):
    """SKF: fragment ``number`` of ``total``; ``first`` is the type of the first payload inside, in fragment 1 only."""

    payload_type: ClassVar[int] = PayloadType.SKF
    number: int
    total: int
    data: bytes
    first: int = PayloadType.NONE

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        _need(len(body) >= 4, "SKF payload cut short")
        number, total = _number(body, 0, 2), _number(body, 2, 2)
        _need(1 <= number <= total, f"fragment {number} of {total}")
        return cls(number, total, body[4:])

    def body(self) -> bytes:
        return self.number.to_bytes(2) + self.total.to_bytes(2) + self.data


@dataclass(frozen=True)
class Unknown(_Opaque):
    """A payload of a type that is not known and need not be. With ``critical`` only to be sent."""

    payload_type: int = field(kw_only=True)
    critical: bool = field(default=False, kw_only=True)


PAYLOADS: dict[int, type[Payload]] = {each.payload_type: each for each in (
    SecurityAssociation, KeyExchange, IdI, IdR, Cert, CertReq, Auth, Nonce, Notify, Delete, Vendor, TsI, TsR, Sk,
    Configuration, Eap, Skf)}


def parse_chain(first: int, data: bytes) -> tuple[Payload, ...]:
    """The payloads of ``data``, of which the first has type ``first``.

    Raises
    ------
    InvalidSyntax
        A length is wrong, or a body is not what its type demands.
    UnsupportedCriticalPayload
        A payload of unknown type is marked critical (RFC 7296 2.5); said even where a later one is wrong.
    """
    payloads, kind, offset = [], first, 0
    while kind != PayloadType.NONE:
        _need(offset + GENERIC_HEADER <= len(data), f"payload {kind} cut short")
        following, critical, length = data[offset], data[offset + 1] & CRITICAL, _number(data, offset + 2, 2)
        end = offset + length
        _need(GENERIC_HEADER <= length and end <= len(data), f"length {length} of payload {kind} is wrong")
        body = data[offset + GENERIC_HEADER:end]
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
    _need(offset == len(data), f"{len(data) - offset} bytes behind the last payload")
    return tuple(payloads)


def pack_chain(payloads: Iterable[Payload]) -> tuple[int, bytes]:
    """The type of the first payload, and the bytes of all. SK and SKF can only be the last."""
    payloads = tuple(payloads)
    packed = []
    for payload, after in zip(payloads, (*payloads[1:], None), strict=True):
        following = after.payload_type if after is not None else getattr(payload, "first", PayloadType.NONE)
        body = payload.body()
        critical = CRITICAL if getattr(payload, "critical", False) else 0
        packed.append(bytes([following, critical]) + (GENERIC_HEADER + len(body)).to_bytes(2) + body)
    return (payloads[0].payload_type if payloads else PayloadType.NONE), b"".join(packed)
