# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A NAT between us and a peer: the kernel's (nftables), in the namespace that the peer's cable ends in."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.firmware_py.ike.hosts import THEIRS, Uml, Wire, ip

NAT = ((Path("/usr/sbin/nft"), "nftables"), (Path("/usr/sbin/conntrack"), "conntrack"))

NEAR, ROUTER = "10.97.0.1", "10.97.0.2"
"""Our address, and the router's beside us."""


class Nat:
    """A router in ``far.ours``, and behind it a namespace of ours: us (10.97.0.1), router (10.97.0.2,
    10.99.0.1), peer (10.99.0.2).

    Parameters
    ----------
    far : Wire or Uml
    hidden : str
        ``us`` or ``them``: who stands behind the NAT. They: ports 500 and 4500 of 10.97.0.2 lead to them.
    """

    def __init__(self, far: Wire | Uml, hidden: str):
        self.ours = f"spigate-n-{os.getpid()}"
        self._far, self._hidden = far, hidden
        self._device = "tap0" if isinstance(far, Uml) else "eth0"

    def open(self) -> None:
        router = self._far.ours
        ip("netns", "add", self.ours)
        ip("-n", self.ours, "link", "set", "lo", "up")
        ip("-n", self.ours, "link", "add", "eth0", "type", "veth", "peer", "name", "near", "netns", router)
        for name, device, address in ((self.ours, "eth0", NEAR), (router, "near", ROUTER)):
            ip("-n", name, "address", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
        ip("-n", self.ours, "route", "add", "default", "via", ROUTER)
        self._shell("sysctl -qw net.ipv4.ip_forward=1")
        self._masquerade("")

    def _shell(self, command: str) -> None:
        subprocess.run(
            ["ip", "netns", "exec", self._far.ours, "sh", "-c", command], check=True, capture_output=True
        )

    def limit(self, seconds: int) -> None:
        """So long a mapping is kept that nobody uses."""
        self._shell(
            f"sysctl -qw net.netfilter.nf_conntrack_udp_timeout={seconds} net.netfilter.nf_conntrack_udp_timeout_stream={seconds}"
        )

    def _masquerade(self, how: str) -> None:
        out = self._device if self._hidden == "us" else "near"
        rules = [
            f"chain out {{ type nat hook postrouting priority srcnat; oifname {out} meta l4proto udp masquerade {how}; }}"
        ]
        if self._hidden == "them":
            rules.append(
                "chain in { type nat hook prerouting priority dstnat; iifname near udp dport { 500, 4500 } "
                f"dnat to {THEIRS}; }}"
            )
        self._shell("nft -f - <<'END'\ntable ip nat {\n" + "\n".join(rules) + "\n}\nEND")

    def forget(self) -> None:
        """The mappings are gone, and the next ones get other ports."""
        self._shell("nft delete table ip nat")
        self._masquerade("to :20000-29999")
        self._shell("conntrack -F")

    def close(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self._shell("nft delete table ip nat; sysctl -qw net.ipv4.ip_forward=0; conntrack -F")
        # A namespace's devices go some time after it, and their other ends with them: this end's name is
        # wanted again at once.
        for words in (("-n", self._far.ours, "link", "del", "near"), ("netns", "del", self.ours)):
            subprocess.run(["ip", *words], check=False, capture_output=True)
