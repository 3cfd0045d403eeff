# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Checks what a gateway made of a capture against what Linux made of it, with ESP and AH of its own.

What must hold is in the README of the captures. Nothing here is shared with the gateway, its control
element or the reference model but the reader of pcap files: keys come from ``xfrm-state.txt`` by a reader
of its own, packets are opened with ``cryptography``.
"""

import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from spigate.firmware_py.captures import pcap
from spigate.firmware_py.words import counted

ESP, AH, UDP, IPIP, IPV6_IN_IP = 50, 51, 17, 4, 41
FRAGMENT, EXTENSIONS = 44, (0, 43, 44, 60)
ICMPS = (1, 58)
ETHERTYPES = (b"\x08\x00", b"\x86\xdd")
MACS = {"hmac(sha1)": "sha1", "hmac(sha256)": "sha256", "hmac(sha384)": "sha384", "hmac(sha512)": "sha512"}
KEPT_OPTIONS = (0, 1, 0x82, 0x85, 0x86, 0x94, 0x95)


class Differs(AssertionError):
    """The gateway did something else than Linux."""


@dataclass
class Key:
    """What opens the packets of an SA. ``cipher`` and ``mac`` are the kernel's names; ``last`` is the last
    sequence number, of which packets carry 32 bits.
    """

    tunnel: bool
    cipher: str
    key: bytes
    mac: str
    mac_key: bytes
    icv: int
    esn: bool
    last: int

    def number(self, low: int) -> tuple[int, bytes]:
        """The whole sequence number of an outbound packet, the nearest to the last one, and the upper half
        where the ICV covers it.
        """
        self.last = self.last + (low - self.last + (1 << 31)) % (1 << 32) - (1 << 31) if self.esn else low
        return self.last, (self.last >> 32).to_bytes(4, "big") * self.esn

    def check(self, covered: bytes, tag: bytes, what: str) -> None:
        if not hmac.compare_digest(hmac.digest(self.mac_key, covered, MACS[self.mac])[: self.icv], tag):
            raise Differs(f"The ICV of {what} is wrong")

    def open_esp(self, esp: bytes) -> tuple[int, int, bytes]:
        """Sequence number, next header and payload; raises where it does not verify or its trailer is
        wrong.
        """
        header, body, tag = esp[:8], esp[8 : -self.icv], esp[-self.icv :]
        number, high = self.number(int.from_bytes(header[4:]))
        what = f"SPI {header[:4].hex()}, sequence number {number}"
        if not self.mac:
            text = self._open_aead(header[:4] + high + header[4:], body, tag)
        else:
            self.check(header + body + high, tag, what)
            text = body
            if self.cipher == "cbc(aes)":
                text = _decrypt(self.key, modes.CBC(body[:16]), body[16:])
            elif self.cipher == "rfc3686(ctr(aes))":
                text = _decrypt(self.key[:-4], modes.CTR(self.key[-4:] + body[:8] + b"\0\0\0\1"), body[8:])
            elif self.cipher != "ecb(cipher_null)":
                raise ValueError(f"This check does not know {self.cipher}")
        padding, next_header = text[-2], text[-1]
        end = len(text) - 2 - padding
        if end < 0 or text[end:-2] != bytes(range(1, padding + 1)):
            raise Differs(f"The padding of {what} is wrong")
        return number, next_header, text[:end]

    def _open_aead(self, associated: bytes, body: bytes, tag: bytes) -> bytes:
        salt_bytes = 3 if "ccm" in self.cipher else 4
        key, nonce, text = self.key[:-salt_bytes], self.key[-salt_bytes:] + body[:8], body[8:]
        if self.cipher == "rfc4543(gcm(aes))":
            AESGCM(key).decrypt(nonce, tag, associated + body)
            return text
        if self.cipher == "rfc4106(gcm(aes))":
            opener = Cipher(algorithms.AES(key), modes.GCM(nonce, tag, self.icv)).decryptor()
            opener.authenticate_additional_data(associated)
            return opener.update(text) + opener.finalize()
        known: dict[str, Callable[[], AESCCM | ChaCha20Poly1305]] = {
            "rfc4309(ccm(aes))": lambda: AESCCM(key, self.icv),
            "rfc7539esp(chacha20,poly1305)": lambda: ChaCha20Poly1305(key),
        }
        return known[self.cipher]().decrypt(nonce, text + tag, associated)

    def open_ah(self, packet: bytes, at: int) -> tuple[int, int, bytes]:
        """As :meth:`open_esp`, of the AH at ``at`` in ``packet``."""
        number, high = self.number(int.from_bytes(packet[at + 8 : at + 12]))
        end = at + 12 + self.icv
        covered = _kept(packet[:at]) + packet[at : at + 12] + bytes(self.icv) + packet[end:] + high
        self.check(covered, packet[at + 12 : end], f"AH, sequence number {number}")
        return number, packet[at], packet[at + 4 * (packet[at + 1] + 2) :]


def _decrypt(key: bytes, mode: modes.CBC | modes.CTR, text: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), mode).decryptor()
    return decryptor.update(text) + decryptor.finalize()


def _kept(header: bytes) -> bytes:
    """What AH covers of a header: no options with IPv6."""
    if header[0] >> 4 == 6:
        return b"\x60\0\0\0" + header[4:7] + b"\0" + header[8:]
    kept = header[:1] + b"\0" + header[2:6] + b"\0\0\0" + header[9:10] + b"\0\0" + header[12:20]
    options = header[20:]
    while options:
        length = 1 if options[0] < 2 else options[1]
        kept += options[:length] if options[0] in KEPT_OPTIONS else bytes(length)
        options = options[length:]
    return kept


def keys(text: str) -> dict[tuple[str, int, int], Key]:
    """The keys in what ``ip xfrm state`` printed, by destination, protocol and SPI."""
    found = {}
    for entry in re.split(r"^(?=src )", text, flags=re.MULTILINE)[1:]:
        head = re.match(r"src \S+ dst (\S+)\s+proto (\S+) spi 0x([0-9a-f]+).* mode (\w+)", entry)
        if not head or head[2] not in ("esp", "ah"):
            continue
        aead = re.search(r"^\s+aead (\S+) 0x([0-9a-f]+)(?: \(\d+ bits\))? (\d+)", entry, re.MULTILINE)
        cipher = re.search(r"^\s+enc (\S+) *(?:0x)?([0-9a-f]*)", entry, re.MULTILINE)
        mac = re.search(r"^\s+auth-trunc (\S+) 0x([0-9a-f]+)(?: \(\d+ bits\))? (\d+)", entry, re.MULTILINE)
        last = re.search(r"oseq-hi 0x([0-9a-f]+), oseq 0x([0-9a-f]+)", entry)
        secret, icv = aead or cipher, aead or mac
        if not icv:
            raise ValueError(f"This check does not know SAs without an ICV, as that of SPI 0x{head[3]}")
        found[head[1], {"esp": ESP, "ah": AH}[head[2]], int(head[3], 16)] = Key(
            head[4] == "tunnel",
            secret[1] if secret else "",
            bytes.fromhex(secret[2]) if secret else b"",
            mac[1] if mac else "",
            bytes.fromhex(mac[2]) if mac else b"",
            int(icv[3]) // 8,
            bool(re.search(r"flag.* esn", entry)),
            (int(last[1], 16) << 32 | int(last[2], 16)) if last else 0,
        )
    return found


def ends(packet: bytes) -> tuple[str, str]:
    """Source and destination."""
    at, size = (8, 16) if packet[0] >> 4 == 6 else (12, 4)
    source, destination = (packet[at + n * size : at + (n + 1) * size] for n in (0, 1))
    return str(ip_address(source)), str(ip_address(destination))


def payload(packet: bytes) -> tuple[int, int, int]:
    """Protocol of the payload, where it begins, and the byte that names it."""
    if packet[0] >> 4 == 4:
        return packet[9], 4 * (packet[0] & 15), 9
    protocol, at, named = packet[6], 40, 6
    while protocol in EXTENSIONS and protocol != FRAGMENT:
        protocol, named, at = packet[at], at, at + 8 * (packet[at + 1] + 1)
    return protocol, at, named


def packets(file: Path) -> list[bytes]:
    """The IP packets in a pcap file, without Ethernet headers (one 802.1Q tag at most) and padding."""
    found = []
    for item in pcap.read(file):
        at = 16 if item.frame[12:14] == b"\x81\x00" else 12
        if item.frame[at : at + 2] in ETHERTYPES:
            found.append(cut(item.frame[at + 2 :]))
    return found


def cut(packet: bytes) -> bytes:
    """An IP packet without what follows it."""
    return packet[: int.from_bytes(packet[2:4]) if packet[0] >> 4 == 4 else 40 + int.from_bytes(packet[4:6])]


def joined(given: list[bytes]) -> list[bytes]:
    """``given`` with fragments put together, each packet at the place of the last one that it lacked."""
    found = []
    parts: dict[tuple[tuple[str, str], bytes], dict[int, tuple[bytes, bytes, int]]] = {}
    for packet in given:
        protocol, at, named = payload(packet)
        if packet[0] >> 4 == 4:
            word, identity = int.from_bytes(packet[6:8]), packet[4:6]
            offset, more, data = 8 * (word & 0x1FFF), word >> 13 & 1, packet[at:]
            header = packet[:6] + bytes(2) + packet[8:at]
        elif protocol == FRAGMENT:
            word, identity = int.from_bytes(packet[at + 2 : at + 4]), packet[at + 4 : at + 8]
            offset, more, data = word & 0xFFF8, word & 1, packet[at + 8 :]
            header = packet[:named] + packet[at : at + 1] + packet[named + 1 : at]
        else:
            offset, more = 0, 0
        if not (offset or more):
            found.append(packet)
            continue
        pieces = parts.setdefault((ends(packet), identity), {})
        pieces[offset] = (header, data, more)
        whole, last = b"", 1
        while last and len(whole) in pieces:
            _, data, last = pieces[len(whole)]
            whole += data
        if not last:
            header = pieces[0][0]
            at, extra = (2, len(header)) if packet[0] >> 4 == 4 else (4, len(header) - 40)
            header = header[:at] + (len(whole) + extra).to_bytes(2) + header[at + 2 :]
            if packet[0] >> 4 == 4:
                header = header[:10] + bytes(2) + header[12:]
                header = header[:10] + checksum(header).to_bytes(2) + header[12:]
            found.append(header + whole)
            del parts[ends(packet), identity]
    if parts:
        raise Differs(f"fragments are missing of {counted(len(parts), 'packet')}")
    return found


def opened(file: Path, known: dict[tuple[str, int, int], Key]) -> list[tuple[list[tuple[int, int]], bytes]]:
    """The ESP and AH packets in a pcap file, opened: SPI and sequence number of each layer, and what was
    inside: an IP packet (tunnel), or next header and payload (transport).
    """
    found = []
    for packet in joined(packets(file)):
        layers, plain = [], packet
        while plain:
            protocol, at, _ = payload(plain)
            if protocol == UDP and plain[at + 2 : at + 4] == b"\x11\x94":
                protocol, at = ESP, at + 8
            if protocol not in (ESP, AH):
                break
            if plain[0] >> 4 == 4 and checksum(plain[: 4 * (plain[0] & 15)]):
                raise Differs(f"A header's checksum is wrong: {plain.hex()}")
            spi = int.from_bytes(plain[at + 4 * (protocol == AH) :][:4])
            key = known[ends(plain)[1], protocol, spi]
            number, next_header, inside = (
                key.open_esp(plain[at:]) if protocol == ESP else key.open_ah(plain, at)
            )
            layers.append((spi, number))
            if key.tunnel:
                if next_header != {4: IPIP, 6: IPV6_IN_IP}[inside[0] >> 4]:
                    raise Differs(
                        f"SPI {spi:#x}, sequence number {number}: next header {next_header} in tunnel mode"
                    )
                plain = cut(inside)
            elif next_header in (ESP, AH):  # the same header stands for the next layer
                named = payload(plain)[2]
                plain = plain[:named] + bytes([next_header]) + plain[named + 1 : payload(plain)[1]] + inside
                if plain[0] >> 4 == 4:
                    plain = plain[:2] + len(plain).to_bytes(2) + plain[4:10] + bytes(2) + plain[12:]
                    plain = plain[:10] + checksum(plain[:20]).to_bytes(2) + plain[12:]
            else:
                plain = bytes([next_header]) + inside
                break
        if layers:
            found.append((layers, plain))
    return found


def checksum(header: bytes) -> int:
    """The Internet checksum; 0 over a header that holds its own."""
    total = sum(int.from_bytes(header[at : at + 2]) for at in range(0, len(header), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def delivered(file: Path) -> list[tuple[str, int, int, str]]:
    """What a UDP receiver behind the server port gets: source, port, length and SHA-256 of each payload."""
    found = []
    for packet in joined(packets(file)):
        protocol, at, _ = payload(packet)
        if protocol == UDP:
            datagram = packet[at:]
            data = datagram[8 : int.from_bytes(datagram[4:6])]
            found.append(
                (ends(packet)[0], int.from_bytes(datagram[:2]), len(data), hashlib.sha256(data).hexdigest())
            )
    return found


def linux_drops(folder: Path) -> dict[str, int]:
    """Packets that Linux counted as replayed, and as failing their integrity check, by our reasons."""
    text = (folder / "xfrm-state-after.txt").read_text()
    # Too old for the window, seen before, failed.
    counts = re.findall(r"replay-window (\d+) replay (\d+) failed (\d+)", text)
    return {
        "replay": sum(int(old) + int(seen) for old, seen, _ in counts),
        "icv": sum(int(failed) for *_, failed in counts),
    }


def verify(folder: Path, out: Path) -> dict[str, int]:
    """Checks the output of :func:`spigate.sim.replay.replay` in ``out`` against the capture in ``folder``.
    Returns how many packets were compared, by port.

    Raises
    ------
    Differs
        Something is not as Linux had it; the message says what.
    """
    text = (folder / "xfrm-state.txt").read_text()
    own = {
        entry["local"]
        for link in json.loads((folder / "addr.json").read_text())
        for entry in link["addr_info"]
    }
    tunnels = any(key.tunnel for key in keys(text).values())
    if tunnels:
        ours, linux = (forwarded(where / "server-out.pcap", own) for where in (out, folder))
        _same("packets to the server", ours, linux)
        compared = len(ours)
    else:
        payloads = [tuple(item) for item in json.loads((folder / "delivered-server.json").read_text())]
        _same("payloads to the server", delivered(out / "server-out.pcap"), payloads)
        compared = len(payloads)
    sent = opened(out / "network-out.pcap", keys(text))
    if tunnels:  # In transport mode Linux's own packets never were in the input.
        linux_sent = opened(folder / "network-out.pcap", keys(text))
        _same("packets to the network, opened", _without_errors(sent, own), _without_errors(linux_sent, own))
        _same(
            "clear packets to the network",
            *(clear(where / "network-out.pcap", own) for where in (out, folder)),
        )
    numbers: dict[int, list[int]] = {}
    for layers, _ in sent:
        for spi, sequence in layers:
            numbers.setdefault(spi, []).append(sequence)
    for spi, seen in numbers.items():
        if seen != sorted(set(seen)):
            raise Differs(f"The sequence numbers of SPI {spi:#x} are {seen}")
    report = json.loads((out / "report.json").read_text())
    for reason, count in linux_drops(folder).items():
        if report["drops"][reason] != count:
            raise Differs(f"{report['drops'][reason]} packets dropped as {reason}, Linux dropped {count}")
    return {"server": compared, "network": len(sent)}


def forwarded(file: Path, own: set[str]) -> list[bytes]:
    """The IP packets in a pcap file but for what the gateway says itself: ICMP errors, neighbour
    discovery.
    """
    return [packet for packet in packets(file) if not _said(packet, own)]


def clear(file: Path, own: set[str]) -> list[bytes]:
    """Those of :func:`forwarded` that are not IPsec."""
    return [packet for packet in forwarded(file, own) if ends(packet)[0] not in own]


def _said(packet: bytes, own: set[str]) -> bool:
    return payload(packet)[0] in ICMPS and ends(packet)[0] in own


def _without_errors(sent: list[tuple[Any, bytes]], own: set[str]) -> list[bytes]:
    return [
        plain for _, plain in sent if not (plain[0] >> 4 in (4, 6) and len(plain) >= 20 and _said(plain, own))
    ]


def _same(what: str, ours: list[Any], linux: list[Any]) -> None:
    if ours == linux:
        return
    missing, extra = Counter(linux) - Counter(ours), Counter(ours) - Counter(linux)
    if missing or extra:
        example = next(iter(missing or extra))
        raise Differs(
            f"{what}: {missing.total()} of Linux's {len(linux)} are missing, "
            f"{extra.total()} are not among them, such as {example!r}"
        )
    raise Differs(f"{what}: the same {len(linux)}, in another order")
