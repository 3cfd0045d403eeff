# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Numbers of the field: what RFCs and IEEE 802 assign, for gateware, host and simulation alike.

They are no choice of ours, but both halves must read packets the same way, so they stand here once. A name
is that of the protocol; gateware, where a header's layout has the same name, imports them as ``ESP_PROTOCOL``
and the like.
"""

ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_VLAN, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x8100, 0x86DD
"""IEEE 802 EtherTypes; 0x8100 is the tag protocol identifier of 802.1Q."""
VLAN_BITS = 12
"""Of 802.1Q tag control information, the low ones, which name the VLAN (IEEE 802.1Q 9.6)."""
VLAN_IDENTIFIER = (1 << VLAN_BITS) - 1
"""They as a mask."""

HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60
"""Extension headers of IPv6 (RFC 8200 4)."""
ICMP, IPV4_IN_IP, TCP, UDP, IPV6_IN_IP, ESP, AH, ICMPV6 = 1, 4, 6, 17, 41, 50, 51, 58
"""Protocols of IPv4, next headers of IPv6, ESP and AH (IANA, "Protocol Numbers")."""
NO_NEXT_HEADER = 59
"""IPv6: nothing follows (RFC 8200 4.7). ESP: a dummy packet (RFC 4303 2.6)."""
NEIGHBOUR_DISCOVERY = range(133, 138)
"""Types of ICMPv6 (RFC 4861 4)."""
NOT_ECT, ECT_1, ECT_0, ECN_CE = range(4)
"""The ECN field of IP's second byte (RFC 3168 5)."""

IKE_PORT, NATT_PORT = 500, 4500
"""UDP ports of IKE (RFC 7296 2), and of IKE and ESP behind a NAT (RFC 3948 2)."""
NON_ESP_MARKER = bytes(4)
"""What IKE begins with on :data:`NATT_PORT`, in the place of an SPI (RFC 3948 2.2)."""
NATT_KEEPALIVE = b"\xff"
"""A datagram that keeps a NAT's mapping (RFC 3948 2.3)."""
FIRST_SPI = 256
"""Lower SPIs are reserved (RFC 4303 2.1)."""
