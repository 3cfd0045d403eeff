# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Protocol headers as data: where each field lies, as in the RFCs' pictures.

One table a header; parser and deparsers read their slices from it, so no offset is written twice.
"""

from dataclasses import dataclass

from amaranth.hdl import Value, ValueLike

from spigate.hdl.net.packet import ALIGN, swap_bytes


@dataclass(frozen=True)
class Field:
    """A field of ``width`` bits, ``offset`` bits behind the header's first bit on the wire (its most
    significant one)."""

    width: int
    offset: int

    @property
    def word(self) -> int:
        """The 32-bit word of the header in which the field begins."""
        return self.offset // 32


class Header:
    """A protocol header.

    Parameters
    ----------
    name : str
    fields : int
        Field names and widths in bits, in the order of the wire, without gaps.

    Attributes
    ----------
    fields : dict of Field
    length : int
        Bytes.
    """

    def __init__(self, name: str, **fields: int):
        self.name, self.fields = name, {}
        offset = 0
        for field, width in fields.items():
            self.fields[field] = Field(width, offset)
            offset += width
        if offset % 8:
            raise ValueError(f"Header {name!r} must be whole bytes, not {offset!r} bits")
        self.length = offset // 8

    def __getitem__(self, field: str) -> Field:
        return self.fields[field]

    def get(self, field: str, header: ValueLike, *, word: int = 0) -> Value:
        """The number in ``field`` of the bytes ``header``, which are in wire order and begin at ``word`` of
        the header."""
        header = Value.cast(header)
        place = self.fields[field]
        first = place.offset - 32 * word
        end = first + place.width
        low, high = first // 8 * 8, (end + 7) // 8 * 8
        if low < 0 or high > len(header):
            raise ValueError(f"{self.name}.{field} is not in the {len(header)} bits from word {word!r} on")
        return swap_bytes(header[low:high])[high - end : high - first]

    def value(self, **fields: int) -> bytes:
        """The header's bytes with ``fields`` filled in; the others are 0."""
        number = 0
        for field, value in fields.items():
            place = self.fields[field]
            if not 0 <= value < 1 << place.width:
                raise ValueError(f"{self.name}.{field} must be 0 to {(1 << place.width) - 1}, not {value!r}")
            number |= value << 8 * self.length - place.offset - place.width
        return number.to_bytes(self.length, "big")


ETHERNET = Header("Ethernet", destination=48, source=48, type=16)
"""IEEE 802.3 3.1.1."""
FRAME = Header("frame", alignment=8 * ALIGN, destination=48, source=48, type=16)
"""The Ethernet header as it lies inside the gateway, with the alignment bytes in front."""
VLAN = Header("802.1Q", priority=3, drop_eligible=1, id=12, type=16)
"""IEEE 802.1Q 9.6, behind the tag protocol identifier (which is in the place of the Ethernet type)."""
IPV4 = Header(
    "IPv4",
    version=4,
    header_words=4,
    tos=8,
    total_length=16,
    identification=16,
    reserved=1,
    dont_fragment=1,
    more_fragments=1,
    fragment_offset=13,
    ttl=8,
    protocol=8,
    checksum=16,
    source=32,
    destination=32,
)
"""RFC 791 3.1, without options."""
IPV6 = Header(
    "IPv6",
    version=4,
    traffic_class=8,
    flow_label=20,
    payload_length=16,
    next_header=8,
    hop_limit=8,
    source=128,
    destination=128,
)
"""RFC 8200 3."""
PORTS = Header("ports", source=16, destination=16)
"""What TCP (RFC 9293 3.1) and UDP begin with."""
UDP = Header("UDP", source=16, destination=16, length=16, checksum=16)
"""RFC 768."""
ESP = Header("ESP", spi=32, sequence=32)
"""RFC 4303 2, up to the payload."""

TYPE_IPV4, TYPE_IPV6, TYPE_VLAN = 0x0800, 0x86DD, 0x8100
TCP_PROTOCOL, UDP_PROTOCOL, ESP_PROTOCOL, AH_PROTOCOL, ICMPV6_PROTOCOL = 6, 17, 50, 51, 58
IKE_PORT, NATT_PORT = 500, 4500
NEIGHBOUR_DISCOVERY = range(133, 138)
"""ICMPv6 types (RFC 4861 4)."""

GROUP_BIT = 40
"""Of an Ethernet address as a number: set in group addresses (IEEE 802.3 3.2.3)."""

IP_WORD = FRAME.length // 4
"""32-bit word of an aligned frame in which the IP header begins; one later behind an 802.1Q tag."""
