# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Routes that lead protected traffic into the TUN device, in a table of their own.

All but what this process sends (it carries a mark) is looked up in that table first. Behind each route
stands one that says "unreachable": it is what is left when the process is killed, so that nothing goes out
in the clear until it runs again.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address

from spigate.firmware_py.control.topology import AddressWithPrefix
from spigate.firmware_py.daemon.links import MARK, Changes
from spigate.firmware_py.errors import InputError, ToolMissing
from spigate.firmware_py.ipsec.sa import Address, Network, Selectors

TABLE = 5350
"""Number of the table, and place of the rule that leads to it."""
_LAST = "4278198272"
"""A metric behind all others."""


def run(*words: object) -> str:
    """``ip`` with these words. Raises InputError, ToolMissing."""
    try:
        done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ToolMissing("ip is not installed: apt install iproute2") from None
    if done.returncode:
        raise InputError(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


class Routes:
    """Parameters
    ----------
    device : str
    mtu : int
    addresses : iterable of AddressWithPrefix
        Of the device.

    Members
    -------
    own : list of Address
        This host's, as they were when :meth:`look` was last called.
    changes : Changes
        Readable when they have changed.
    """

    def __init__(self, device: str, mtu: int, addresses: Iterable[AddressWithPrefix] = ()):
        self._device = device
        self._held: Counter[Network] = Counter()
        self.changes = Changes(Changes.ADDRESSES)
        try:
            self._set_up(mtu, addresses)
        except BaseException:
            self.changes.close()
            raise

    def _set_up(self, mtu: int, addresses: Iterable[AddressWithPrefix]) -> None:
        device = self._device
        run("link", "set", device, "mtu", mtu, "up")
        for address in addresses:
            # without duplicate address detection, during which an IPv6 address is no source of a route (RFC
            # 4862 5.4)
            run("address", "replace", address, "dev", device, *["nodad"] * (address.version == 6))
        self.look()
        self._versions = [version for version in (4, 6) if self._prepare(version)]

    def _prepare(self, version: int) -> bool:
        """Makes table and rule; False where this host has no such IP."""
        try:
            self._clean(version)
            run(f"-{version}", "rule", "add", "pref", TABLE, "not", "fwmark", MARK, "table", TABLE)
        except InputError:
            if version == 4:
                raise
            return False
        return True

    def _clean(self, version: int) -> None:
        for words in (("rule", "del", "pref", TABLE), ("route", "flush", "table", TABLE)):
            try:
                run(f"-{version}", *words)
            except InputError:
                pass  # there is none

    def look(self) -> None:
        """Asks which addresses this host has."""
        self.changes.seen()
        self.own = _own_addresses()

    def close(self) -> None:
        """Takes everything away, and traffic goes as if there were no gateway."""
        self.changes.close()
        for version in self._versions:
            self._clean(version)

    def hold(self, traffic: Selectors) -> None:
        """Leads ``traffic`` into the device, until it is released as often as it is held. Raises
        InputError.
        """
        network = traffic.destination
        self._held[network] += 1
        if self._held[network] > 1 or network.version not in self._versions:
            return
        source = next((each for each in self.own if each in traffic.source), None)
        hint = ("src", source) if source else ()
        run(f"-{network.version}", "route", "replace", network, "dev", self._device, *hint, "table", TABLE)
        run(
            f"-{network.version}", "route", "replace", "unreachable", network, "metric", _LAST, "table", TABLE
        )

    def release(self, traffic: Selectors) -> None:
        """The opposite of :meth:`hold`."""
        network = traffic.destination
        self._held[network] -= 1
        if not self._held[network]:
            del self._held[network]
            if network.version in self._versions:
                run(f"-{network.version}", "route", "del", network, "dev", self._device, "table", TABLE)
                run(
                    f"-{network.version}",
                    "route",
                    "del",
                    "unreachable",
                    network,
                    "metric",
                    _LAST,
                    "table",
                    TABLE,
                )


def _own_addresses() -> list[Address]:
    """This host's that can be used already, but for those of the link or the host alone."""
    links = json.loads(run("-j", "address"))
    addresses = [
        ip_address(info["local"])
        for link in links
        for info in link.get("addr_info", ())
        if "local" in info and not info.get("tentative")
    ]
    return [each for each in addresses if not each.is_link_local and not each.is_loopback]
