# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A running ``spigate simulate``, with a host at each of its ports: network namespaces, and raw sockets in
them.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.firmware_py.ike.hosts import inside, ip

PORTS = ("network", "server")
SPIGATE = ("-m", "spigate.firmware_py.cli")
PATIENCE = 60
_READY = re.compile(r"^(\S+): a gateway between (\S+) and (\S+)$")
_ETH_P_ALL = 3


class Host:
    """A host at one port: it sends and receives whole frames.

    Members
    -------
    namespace : str
    """

    def __init__(self, namespace: str, device: str):
        self.namespace, self.device = namespace, device
        ip("netns", "add", namespace)
        with inside(namespace):
            # A host that speaks IPv6 sends frames that nobody asked for.
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")

    def take(self, gateway: str) -> None:
        """Takes its device out of the gateway's namespace."""
        ip("-n", gateway, "link", "set", self.device, "netns", self.namespace)
        ip("-n", self.namespace, "link", "set", self.device, "mtu", "9000", "up")
        with inside(self.namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((self.device, _ETH_P_ALL))

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self, seconds: float = PATIENCE) -> bytes:
        """The next frame of the gateway's; TimeoutError where none comes."""
        end = time.monotonic() + seconds
        while True:
            self._socket.settimeout(max(end - time.monotonic(), 0.001))
            frame, (_, _, kind, *_) = self._socket.recvfrom(0xFFFF)
            if kind != socket.PACKET_OUTGOING:
                return frame

    def close(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, capture_output=True)


class Simulation:
    """A simulated gateway as a process.

    Parameters
    ----------
    words : str
        Of the command line.
    program : tuple of str
        What Python is to run.

    Members
    -------
    path : Path
        Its socket.
    url : str
        The same for a control element.
    network, server : Host
    """

    def __init__(self, folder: Path, namespace: str, *words: str, program: tuple[str, ...] = SPIGATE):
        self.path, self.namespace = folder / "gateway.sock", namespace
        self.url = f"unix:{self.path}"
        self.network, self.server = (Host(f"{namespace}-{port[0]}", f"tap-{port[0]}") for port in PORTS)
        ip("netns", "add", namespace)
        self.command = [
            "ip",
            "netns",
            "exec",
            namespace,
            sys.executable,
            *program,
            "simulate",
            "--socket",
            str(self.path),
            "--network",
            self.network.device,
            "--server",
            self.server.device,
            *words,
        ]

    def start(self) -> None:
        """Returns when it is ready."""
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        assert _READY.match(line), line + self.process.stderr.read()
        for host in (self.network, self.server):
            host.take(self.namespace)

    def connect(self) -> socket.socket:
        """A control element that says only what the test says."""
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(PATIENCE)
        made.connect(str(self.path))
        return made

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, and what it printed."""
        self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, errors

    def close(self) -> None:
        if self.process.poll() is None:
            try:
                self.end()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.communicate()
        self.network.close()
        self.server.close()
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, capture_output=True)


@contextmanager
def simulation(folder: Path, *words: str, **options: object) -> Iterator[Simulation]:
    """One that runs; its namespaces go with it."""
    made = Simulation(folder, f"live-{os.getpid()}-{time.monotonic_ns() % 10_000}", *words, **options)
    try:
        made.start()
        yield made
    finally:
        made.close()
