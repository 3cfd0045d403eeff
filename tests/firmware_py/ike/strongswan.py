# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""strongSwan's charon, and an endpoint of ours opposite: in a network namespace, with ESP in user space, or
in a user-mode Linux, with that kernel's ESP and AH.

Debian: strongswan-charon, strongswan-swanctl, libcharon-extra-plugins, libstrongswan-standard-plugins,
libstrongswan-extra-plugins.
"""

import os
import select
import socket
import subprocess
import time
from collections import Counter
from ipaddress import ip_address
from pathlib import Path

from spigate.firmware_py.ike.engine.actions import Datagram, Event, Socket
from spigate.firmware_py.ike.engine.endpoint import Endpoint
from spigate.firmware_py.ipsec.sa import CIPHERS, Sa
from spigate.firmware_py.ipsec.transform import transform
from tests.firmware_py.ike.hosts import CONTROL, OURS, THEIRS, Uml, Wire, inside
from tests.firmware_py.ike.network import SECRET, DataPlane

CHARON = Path("/usr/lib/ipsec/charon")
STRONGSWAN = (
    (CHARON, "strongswan-charon"),
    (Path("/usr/sbin/swanctl"), "strongswan-swanctl"),
    (CHARON.parent / "plugins/libstrongswan-kernel-libipsec.so", "libcharon-extra-plugins"),
    (CHARON.parent / "plugins/libstrongswan-openssl.so", "libstrongswan-standard-plugins"),
    (CHARON.parent / "plugins/libstrongswan-curve25519.so", "libstrongswan-extra-plugins"),
)
PLUGINS = (
    "random nonce aes sha1 sha2 hmac kdf gcm pem pkcs1 pkcs8 x509 revocation constraints pubkey curve25519 openssl "
    "kernel-netlink socket-default vici"
)
PSK = ("auth = psk", "auth = psk")
CERTIFICATES = ("auth = pubkey\n      certs = own.pem", "auth = pubkey")


def swanctl_conf(
    *,
    ike: str = "aes128gcm16-prfsha256-ecp256",
    esp: str = "aes128gcm16",
    auth: tuple[str, str] = PSK,
    connection: str = "",
    remote_ts: str = "10.1.0.0/24",
    more: str = "",
    extra: str = "",
) -> str:
    """swanctl.conf of THEIRS, with a connection ``gw`` to OURS that has a child ``net``. ``auth``: their
    lines, ours.
    """
    return f"""
connections {{
  gw {{
    version = 2
    local_addrs = {THEIRS}
    remote_addrs = {OURS}
    proposals = {ike}
    mobike = no
    {connection}
    local {{
      {auth[0]}
      id = b.example
    }}
    remote {{
      {auth[1]}
      id = a.example
    }}
    children {{
      net {{
        local_ts = 10.2.0.0/24
        remote_ts = {remote_ts}
        esp_proposals = {esp}
        {extra}
      }}
      {more}
    }}
  }}
}}
secrets {{
  ike {{
    id-a = a.example
    id-b = b.example
    secret = "{SECRET.secret.decode()}"
  }}
}}
"""


def conf_of(protocol: str, mode: str, words: str) -> str:
    """The same with a child of ESP or AH, in tunnel or transport mode."""
    conf = swanctl_conf(extra=f"mode = {mode}\n        {protocol}_proposals = {words}")
    if protocol == "ah":
        conf = conf.replace("esp_proposals = aes128gcm16", "")
    return (
        conf.replace("local_ts = 10.2.0.0/24", "").replace("remote_ts = 10.1.0.0/24", "")
        if mode == "transport"
        else conf
    )


class Charon:
    """A running charon. ``folder`` is its swanctl folder: swanctl.conf, x509, x509ca, private.
    ``log_level``: of IKE and configuration; -1 is silence.
    """

    def __init__(self, wire: Wire | Uml, folder: Path, settings: str = "", log_level: int = 2):
        self._wire, self._folder, self._settings, self._log_level = wire, folder, settings, log_level
        self._uri = f"unix://{folder}/vici"
        self._prefix: list[str] = []
        self._process: subprocess.Popen | None = None
        self.log = folder / "charon.log"

    def _configure(self, plugins: str) -> Path:
        conf = self._folder / "strongswan.conf"
        conf.write_text(f"""charon {{
            load = {plugins}
            retransmit_timeout = 1.0
            {self._settings}
            plugins {{ vici {{ socket = {self._uri} }} }}
            filelog {{ log {{ path = {self.log}
                default = {min(self._log_level, 1)}
                ike = {self._log_level}
                cfg = {self._log_level}
                flush_line = yes }} }}
        }}\n""")
        return conf

    def start(self) -> None:
        conf = self._configure(f"kernel-libipsec {PLUGINS}")
        # its pid file is always in /run, so that each needs a /run of its own
        run = f"mount -t tmpfs none /run; exec {CHARON}"
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", self._wire.theirs, "unshare", "-m", "sh", "-c", run],
            env={**os.environ, "STRONGSWAN_CONF": str(conf)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait(lambda: (self._folder / "vici").exists())
        self.load()

    def _wait(self, up) -> None:
        end = time.monotonic() + 30
        while not up():
            if time.monotonic() > end or self._process is not None and self._process.poll() is not None:
                raise RuntimeError(
                    f"charon did not start: {self.log.read_text() if self.log.exists() else ''}"
                )
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self) -> None:
        """Reads its connections, credentials and secrets anew."""
        self.swanctl("--load-all", "--file", str(self._folder / "swanctl.conf"), "--noprompt")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> None:
        """Without a word to its peers."""
        self._process.kill()
        self._process.wait()
        (self._folder / "vici").unlink()

    def ping(self, source: str, destination: str) -> socket.socket:
        """Sends an ICMP echo request; returns the socket that hears the answer, or fails after a while."""
        with inside(self._wire.theirs):
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        raw.bind((source, 0))
        raw.settimeout(5)
        raw.sendto(REQUEST, (destination, 0))
        return raw

    def swanctl(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [*self._prefix, "swanctl", *words, "--uri", self._uri],
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "SWANCTL_DIR": str(self._folder)},
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr + self.log.read_text()
        return done.stdout

    def start_swanctl(self, *words: str) -> subprocess.Popen:
        """A command that ends when the peer has answered."""
        return subprocess.Popen(
            [*self._prefix, "swanctl", *words, "--uri", self._uri],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


class KernelCharon(Charon):
    """A charon that uses the ESP and AH of the kernel beneath it, a user-mode Linux's."""

    def __init__(self, uml: Uml, folder: Path):
        super().__init__(uml, folder)
        self._uri = f"tcp://{CONTROL}:4502"
        self._prefix = list(uml.prefix)

    def start(self) -> None:
        conf = self._configure(PLUGINS)
        self._number = self._wire.start(self._folder / "output", CHARON, STRONGSWAN_CONF=str(conf))
        self._wait(lambda: self.swanctl("--stats", check=False))

    def close(self) -> None:
        self._wire.end(self._number)

    def kill(self) -> None:
        """Without a word to its peers; its SAs are the kernel's, which goes on with them until it is
        started again.
        """
        self._wire.run("kill", "-9", self._number)


class Pump:
    """An endpoint of ours on sockets, driven as long as a condition wants it.

    Members
    -------
    received : list of bytes
        Datagrams that came, with marker.
    esp : list of bytes
        What came on port 4500 and was not IKE.
    lose : int
        So many datagrams of ours are lost.
    """

    def __init__(self, wire: Wire | Uml, endpoint: Endpoint):
        self.endpoint = endpoint
        self.plane = DataPlane()
        self.events: list[Event] = []
        self.others: list = []
        self.received: list[bytes] = []
        self.esp: list[bytes] = []
        self.lose = 0
        self._sequence = Counter()
        with inside(wire.ours):
            self._sockets = {port: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for port in (500, 4500)}
        for port, each in self._sockets.items():
            each.bind((str(OURS), port))

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()

    def act(self, command: str, *arguments, **named) -> None:
        """A command of the endpoint's, now."""
        getattr(self.endpoint, command)(time.monotonic(), *arguments, **named)
        self._settle()

    def _settle(self) -> None:
        for output in self.endpoint.take():
            if isinstance(output, Datagram):
                if self.lose:
                    self.lose -= 1
                    continue
                self._sockets[output.source.port].sendto(
                    output.data, (str(output.destination.address), output.destination.port)
                )
            elif isinstance(output, Event):
                self.events.append(output)
            else:
                self.plane.apply(output)
                self.others.append(output)

    def until(self, condition, seconds: float = 45) -> None:
        """Runs until ``condition()`` holds."""
        end = time.monotonic() + seconds
        while not condition():
            now = time.monotonic()
            assert now < end, [str(event) for event in self.events]
            timer = self.endpoint.next_timer
            wait = min(0.05, max(0.0, (timer or end) - now))
            for each in select.select(list(self._sockets.values()), [], [], wait)[0]:
                data, (address, port) = each.recvfrom(65536)
                local = Socket(OURS, each.getsockname()[1])
                self.received.append(data)
                if not self.endpoint.receive(
                    time.monotonic(), data, local, Socket(ip_address(address), port)
                ):
                    self.esp.append(data)
            self.endpoint.tick(time.monotonic())
            self._settle()

    def raw(self, data: bytes) -> None:
        """Sends what is not the endpoint's, from port 500."""
        self._sockets[500].sendto(data, (str(THEIRS), 500))

    def send_esp(self, sa: Sa, packet: bytes) -> None:
        """An IPv4 packet in ESP in UDP."""
        self._sockets[4500].sendto(self.seal_esp(sa, packet, 4), (str(THEIRS), 4500))

    def seal_esp(self, sa: Sa, payload: bytes, next_header: int) -> bytes:
        """The next ESP packet of an SA."""
        self._sequence[sa.spi] += 1
        header = sa.spi.to_bytes(4) + self._sequence[sa.spi].to_bytes(4)
        form = CIPHERS[sa.cipher]
        padding = -(len(payload) + 2) % form.block
        text = payload + bytes(range(1, padding + 1)) + bytes([padding, next_header])
        iv = os.urandom(form.iv)
        return header + iv + transform(sa).seal(header, bytes(4) if sa.esn else b"", iv, text)

    def hold(self, seconds: float) -> None:
        """Does nothing; what comes waits."""
        time.sleep(seconds)

    def restart(self, endpoint: Endpoint) -> None:
        """Killed and started again: nothing is known any more."""
        self.endpoint, self.plane, self.events = endpoint, DataPlane(), []

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, seconds + 5)

    def count(self, kind: str) -> int:
        return sum(event.kind == kind for event in self.events)


def open_esp(sa: Sa, packet: bytes, next_header: int = 4) -> bytes:
    """What an ESP packet carries; without a number for an IPv4 packet inside a tunnel."""
    form = CIPHERS[sa.cipher]
    text = transform(sa).open(
        packet[:8], bytes(4) if sa.esn else b"", packet[8 : 8 + form.iv], packet[8 + form.iv :]
    )
    assert text is not None and text[-1] == next_header
    return text[: -2 - text[-2]]


def checksum(data: bytes) -> bytes:
    """Of the Internet (RFC 1071)."""
    words = sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
    while words >> 16:
        words = (words & 0xFFFF) + (words >> 16)
    return (words ^ 0xFFFF).to_bytes(2)


REQUEST = bytes.fromhex("0800f7ff00000000")
"""An ICMP echo request."""


def echo(request: bytes) -> bytes:
    """The answer to an ICMP echo request in an IPv4 packet."""
    icmp = request[24:]
    return request[:12] + request[16:20] + request[12:16] + bytes(2) + checksum(bytes(4) + icmp) + icmp


def ipv4(source: str, destination: str, icmp: bytes) -> bytes:
    header = (
        b"\x45\0"
        + (20 + len(icmp)).to_bytes(2)
        + bytes.fromhex("0001000040010000")
        + ip_address(source).packed
        + ip_address(destination).packed
    )
    return header[:10] + checksum(header) + header[12:] + icmp
