# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Who may begin: cookies (RFC 7296 2.6), and how many handshakes may be half open, in all and from one
address.
"""

import hashlib
import hmac
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.sa import Address


@dataclass(frozen=True)
class Limits:
    """Members
    -------
    cookie_threshold : int
        From so many handshakes on that are half open or failed lately, an initiator must return a cookie
        first.
    half_open : int
        So many half-open IKE SAs are kept at most; one more takes the place of the oldest.
    per_source : int
        So many of one address (IPv6: one /64); what comes then from there is dropped. From half of that on,
        a cookie is asked for there.
    lingering : int
        So many closed IKE SAs still answer their last request, and ``per_source`` of one address.
    half_open_seconds : float
        So long an initiator has from IKE_SA_INIT to the end of IKE_AUTH.
    cookie_seconds : float
        A secret for cookies is used so long, and accepted so long again.
    """

    cookie_threshold: int = 16
    half_open: int = 1024
    per_source: int = 8
    lingering: int = 256
    half_open_seconds: float = 30.0
    cookie_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, low in (("cookie_threshold", 0), ("half_open", 1), ("per_source", 1), ("lingering", 1)):
            if getattr(self, name) < low:
                raise InputError(f"{name} must be {low} or more, not {getattr(self, name)!r}")
        for name in ("half_open_seconds", "cookie_seconds"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be more than 0, not {getattr(self, name)!r}")


class Cookies:
    """Cookies that say an address was heard, without anything being kept of it.

    A cookie is the number of its secret, and a MAC over nonce, address and the initiator's SPI.
    """

    def __init__(self, seconds: float, random: Callable[[int], bytes]):
        self._seconds = seconds
        self._random = random
        self._secrets: dict[int, bytes] = {}

    def make(self, now: float, nonce: bytes, address: Address, spi_i: bytes) -> bytes:
        return self._cookie(self._epoch(now), nonce, address, spi_i)

    def valid(self, now: float, cookie: bytes, nonce: bytes, address: Address, spi_i: bytes) -> bool:
        """Whether ``cookie`` was made for these, with the secret in use or the one before."""
        epoch = self._epoch(now)
        known = [each for each in (epoch, epoch - 1) if each in self._secrets]
        return any(hmac.compare_digest(cookie, self._cookie(each, nonce, address, spi_i)) for each in known)

    def _epoch(self, now: float) -> int:
        epoch = int(now // self._seconds)
        if epoch not in self._secrets:
            kept = {each: secret for each, secret in self._secrets.items() if each == epoch - 1}
            self._secrets = {**kept, epoch: self._random(32)}
        return epoch

    def _cookie(self, epoch: int, nonce: bytes, address: Address, spi_i: bytes) -> bytes:
        mac = hmac.digest(self._secrets[epoch], nonce + address.packed + spi_i, hashlib.sha256)
        return bytes([epoch & 0xFF]) + mac


class HalfOpen:
    """Counts handshakes that an initiator began and has not finished, and those that failed a short while
    ago.

    Load is both: who lets its handshakes fail costs as much as who leaves them open.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._sources: Counter[object] = Counter()
        self._total = 0
        self._failures: deque[tuple[float, object]] = deque()
        self._failed: Counter[object] = Counter()

    def __len__(self) -> int:
        return self._total

    def load(self, now: float) -> int:
        """Half open, and failed within the last ``half_open_seconds``; failures count up to the threshold."""
        self._forget(now)
        return self._total + len(self._failures)

    def asks(self, now: float, address: Address) -> bool:
        """Whether a cookie is asked for: under load of all, or where half of what one address may have is
        taken, since anybody may have begun it in that address's name."""
        source = _source(address)
        of_source = (
            self._sources[source] + self._failed[source]
            if source in self._sources or source in self._failed
            else 0
        )
        return self.load(now) >= self._limits.cookie_threshold or of_source > self._limits.per_source // 2

    @property
    def full(self) -> bool:
        """No more may begin."""
        return self._total >= self._limits.half_open

    def room(self, address: Address) -> bool:
        """Whether one more may begin from ``address``, as far as that address is concerned."""
        source = _source(address)
        return source not in self._sources or self._sources[source] < self._limits.per_source

    def add(self, address: Address) -> None:
        self._sources[_source(address)] += 1
        self._total += 1

    def remove(self, address: Address) -> None:
        """It was finished, or failed."""
        _less(self._sources, _source(address))
        self._total -= 1

    def failed(self, now: float, address: Address) -> None:
        """It failed."""
        self._failures.append((now, _source(address)))
        self._failed[_source(address)] += 1
        self._forget(now)

    def _forget(self, now: float) -> None:
        long_ago = now - self._limits.half_open_seconds
        while self._failures and (
            self._failures[0][0] <= long_ago or len(self._failures) > self._limits.half_open
        ):
            _less(self._failed, self._failures.popleft()[1])


class Lingering:
    """IKE SAs that are closed and still answer their last request: so many in all, and of one address. One
    more takes the place of the oldest; all that this costs is an answer that was lost on its way."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._kept: dict[object, tuple[object, Callable[[], None]]] = {}
        self._sources: Counter[object] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, key: object, address: Address, forget: Callable[[], None]) -> None:
        """``forget()`` is called when the place of ``key`` goes to another."""
        source = _source(address)
        if self._sources[source] >= self._limits.per_source:
            self._push_out(next(each for each, (its, _) in self._kept.items() if its == source))
        elif len(self._kept) >= self._limits.lingering:
            self._push_out(next(iter(self._kept)))
        self._kept[key] = source, forget
        self._sources[source] += 1

    def remove(self, key: object) -> None:
        """It was forgotten."""
        if key in self._kept:
            _less(self._sources, self._kept.pop(key)[0])

    def _push_out(self, key: object) -> None:
        forget = self._kept[key][1]
        self.remove(key)
        forget()


def _less(counter: Counter[object], key: object) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


def _source(address: Address) -> object:
    return ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address
