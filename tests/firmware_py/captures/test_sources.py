# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Captures of one's own: files named one by one, folders that lack some, and what is found out of frames."""

import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from spigate.firmware_py.captures import capture, pcap, sources
from spigate.firmware_py.captures.frames import Captured
from spigate.firmware_py.captures.sources import FILES, TOGETHER, Sources
from spigate.firmware_py.errors import InputError, ToolMissing
from spigate.hdl.contract.enums import Direction, Port
from spigate.sim.replay import replay
from spigate.sim.verify import verify
from tests.firmware_py.captures.test_pcapng import block, enhanced, option, section

CAPTURES = Path(__file__).parents[2] / "data" / "captures"
GCM = CAPTURES / "esp-tunnel-gcm128"
NAMES = sorted(folder.name for folder in CAPTURES.iterdir() if folder.is_dir())
ABOUT_INTERFACES = (*TOGETHER, "routes6", "links")


def bare(name):
    """A capture without what ``ip -j`` printed."""
    return replace(sources.find(CAPTURES / name), **dict.fromkeys(ABOUT_INTERFACES))


def test_a_folder_and_the_same_files_by_name():
    named = {key: GCM / file.names[0] for key, file in FILES.items()}
    assert sources.find(None, named) == sources.find(GCM)
    assert (
        sources.find(GCM, {"xfrm_state": GCM / "xfrm-state-after.txt"}).xfrm_state.name
        == "xfrm-state-after.txt"
    )
    found = sources.find(GCM, network="ebn", server="ebs")
    assert Sources.of_texts(found.texts()) == found
    assert Sources.of_texts(bare(GCM.name).texts()).ip is None


def test_all_that_is_missing_is_said_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        sources.find(None)
    assert str(caught.value) == (
        "a capture lacks what `ip xfrm state` printed (--xfrm-state FILE); what `ip xfrm policy` printed "
        "(--xfrm-policy FILE); frames captured where the peers are, pcap or pcapng (--network-pcap FILE)"
    )
    (tmp_path / "addr.json").write_text("[]")
    with pytest.raises(InputError) as caught:
        sources.find(tmp_path, {"server_pcap": tmp_path / "none"})
    said = str(caught.value)
    assert said.count("\n") == 0
    for name in ("xfrm-state.txt", "xfrm-policy.txt", "network-in.pcap", "none", "neigh.json", "route.json"):
        assert f"{tmp_path / name}, " in said
    for option_ in ("--xfrm-state FILE", "--server-pcap", "--ip-neighbour FILE", "--ip-route FILE"):
        assert option_ in said
    with pytest.raises(InputError, match="nowhere: expected a folder"):
        sources.find(tmp_path / "nowhere")


def test_a_folder_needs_three_files(tmp_path):
    for name in ("xfrm-state.txt", "xfrm-policy.txt", "network-in.pcap"):
        shutil.copy(GCM / name, tmp_path)
    found = capture.read(tmp_path)
    assert {arrival.port for arrival in found.frames} == {Port.NETWORK} and len(found.sas) == 2


@pytest.mark.parametrize("name", NAMES)
def test_what_frames_tell_is_enough(name, tmp_path):
    """All of Linux's captures come out right without what ``ip -j`` printed of its interfaces."""
    replay(bare(name), tmp_path, dataplane="soft")
    assert sum(verify(CAPTURES / name, tmp_path).values())


def test_what_is_found_out_is_what_ip_printed():
    told, found = capture.read(GCM).topology, capture.read(bare(GCM.name)).topology
    for port in (Port.NETWORK, Port.SERVER):
        assert found.interfaces[port].mac == told.interfaces[port].mac
    for address in ("192.0.2.1", "10.1.0.10", "10.2.0.10"):
        assert found.next_hop(ip_address(address)) == told.next_hop(ip_address(address))
    assert found.local == {ip_address("192.0.2.2")} < told.local
    assert found.next_hop(ip_address("10.2.0.77")).destination_mac.hex(":") == "02:00:00:00:53:12"


def both_ways(name, tmp_path):
    """A capture as tcpdump makes it without a direction: what came in, and what was sent."""
    for port in ("network", "server"):
        frames = [
            each for side in ("in", "out") for each in pcap.read(CAPTURES / name / f"{port}-{side}.pcap")
        ]
        pcap.write(tmp_path / f"{port}.pcap", sorted(frames, key=lambda each: each.time))
    return replace(bare(name), network_pcap=tmp_path / "network.pcap", server_pcap=tmp_path / "server.pcap")


TUNNELS = [
    "esp-tunnel-gcm128",
    "esp-natt-tunnel-gcm128",
    "ah-tunnel-v6-sha512",
    "mixed-four-tunnels-and-clear",
]


@pytest.mark.parametrize("name", TUNNELS)
def test_what_the_gateway_sent_is_left_out(name, tmp_path):
    given = both_ways(name, tmp_path)
    read, expected = capture.read(given), capture.read(CAPTURES / name)
    assert read.sent > 0 and [each.frame for each in read.frames] == [each.frame for each in expected.frames]
    assert [each.direction for each in read.sas] == [each.direction for each in expected.sas]
    report = replay(given, tmp_path / "out", dataplane="soft")
    assert report["ports"]["network"]["in"] + report["ports"]["server"]["in"] == len(expected.frames)
    verify(CAPTURES / name, tmp_path / "out")


def test_one_pcapng_file_with_both_interfaces(tmp_path):
    file = tmp_path / "both.pcapng"
    frames = [
        (each.time, number, each.frame)
        for number, side in enumerate(("network", "server"))
        for each in pcap.read(GCM / f"{side}-in.pcap")
    ]
    described = [
        block(1, struct.pack("<HHI", 1, 0, 0) + option(2, name) + option(9, b"\x09"))
        for name in (b"ebn", b"ebs")
    ]
    blocks = [enhanced(frame, time, number) for time, number, frame in sorted(frames)]
    file.write_bytes(section() + b"".join(described) + b"".join(blocks))
    given = replace(bare(GCM.name), network_pcap=file, server_pcap=None)
    with pytest.raises(InputError, match="one of its interfaces, ebn, ebs, not none named"):
        capture.read(given)
    expected = capture.read(GCM).frames
    for each in (given, replace(given, server_pcap=file)):
        assert capture.read(replace(each, network="ebn", server="ebs")).frames == expected
    with pytest.raises(InputError, match="a file for each port, or one of pcapng and the names of two"):
        capture.read(replace(given, server_pcap=file, network="ebn"))


@pytest.mark.parametrize("name, what", [("xfrm_state", "SA"), ("xfrm_policy", "policy")])
def test_what_was_printed_for_somebody_else_than_root_is_empty(tmp_path, name, what):
    (tmp_path / "none").write_text("")
    with pytest.raises(InputError, match=f"none: there is no {what} in it; ip xfrm shows them to root alone"):
        capture.read(replace(bare(GCM.name), **{name: tmp_path / "none"}))


def test_without_a_template_nobody_knows_whose_ends_they_are(tmp_path):
    (tmp_path / "block").write_text("src 10.1.0.0/24 dst 10.2.0.0/24\n\tdir out action block priority 0\n")
    with pytest.raises(
        InputError, match="no policy has a template that says which end of an SA is this gateway's"
    ):
        capture.read(replace(bare(GCM.name), xfrm_policy=tmp_path / "block"))


def test_a_host_behind_that_never_spoke_is_behind_a_router(tmp_path):
    given = replace(bare(GCM.name), server_pcap=None)
    report = replay(given, tmp_path, dataplane="soft")
    assert report["ports"]["server"] == {"in": 0, "out": 17}
    (target,) = {each.frame[:6] for each in pcap.read(tmp_path / "server-out.pcap")}
    assert target.hex(":") == "02:00:00:00:53:12"
    assert {sa.direction for sa in capture.read(given).sas} == {Direction.INBOUND, Direction.OUTBOUND}


def test_frames_of_any_kind_are_no_hindrance(tmp_path):
    """ARP, spanning tree, frames that are cut off."""
    noise = [Captured(1, bytes(n)) for n in (1, 13, 14, 60)] + [Captured(2, b"\xff" * 12 + b"\x08\0E")]
    pcap.write(tmp_path / "n.pcap", noise + pcap.read(GCM / "network-in.pcap"))
    found = capture.read(replace(bare(GCM.name), network_pcap=tmp_path / "n.pcap"))
    assert found.topology.interfaces[Port.NETWORK].mac.hex(":") == "02:00:00:00:00:02"


def test_the_command(tmp_path):
    """As somebody types it who has four files, one of them of tshark's."""
    if shutil.which("editcap") is None:
        raise ToolMissing("no editcap here: this machine lacks tshark")
    file = tmp_path / "network.pcapng"
    subprocess.run(["editcap", "-F", "pcapng", GCM / "network-in.pcap", file], check=True)
    words = ["--xfrm-state", GCM / "xfrm-state.txt", "--xfrm-policy", GCM / "xfrm-policy.txt"]
    words += ["--network-pcap", file, "--server-pcap", GCM / "server-in.pcap"]
    ended = _command(*words, "--out", tmp_path / "out", "--dataplane", "soft")
    assert ended.returncode == 0 and "network 19 in, 17 out" in ended.stdout, ended
    verify(GCM, tmp_path / "out")
    ended = _command("--out", tmp_path / "out", "--dataplane", "soft")
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert "--xfrm-state FILE" in ended.stderr and "--network-pcap FILE" in ended.stderr


def _command(*words):
    return subprocess.run(
        [sys.executable, "-m", "spigate.firmware_py.cli", "replay", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
