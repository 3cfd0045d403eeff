# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A captured frame, whatever file it stands in."""

from dataclasses import dataclass

from spigate.firmware_py.errors import InputError

ETHERNET = 1
"""The link type of Ethernet in pcap and pcapng files."""
SNAP_LENGTH = 262144
"""Bytes of the longest frame in such a file."""


class PcapError(InputError):
    """A file of frames that is none; the message names file and offset."""


@dataclass(frozen=True)
class Captured:
    """A captured frame. ``time`` is in nanoseconds since 1970."""

    time: int
    frame: bytes
