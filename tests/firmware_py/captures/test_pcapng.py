# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""pcapng, against files that Wireshark's tools and scapy wrote, and against files that are no good."""

import shutil
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgWriter, wrpcap

from spigate.firmware_py.captures import pcap, pcapng
from spigate.firmware_py.captures.frames import Captured, PcapError
from spigate.firmware_py.errors import ToolMissing

FRAMES = [Captured(1_700_000_000_123_456_000 + n * 1_000_001_000, bytes(range(n))) for n in (14, 60, 200)]


def block(kind, body, order="<", length=None):
    body += bytes(-len(body) % 4)
    size = len(body) + 12 if length is None else length
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def section(order="<", major=1):
    return block(pcapng.SECTION, struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, -1), order)


def option(code, value, order="<", length=None):
    return (
        struct.pack(order + "HH", code, len(value) if length is None else length)
        + value
        + bytes(-len(value) % 4)
    )


def interface(name="", order="<", link=1, snap=0, options=b""):
    named = option(2, name.encode(), order) if name else b""
    return block(1, struct.pack(order + "HHI", link, 0, snap) + named + options, order)


def enhanced(frame, stamp=0, number=0, order="<", size=None):
    head = (number, stamp >> 32, stamp & 0xFFFF_FFFF, len(frame) if size is None else size, len(frame))
    return block(6, struct.pack(order + "IIIII", *head) + frame, order)


def parse(data, name=None):
    return list(pcapng.parse(data, "x.pcapng", name))


def need(tool):
    if shutil.which(tool) is None:
        raise ToolMissing(f"no {tool} here: this machine lacks tshark")


def test_what_editcap_makes_of_a_pcap_file(tmp_path):
    need("editcap")
    pcap.write(tmp_path / "x.pcap", FRAMES)
    for kind in ("pcapng", "nsecpcap", "pcap"):
        subprocess.run(["editcap", "-F", kind, tmp_path / "x.pcap", tmp_path / kind], check=True)
        assert pcap.read(tmp_path / kind) == FRAMES


def test_what_mergecap_makes_of_two(tmp_path):
    """One file, of two interfaces without names."""
    need("mergecap")
    for name in ("a", "b"):
        pcap.write(tmp_path / name, FRAMES)
    subprocess.run(
        ["mergecap", "-I", "none", "-w", tmp_path / "m", tmp_path / "a", tmp_path / "b"], check=True
    )
    found = [frame for _, frame in pcapng.Reader((tmp_path / "m").read_bytes(), "m").frames()]
    assert found == sorted([*FRAMES, *FRAMES], key=lambda each: each.time)


def test_what_scapy_writes(tmp_path):
    with PcapNgWriter(str(tmp_path / "y")) as made:
        made.write([Ether(bytes(n)) for n in (14, 60)])
    assert [each.frame for each in pcap.read(tmp_path / "y")] == [bytes(14), bytes(60)]
    wrpcap(str(tmp_path / "z"), [Ether(bytes(14))])
    assert len(pcap.read(tmp_path / "z", "eth0")) == 1, "pcap has no names: any fits"


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("resolution", "stamp", "time"),
    [
        (None, 7, 7_000),
        (6, 7, 7_000),
        (9, 7, 7),
        (0, 7, 7_000_000_000),
        (0x80 | 20, 1 << 20, 1_000_000_000),
        (3, 7, 7_000_000),
        (255, 10**18, 0),
        (0xFF, 1 << 60, 0),
    ],
)
def test_byte_orders_and_resolutions(order, resolution, stamp, time):
    options = b"" if resolution is None else option(9, bytes([resolution]), order)
    options += option(14, struct.pack(order + "q", 5), order) + option(0, b"", order)
    data = section(order) + interface("eth0", order, options=options) + enhanced(b"abc", stamp, 0, order)
    assert parse(data) == [Captured(5_000_000_000 + time, b"abc")]


def test_other_kinds_of_blocks():
    """A name resolution block, a custom one, an obsolete packet, simple packets, a second section."""
    old = block(2, struct.pack("<HHIIII", 0, 9, 0, 5, 3, 3) + b"old")
    simple = block(3, struct.pack("<I", 6) + b"simple")
    first = section() + interface("a", snap=4) + block(4, b"names") + old + simple + block(0xBAD, b"")
    assert parse(first + section(">") + interface("a", ">", snap=4) + enhanced(b"new", 7, 0, ">")) == [
        Captured(5_000, b"old"),
        Captured(5_000, b"simp"),
        Captured(7_000, b"new"),
    ]


TWO = section() + interface("eth0") + interface("eth1") + enhanced(b"a", number=0) + enhanced(b"b", number=1)


def test_an_interface_is_chosen_by_its_name(tmp_path):
    assert [each.frame for each in parse(TWO, "eth1")] == [b"b"]
    (tmp_path / "x").write_bytes(TWO)
    assert pcapng.interfaces(tmp_path / "x") == ["eth0", "eth1"]
    unused = section() + interface("eth0") + interface("eth1") + enhanced(b"a", number=0)
    assert [each.frame for each in parse(unused)] == [b"a"], "only one has frames"


GOOD = section() + interface("eth0")
MISTAKES = {
    "cut off": (
        GOOD + enhanced(b"abcd")[:-1],
        "offset 60: expected a block's length, .* from 12 to 35, not 36",
    ),
    "a few bytes": (GOOD + bytes(11), "offset 56: expected a block of at least 12 bytes, not 11 bytes"),
    "length 0": (
        GOOD + bytes(12),
        "offset 60: expected a block's length, a multiple of 4 from 12 to 12, not 0",
    ),
    "odd length": (GOOD + block(6, bytes(8), length=21), "offset 60: expected a block's length, .*, not 21"),
    "vast length": (GOOD + block(6, b"", length=0xFFFF_FFFC), "not 4294967292"),
    "two lengths": (GOOD + enhanced(b"abcd")[:-4] + bytes(4), "expected the block's length again, 36, not 0"),
    "byte order": (
        block(pcapng.SECTION, bytes(16)),
        "offset 8: expected the byte-order magic 0x1a2b3c4d, not 0",
    ),
    "version": (section(major=2), "offset 12: expected version 1 of pcapng, not 2"),
    "short section": (
        block(pcapng.SECTION, struct.pack("<I", 0x1A2B3C4D)),
        "expected a section header of 16 bytes, not 4 bytes",
    ),
    "short interface": (section() + block(1, bytes(4)), "an interface description of 8 bytes, not 4 bytes"),
    "short frame": (GOOD + block(6, bytes(16)), "offset 64: expected a frame's header of 20 bytes, not 16"),
    "unknown interface": (GOOD + enhanced(b"a", number=1), "expected one of the 1 interfaces .*, not 1"),
    "long frame": (GOOD + enhanced(b"abcd", size=5), "offset 76: expected a frame of at most 4 bytes, not 5"),
    "vast frame": (GOOD + enhanced(b"abcd", size=0xFFFF_FFFF), "at most 4 bytes, not 4294967295"),
    "vast option": (
        section() + block(1, bytes(8) + option(1, b"abcd", length=0xFFFF)),
        "offset 46: expected an option's length of at most 4, not 65535",
    ),
    "resolution": (
        section() + block(1, bytes(8) + option(9, b"")),
        "expected a resolution of 1 byte, not 0 bytes",
    ),
    "offset": (section() + block(1, bytes(8) + option(14, bytes(4))), "expected an offset of 8 bytes, not 4"),
    "two interfaces": (TWO, "expected the name of one of its interfaces, eth0, eth1, not none named"),
    "not Ethernet": (
        section() + interface("any", link=276) + enhanced(b"a"),
        r"expected link type 1 \(Ethernet\) of any, not 276; capture at one Ethernet interface, not at any",
    ),
}


@pytest.mark.parametrize("data, message", MISTAKES.values(), ids=MISTAKES)
def test_errors_name_file_and_offset(data, message):
    with pytest.raises(PcapError, match=f"^x.pcapng.*{message}"):
        parse(data)


def test_another_interface_than_the_only_one():
    data = GOOD + enhanced(b"a")
    with pytest.raises(PcapError, match="expected frames of the interface eth9, not of eth0"):
        parse(data, "eth9")
    with pytest.raises(PcapError, match="one of its interfaces, eth0, eth1, not 'eth9'"):
        parse(TWO, "eth9")


@given(st.data())
def test_only_named_errors_escape(data):
    """Whatever is written over a sound file, and wherever it is cut off."""
    sound = bytearray(TWO + section(">") + interface("eth0", ">", options=option(9, b"\x09", ">")))
    sound += enhanced(bytes(60), 1 << 40, 0, ">") + block(3, struct.pack(">I", 6) + b"simple", ">")
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(sound) - 1))
        junk = data.draw(st.sampled_from([b"\0", b"\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x0c\0\0\0"]))
        sound[at : at + len(junk)] = junk
    try:
        parse(
            bytes(sound[: data.draw(st.integers(0, len(sound)))]), data.draw(st.sampled_from([None, "eth0"]))
        )
    except PcapError:
        pass


@given(st.binary(max_size=200))
def test_only_named_errors_escape_from_noise(noise):
    try:
        parse(section() + noise)
    except PcapError:
        pass
