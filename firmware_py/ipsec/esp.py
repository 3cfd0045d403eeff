# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""ESP (RFC 4303) around a payload, also in UDP (RFC 3948)."""

import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher as Crypt
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from spigate.firmware_py.ipsec.packet import UDP, Ip, Refused, rewrite, transport_checksum
from spigate.firmware_py.ipsec.sa import CIPHERS, ESP, Cipher, Encapsulation, Sa
from spigate.firmware_py.ipsec.transform import Transform, transform
from spigate.hdl.contract.enums import Reason

ESP_HEADER_BYTES, UDP_HEADER_BYTES = 8, 8
_HEADER = struct.Struct(">II")
_UDP = struct.Struct(">HHHH")


@dataclass(frozen=True)
class Sealed:
    """An ESP packet taken apart. ``sequence`` is as the packet carries it, 32 bits."""

    transform: Transform
    sequence: int
    header: bytes
    iv: bytes
    text: bytes

    def open(self, high: bytes) -> "Text | None":
        """What was inside; None where the ICV is wrong. ``high`` is the upper half of an extended sequence
        number, or empty."""
        text = self.transform.open(self.header, high, self.iv, self.text)
        return None if text is None else Text(text)


@dataclass(frozen=True)
class Text:
    """What was inside an ESP packet, with its trailer."""

    text: bytes

    def strip(self) -> tuple[bytes, int]:
        """Payload and next header: the text without its trailer. Refused as PADDING where that is wrong (RFC
        4303 2.4: the padding is 1, 2, 3, ...)."""
        padding, next_header = self.text[-2], self.text[-1]
        payload = self.text[: -2 - padding]
        if padding + 2 > len(self.text) or self.text[len(payload) : -2] != bytes(range(1, padding + 1)):
            raise Refused(Reason.PADDING)
        return payload, next_header


class Esp:
    """What an ESP SA does to a packet; numbers, windows and lifetimes are its owner's.

    Parameters
    ----------
    sa : Sa
    """

    def __init__(self, sa: Sa):
        self._sa, self._form, self._transform = sa, CIPHERS[sa.cipher], transform(sa)

    def size(self, payload_bytes: int) -> int:
        """Bytes that ``payload_bytes`` become behind the IP header."""
        text = payload_bytes + 2 + -(payload_bytes + 2) % self._form.block
        udp = UDP_HEADER_BYTES if self._sa.encapsulation else 0
        return udp + ESP_HEADER_BYTES + self._form.iv + text + self._sa.icv

    def take(self, packet: bytes, ip: Ip) -> Sealed:
        """The ESP packet behind the IP header ``ip`` of ``packet``. Refused as MALFORMED: another protocol, a
        length that is not whole blocks, or a UDP header that is not right."""
        at = ip.header_bytes
        if self._sa.encapsulation and ip.protocol == UDP:
            _check_datagram(
                packet[at : ip.total_length], ip, zero_checksum=self._sa.encapsulation.zero_checksum
            )
            at += UDP_HEADER_BYTES
        elif self._sa.encapsulation or ip.protocol != ESP:
            raise Refused(Reason.MALFORMED)
        body, iv_end = packet[at : ip.total_length], ESP_HEADER_BYTES + self._form.iv
        text_bytes = len(body) - iv_end - self._sa.icv
        if text_bytes < self._form.block or text_bytes % self._form.block:
            raise Refused(Reason.MALFORMED)
        header = body[:ESP_HEADER_BYTES]
        sequence, iv = int.from_bytes(header[4:]), body[ESP_HEADER_BYTES:iv_end]
        return Sealed(self._transform, sequence, header, iv, body[iv_end:])

    def wrap(
        self, header: bytes, protocol_at: int, number: int, high: bytes, payload: bytes, next_header: int
    ) -> bytes:
        """The packet with ``payload`` in ESP behind the IP header ``header``, whose lengths, protocol and
        checksum are put right."""
        padding = -(len(payload) + 2) % self._form.block
        text = payload + bytes(range(1, padding + 1)) + bytes([padding, next_header])
        esp_header, iv = _HEADER.pack(self._sa.spi, number & 0xFFFF_FFFF), self._iv(number)
        body = esp_header + iv + self._transform.seal(esp_header, high, iv, text)
        protocol = ESP
        if self._sa.encapsulation:
            body, protocol = self._in_udp(self._sa.encapsulation, body), UDP
        return rewrite(
            header + body,
            len(header),
            protocol_at=protocol_at,
            total_length=len(header) + len(body),
            protocol=protocol,
        )

    def _iv(self, number: int) -> bytes:
        """Counter modes: the sequence number. CBC: the encryption of a number used once (NIST SP 800-38A,
        appendix C)."""
        if self._sa.cipher == Cipher.AES_CBC:
            encryptor = Crypt(algorithms.AES(self._sa.key), modes.ECB()).encryptor()
            return encryptor.update(struct.pack(">IIQ", self._sa.spi, 0, number)) + encryptor.finalize()
        return number.to_bytes(8) if self._form.iv else b""

    def _in_udp(self, ports: Encapsulation, body: bytes) -> bytes:
        """RFC 3948 2.1: without a checksum over IPv4. IPv6 demands one (RFC 8200 8.1)."""
        length, value = UDP_HEADER_BYTES + len(body), 0
        if self._sa.source.version == 6:
            plain = _UDP.pack(ports.source_port, ports.destination_port, length, 0) + body
            value = (
                transport_checksum(self._sa.source.packed, self._sa.destination.packed, UDP, plain) or 0xFFFF
            )
        return _UDP.pack(ports.source_port, ports.destination_port, length, value) + body


def _check_datagram(datagram: bytes, ip: Ip, *, zero_checksum: bool) -> None:
    """A checksum need not be there over IPv4 (RFC 3948 2.1), nor over IPv6 where that was agreed (RFC 6935
    5), but is right where it is."""
    if len(datagram) < UDP_HEADER_BYTES or int.from_bytes(datagram[4:6]) != len(datagram):
        raise Refused(Reason.MALFORMED)
    present = any(datagram[6:8])
    wrong = present and transport_checksum(ip.source.packed, ip.destination.packed, UDP, datagram)
    if wrong or (ip.version == 6 and not present and not zero_checksum):
        raise Refused(Reason.MALFORMED)
