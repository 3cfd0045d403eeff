# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What payloads are made of: transforms and proposals (RFC 7296 3.3), traffic selectors (3.13.1), to bytes
and back.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self

from spigate.firmware_py.ike.wire.errors import InvalidSyntax
from spigate.firmware_py.ike.wire.registry import (
    KEY_LENGTH,
    TRANSFORM_IDS,
    ProtocolId,
    TransformType,
    TsType,
    label,
    named,
)
from spigate.firmware_py.ipsec.sa import Address
from spigate.firmware_py.words import counted

OPAQUE_PORTS = (0xFFFF, 0)
"""The ports of a traffic selector that means packets whose ports cannot be seen (RFC 7296 3.13.1)."""

MAX_PROPOSALS = 64
"""In one SA payload. Windows and FortiGate offer the most that were seen, about thirty."""
MAX_TRANSFORMS = 512
"""In one SA payload, over all proposals."""
MAX_ATTRIBUTES = 8
"""Of one transform; all that is defined is the key length."""


def need(holds: bool, what: str) -> None:
    """Raises InvalidSyntax that says ``what``, unless it ``holds``."""
    if not holds:
        raise InvalidSyntax(what)


def number_at(data: bytes, offset: int, size: int) -> int:
    """The big-endian number of ``size`` bytes at ``offset``."""
    return int.from_bytes(data[offset : offset + size], "big")


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

    def __str__(self) -> str:
        registry = TRANSFORM_IDS.get(self.transform_type)
        name = label(registry, self.transform_id) if registry else str(self.transform_id)
        key = f"-{self.key_bits}" if self.key_bits else ""
        return f"{label(TransformType, self.transform_type)} {name}{key}"

    def pack(self, last: bool) -> bytes:
        """Its bytes; ``last``: of those it stands among."""
        key = b"" if self.key_bits is None else (0x8000 | KEY_LENGTH).to_bytes(2) + self.key_bits.to_bytes(2)
        attributes = key + self.foreign
        return (
            bytes([0 if last else 3, 0])
            + (8 + len(attributes)).to_bytes(2)
            + bytes([self.transform_type, 0])
            + self.transform_id.to_bytes(2)
            + attributes
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Of exactly its bytes, from Last Substruc on."""
        kind = named(TransformType, data[4])
        number = number_at(data, 6, 2)
        if kind in TRANSFORM_IDS:
            number = named(TRANSFORM_IDS[kind], number)
        key_bits: int | None = None
        foreign: list[bytes] = []
        offset = 8
        while offset < len(data):
            need(len(foreign) < MAX_ATTRIBUTES, f"transform with more than {MAX_ATTRIBUTES} attributes")
            need(offset + 4 <= len(data), "transform attribute cut short")
            attribute, value = number_at(data, offset, 2), number_at(data, offset + 2, 2)
            end = offset + 4 + (0 if attribute & 0x8000 else value)
            need(end <= len(data), "transform attribute longer than its transform")
            if attribute == 0x8000 | KEY_LENGTH and key_bits is None:
                key_bits = value
            else:
                foreign.append(data[offset:end])
            offset = end
        return cls(kind, number, key_bits, b"".join(foreign))


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
        """Its bytes; ``last``: of those it stands among."""
        count = len(self.transforms)
        transforms = b"".join(each.pack(index == count - 1) for index, each in enumerate(self.transforms))
        return (
            bytes([0 if last else 2, 0])
            + (8 + len(self.spi) + len(transforms)).to_bytes(2)
            + bytes([self.number, self.protocol, len(self.spi), count])
            + self.spi
            + transforms
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Of exactly its bytes, from Last Substruc on."""
        spi_end = 8 + data[6]
        need(spi_end <= len(data), "proposal shorter than its SPI")
        parts = substructures(data, spi_end, 3, "transform", 0xFF)
        need(len(parts) == data[7], f"{data[7]} transforms announced, {len(parts)} found")
        return cls(data[4], named(ProtocolId, data[5]), data[8:spi_end], tuple(map(Transform.parse, parts)))


def substructures(data: bytes, offset: int, more: int, what: str, most: int) -> list[bytes]:
    """Splits a run of proposals (``more`` is 2) or transforms (3), ``most`` at most. The one without
    ``more`` must be the last."""
    parts: list[bytes] = []
    while offset < len(data):
        need(len(parts) < most, f"more than {most} {what}s")
        need(offset + 8 <= len(data), f"{what} cut short")
        end = offset + number_at(data, offset + 2, 2)
        need(offset + 8 <= end <= len(data), f"length of a {what} is wrong")
        need(data[offset] == (0 if end == len(data) else more), f"last {what} is not marked as such")
        parts.append(data[offset:end])
        offset = end
    return parts


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
        return (
            bytes([kind, self.protocol])
            + (8 + len(addresses)).to_bytes(2)
            + self.ports[0].to_bytes(2)
            + self.ports[1].to_bytes(2)
            + addresses
        )


@dataclass(frozen=True)
class UnknownSelector:
    """A traffic selector of a type that is not known: never matches, is never chosen."""

    ts_type: int
    protocol: int
    data: bytes

    def pack(self) -> bytes:
        return bytes([self.ts_type, self.protocol]) + (4 + len(self.data)).to_bytes(2) + self.data


_ADDRESS_BYTES: dict[int, int] = {TsType.IPV4_ADDR_RANGE: 4, TsType.IPV6_ADDR_RANGE: 16}


def parse_selector(part: bytes) -> TrafficSelector | UnknownSelector:
    """Of exactly its bytes. Raises InvalidSyntax."""
    size = _ADDRESS_BYTES.get(part[0])
    if size is None:
        return UnknownSelector(part[0], part[1], part[4:])
    need(len(part) == 8 + 2 * size, f"traffic selector of type {part[0]} with {counted(len(part), 'byte')}")
    ports = number_at(part, 4, 2), number_at(part, 6, 2)
    start, end = ip_address(part[8 : 8 + size]), ip_address(part[8 + size :])
    need(
        ports[0] <= ports[1] or ports == OPAQUE_PORTS, f"traffic selector with ports {ports[0]} to {ports[1]}"
    )
    need(int(start) <= int(end), f"traffic selector with addresses {start} to {end}")
    return TrafficSelector(start, end, part[1], ports)
