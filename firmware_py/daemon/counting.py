# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a gateway in hardware counts, as counters that only grow."""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

from spigate.firmware_py.daemon.dataplane import KINDS, Metric
from spigate.firmware_py.daemon.logs import log
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.interface import Counters

_Name = TypeVar("_Name")


class Counting:
    """The counters of a gateway from when it was made (:meth:`open`) on.

    Members
    -------
    done : Counter of str
        Packets done by all DFEs, by kind.
    drops : Counter of str
        By reason.
    """

    def __init__(self, driver: Driver, before: Counters):
        self._driver, self._before = driver, before
        self._healthy: int | None = None
        self._dfes: list[Counter[str]] = [Counter() for _ in range(driver.capabilities.dfes)]
        self.done: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()

    @classmethod
    async def open(cls, driver: Driver) -> "Counting":
        """Those of the gateway behind ``driver``."""
        return cls(driver, await driver.counters())

    async def look(self) -> None:
        """Takes up how much the counters have grown, and tells of DFEs that take packets no more,
        or again.
        """
        before, self._before = self._before, await self._driver.counters()
        for own, old, new in zip(self._dfes, before.dfes, self._before.dfes, strict=True):
            grown = _grown(old, new)
            own += grown
            self.done += Counter({kind: grown[kind] for kind in KINDS})
        drops = _grown(before.drops, self._before.drops)
        self.drops += Counter({reason.name.lower(): count for reason, count in drops.items()})
        healthy = await self._driver.healthy()
        for at in range(len(self._dfes)):
            if self._healthy is not None and (self._healthy ^ healthy) >> at & 1:
                log(
                    logging.INFO if healthy >> at & 1 else logging.WARNING,
                    "dfe",
                    dfe=at,
                    healthy=bool(healthy >> at & 1),
                )
        self._healthy = healthy

    def metrics(self) -> list[Metric]:
        """DFE by DFE, for Prometheus."""
        packets = {str(at): counts["packets_in"] for at, counts in enumerate(self._dfes)}
        octets = {str(at): counts["bytes_in"] for at, counts in enumerate(self._dfes)}
        healthy = {str(at): (self._healthy or 0) >> at & 1 for at in range(len(self._dfes))}
        return [
            Metric("dfe_packets_total", "counter", "Packets into each DFE.", "dfe", packets),
            Metric("dfe_bytes_total", "counter", "Bytes of frames into each DFE.", "dfe", octets),
            Metric("dfe_healthy", "gauge", "1: the DFE takes packets.", "dfe", healthy),
        ]


def _grown(before: Mapping[_Name, int], after: Mapping[_Name, int]) -> Counter[_Name]:
    """How much counters of 32 bits have grown."""
    return Counter({name: (value - before.get(name, 0)) % (1 << 32) for name, value in after.items()})
