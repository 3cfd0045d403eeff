# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""IKE messages (RFC 7296 3.1): header and payloads, to bytes and back."""

from dataclasses import dataclass, field
from typing import Self, TypeVar

from spigate.firmware_py.ike.wire.errors import InvalidMajorVersion, InvalidSyntax
from spigate.firmware_py.ike.wire.payloads import Notify, Payload, pack_chain, parse_chain
from spigate.firmware_py.ike.wire.registry import ExchangeType, named
from spigate.firmware_py.words import counted

HEADER = 28
MAX_MESSAGE = 0xFFFF
NO_SPI = bytes(8)
_INITIATOR, _RESPONSE = 0x08, 0x20
_VERSION = 0x20

_P = TypeVar("_P", bound=Payload)


@dataclass(frozen=True)
class Header:
    """The 28 bytes in front: enough to find the IKE SA that a datagram is for, at little cost.

    Members
    -------
    spi_i, spi_r : bytes
        8 each.
    first_payload : int
    exchange : ExchangeType or int
    initiator : bool
        Its sender is the original initiator of the IKE SA.
    response : bool
    message_id : int
    """

    spi_i: bytes
    spi_r: bytes
    first_payload: int
    exchange: ExchangeType | int
    initiator: bool
    response: bool
    message_id: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Of a whole datagram, without a non-ESP marker.

        Raises
        ------
        InvalidSyntax
            Shorter than a header, or the length in it is not that of ``data``.
        InvalidMajorVersion
        """
        if len(data) < HEADER:
            raise InvalidSyntax(f"{counted(len(data), 'byte')} are no IKE header")
        if data[17] & 0xF0 != _VERSION:
            raise InvalidMajorVersion(f"IKE version {data[17] >> 4}")
        if int.from_bytes(data[24:28], "big") != len(data):
            raise InvalidSyntax(
                f"length {int.from_bytes(data[24:28], 'big')} in a message of {counted(len(data), 'byte')}"
            )
        return cls(
            bytes(data[:8]),
            bytes(data[8:16]),
            data[16],
            named(ExchangeType, data[18]),
            bool(data[19] & _INITIATOR),
            bool(data[19] & _RESPONSE),
            int.from_bytes(data[20:24], "big"),
        )

    def pack(self, length: int) -> bytes:
        """For a message of ``length`` bytes, this header among them."""
        flags = (_INITIATOR if self.initiator else 0) | (_RESPONSE if self.response else 0)
        return (
            self.spi_i
            + self.spi_r
            + bytes([self.first_payload, _VERSION, self.exchange, flags])
            + self.message_id.to_bytes(4)
            + length.to_bytes(4)
        )


@dataclass(frozen=True)
class Message:
    """An IKE message whose payloads are in the clear, or hidden in one SK or SKF payload.

    Members
    -------
    spi_i, spi_r, exchange, initiator, response, message_id
        As in :class:`Header`.
    payloads : tuple of Payload
    covered : bytes
        Of a message that ``protect`` opened: what RFC 9242 3.3.2 calls A and P, as received. Otherwise empty.
    """

    spi_i: bytes
    spi_r: bytes
    exchange: ExchangeType | int
    initiator: bool
    response: bool
    message_id: int
    payloads: tuple[Payload, ...] = ()
    covered: bytes = field(default=b"", repr=False, compare=False)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Of a whole datagram, without a non-ESP marker.

        Raises
        ------
        InvalidSyntax, InvalidMajorVersion, UnsupportedCriticalPayload
            Nothing else, whatever ``data`` is.
        """
        header = Header.parse(data)
        return cls.of(header, parse_chain(header.first_payload, data[HEADER:]))

    @classmethod
    def of(cls, header: Header, payloads: tuple[Payload, ...], covered: bytes = b"") -> Self:
        """The message of a header and its payloads."""
        return cls(
            header.spi_i,
            header.spi_r,
            header.exchange,
            header.initiator,
            header.response,
            header.message_id,
            payloads,
            covered,
        )

    def header(self, first_payload: int) -> Header:
        return Header(
            self.spi_i,
            self.spi_r,
            first_payload,
            self.exchange,
            self.initiator,
            self.response,
            self.message_id,
        )

    def pack(self) -> bytes:
        """The datagram."""
        first, body = pack_chain(self.payloads)
        return self.header(first).pack(HEADER + len(body)) + body

    def all(self, kind: type[_P]) -> tuple[_P, ...]:
        """Its payloads of one class, in order."""
        return tuple(payload for payload in self.payloads if isinstance(payload, kind))

    def optional(self, kind: type[_P]) -> _P | None:
        """Its one payload of a class; None: it has none. Raises InvalidSyntax where it has several."""
        found = self.all(kind)
        if len(found) > 1:
            raise InvalidSyntax(f"{len(found)} {kind.__name__} payloads where one is allowed")
        return found[0] if found else None

    def one(self, kind: type[_P]) -> _P:
        """Its one payload of a class. Raises InvalidSyntax where it has none or several."""
        found = self.optional(kind)
        if found is None:
            raise InvalidSyntax(f"no {kind.__name__} payload where one is needed")
        return found

    def notify(self, notify_type: int) -> Notify | None:
        """The first notify of a type, if there is one."""
        return next((each for each in self.all(Notify) if each.notify_type == notify_type), None)
