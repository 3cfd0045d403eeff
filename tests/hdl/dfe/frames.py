# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Packets for tests of the fill side: frames, their descriptors, SAs, and what a buffer holds when they wait
for commit.
"""

import random
from dataclasses import dataclass, field, replace

from scapy.layers.inet import IP, IPOption_NOP
from scapy.layers.l2 import Dot1Q, Ether

from spigate.hdl.contract.enums import Auth, Cipher
from spigate.hdl.dfe.feed import KEY_ROW
from spigate.hdl.net.descriptor import Verdict
from spigate.hdl.net.packet import ALIGN
from tests.hdl.dfe import engine
from tests.hdl.dfe.tables import number

IV_BYTES = {Cipher.NULL: 0, Cipher.AES_GCM: 8, Cipher.AES_CBC: 16}
ESP = 50


@dataclass
class Sa:
    """Static fields of an SA's entry."""

    spi: int
    outbound: bool = False
    tunnel: bool = True
    cipher: Cipher = Cipher.AES_GCM
    auth: Auth = Auth.NONE
    valid: bool = True
    mtu: int = 0
    seed: int = 0
    generation: int = 0

    @property
    def icv_bytes(self) -> int:
        if self.cipher == Cipher.AES_GCM or self.auth == Auth.HMAC_SHA256_128:
            return 16
        return 12 if self.auth == Auth.HMAC_SHA1_96 else 0

    @property
    def key_size(self) -> int:
        return self.seed % 3

    @property
    def salt(self) -> int:
        return self.seed * 0x01234567 & 0xFFFF_FFFF

    def rows(self) -> dict[int, int]:
        rows = {row: random.Random(f"{self.seed} {row}").getrandbits(128) for row in range(1, 10)}
        rows[0] = number(
            "sa",
            "control",
            valid=self.valid,
            direction=self.outbound,
            mode=self.tunnel,
            cipher=self.cipher,
            auth=self.auth,
            key_size=self.key_size,
            salt=self.salt,
            spi=self.spi,
            mtu=self.mtu,
            outer_ttl=64,
            generation=self.generation,
        )
        return rows

    def icv(self, authenticated: bytes) -> bytes:
        """The stand-in engine's ICV over ESP header, IV and cipher text."""
        rows = self.rows()
        four = engine.checksum(
            salt=self.salt,
            key_size=self.key_size,
            encrypt=self.outbound,
            authenticated=authenticated,
            material=[rows[row] for row in range(KEY_ROW, 10)],
        )
        return (four * 4)[: self.icv_bytes]


@dataclass
class Packet:
    """A frame as it is in the gateway, and its ``PacketInfo`` as a dict."""

    frame: bytes
    info: dict
    sa: Sa | None = None
    text: bytes = b""
    ok: bool = True

    @property
    def ip_at(self) -> int:
        return 20 if self.info["tagged"] else 16

    def header_end(self) -> int:
        return self.ip_at + 4 * self.info["header_words"]

    def counted_down(self) -> bytes:
        """The frame with one less to live and the header checksum as scapy computes it."""
        ip = IP(self.frame[self.ip_at : self.ip_at + self.info["total_length"]])
        ip.ttl -= 1
        del ip.chksum
        return self.frame[: self.ip_at] + bytes(ip) + self.frame[self.ip_at + self.info["total_length"] :]


def frame(
    payload: bytes,
    *,
    verdict: Verdict,
    protocol: int = 17,
    tagged: bool = False,
    options: int = 0,
    ttl: int = 64,
    padding: int = 0,
    source: str = "10.0.0.1",
    **info,
) -> Packet:
    """An IPv4 packet with ``payload``, ``options`` words of IP options and ``padding`` bytes behind it;
    ``info`` adds to its descriptor.
    """
    ethernet = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
    if tagged:
        ethernet /= Dot1Q(vlan=5)
    ip = IP(
        src=source,
        dst="192.0.2.7",
        ttl=ttl,
        proto=protocol,
        id=len(payload) * 77 & 0xFFFF,
        options=[IPOption_NOP() for _ in range(4 * options)],
    )
    content = bytes(ethernet / ip / payload)
    total_length = len(content) - len(bytes(ethernet))
    ip = IP(content[len(bytes(ethernet)) :])
    content = bytes(ALIGN) + content + bytes(range(0xC0, 0xC0 + padding))
    octets = [int(part) for part in source.split(".")]
    return Packet(
        content,
        {
            "length": len(content),
            "ipv4": 1,
            "tagged": tagged,
            "header_words": ip.ihl,
            "total_length": total_length,
            "ttl": ttl,
            "protocol": protocol,
            "source": int.from_bytes(bytes(octets), "big"),
            "destination": 0xC0000207,
            "verdict": verdict,
            **info,
        },
    )


def inbound(sa: Sa, index: int, text: bytes, sequence: int = 1, damaged: bool = False, **options) -> Packet:
    """An ESP packet on ``sa``, encrypted as the stand-in engine does; its plain text is ``text``."""
    esp = sa.spi.to_bytes(4, "big") + sequence.to_bytes(4, "big")
    body = esp + random.Random(sequence).randbytes(IV_BYTES[sa.cipher]) + engine.xor(text)
    icv = bytearray(sa.icv(body))
    if damaged:
        icv[sequence % len(icv)] ^= 1
    packet = frame(
        body + bytes(icv),
        protocol=ESP,
        **{
            "verdict": Verdict.DECRYPT,
            "sa": index,
            "spi": sa.spi,
            "sequence": sequence,
            "generation": sa.generation,
        }
        | options,
    )
    return replace(packet, sa=sa, text=text, ok=not damaged)


def outbound(sa: Sa, index: int, payload: bytes, **options) -> Packet:
    """A clear packet that is to be encrypted on ``sa``."""
    return replace(
        frame(payload, **{"verdict": Verdict.ENCRYPT, "sa": index, "generation": sa.generation} | options),
        sa=sa,
    )


@dataclass
class Outcome:
    """What commit finds: the fields of the LaneJob by name, and pieces of the buffer by the word they begin
    at.
    """

    verdict: Verdict
    reason: int = 0
    ok: bool = True
    pieces: dict[int, bytes] = field(default_factory=dict)
    job: dict[str, int] = field(default_factory=dict)


def unchanged(packet: Packet, verdict: Verdict = Verdict.PUNT, reason: int = 0) -> Outcome:
    return Outcome(verdict, reason, pieces={0: packet.frame})


def bypassed(packet: Packet, count_down: bool = False) -> Outcome:
    content = packet.counted_down() if count_down else packet.frame
    return Outcome(Verdict.BYPASS, pieces={0: content[: packet.ip_at + packet.info["total_length"]]})


def decrypted(packet: Packet) -> Outcome:
    esp = packet.header_end() // 4
    return Outcome(
        Verdict.DECRYPT,
        ok=packet.ok,
        pieces={0: packet.frame[: 4 * esp], esp: packet.text},
        job={"esp": esp, "text_bytes": len(packet.text), "sequence": packet.info["sequence"]},
    )


def encrypted(packet: Packet, sequence: int, count_down: bool = False) -> Outcome:
    """RFC 4303 sections 2 and 3.3.2, RFC 4106 3.1, RFC 3602 2.4."""
    sa = packet.sa
    content = packet.counted_down() if count_down else packet.frame
    split = packet.ip_at if sa.tunnel else packet.header_end()
    text = content[split : packet.ip_at + packet.info["total_length"]]
    block = 16 if sa.cipher == Cipher.AES_CBC else 4
    pad = -(len(text) + 2) % block
    text += bytes(range(1, pad + 1)) + bytes([pad, 4 if sa.tunnel else packet.info["protocol"]])
    numbers = sequence.to_bytes(8, "big")
    iv = {
        Cipher.NULL: b"",
        Cipher.AES_GCM: numbers,
        Cipher.AES_CBC: sa.spi.to_bytes(4, "big") + bytes(4) + numbers,
    }[sa.cipher]
    body = sa.spi.to_bytes(4, "big") + numbers[4:] + iv + engine.xor(text)
    esp = 10 if sa.tunnel else split // 4
    return Outcome(
        Verdict.ENCRYPT,
        pieces={0: content[:split], esp: body + sa.icv(body)},
        job={"esp": esp, "text_bytes": len(text), "sequence": sequence},
    )
