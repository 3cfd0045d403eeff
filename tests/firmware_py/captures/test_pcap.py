# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap, wrpcap

from spigate.firmware_py.captures import pcap
from spigate.firmware_py.captures.pcap import Captured, PcapError, parse

FRAMES = [Captured(1_700_000_000_123_456_000 + n * 1_000_001_000, bytes(range(n))) for n in (1, 14, 60, 200)]


def header(order="<", magic=0xA1B2C3D4, version=(2, 4), link=1):
    return struct.pack(order + "IHHiIII", magic, *version, 0, 0, 65535, link)


def test_scapy_reads_what_it_writes(tmp_path):
    pcap.write(tmp_path / "x.pcap", FRAMES)
    found = rdpcap(str(tmp_path / "x.pcap"))
    assert [bytes(packet) for packet in found] == [item.frame for item in FRAMES]
    assert [int(packet.time * 10**6) * 1000 for packet in found] == [item.time for item in FRAMES]
    assert pcap.read(tmp_path / "x.pcap") == FRAMES


def test_reads_what_scapy_writes(tmp_path):
    wrpcap(str(tmp_path / "y.pcap"), [Ether(bytes(n)) for n in (14, 60)])
    assert [item.frame for item in pcap.read(tmp_path / "y.pcap")] == [bytes(14), bytes(60)]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_both_byte_orders_and_resolutions(order, magic, unit):
    data = header(order, magic) + struct.pack(order + "IIII", 5, 7, 3, 99) + b"abc"
    assert list(parse(data)) == [Captured(5 * 10**9 + 7 * unit, b"abc")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x.pcap, offset 0: expected a file header of 24 bytes, not 0 bytes"),
        (
            bytes(24),
            "x.pcap, offset 0: expected the magic of pcap, 0xa1b2c3d4 or 0xa1b23c4d, or of pcapng, not 00000000",
        ),
        (header(version=(2, 5)), "x.pcap, offset 4: expected version 2.4, not 2.5"),
        (header(link=113), "x.pcap, offset 20: expected link type 1 .Ethernet., not 113"),
        (header() + bytes(15), "x.pcap, offset 24: expected a record header of 16 bytes, not 15 bytes"),
        (
            header() + struct.pack("<IIII", 0, 0, 4, 4) + b"abc",
            "x.pcap, offset 32: expected a frame of at most 3 bytes",
        ),
    ],
)
def test_errors_name_file_and_offset(data, message):
    with pytest.raises(PcapError, match=message):
        list(parse(data, "x.pcap"))


@given(st.binary(max_size=120), st.booleans())
def test_only_named_errors_escape(data, sound_header):
    try:
        list(parse(header() + data if sound_header else data))
    except PcapError:
        pass
