# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Where peers run: a network namespace of its own, or a user-mode Linux, whose kernel has ESP and AH.

Debian: iproute2; user-mode-linux, kmod. It wants root, network namespaces and /dev/net/tun.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

from spigate.firmware_py.errors import ToolMissing
from tests.firmware_py.ike import agent

UML, UML_MODULES = Path("/usr/bin/linux.uml"), Path("/usr/lib/uml/modules")
KERNEL = ((UML, "user-mode-linux"), (Path("/sbin/modprobe"), "kmod"))
OURS, THEIRS = ip_address("10.99.0.1"), ip_address("10.99.0.2")
OURS_6, THEIRS_6 = ip_address("fd00:99::1"), ip_address("fd00:99::2")
CONTROL, CONTROL_PORT = "10.98.0.2", 4503
"""Of the user-mode Linux, for commands: what goes between OURS and THEIRS may have to be ESP."""
CLONE_NEWNET = 0x40000000
INIT = f"""#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /run
for module in ipv6 esp4 ah4 esp6 ah6 xfrm_user authenc gcm seqiv cbc; do modprobe $module; done
ip link set lo up
ip link set vec0 up
for address in {THEIRS}/24 {CONTROL}/24; do ip address add $address dev vec0; done
ip address add {THEIRS_6}/64 dev vec0 nodad
for address in 10.2.0.1/24 fd00:2::1/64; do ip address add $address dev lo; done
ip route add default via {OURS}
ip route add default via {OURS_6}
exec {sys.executable} -S -E {agent.__file__} {CONTROL_PORT}
"""


def missing(*things: tuple[Path, str]) -> str | None:
    """What this machine lacks of ``things``, files and what they come with, and of what all hosts need;
    None: nothing.
    """
    if os.geteuid() != 0:
        return "root"
    for path, package in ((Path("/dev/net/tun"), "a kernel with TUN"), *things):
        if not path.exists():
            return package
    return None if shutil.which("ip") else "iproute2"


def need(*things: tuple[Path, str]) -> None:
    """Raises ToolMissing where :func:`missing` finds one."""
    lack = missing(*things)
    if lack is not None:
        raise ToolMissing(f"no peer here: this machine lacks {lack}")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def inside(namespace: str):
    """What is opened here belongs to the network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{namespace}") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            libc.setns(before.fileno(), CLONE_NEWNET)


class Wire:
    """Two namespaces with a cable between them."""

    def __init__(self):
        self.ours, self.theirs = (f"spigate-{side}-{os.getpid()}" for side in ("a", "b"))

    def __enter__(self) -> "Wire":
        for name in (self.ours, self.theirs):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip(
            "-n",
            self.ours,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            self.theirs,
        )
        for name, address in ((self.ours, OURS), (self.theirs, THEIRS)):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        for address in ("10.2.0.1/24", "10.2.1.1/24"):  # what stands behind it
            ip("-n", self.theirs, "address", "add", address, "dev", "lo")
        return self

    def __exit__(self, *_) -> None:
        for name in (self.ours, self.theirs):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


class Uml:
    """A namespace for us, and a cable out of it to a user-mode Linux, which runs :mod:`.agent`.

    Its root is this machine's, with a /run of its own.
    """

    def __init__(self):
        self.ours = f"spigate-u-{os.getpid()}"
        self.prefix = ("ip", "netns", "exec", self.ours)
        self._stop = threading.Event()

    def boot(self, folder: Path) -> None:
        """``folder`` is for its files."""
        ip("netns", "add", self.ours)
        ip("-n", self.ours, "link", "set", "lo", "up")
        ip("-n", self.ours, "tuntap", "add", "tap0", "mode", "tap")
        for address in (f"{OURS}/24", "10.98.0.1/24"):
            ip("-n", self.ours, "address", "add", address, "dev", "tap0")
        ip("-n", self.ours, "address", "add", f"{OURS_6}/64", "dev", "tap0", "nodad")
        ip("-n", self.ours, "link", "set", "tap0", "up")
        init, self._log = folder / "init", folder / "console"
        init.write_text(INIT)
        init.chmod(0o755)
        uml = (
            f"mkdir -p /lib/modules; mount --bind {UML_MODULES} /lib/modules; exec {UML} mem=256M root=/dev/root "
            f"rootfstype=hostfs hostfs=/ rw init={init} con=null con0=fd:0,fd:1 quiet vec0:transport=tap,ifname=tap0"
        )
        with self._log.open("wb") as console:
            self._process = subprocess.Popen(
                [*self.prefix, "unshare", "-m", "sh", "-c", uml],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        threading.Thread(target=self._nudge).start()
        end = time.monotonic() + 60
        while True:
            try:
                self.run("true")
                return
            except OSError as error:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise RuntimeError(f"no user-mode Linux: {self._log.read_text()}") from error
                time.sleep(0.1)

    def _nudge(self) -> None:
        """Its network driver now and then sleeps on a frame until the next one comes (about one of 20,000):
        here it comes.
        """
        with inside(self.ours):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.setsockopt(
                socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"tap0"
            )  # and to nobody else, where that is on a switch
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        with made, suppress(OSError):
            while not self._stop.wait(0.05):
                made.sendto(b"", ("255.255.255.255", 9))

    def close(self) -> None:
        self._stop.set()
        os.killpg(self._process.pid, signal.SIGKILL)  # it is several processes
        self._process.wait()
        subprocess.run(["ip", "netns", "del", self.ours], check=False, capture_output=True)

    def _ask(self, words: tuple, environment: dict, log: Path | None, timeout: float) -> dict:
        with inside(self.ours):
            made = socket.create_connection((CONTROL, CONTROL_PORT), timeout)
        with made:
            made.sendall(
                json.dumps(
                    {
                        "words": [str(word) for word in words],
                        "environment": {**os.environ, **environment},
                        "log": log and str(log),
                    }
                ).encode()
                + b"\n"
            )
            return json.loads(made.makefile().readline())

    def run(self, *words: object, check: bool = True, timeout: float = 20, **environment: str) -> str:
        """Runs a command there; what it prints. OSError where it takes longer."""
        done = self._ask(words, environment, None, timeout)
        assert not check or done["code"] == 0, f"{words}: {done['output']}"
        return done["output"]

    def pings(self, destination: str, sizes, *, source: str, times: int) -> None:
        """Echoes of each size (ICMP's payload), ``times`` at once; all must come back, within five seconds.

        One after the other would not do: after an answer, ping waits for the last one no longer than the
        interval, or twice the longest time that one took so far.
        """
        for size in sizes:
            printed = self.run("ping", "-c", times, "-l", times, "-i", 5, "-W", 5, "-s", size, "-I", source,
                               destination)  # fmt: skip
            assert f" {times} received" in printed, printed

    def start(self, log: Path, *words: object, **environment: str) -> int:
        """Starts a command there, whose output goes to the file ``log``; its process's number."""
        return self._ask(words, environment, log, 20)["pid"]

    def end(self, process: int) -> None:
        """Kills what was started, and takes away what it left in that kernel."""
        self.run("kill", "-9", process, check=False)
        for what in ("state", "policy"):
            self.run("ip", "xfrm", what, "flush")


@contextmanager
def own_namespace(prefix):
    """A network namespace for one test, in which it is: its name."""
    need()
    name = f"{prefix}-{os.getpid()}"
    ip("netns", "add", name)
    try:
        with inside(name):
            yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
