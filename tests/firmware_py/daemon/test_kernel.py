# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate ce`` and strongSwan above a Linux kernel's own ESP and AH, in a user-mode Linux."""

import json
import os
import select
import socket
import subprocess
from contextlib import closing

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

from tests.firmware_py.daemon.bed import SIZES, Gateway, child_of, config, echoed, ping, rekey_under_traffic
from tests.firmware_py.ike import hosts
from tests.firmware_py.ike.hosts import OURS, OURS_6, THEIRS, THEIRS_6, inside
from tests.firmware_py.ike.strongswan import conf_of

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.slow]


@pytest.mark.parametrize("who", ["we", "they"])
@pytest.mark.parametrize(
    "protocol, mode, words",
    [
        ("esp", "tunnel", "aes128gcm16"),
        ("esp", "tunnel", "aes256-sha256-esn"),
        ("ah", "tunnel", "sha256"),
        ("esp", "transport", "aes256gcm16-esn"),
        ("ah", "transport", "sha512-esn"),
    ],
)
def test_pings_and_rekeying(kernel, tmp_path, protocol, mode, words, who):
    uml, folder, charon = kernel
    (folder / "swanctl.conf").write_text(conf_of(protocol, mode, words))
    charon.load()
    there = str(THEIRS) if mode == "transport" else "10.2.0.1"
    gateway = Gateway(
        uml.ours,
        tmp_path,
        config(child=child_of(protocol, mode, words), start="now" if who == "we" else "never"),
    )
    try:
        gateway.start()
        if who == "they":
            charon.swanctl("--initiate", "--child", "net")
        gateway.happens("child-up")
        assert {row["protocol"] for row in gateway.rows("sas")} == {protocol}
        ping(uml.ours, there, SIZES)
        rekey_under_traffic(gateway, uml.ours, there, lambda: charon.swanctl("--rekey", "--child", "net"))
    finally:
        gateway.close()


TRANSPORT = {4: (str(OURS), str(THEIRS)), 6: (str(OURS_6), str(THEIRS_6))}
NETWORKS = {4: ("10.1.0.0/24", "10.2.0.0/24"), 6: ("fd00:1::/64", "fd00:2::/64")}
HOSTS = {4: ("10.1.0.1", "10.2.0.1"), 6: ("fd00:1::1", "fd00:2::1")}
MEGABYTES = 3
"""Each way."""


def in_version(outer: int, inner: int, text: str) -> str:
    """A configuration, ours or theirs, with addresses of these IP versions outside and inside."""
    for version, ends in ((outer, TRANSPORT), (inner, NETWORKS)):
        for four, other in zip(ends[4], ends[version], strict=True):
            for quoted in ('"{}"', "= {}\n"):
                text = text.replace(quoted.format(four), quoted.format(other))
    return text


def know_each_other(uml):
    """Neighbour discovery between two hosts is traffic between them, which Linux protects in transport
    mode: once an entry ages, its unicast probes are ESP, and answers in the clear are dropped. Whoever
    protects all between two neighbours has them know each other.
    """
    devices = json.loads(
        subprocess.run(
            ["ip", "-n", uml.ours, "-j", "link", "show", "tap0"], capture_output=True, check=True, text=True
        ).stdout
    )
    theirs = uml.run("cat", "/sys/class/net/vec0/address").strip()
    uml.run(
        "ip",
        "-6",
        "neighbour",
        "replace",
        OURS_6,
        "lladdr",
        devices[0]["address"],
        "dev",
        "vec0",
        "nud",
        "permanent",
    )
    hosts.ip(
        "-n",
        uml.ours,
        "-6",
        "neighbour",
        "replace",
        str(THEIRS_6),
        "lladdr",
        theirs,
        "dev",
        "tap0",
        "nud",
        "permanent",
    )


@pytest.mark.parametrize(
    "outer, inner, protocol, mode, words, who",
    [
        (4, 4, "esp", "tunnel", "aes256-sha256", "we"),
        (4, 4, "esp", "tunnel", "aes128gcm16-esn", "they"),
        (4, 4, "esp", "transport", "aes256gcm16", "they"),
        (4, 4, "ah", "tunnel", "sha256-esn", "we"),
        (4, 4, "ah", "transport", "sha512", "they"),
        (4, 6, "esp", "tunnel", "aes128gcm16", "we"),
        (6, 4, "esp", "tunnel", "aes256-sha512-esn", "they"),
        (6, 6, "esp", "tunnel", "aes128gcm16-esn", "we"),
        (6, 6, "esp", "transport", "aes128-sha256", "we"),
        (6, 6, "ah", "tunnel", "sha256", "they"),
        (6, 6, "ah", "transport", "sha384-esn", "we"),
    ],
)
def test_everything_passes(kernel, tmp_path, outer, inner, protocol, mode, words, who):
    """Pings of every size, both ways, and TCP."""
    uml, folder, charon = kernel
    (folder / "swanctl.conf").write_text(in_version(outer, inner, conf_of(protocol, mode, words)))
    charon.load()
    here, there = TRANSPORT[outer] if mode == "transport" else HOSTS[inner]
    text = in_version(
        outer, inner, config(child=child_of(protocol, mode, words), start="now" if who == "we" else "never")
    )
    with closing(Gateway(uml.ours, tmp_path, text)) as gateway:
        gateway.start()
        if mode == "transport" and outer == 6:
            know_each_other(uml)
        if who == "they":
            charon.swanctl("--initiate", "--child", "net")
        gateway.happens("child-up")
        assert {
            (row["protocol"], row["esn"], *sorted((row["source"], row["destination"])))
            for row in gateway.rows("sas")
        } == {(protocol, words.endswith("-esn"), *TRANSPORT[outer])}
        ping(uml.ours, there, (*range(1501), 2000, 9000, 30000, 65000))
        uml.pings(here, (0, 1300, 1400, 1500, 9000), source=there, times=5)
        echoed(uml.ours, there, os.urandom(MEGABYTES << 20))


@pytest.mark.parametrize("flags", ["", "DF"])
def test_an_identification_of_zero(kernel, tmp_path, flags):
    """A packet may have it by chance (one in 65,536), and what is sent through a raw socket may not: Linux
    would put another number there, behind AH's ICV and in each fragment another (raw(7))."""
    uml, folder, charon = kernel
    (folder / "swanctl.conf").write_text(conf_of("ah", "transport", "sha512"))
    charon.load()
    text = config(child=child_of("ah", "transport", "sha512")).replace(
        "[host]", "[host]\nmtu = 1400"
    )  # the longer goes in two fragments
    with closing(Gateway(uml.ours, tmp_path, text)) as gateway:
        gateway.start()
        gateway.happens("child-up")
        with inside(uml.ours):
            device = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
            hears = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        with device, hears:
            for number, size in enumerate(
                (100, 1352)
            ):  # into the device as if the host's kernel had chosen it
                echo = (
                    IP(src=str(OURS), dst=str(THEIRS), id=0, flags=flags)
                    / ICMP(id=0x5350, seq=number)
                    / Raw(bytes(size))
                )
                device.sendto(bytes(echo), ("spigate0", 0x0800))
                heard = []
                while select.select([hears], [], [], 5)[0]:
                    heard.append(IP(hears.recv(0x10000))[ICMP])
                    if (heard[-1].type, heard[-1].id, heard[-1].seq) == (0, 0x5350, number):
                        break
                else:
                    raise AssertionError(f"no answer to {size} bytes; heard {heard}")
