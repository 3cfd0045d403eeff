# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Sizes, limits and codes that gateware and host agree on, where neither a register nor a table entry says
them.
"""

MAGIC = int.from_bytes(b"SPIG")
"""What the register ``id`` reads."""
MAP, MAJOR = 3, 0
"""The layout of registers and table entries, and the major version of the gateware, as the register
``version`` reads them. Another one of either needs another driver.
"""

LINK_MAGIC = int.from_bytes(b"SPLK")
"""What the register ``link.id`` of a board reads."""
LINK_MAP = 1
"""The layout of a board's map, as the register ``link.geometry`` reads it."""
LINK_BAUD = 3_000_000
"""Bits a second of a host link over a UART, where nobody says otherwise."""

ALIGN = 2
"""Bytes (zero) in front of the Ethernet header inside the gateway, and at the control element's port."""
MAX_FRAME = 1920
"""Longest frame that the gateway takes, in bytes, :data:`ALIGN` included, Ethernet frame check sequence not.
"""
REPLAY_WINDOW = 64
"""Sequence numbers in the anti-replay window of a DFE."""
MAX_DFES = 8
"""As many have bits and weights in the registers."""
MAX_DEPTH = 3
"""Recirculations that descriptors and headers can count."""

ALL_DFES = 15
"""As the DFE of a table write: all of them at once."""
FROM_CFE = 15
"""As the DFE of a punt or report: no DFE has to do with it."""
FROM_FORWARDING = 14
"""As the DFE of a report: the forwarding element's."""
GENERATIONS = 256
"""Numbers that tell the SAs apart that have one place of a DFE one after the other."""
MARKS = 32
"""SAs of which a word tells what they have reached."""
SPARE_NUMBERS = 1 << 28
"""Sequence numbers of an SA that are left when it is to be replaced."""
