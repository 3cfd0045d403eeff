# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Addresses of IPv4 that are never forwarded (RFC 1812 5.3.7, 4.2.3.1, 5.3.5.1; RFC 5771 4)."""

LOOPBACK_NET = 127
"""First byte of the addresses that never leave a host (RFC 1122 3.2.1.3)."""
LINK_GROUPS = 0xE00000
"""First three bytes of the multicast groups that never leave a link (RFC 5771 4)."""


def is_multicast(destination):
    """Whether it is a multicast group's (224/4)."""
    return destination[28:] == 0b1110


def source_is_martian(source):
    """From 0/8, 127/8, a multicast group or class E."""
    return (source[24:] == 0) | (source[24:] == LOOPBACK_NET) | (source[29:] == 0b111)


def destination_is_martian(destination):
    """To 0/8, 127/8, 224.0.0.0/24, or class E with the limited broadcast."""
    return (
        (destination[24:] == 0)
        | (destination[24:] == LOOPBACK_NET)
        | (destination[28:] == 0b1111)
        | (destination[8:] == LINK_GROUPS)
    )
