# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Two gateways, one opposite the other: ESP and AH as the network sees them, and a gateway that is killed
and starts again."""

import os
import random
import select
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
import scapy.layers.inet as scapy

from spigate.firmware_py.captures import pcap
from spigate.firmware_py.daemon.links import Sender, Tun
from spigate.firmware_py.daemon.routes import TABLE, Routes, run
from spigate.firmware_py.ike.wire.registry import ExchangeType
from spigate.firmware_py.ipsec.packet import Ip
from spigate.firmware_py.ipsec.sa import Selectors
from spigate.hdl.contract.protocols import AH, ESP, UDP
from spigate.sim.build import need as need_tool
from tests.firmware_py.daemon.bed import SPIGATE, Gateway, ping, transfer
from tests.firmware_py.ike.hosts import Wire, inside, need

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.slow]
CONFIG = """
[host]
device = "ipsec0"
addresses = ["{inside}"]
control = "CONTROL"

[peer.other]
address = "{remote}"
local_address = "{local}"
local_identity = "{name}.example"
remote_identity = "*.example"
psk_file = "psk"
proposals = ["aes128gcm16-prfsha256-curve25519"]
retransmission = {{ timeout = 0.3 }}
retry_seconds = 0.5
{peer}

[peer.other.child.net]
{child}
start = "{start}"
"""
MOMENTS = 20
"""At which the gateway is killed."""
STALE = "the peer began anew"
"""Of an IKE SA that INITIAL_CONTACT ended."""
INNER = {4: ("10.1.0.1/24", "10.2.0.1/24"), 6: ("fd00:1::1/64", "fd00:2::1/64")}
OUTER = {4: ("10.99.0.1", "10.99.0.2"), 6: ("fd00:99::1", "fd00:99::2")}


@pytest.fixture(scope="module")
def wire():
    need()
    with Wire() as made:
        for namespace, address in zip((made.ours, made.theirs), OUTER[6], strict=True):
            run("-n", namespace, "address", "add", f"{address}/64", "dev", "eth0", "nodad")
        run("-n", made.theirs, "address", "del", "10.2.0.1/24", "dev", "lo")
        yield made


@contextmanager
def pair(wire, folder, *, outer=4, inner=4, child="", peer="", own="", options=()):
    """Gateways A, which begins, and B. ``child``: further lines for both; ``own`` and ``options``: for A
    alone.
    """
    running = []
    try:
        for at, name in ((1, "b"), (0, "a")):
            networks = [
                INNER[inner][each].rsplit("1/")[0] + "0/" + INNER[inner][each].split("/")[1]
                for each in (at, 1 - at)
            ]
            networks = [each.replace("::0/", "::/") for each in networks]
            traffic = (
                ""
                if "transport" in child
                else f'traffic = [{{ local = "{networks[0]}", remote = "{networks[1]}" }}]\n'
            )
            text = CONFIG.format(
                inside=INNER[inner][at],
                local=OUTER[outer][at],
                remote=OUTER[outer][1 - at],
                name=name,
                peer=peer,
                child=traffic + child,
                start="now" if name == "a" else "never",
            )
            gateway = Gateway(
                (wire.ours, wire.theirs)[at],
                folder / name,
                text + own * (name == "a"),
                *options * (name == "a"),
            )
            running.append(gateway)
            gateway.start()
        running[1].happens("child-up")
        yield running[1], running[0]
    finally:
        for each in reversed(running):
            each.close()


class Wiretap:
    """Hears what a namespace's eth0 sends and gets: IP packets, in order."""

    def __init__(self, namespace: str):
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self._socket.bind(("eth0", 3))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self._socket.settimeout(0.2)
        self._stop = threading.Event()
        self.packets: list[bytes] = []

    def __enter__(self) -> "Wiretap":
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                frame = self._socket.recv(0x10000)
            except TimeoutError:
                continue
            if frame[12:14] in (b"\x08\x00", b"\x86\xdd"):
                self.packets.append(frame[14:])

    def __exit__(self, *_) -> None:
        time.sleep(0.3)
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def protocols(self) -> Counter:
        return Counter(Ip.parse(packet).protocol for packet in self.packets)


CASES = {
    "esp": ({}, ESP),
    "esp-4-in-6": ({"outer": 6}, ESP),
    "esp-6-in-4": ({"inner": 6}, ESP),
    "esp-6-in-6": ({"outer": 6, "inner": 6}, ESP),
    "in-udp": ({"peer": "force_encapsulation = true"}, UDP),
    "in-udp-6": ({"outer": 6, "peer": "force_encapsulation = true"}, UDP),
    "ah": ({"child": 'protocol = "ah"'}, AH),
    "ah-6": ({"outer": 6, "inner": 6, "child": 'protocol = "ah"'}, AH),
    "transport": ({"child": 'mode = "transport"'}, ESP),
    "transport-6": ({"outer": 6, "inner": 6, "child": 'mode = "transport"'}, ESP),
    "ah-transport": ({"child": 'mode = "transport"\nprotocol = "ah"'}, AH),
}


@pytest.mark.parametrize("case", CASES)
def test_everything_passes(wire, tmp_path, case):
    settings, protocol = CASES[case]
    transport = "transport" in case
    ends = (
        OUTER[settings.get("outer", 4)]
        if transport
        else [each.split("/")[0] for each in INNER[settings.get("inner", 4)]]
    )
    with pair(wire, tmp_path, **settings) as (a, b):
        with Wiretap(wire.ours) as tap:
            ping(wire.ours, ends[1], (0, 56, 1200, 1400, 3000, 20000))
            ping(wire.theirs, ends[0], (0, 56, 1200, 1400, 3000, 20000))
            transfer(wire.ours, wire.theirs, ends[1], os.urandom(1 << 18))
        seen = tap.protocols()
        assert seen[protocol] > 200 and not set(seen) - {protocol, UDP, 58}, seen
        assert a.rows("sas")[0]["protocol"] == {ESP: "esp", AH: "ah", UDP: "esp-in-udp"}[protocol]


def test_an_ipv6_address_is_a_source_at_once(wire):
    """Not only when the kernel has seen that nobody else has it."""
    traffic = Selectors(ip_network("fd00:1::/64"), ip_network("fd00:2::/64"))
    for _ in range(20):
        with (
            inside(wire.ours),
            closing(Tun("ipsec0")),
            closing(Routes("ipsec0", 1380, [ip_interface(INNER[6][0])])) as routes,
        ):
            routes.hold(traffic)
            assert "src fd00:1::1" in run("-6", "route", "show", "table", TABLE)


def test_used_up_sas_are_replaced(wire, tmp_path):
    with pair(wire, tmp_path, child="hard = { packets = 200 }\nsoft = { packets = 50 }") as (a, b):
        for _ in range(4):
            ping(wire.ours, "10.2.0.1", [100] * 40)
            time.sleep(0.2)
        assert a.count("child-rekeyed") >= 2


def test_policies_come_first(wire, tmp_path):
    own = '[[policy]]\naction = "discard"\nlocal = "10.1.0.0/24"\nremote = "10.2.0.0/24"\nprotocol = 6\n'
    with pair(wire, tmp_path, own=own) as (a, b):
        ping(wire.ours, "10.2.0.1")
        with pytest.raises(TimeoutError):
            transfer(wire.ours, wire.theirs, "10.2.0.1", b"never", timeout=1)
        assert "discard" in a.command("policies") and a.rows("policies")[0]["protocol"] == 6


def test_nothing_leaves_in_the_clear_when_it_is_killed(wire, tmp_path):
    with pair(wire, tmp_path) as (a, b):
        ping(wire.ours, "10.2.0.1")
        a.kill()
        with pytest.raises(OSError, match="unreachable|No route"):
            ping(wire.ours, "10.2.0.1")


@pytest.mark.parametrize("strict", [False, True])
def test_what_comes_in_the_clear_is_for_rp_filter(wire, tmp_path, strict):
    """As docs/operating.md says: this gateway does not see it."""
    forged = bytes(scapy.IP(src="10.2.0.1", dst="10.1.0.1") / scapy.UDP(sport=9, dport=999) / b"in the clear")
    with pair(wire, tmp_path):
        run("-n", wire.theirs, "route", "add", "10.1.0.0/24", "via", OUTER[4][0])
        with inside(wire.ours):
            Path("/proc/sys/net/ipv4/conf/eth0/rp_filter").write_text("1" if strict else "0")
            heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            heard.bind(("10.1.0.1", 999))
        with inside(wire.theirs):
            sender = Sender(4)
        with heard, closing(sender):
            sender.send(forged)
            assert bool(select.select([heard], [], [], 1)[0]) is not strict
        run("-n", wire.theirs, "route", "del", "10.1.0.0/24")


def numbers(packets: list[bytes]) -> list[tuple]:
    """Destination, SPI and sequence number of each ESP packet."""
    return [
        (ip.destination, packet[ip.header_bytes : ip.header_bytes + 8])
        for packet in packets
        if (ip := Ip.parse(packet)).protocol == ESP
    ]


def requests(packets: list[bytes], source: str) -> Counter:
    """Requests of IKE that ``source`` sent from port 500, by exchange type."""
    found: Counter = Counter()
    for packet in packets:
        ip = Ip.parse(packet)
        header = packet[ip.header_bytes + 8 :][:28]  # behind UDP's
        if ip.protocol == UDP and str(ip.source) == source and not header[19] & 0x20:
            found[header[18]] += 1
    return found


class Moments:
    """When the gateway ``a`` is killed: each method starts it, and returns when the moment has come."""

    def __init__(self, a: Gateway, tap: Wiretap, source: random.Random):
        self._a, self._tap, self._random = a, tap, source

    def starting(self) -> None:
        """At any time of its first second."""
        self._a.spawn()
        time.sleep(self._random.uniform(0, 1))

    def handshake(self) -> None:
        """As soon as a request of IKE_SA_INIT or IKE_AUTH has left, or a little later."""
        kind = self._random.choice((ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH))
        seen, end = len(self._tap.packets), time.monotonic() + 20
        self._a.spawn()
        while not requests(self._tap.packets[seen:], OUTER[4][0])[kind]:
            assert time.monotonic() < end, "no handshake"
            time.sleep(0.0005)
        time.sleep(self._random.uniform(0, 0.01))

    def rekeying(self) -> None:
        """While it replaces a child SA, or the IKE SA."""
        self._a.start()
        self._a.happens("child-up")
        self._a.rows("rekey", peer="other", **self._random.choice(({}, {"child": "net"})))
        time.sleep(self._random.uniform(0, 0.02))

    def at_work(self) -> None:
        self._a.start()
        self._a.happens("child-up")
        time.sleep(self._random.uniform(0, 0.3))


def test_killed_at_any_moment_it_comes_back_and_uses_no_number_twice(wire, tmp_path):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            try:
                ping(wire.ours, "10.2.0.1", (100,), timeout=0.02)
            except (AssertionError, OSError):
                time.sleep(0.002)

    with pair(wire, tmp_path) as (a, b), Wiretap(wire.ours) as tap:
        moments = Moments(a, tap, random.Random(seed))
        kinds = [moments.starting, moments.handshake, moments.rekeying, moments.at_work] * (MOMENTS // 4)
        random.Random(seed).shuffle(kinds)
        traffic = threading.Thread(target=flood)
        traffic.start()
        try:
            a.kill()
            for moment in kinds:
                moment()
                a.kill()
            a.start()
            a.happens("child-up")
        finally:
            stop.set()
            traffic.join()
        ping(wire.ours, "10.2.0.1")
        ikes = b.rows("ike")
        assert len([each for each in ikes if each["state"] == "established"]) == 1, ikes
        stale = [
            event for event in b.rows("events") if event["kind"] == "ike-down" and event["text"] == STALE
        ]
        a.stop(signal.SIGTERM)
    # The killed one's IKE SAs ended because it came back and said that it knows of none: at least as often
    # as it had had one.
    assert len(stale) >= MOMENTS // 2
    sent = requests(tap.packets, OUTER[4][0])
    assert (
        sent[ExchangeType.IKE_SA_INIT] >= MOMENTS * 3 // 4
        and sent[ExchangeType.CREATE_CHILD_SA] >= MOMENTS // 4
    ), sent
    seen = numbers(tap.packets)
    assert len(seen) > 200 and len({spi[:4] for _, spi in seen}) >= MOMENTS
    assert len(set(seen)) == len(seen)


def decrypted(folder, packets: list[bytes]) -> str:
    """What tshark makes of them with the key log in ``folder``."""
    tshark = need_tool("tshark", "tshark", "This test")
    ethernet = [bytes(12) + {4: b"\x08\x00", 6: b"\x86\xdd"}[packet[0] >> 4] + packet for packet in packets]
    pcap.write(folder / "wire.pcap", [pcap.Captured(0, frame) for frame in ethernet])
    (folder / "preferences").write_text("esp.enable_encryption_decode: TRUE\n")
    return subprocess.run(
        [tshark, "-r", str(folder / "wire.pcap"), "-V"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "WIRESHARK_CONFIG_DIR": str(folder)},
    ).stdout


@pytest.mark.parametrize("suite", ["aes128gcm16", "aes256-sha256"])
def test_wireshark_reads_along_with_the_key_log(wire, tmp_path, suite):
    keys = tmp_path / "keys"
    with (
        Wiretap(wire.ours) as tap,
        pair(wire, tmp_path, child=f'proposals = ["{suite}"]', options=("--key-log", str(keys))),
    ):
        ping(wire.ours, "10.2.0.1", [99])
    shown = decrypted(keys, tap.packets)
    assert "Type: 8 (Echo (ping) request)" in shown and "Type: 0 (Echo (ping) reply)" in shown
    assert "Identification Data:a.example" in shown
    assert (keys / "esp_sa").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_is_said_in_a_sentence(wire, tmp_path):
    with pair(wire, tmp_path) as (a, _):

        def start(config, namespace=wire.ours, *options):
            path = tmp_path / "other.toml"
            path.write_text(config)
            done = subprocess.run(
                ["ip", "netns", "exec", namespace, *SPIGATE, "ce", "--config", str(path), *options],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert done.returncode == 2 and "Traceback" not in done.stderr
            return done.stderr

        assert "UDP port 500, IPv4: Address already in use; is another IKE daemon running?" in start("")
        assert (
            "--dataplane must be soft, or hardware's: expected unix:PATH or serial:///dev/DEVICE?baud=RATE"
            in start("", wire.ours, "--dataplane", "axi://0")
        )
        assert "key host.mtu: expected a number" in start("[host]\nmtu = 1")
        assert "peer 'other' has no child 'x'; it has net" in a.command("rekey", "other/x", code=2)
