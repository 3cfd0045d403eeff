# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Small inputs on which something went wrong once: tests/data/cases. ``expected.json`` says what becomes of
each packet, in order.
"""

import hmac
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from spigate.firmware_py.captures import capture, pcap
from spigate.firmware_py.tables.interface import GATEWARE, SOFTWARE
from spigate.sim import software
from spigate.sim.design import Configuration
from spigate.sim.replay import replay
from spigate.sim.software import FILES
from tests.firmware_py.control.network import LINUX

pytestmark = pytest.mark.slow

CASES = Path(__file__).parents[1] / "data" / "cases"
SMALL = Configuration(beat_bytes=8, dfes=1, lanes=1)


def expected(name):
    """IP packets that leave in the clear, and drops by reason."""
    what = json.loads((CASES / name / "expected.json").read_text())["expect"]
    return [bytes.fromhex(value) for kind, value in what if kind == "plain"], Counter(
        value for kind, value in what if kind == "drop"
    )


def left(out):
    """IP packets that left at the server port."""
    return [
        item.frame[14:]
        for item in pcap.read(next(out / name for port, name in FILES.items() if name.startswith("server")))
    ]


def drops(report):
    return +Counter(report["drops"])


@pytest.mark.parametrize("capabilities", [SOFTWARE, GATEWARE], ids=["software", "gateware"])
@pytest.mark.parametrize("name", ["window0-esn-reorder", "ecn-dscp-in"])
def test_what_becomes_of_each_packet(name, capabilities, tmp_path):
    report = software.play(capture.read(CASES / name), LINUX, tmp_path, capabilities=capabilities)
    plain, dropped = expected(name)
    assert left(tmp_path) == plain and drops(report) == dropped


@pytest.mark.parametrize("capabilities", [SOFTWARE, GATEWARE], ids=["software", "gateware"])
def test_a_window_larger_than_a_decryptors(capabilities, tmp_path):
    given = capture.read(CASES / "qos-reorder-window1024")
    report = software.play(given, LINUX, tmp_path, capabilities=capabilities)
    assert len(left(tmp_path)) == len(given.frames) == 400 and not drops(report)
    assert report["software"] == {"decrypted": 400} and "sa" not in report["programmed"], (
        "as long as decryptors have 64"
    )


def test_jumbo_frames_by_the_software_path(tmp_path):
    report = software.play(capture.read(CASES / "jumbo-in"), LINUX, tmp_path)
    assert left(tmp_path) == expected("jumbo-in")[0] and not drops(report)


@pytest.mark.xdist_group("replay-small")
def test_jumbo_frames_are_counted_by_the_gateware(tmp_path):
    """Also those that the bus model cannot play in full."""
    report = replay(CASES / "jumbo-in", tmp_path, configuration=SMALL)
    assert left(tmp_path) == expected("jumbo-in")[0][:1] and drops(report) == {"oversize": 4}


@pytest.mark.xdist_group("replay-small")
def test_congestion_marks_of_a_tunnels_end_in_the_gateware(tmp_path):
    """RFC 6040 4.2, all sixteen cells, of which one drops; an outer DSCP reaches no inner one."""
    report = replay(CASES / "ecn-dscp-in", tmp_path, configuration=SMALL)
    plain, dropped = expected("ecn-dscp-in")
    assert left(tmp_path) == plain and drops(report) == dropped and len(plain) == 15


@pytest.mark.parametrize("accepted", [True, False])
def test_no_checksum_in_udp_over_ipv6(accepted, tmp_path):
    """RFC 6935, 6936. The vector's SPI, 123, is reserved, so it gets another one here, and an ICV that is
    right again (RFC 4868).
    """
    given = capture.read(_with_spi(CASES / "udp6-zero-checksum", tmp_path / "case", 123, 0x1000))
    sas = [replace(sa, encapsulation=replace(sa.encapsulation, zero_checksum=accepted)) for sa in given.sas]
    report = software.play(replace(given, sas=sas), LINUX, tmp_path)
    assert left(tmp_path) == (expected("udp6-zero-checksum")[0] if accepted else [])
    assert drops(report) == ({} if accepted else {"malformed": 1})


def _with_spi(case, folder, old, new):
    folder.mkdir()
    for file in case.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    state = (folder / "xfrm-state.txt").read_text()
    (folder / "xfrm-state.txt").write_text(state.replace(f"0x{old:08x}", f"0x{new:08x}"))
    frames = []
    for item in pcap.read(folder / "network-in.pcap"):
        at = item.frame.index(old.to_bytes(4), 14 + 40 + 8)
        covered = new.to_bytes(4) + item.frame[at + 4 : -16]
        icv = hmac.digest(b"\x5a" * 32, covered, "sha256")[:16]
        frames.append(pcap.Captured(item.time, item.frame[:at] + covered + icv))
    pcap.write(folder / "network-in.pcap", frames)
    return folder
