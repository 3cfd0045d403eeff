# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""AH (RFC 4302) in front of a payload: everything authenticated that does not change on the way."""

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass

from spigate.firmware_py.ipsec.packet import (
    DESTINATION_OPTIONS,
    HOP_BY_HOP,
    IPV6_HEADER_BYTES,
    ROUTING,
    Ip,
    Refused,
    rewrite,
)
from spigate.firmware_py.ipsec.sa import AH, AUTHS, Sa
from spigate.hdl.contract.enums import Reason

AH_HEADER_BYTES = 12
_HEADER = struct.Struct(">BBHII")
_END, _NO_OPERATION = 0, 1
_SOURCE_ROUTES = (0x83, 0x89)
_IMMUTABLE_OPTIONS = frozenset({0x82, 0x85, 0x86, 0x94, 0x95})
"""Security, extended security, commercial security, router alert, sender directed delivery (RFC 4302 A1)."""
_CHANGES_EN_ROUTE = 0x20
"""Bit of the type of an IPv6 option (RFC 8200 4.2)."""


@dataclass(frozen=True)
class Signed:
    """An AH packet taken apart. ``covered`` is what the ICV is made over, without an extended sequence
    number's upper half; ``mac`` makes it."""

    mac: Callable[[bytes], bytes]
    sequence: int
    covered: bytes
    icv: bytes
    payload: bytes
    next_header: int

    def open(self, high: bytes) -> "Signed | None":
        """Itself; None where the ICV is wrong. ``high`` is the upper half of an extended sequence number, or
        empty."""
        return self if hmac.compare_digest(self.mac(self.covered + high), self.icv) else None

    def strip(self) -> tuple[bytes, int]:
        """Payload and next header."""
        return self.payload, self.next_header


class Ah:
    """What an AH SA does to a packet; numbers, windows and lifetimes are its owner's.

    Parameters
    ----------
    sa : Sa
    """

    def __init__(self, sa: Sa):
        self._sa, self._form = sa, AUTHS[sa.auth]
        whole = 8 if sa.source.version == 6 else sa.ah_align
        self._length = AH_HEADER_BYTES + sa.icv + -(AH_HEADER_BYTES + sa.icv) % whole

    def size(self, payload_bytes: int) -> int:
        """Bytes that ``payload_bytes`` become behind the IP header."""
        return self._length + payload_bytes

    def take(self, packet: bytes, ip: Ip) -> Signed:
        """The AH packet behind the IP header ``ip`` of ``packet``. Refused as MALFORMED: another protocol,
        or a wrong length. The ICV may be padded to 4 or 8 bytes, whatever the SA says."""
        at, end = ip.header_bytes, ip.header_bytes + AH_HEADER_BYTES
        if ip.protocol != AH or end > ip.total_length:
            raise Refused(Reason.MALFORMED)
        next_header, length_code, _, _, sequence = _HEADER.unpack_from(packet, at)
        length = 4 * (length_code + 2)
        padding = length - AH_HEADER_BYTES - self._sa.icv
        if not 0 <= padding < 8 or at + length > ip.total_length or (ip.version == 6 and length % 8):
            raise Refused(Reason.MALFORMED)
        body = packet[end + self._sa.icv : ip.total_length]
        covered = unchanging(packet[:at], ip) + packet[at:end] + bytes(self._sa.icv) + body
        icv = packet[end : end + self._sa.icv]
        return Signed(self._mac, sequence, covered, icv, body[padding:], next_header)

    def wrap(
        self, header: bytes, protocol_at: int, number: int, high: bytes, payload: bytes, next_header: int
    ) -> bytes:
        """The packet with AH between the IP header ``header`` and ``payload``; the header's lengths,
        protocol and checksum are put right."""
        ah = _HEADER.pack(next_header, self._length // 4 - 2, 0, self._sa.spi, number & 0xFFFF_FFFF)
        rest = bytes(self._length - len(ah) - self._sa.icv) + payload
        packet = rewrite(
            header + ah + bytes(self._sa.icv) + rest,
            len(header),
            protocol_at=protocol_at,
            total_length=len(header) + self._length + len(payload),
            protocol=AH,
        )
        ip = Ip.parse(packet)
        icv = self._mac(unchanging(packet[: len(header)], ip) + packet[len(header) :] + high)
        at = len(header) + AH_HEADER_BYTES
        return packet[:at] + icv + packet[at + len(icv) :]

    def _mac(self, covered: bytes) -> bytes:
        return hmac.digest(self._sa.auth_key, covered, self._form.hash)[: self._form.icv]


def unchanging(header: bytes, ip: Ip) -> bytes:
    """An IP header with what may change on the way as zero, or as it arrives (RFC 4302 3.3.3.1, appendix A).

    Raises
    ------
    Refused
        MALFORMED: an option is longer than its header.
    """
    return _unchanging_ipv4(header) if ip.version == 4 else _unchanging_ipv6(header)


def _unchanging_ipv4(header: bytes) -> bytes:
    """TOS, flags, fragment offset, TTL, checksum, and the options that are not known to stay as they are.
    With a source route the destination is its last address, which is what the receiver sees."""
    kept = bytearray(header)
    kept[1] = kept[8] = 0
    kept[6:8] = kept[10:12] = bytes(2)
    at = 20
    while at < len(header) and header[at] != _END:
        if header[at] == _NO_OPERATION:
            at += 1
            continue
        length = header[at + 1] if at + 1 < len(header) else 0
        if length < 2 or at + length > len(header):
            raise Refused(Reason.MALFORMED)
        if header[at] in _SOURCE_ROUTES and length >= 7 and header[at + 2] <= length - 3:
            kept[16:20] = header[at + length - 4 : at + length]
        if header[at] not in _IMMUTABLE_OPTIONS:
            kept[at : at + length] = bytes(length)
        at += length
    return bytes(kept)


def _unchanging_ipv6(header: bytes) -> bytes:
    """Traffic class, flow label, hop limit, and the data of options that say so; a routing header is as it
    arrives."""
    kept = bytearray(header)
    kept[0], kept[7] = 0x60, 0
    kept[1:4] = bytes(3)
    kind, at = header[6], IPV6_HEADER_BYTES
    while at < len(header):
        end = at + 8 * (header[at + 1] + 1)
        if kind in (HOP_BY_HOP, DESTINATION_OPTIONS):
            _clear_options(kept, at + 2, end)
        elif kind == ROUTING and header[at + 2] == 0:
            _arrive(kept, at, end)
        kind, at = header[at], end
    return bytes(kept)


def _clear_options(header: bytearray, at: int, end: int) -> None:
    while at < end:
        if header[at] == 0:  # Pad1
            at += 1
            continue
        length = header[at + 1] if at + 1 < end else end
        if at + 2 + length > end:
            raise Refused(Reason.MALFORMED)
        if header[at] & _CHANGES_EN_ROUTE:
            header[at + 2 : at + 2 + length] = bytes(length)
        at += 2 + length


def _arrive(header: bytearray, at: int, end: int) -> None:
    """A routing header of type 0 with ``left`` addresses to go, as it is when the last of them is reached:
    each router swaps the destination with the next address (RFC 2460 4.4)."""
    left, addresses = header[at + 3], (end - at - 8) // 16
    if left > addresses:
        raise Refused(Reason.MALFORMED)
    for number in range(addresses - left, addresses):
        place = at + 8 + 16 * number
        header[24:40], header[place : place + 16] = header[place : place + 16], header[24:40]
    header[at + 3] = 0
