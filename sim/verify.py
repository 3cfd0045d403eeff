"""Checks what a gateway made of a capture against what Linux made of it, with an ESP implementation of its own.

What must hold is in the README of the captures. Nothing here is shared with the gateway, its control element or the
reference model but the reader of pcap files: keys come from ``xfrm-state.txt`` by a reader of its own, ESP is opened
with ``cryptography``.
"""
import hashlib
import hmac
import json
import re
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spigate.firmware_py import pcap

ESP, UDP = 50, 17
IPV4 = b"\x08\x00"
MACS = {"hmac(sha1)": "sha1", "hmac(sha256)": "sha256"}


class Differs(AssertionError):
    """The gateway did something else than Linux."""


@dataclass(frozen=True)
class Key:
    """What opens the packets of an SA. ``cipher`` and ``mac`` are the kernel's names."""

    tunnel: bool
    cipher: str
    key: bytes
    mac: str | None
    mac_key: bytes
    icv: int

    def open(self, esp: bytes) -> tuple[int, bytes]:
        """Next header and payload of a whole ESP packet; raises where it does not verify or its trailer is wrong."""
        header, body, tag = esp[:8], esp[8:-self.icv], esp[-self.icv:]
        if self.cipher == "rfc4106(gcm(aes))":
            key, salt = self.key[:-4], self.key[-4:]
            text = AESGCM(key).decrypt(salt + body[:8], body[8:] + tag, header)
        else:
            expected = hmac.digest(self.mac_key, header + body, MACS[self.mac])[:self.icv]
            if not hmac.compare_digest(expected, tag):
                raise Differs(f"ICV of SPI {header[:4].hex()}, sequence number {int.from_bytes(header[4:8])}, is wrong")
            text = body
            if self.cipher == "cbc(aes)":
                decryptor = Cipher(algorithms.AES(self.key), modes.CBC(body[:16])).decryptor()
                text = decryptor.update(body[16:]) + decryptor.finalize()
            elif self.cipher != "ecb(cipher_null)":
                raise ValueError(f"This check does not know {self.cipher}")
        padding, next_header = text[-2], text[-1]
        end = len(text) - 2 - padding
        if end < 0 or text[end:-2] != bytes(range(1, padding + 1)):
            raise Differs(f"The padding of SPI {header[:4].hex()}, sequence number {int.from_bytes(header[4:8])}, is wrong")
        return next_header, text[:end]


def keys(text: str) -> dict[tuple[str, int], Key]:
    """The keys in what ``ip xfrm state`` printed, by destination and SPI."""
    found = {}
    for entry in re.split(r"^(?=src )", text, flags=re.MULTILINE)[1:]:
        head = re.match(r"src \S+ dst (\S+)\s+proto (\S+) spi 0x([0-9a-f]+).* mode (\w+)", entry)
        if not head or head[2] != "esp":
            continue
        aead = re.search(r"^\s+aead (\S+) 0x([0-9a-f]+)(?: \(\d+ bits\))? (\d+)", entry, re.MULTILINE)
        cipher = re.search(r"^\s+enc (\S+) *(?:0x)?([0-9a-f]*)", entry, re.MULTILINE)
        mac = re.search(r"^\s+auth-trunc (\S+) 0x([0-9a-f]+)(?: \(\d+ bits\))? (\d+)", entry, re.MULTILINE)
        if aead:
            key = Key(head[4] == "tunnel", aead[1], bytes.fromhex(aead[2]), None, b"", int(aead[3]) // 8)
        elif cipher and mac:
            key = Key(head[4] == "tunnel", cipher[1], bytes.fromhex(cipher[2]), mac[1], bytes.fromhex(mac[2]),
                      int(mac[3]) // 8)
        else:
            continue
        found[head[1], int(head[3], 16)] = key
    return found


def packets(file: Path) -> list[bytes]:
    """The IPv4 packets in a pcap file, without Ethernet headers (one 802.1Q tag at most) and padding."""
    found = []
    for item in pcap.read(file):
        at = 16 if item.frame[12:14] == b"\x81\x00" else 12
        if item.frame[at:at + 2] == IPV4:
            packet = item.frame[at + 2:]
            found.append(packet[:int.from_bytes(packet[2:4])])
    return found


def opened(file: Path, known: dict[tuple[str, int], Key]) -> list[tuple[int, int, bytes]]:
    """The ESP packets in a pcap file, opened: SPI, sequence number, and the IPv4 packet inside (tunnel), or next
    header and payload (transport)."""
    found = []
    for packet in packets(file):
        if packet[9] != ESP:
            continue
        esp = packet[4 * (packet[0] & 15):]
        spi, sequence = int.from_bytes(esp[:4]), int.from_bytes(esp[4:8])
        key = known[str(ip_address(packet[16:20])), spi]
        next_header, payload = key.open(esp)
        if key.tunnel and next_header != 4:
            raise Differs(f"SPI {spi:#x}, sequence number {sequence}: next header {next_header} in tunnel mode")
        if checksum(packet[:4 * (packet[0] & 15)]):
            raise Differs(f"SPI {spi:#x}, sequence number {sequence}: the header's checksum is wrong")
        found.append((spi, sequence, payload if key.tunnel else bytes([next_header]) + payload))
    return found


def checksum(header: bytes) -> int:
    """The Internet checksum; 0 over a header that holds its own."""
    total = sum(int.from_bytes(header[at:at + 2]) for at in range(0, len(header), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def delivered(file: Path) -> list[tuple[str, int, int, str]]:
    """What a UDP receiver behind the server port gets: source, port, length and SHA-256 of each payload."""
    found = []
    for packet in packets(file):
        if packet[9] == UDP:
            datagram = packet[4 * (packet[0] & 15):]
            payload = datagram[8:int.from_bytes(datagram[4:6])]
            found.append((str(ip_address(packet[12:16])), int.from_bytes(datagram[:2]), len(payload), hashlib.sha256(payload).hexdigest()))
    return found


def linux_drops(folder: Path) -> dict[str, int]:
    """Packets that Linux counted as replayed, and as failing their integrity check, by our reasons."""
    text = (folder / "xfrm-state-after.txt").read_text()
    # Too old for the window, seen before, failed.
    counts = re.findall(r"replay-window (\d+) replay (\d+) failed (\d+)", text)
    return {"replay": sum(int(old) + int(seen) for old, seen, _ in counts),
            "icv": sum(int(failed) for *_, failed in counts)}


def verify(folder: Path, out: Path) -> dict[str, int]:
    """Checks the output of :func:`spigate.sim.replay.replay` in ``out`` against the capture in ``folder``. Returns
    how many packets were compared, by port.

    Raises
    ------
    Differs
        Something is not as Linux had it; the message says what.
    """
    known = keys((folder / "xfrm-state.txt").read_text())
    tunnels = all(key.tunnel for key in known.values())
    if tunnels:
        ours, linux = forwarded(out / "server-out.pcap"), forwarded(folder / "server-out.pcap")
        _same("packets to the server", ours, linux)
    else:
        ours, linux = delivered(out / "server-out.pcap"), [tuple(item) for item in json.loads((folder / "delivered-server.json").read_text())]
        _same("payloads to the server", ours, linux)
    sent = opened(out / "network-out.pcap", known)
    if tunnels:  # In transport mode Linux's own packets never were in the input.
        linux_sent = opened(folder / "network-out.pcap", known)
        _same("packets to the network, opened", [plain for *_, plain in sent], [plain for *_, plain in linux_sent])
        _same("clear packets to the network", clear(out / "network-out.pcap"), clear(folder / "network-out.pcap"))
    numbers: dict[int, list[int]] = {}
    for spi, sequence, _ in sent:
        numbers.setdefault(spi, []).append(sequence)
    for spi, sequence in numbers.items():
        if sequence != list(range(sequence[0], sequence[0] + len(sequence))):
            raise Differs(f"The sequence numbers of SPI {spi:#x} are {sequence}")
    report = json.loads((out / "report.json").read_text())
    for reason, count in linux_drops(folder).items():
        if report["drops"][reason] != count:
            raise Differs(f"{report['drops'][reason]} packets dropped as {reason}, Linux dropped {count}")
    return {"server": len(ours), "network": len(sent)}


def forwarded(file: Path) -> list[bytes]:
    """The IPv4 packets in a pcap file but for ICMP errors, which routers make themselves."""
    return [packet for packet in packets(file) if packet[9] != 1]


def clear(file: Path) -> list[bytes]:
    """Those of :func:`forwarded` that are not ESP."""
    return [packet for packet in forwarded(file) if packet[9] != ESP]


def _same(what: str, ours: list, linux: list) -> None:
    if ours == linux:
        return
    missing, extra = Counter(linux) - Counter(ours), Counter(ours) - Counter(linux)
    if missing or extra:
        example = next(iter(missing or extra))
        raise Differs(f"{what}: {missing.total()} of Linux's {len(linux)} are missing, {extra.total()} are not among them, such as {example!r}")
    raise Differs(f"{what}: the same {len(linux)}, in another order")
