# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate ce`` in a network namespace, as an operator starts it; pings and TCP through what it makes."""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from spigate.firmware_py.ipsec.packet import checksum
from tests.firmware_py.ike.hosts import inside
from tests.firmware_py.ike.network import SECRET

SPIGATE = (sys.executable, "-m", "spigate.firmware_py.cli")
SIZES = (0, 1, 56, 500, 1331, 1352, 1353, 1472, 1473, 3000, 9000, 65000)
"""Of pings, around every limit."""
CONFIG = """
[host]
addresses = ["10.1.0.1/24", "fd00:1::1/64"]
control = "CONTROL"

[peer.b]
address = "10.99.0.2"
local_address = "10.99.0.1"
local_identity = "a.example"
remote_identity = "b.example"
{credentials}
proposals = ["aes128gcm16-prfsha256-ecp256"]
retry_seconds = 1
{peer}

[peer.b.child.net]
{child}
start = "{start}"
"""
TRAFFIC = 'traffic = [{ local = "10.1.0.0/24", remote = "10.2.0.0/24" }]'


CHAIN = """certificate_files = ["x509/own.pem", "x509ca/middle.pem"]
key_file = "private/own.pem"
ca_files = ["x509ca/root.pem"]"""
"""Credentials of a folder that :class:`~tests.firmware_py.ike.authority.Chain` wrote."""


def child_of(
    protocol: str = "esp", mode: str = "tunnel", words: str = "aes128gcm16", traffic: str = TRAFFIC
) -> str:
    """Lines of a child SA's."""
    return f'protocol = "{protocol}"\nmode = "{mode}"\nproposals = ["{words}"]\n' + traffic * (
        mode == "tunnel"
    )


def config(
    *, start: str = "now", credentials: str = 'psk_file = "psk"', peer: str = "", child: str = child_of()
) -> str:
    """Of a gateway opposite a peer at THEIRS."""
    return CONFIG.format(start=start, credentials=credentials, peer=peer, child=child)


class Gateway:
    """A running ``spigate ce``. ``folder`` holds its configuration and secrets."""

    def __init__(self, namespace: str, folder: Path, config: str, *options: str):
        self.namespace, self.folder = namespace, folder
        folder.mkdir(exist_ok=True)
        self.socket, self.log = folder / "control", folder / "log"
        secret = folder / "psk"
        secret.write_text(SECRET.secret.decode() + "\n")
        secret.chmod(0o600)
        (folder / "spigate.toml").write_text(config.replace("CONTROL", str(self.socket)))
        self._options = options
        self._process = None

    def start(self) -> None:
        """Starts it and waits until it can be asked."""
        self.spawn()
        self.until(lambda: self._asked("ike") is not None, "starts", 60)

    def spawn(self) -> None:
        """Starts it, and waits for nothing."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "ip",
                    "netns",
                    "exec",
                    self.namespace,
                    *SPIGATE,
                    "ce",
                    "--config",
                    str(self.folder / "spigate.toml"),
                    *self._options,
                ],
                stderr=log,
            )

    def _asked(self, command: str) -> list[dict] | None:
        assert self._process.poll() is None, self.log.read_text()
        try:
            return self.rows(command)
        except OSError:
            return None

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """As an operator ends it."""
        self.stop(signal.SIGTERM)

    def stop(self, number: int) -> None:
        """Sends it a signal and waits for its end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def ended(self, seconds: float) -> int:
        """Its exit code, when it has ended by itself."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """At once, and without a word to anybody."""
        self.stop(signal.SIGKILL)

    def rows(self, command: str, **values: str) -> list[dict]:
        """What it answers at its control socket. OSError where it does not."""
        with socket.socket(socket.AF_UNIX) as made:
            made.settimeout(10)
            made.connect(str(self.socket))
            made.sendall(json.dumps({"command": command, **values}).encode() + b"\n")
            return json.loads(made.makefile().readline())["rows"]

    def count(self, kind: str) -> int:
        return sum(event["kind"] == kind for event in self.rows("events"))

    def until(self, condition, what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what}: not in {seconds} s\n{self.log.read_text()}"
            time.sleep(0.05)

    def happens(self, kind: str, times: int = 1, seconds: float = 60) -> None:
        """Waits until an event has been so often."""
        self.until(lambda: self.count(kind) >= times, kind, seconds)

    def command(self, *words: str, code: int = 0) -> str:
        """``spigate WORDS`` at its socket; what it prints."""
        done = subprocess.run(
            [*SPIGATE, *words, "--socket", str(self.socket)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


def ping(namespace: str, destination: str, sizes=(56,), *, timeout: float = 15, source: str = "") -> None:
    """One echo of each size (ICMP's payload); it must come back as it was."""
    six = ":" in destination
    with inside(namespace):
        made = socket.socket(
            socket.AF_INET6 if six else socket.AF_INET,
            socket.SOCK_RAW,
            socket.getprotobyname("ipv6-icmp" if six else "icmp"),
        )
    with made:
        if source:
            made.bind((source, 0))
        for number, size in enumerate(sizes):
            body = struct.pack(">HH", os.getpid() & 0xFFFF, number) + bytes(at & 0xFF for at in range(size))
            kind, answer = (128, 129) if six else (8, 0)
            head = struct.pack(">BBH", kind, 0, 0)
            if not six:  # the kernel does it for IPv6
                head = head[:2] + checksum(head + body).to_bytes(2)
            made.sendto(head + body, (destination, 0))
            end = time.monotonic() + timeout
            while True:
                left = max(
                    end - time.monotonic(), 0
                )  # what came meanwhile counts, however late this process looks
                assert select.select([made], [], [], left)[0], f"no answer to {size} bytes"
                packet = made.recv(0x10000)
                packet = packet if six else packet[4 * (packet[0] & 15) :]
                if packet[0] == answer and packet[4:] == body:
                    break


def echoed(namespace: str, address: str, data: bytes, port: int = 7) -> None:
    """``data`` over TCP to an echo server and back, both at a time; it must come back as it was."""
    with inside(namespace):
        client = socket.create_connection((address, port), 10)
    with client:
        _pump(client, client, data)


def transfer(
    sender: str, receiver: str, address: str, data: bytes, port: int = 5001, *, timeout: float = 30
) -> None:
    """``data`` over TCP, between namespaces; it must arrive as it was."""
    with inside(receiver):
        server = socket.create_server(
            (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        )
    with inside(sender):
        client = socket.create_connection((address, port), timeout)
    with server, client:
        serving, _ = server.accept()
        with serving:
            _pump(client, serving, data)


def _pump(sender: socket.socket, receiver: socket.socket, data: bytes) -> None:
    sender.setblocking(False)
    got, sent = bytearray(), 0
    while len(got) < len(data):
        readable, writable, _ = select.select([receiver], [sender] if sent < len(data) else [], [], 20)
        assert readable or writable, f"stuck after {len(got)} of {len(data)} bytes"
        if writable:
            sent += sender.send(data[sent : sent + 65536])
        if readable:
            got += receiver.recv(1 << 16)
    assert bytes(got) == data


class Traffic:
    """Pings all the time, in a thread of its own; none may be lost."""

    def __init__(self, namespace: str, destination: str):
        self._namespace, self._destination, self._stop = namespace, destination, threading.Event()
        self.count, self.error = 0, None

    def __enter__(self) -> "Traffic":
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.002):
                ping(self._namespace, self._destination, (100, 1300))
                self.count += 2
        except AssertionError as error:
            self.error = error

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()


def rekey_under_traffic(
    gateway: Gateway,
    namespace: str,
    destination: str,
    child: Callable | None = None,
    ike: Callable | None = None,
    *,
    rounds: int = 1,
) -> None:
    """We and they rekey the child and the IKE SA, one after the other; no ping between is lost.

    ``child`` and ``ike`` make them do it; without, they do not. Where pings take long, more ``rounds`` see
    to it that there are enough.
    """
    steps = [
        ("child-rekeyed", lambda: gateway.command("rekey", "b/net")),
        ("child-rekeyed", child),
        ("ike-rekeyed", lambda: gateway.command("rekey", "b")),
        ("ike-rekeyed", ike),
    ]
    with Traffic(namespace, destination) as traffic:
        for kind, step in steps * rounds:
            if step is not None:
                before = gateway.count(kind)
                step()
                gateway.happens(kind, before + 1)
    assert traffic.error is None, traffic.error
    assert traffic.count > 20
