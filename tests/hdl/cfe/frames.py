"""What the classifier should find in a frame, told by plain Python on bytes: independent of the gateware."""
import struct

from spigate.hdl.net.descriptor import Reason, Verdict


def checksum_right(header: bytes) -> bool:
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total == 0xffff


def classify(frame: bytes) -> tuple[Verdict | None, Reason, dict]:
    """Verdict, reason and facts (fields of PacketInfo that are valid) of a frame without alignment; verdict None where tables decide."""
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
    if kind == 0x86dd:
        return Verdict.PUNT, Reason.IPV6, facts
    if kind != 0x0800:
        return Verdict.PUNT, Reason.NOT_IP, facts
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return malformed
    words = packet[0] & 15
    total_length, flags = struct.unpack(">H", packet[2:4])[0], struct.unpack(">H", packet[6:8])[0]
    if words < 5 or total_length < 4 * words or total_length > len(packet) or not checksum_right(packet[:4 * words]):
        return malformed
    protocol = packet[9]
    source, destination = struct.unpack(">II", packet[12:20])
    facts |= {"ipv4": 1, "header_words": words, "total_length": total_length, "tos": packet[1], "ttl": packet[8],
              "protocol": protocol, "dont_fragment": flags >> 14 & 1, "source": source, "destination": destination}
    rest = packet[4 * words:total_length]
    if flags & 0x3fff:
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
            if 500 in ports:
                return Verdict.PUNT, Reason.IKE, facts
            if ports[1] == 4500:
                ike = len(rest) >= 12 and rest[8:12] == bytes(4)
                return Verdict.PUNT, Reason.IKE if ike else Reason.NATT, facts
    return None, Reason.NONE, facts
