# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Says how many of the IPv4 packets that the captured host sent, the gateway has sent, too."""

import sys
from pathlib import Path

from spigate.firmware_py.captures import pcap


def packets(file: Path) -> list[bytes]:
    """The IPv4 packets in a file, without their Ethernet headers."""
    return [each.frame[14:] for each in pcap.read(file) if each.frame[12:14] == b"\x08\x00"]


captured, played = map(Path, sys.argv[1:3])
theirs, ours = packets(captured / "server-out.pcap"), packets(played / "server-out.pcap")
print(f"server: {sum(packet in ours for packet in theirs)} of {len(theirs)} packets")
sys.exit(theirs != ours)
