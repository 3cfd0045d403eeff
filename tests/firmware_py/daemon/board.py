# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A gateway in hardware, simulated, as it stands in a network: peers on a switch at its network port, a
server at its server port, and ``spigate ce`` on a host of its own.

    peers (a user-mode Linux, namespaces) ── bridge ── network port │ gateway │ server port ── server (a
    namespace)
                                                                         │ socket
                                                                     spigate ce (a namespace)
"""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.firmware_py.daemon.bed import SPIGATE, Gateway, child_of, config
from tests.firmware_py.ike.hosts import OURS, OURS_6, Uml, inside, ip

SERVER, SERVER_6 = "10.1.0.10", "fd00:1::10"
NETWORK_MAC, SERVER_MAC = "02:00:00:00:99:01", "02:00:00:00:01:01"
BRIDGE, TAP = "br0", "tap0"
NEAR = "10.98.0.1"
"""Of the user-mode Linux's cable, this side: for commands."""
METRICS_PORT = 9500
PORTS = f"""
[port.network]
mac = "{NETWORK_MAC}"
addresses = ["10.99.0.1/24"]

[port.server]
mac = "{SERVER_MAC}"
addresses = ["10.1.0.1/24", "fd00:1::1/64"]
"""
_ETH_P_ALL = 3


def hardware_config(
    *,
    start: str = "now",
    words: str = "aes128gcm16",
    protocol: str = "esp",
    mode: str = "tunnel",
    peer: str = "",
    child: str = "",
    more: str = "",
    version: int = 4,
) -> str:
    """As :func:`~tests.firmware_py.daemon.bed.config`, with the gateway's ports. ``peer``, ``child``,
    ``more``: further lines of the peer's, of the child SA's, and tables. ``version``: of IP inside."""
    text = of_version(
        version, config(start=start, child=f"{child_of(protocol, mode, words)}\n{child}", peer=peer)
    )
    head = f'[host]\ncontrol = "CONTROL"\nmetrics_port = {METRICS_PORT}\n{PORTS}{more}\n'
    return head + text[text.index("[peer.b]") :]


def of_version(version: int, text: str) -> str:
    """A configuration, ours or theirs, with networks of this version of IP inside."""
    return (
        text.replace("10.1.0.0/24", "fd00:1::/64").replace("10.2.0.0/24", "fd00:2::/64")
        if version == 6
        else text
    )


class Board:
    """Parameters
    ----------
    folder : Path
    uml : Uml
        Becomes a peer at the network port.
    words : str
        Of ``spigate simulate``.
    serial : bool
        The control element reaches it by a host link on a serial line, not by a socket.

    Members
    -------
    ours, server, network : str
        Namespaces: of the control element, of the server, and of the switch at the network port.
    url : str
        Of the gateway, for ``--dataplane``.
    process : Popen
        ``spigate simulate``.
    """

    def __init__(self, folder: Path, uml: Uml, *words: str, serial: bool = False):
        self._uml, self.network = uml, uml.ours
        self.ours, self.server = (f"spigate-{side}-{os.getpid()}" for side in ("ce", "server"))
        self._way, scheme = ("--serial", "serial") if serial else ("--socket", "unix")
        self._path = folder / "gateway"
        self.url = f"{scheme}:{self._path}"
        self._devices = {port: f"sim-{port[0]}-{os.getpid() % 100_000}" for port in ("network", "server")}
        self._words = words

    def __enter__(self) -> "Board":
        for name in (self.ours, self.server):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        self._network("link", "add", BRIDGE, "type", "bridge")
        self.put_back()
        self._plug_in()
        return self

    def pull_out(self) -> None:
        """It is gone, and so are its ports and its end of the line."""
        self.process.kill()
        self.process.communicate()

    def put_back(self) -> None:
        """It is there, with nothing in its tables, and its ports are where they belong."""
        self.process = simulate(self._path, self._devices, *self._words, way=self._way)
        device = self._devices["server"]
        ip("link", "set", device, "netns", self.server)
        for address in (f"{SERVER}/24", f"{SERVER_6}/64"):
            ip("-n", self.server, "address", "add", address, "dev", device, *["nodad"] * (":" in address))
        ip("-n", self.server, "link", "set", device, "up")
        ip("-n", self.server, "route", "add", "default", "via", "10.1.0.1")
        ip("-n", self.server, "route", "add", "default", "via", "fd00:1::1")
        device = self._devices["network"]
        ip("link", "set", device, "netns", self.network)
        self._speaks_no_ipv6(device)
        self._network("link", "set", device, "master", BRIDGE, "up")

    def _speaks_no_ipv6(self, device: str) -> None:
        """Who speaks IPv6 sends frames that nobody asked for."""
        with inside(self.network):
            Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")

    def __exit__(self, *_) -> None:
        self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self._unplug()
        for name in (self.ours, self.server):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def _plug_in(self) -> None:
        """A switch with the user-mode Linux and the gateway: this side's own addresses there are the
        gateway's now.
        """
        self._speaks_no_ipv6(BRIDGE)
        self._network("address", "flush", "dev", TAP)
        self._network("link", "set", BRIDGE, "address", _mac(self.network, TAP), "up")
        self._network("address", "add", f"{NEAR}/24", "dev", BRIDGE)
        self._network("link", "set", TAP, "master", BRIDGE, "up")

    def _unplug(self) -> None:
        """As :meth:`Uml.boot` made it."""
        self._network("link", "del", BRIDGE)
        for address in (f"{OURS}/24", f"{NEAR}/24"):
            self._network("address", "add", address, "dev", TAP)
        self._network("address", "add", f"{OURS_6}/64", "dev", TAP, "nodad")
        # Both sides know each other anew: the user-mode Linux had the gateway's Ethernet address.
        self._network("neighbour", "flush", "dev", TAP)
        self._uml.run("ip", "neighbour", "flush", "dev", "vec0")

    def _network(self, *words: str) -> None:
        ip("-n", self.network, *words)

    @contextmanager
    def peer(self, address: str) -> Iterator["Peer"]:
        """One more machine at the switch, with a network behind it."""
        made = Peer(f"spigate-peer-{os.getpid()}")
        ip("netns", "add", made.theirs)
        try:
            ip("-n", made.theirs, "link", "set", "lo", "up")
            ip(
                "-n",
                made.theirs,
                "link",
                "add",
                "eth0",
                "type",
                "veth",
                "peer",
                "name",
                "peer",
                "netns",
                self.network,
            )
            for each, device in ((f"{address}/24", "eth0"), ("10.2.0.1/24", "lo")):
                ip("-n", made.theirs, "address", "add", each, "dev", device)
            ip("-n", made.theirs, "link", "set", "eth0", "up")
            self._network("link", "set", "peer", "master", BRIDGE, "up")
            yield made
        finally:
            # A namespace's devices go some time after it: the switch has this end until then.
            subprocess.run(
                ["ip", "-n", self.network, "link", "del", "peer"], check=False, capture_output=True
            )
            ip("netns", "del", made.theirs)

    @contextmanager
    def leaving(self, port: str) -> Iterator[list[bytes]]:
        """Whole frames that leave the gateway at a port meanwhile."""
        frames = []
        with inside({"network": self.network, "server": self.server}[port]):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        with made:
            made.bind((self._devices[port], _ETH_P_ALL))
            yield frames
            made.setblocking(False)
            while True:
                try:
                    frame, (_, _, kind, *_) = made.recvfrom(0xFFFF)
                except BlockingIOError:
                    return
                if kind != socket.PACKET_OUTGOING:
                    frames.append(frame)

    def in_server(self, *words: object) -> str:
        """Runs a command there; what it prints, whatever its exit code."""
        ended = subprocess.run(
            ["ip", "netns", "exec", self.server, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return ended.stdout + ended.stderr

    def change_server_mac(self, mac: str) -> None:
        """Its interface has another Ethernet address from now on, and says so."""
        device = self._devices["server"]
        with inside(self.server):
            Path(f"/proc/sys/net/ipv4/conf/{device}/arp_notify").write_text("1")
        ip("-n", self.server, "link", "set", device, "address", mac)

    def pin_gateway(self, pinned: bool) -> None:
        """The server knows the gateway's Ethernet address without asking, or asks."""
        if pinned:
            ip(
                "-n",
                self.server,
                "neighbour",
                "replace",
                "10.1.0.1",
                "lladdr",
                SERVER_MAC,
                "dev",
                self._devices["server"],
                "nud",
                "permanent",
            )
        else:
            ip("-n", self.server, "neighbour", "del", "10.1.0.1", "dev", self._devices["server"])

    def forget_paths(self) -> None:
        """The server forgets what it was told of paths' MTUs."""
        for version in ("-4", "-6"):
            ip("-n", self.server, version, "route", "flush", "cache")

    def refuses(self, folder: Path, text: str, why: str, *, url: str | None = None) -> None:
        """``spigate ce`` does not start with this configuration, and says why in one sentence."""
        Gateway(self.ours, folder, text)
        ended = subprocess.run(
            [
                "ip",
                "netns",
                "exec",
                self.ours,
                *SPIGATE,
                "ce",
                "--config",
                str(folder / "spigate.toml"),
                "--dataplane",
                url or self.url,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert ended.returncode == 2, ended
        assert ended.stdout == "" and why in ended.stderr and ended.stderr.count("\n") == 1, ended

    def control_element(self, folder: Path, text: str, *, url: str | None = None) -> Gateway:
        """One that is ready to start."""
        return Gateway(self.ours, folder, text, "--dataplane", url or self.url)


@dataclass(frozen=True)
class Peer:
    """For :class:`~tests.firmware_py.ike.strongswan.Charon`."""

    theirs: str


def simulate(path: Path, devices: dict[str, str], *words: str, way: str = "--socket") -> subprocess.Popen:
    """A running ``spigate simulate``."""
    made = subprocess.Popen(
        [
            *SPIGATE,
            "simulate",
            way,
            str(path),
            "--network",
            devices["network"],
            "--server",
            devices["server"],
            *words,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = made.stdout.readline()
    assert "a gateway between" in line, line + made.stderr.read()
    return made


def metrics(gateway: Gateway) -> dict[str, int]:
    """What Prometheus reads, by name and label: ``packets_total{kind="encrypted"}``, without the project's
    name in front.
    """
    with inside(gateway.namespace):
        connection = socket.create_connection(("127.0.0.1", METRICS_PORT), 10)
    with connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        text = connection.makefile().read()
    lines = [line.split(" ") for line in text.splitlines() if line.startswith("spigate_")]
    return {name.removeprefix("spigate_"): int(float(value)) for name, value in lines}


def done(gateway: Gateway, kind: str) -> int:
    """Packets ``encrypted``, ``decrypted`` or ``bypassed``, in hardware or software."""
    return metrics(gateway)[f'packets_total{{kind="{kind}"}}']


def dropped(gateway: Gateway, reason: str) -> int:
    """Packets dropped for a reason."""
    return metrics(gateway).get(f'dropped_packets_total{{reason="{reason}"}}', 0)


def _mac(namespace: str, device: str) -> str:
    shown = subprocess.run(
        ["ip", "-n", namespace, "-j", "link", "show", "dev", device],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(shown.stdout)[0]["address"]
