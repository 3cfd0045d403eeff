# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What the classifier should find in a frame, told by plain Python on bytes: independent of the gateware."""

import ipaddress
import struct

from spigate.hdl.contract.enums import Reason
from spigate.hdl.net.descriptor import Verdict


def checksum_right(header: bytes) -> bool:
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def own(text: bytes, shortest: int) -> int:
    """What UDP datagrams are that come to one of the gateway's own addresses: 1 IKE, 2 NAT traversal, 0
    nothing particular. Of IPv6 nothing is told but IKE."""
    if len(text) < shortest:
        return 0
    port = int.from_bytes(text[2:4])
    if port == 500 or port == 4500 and len(text) >= 12 and text[8:12] == bytes(4):
        return 1
    return 2 if port == 4500 and shortest == 4 else 0


NEVER_FROM = [ipaddress.ip_network(net) for net in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4")]
NEVER_TO = [ipaddress.ip_network(net) for net in ("0.0.0.0/8", "127.0.0.0/8", "240.0.0.0/4", "224.0.0.0/24")]
"""RFC 1812 4.2.2.11, 4.2.3.1, 5.3.5.1, 5.3.7; RFC 5771 4."""


def martian(source: int, destination: int, group: bool) -> bool:
    """Whether a packet is never forwarded; ``group``: it came in a link-layer broadcast or multicast."""
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    return (
        any(source in net for net in NEVER_FROM)
        or any(destination in net for net in NEVER_TO)
        or group
        and not destination.is_multicast
    )


def classify(
    frame: bytes, *, link: bool = True, vlan: int | None = None
) -> tuple[Verdict | None, Reason, dict]:
    """Verdict, reason and facts (fields of PacketInfo that are valid) of a frame without alignment; verdict
    None where tables decide. ``link``: the frame came over a link; ``vlan`` is that of the port, None
    any."""
    facts = {"length": len(frame) + 2, "ipv4": 0}
    malformed = (Verdict.DROP, Reason.MALFORMED, facts)
    if len(frame) < 14:
        return malformed
    kind, start = struct.unpack(">H", frame[12:14])[0], 14
    if kind == 0x8100:
        if len(frame) < 18:
            return malformed
        kind, start = struct.unpack(">H", frame[16:18])[0], 18
    facts["tagged"] = int(start == 18)
    packet = frame[start:]
    if link and vlan is not None and (int.from_bytes(frame[14:16]) & 0xFFF if start == 18 else 0) != vlan:
        return Verdict.DROP, Reason.VLAN, facts
    if kind == 0x86DD:
        if len(packet) < 40 or packet[0] >> 4 != 6:
            return Verdict.PUNT, Reason.IPV6, facts
        next_header, text = packet[6:7], packet[40:]
        if next_header == b"\x3a" and packet[7] == 255 and len(text) >= 4 and 133 <= text[0] <= 137:
            return Verdict.PUNT, Reason.NEIGHBOUR, facts
        facts["own"] = own(text, 12) if next_header == b"\x11" else 0
        return Verdict.PUNT, Reason.IPV6, facts
    if kind != 0x0800:
        return Verdict.PUNT, Reason.NOT_IP, facts
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return malformed
    words = packet[0] & 15
    total_length, flags = struct.unpack(">H", packet[2:4])[0], struct.unpack(">H", packet[6:8])[0]
    if (
        words < 5
        or total_length < 4 * words
        or total_length > len(packet)
        or not checksum_right(packet[: 4 * words])
    ):
        return malformed
    protocol = packet[9]
    source, destination = struct.unpack(">II", packet[12:20])
    facts |= {
        "ipv4": 1,
        "header_words": words,
        "total_length": total_length,
        "tos": packet[1],
        "ttl": packet[8],
        "protocol": protocol,
        "dont_fragment": flags >> 14 & 1,
        "source": source,
        "destination": destination,
    }
    rest = packet[4 * words : total_length]
    if martian(source, destination, link and bool(frame[0] & 1)):
        return Verdict.DROP, Reason.MARTIAN, facts
    if flags & 0x3FFF:
        return Verdict.PUNT, Reason.FRAGMENT, facts
    if protocol == 51:
        return Verdict.PUNT, Reason.AH, facts
    if protocol == 50:
        if len(rest) < 8:
            return Verdict.DROP, Reason.MALFORMED, facts
        facts["spi"], facts["sequence"] = struct.unpack(">II", rest[:8])
        if facts["spi"] < 256:
            return Verdict.DROP, Reason.RESERVED_SPI, facts
    elif protocol in (6, 17):
        if len(rest) < 4:
            return Verdict.DROP, Reason.MALFORMED, facts
        ports = struct.unpack(">HH", rest[:4])
        facts["ports"] = ports
        if protocol == 17:
            facts["own"] = own(rest, 4)
    return None, Reason.NONE, facts


OUTCOME = ("action", "dfe", "sa", "generation", "route", "clear")


def outcome(rule):
    """What a rule of ``rule_entry``'s fields leads to, in the order of :data:`OUTCOME`."""
    return tuple(rule.get(name, 0) for name in OUTCOME)


def first_match(table, one):
    """The rules of RFC 4301's SPD, one after the other, on Python's ipaddress: an independent description.
    The rule's index and what it leads to."""
    for index in sorted(table):
        rule = table[index]
        if not rule.get("valid") or not rule.get("ingress", 0) >> one["ingress"] & 1:
            continue
        if not rule.get("any_protocol") and rule.get("protocol", 0) != one["protocol"]:
            continue
        matches = True
        for side in ("source", "destination"):
            host, network = (
                ipaddress.ip_address(one[side]),
                ipaddress.ip_network(
                    (rule.get(side, 0), bin(rule.get(f"{side}_mask", 0)).count("1")), strict=False
                ),
            )
            allowed = range(rule.get(f"{side}_port_low", 0), rule.get(f"{side}_port_high", 0) + 1)
            matches &= host in network and (
                one[f"{side}_port"] in allowed if one["ports"] else len(allowed) == 65536
            )
        if matches:
            return index, *outcome(rule)
    return None
