"""Who may begin: cookies (RFC 7296 2.6), and how many handshakes may be half open, in all and from one address."""
import hashlib
import hmac
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.sa import Address


@dataclass(frozen=True)
class Limits:
    """Members
    -------
    cookie_threshold : int
        From so many half-open IKE SAs on, an initiator must return a cookie first.
    half_open : int
        So many half-open IKE SAs are kept at most; what comes then is dropped.
    per_source : int
        The same for one address (IPv6: one /64).
    half_open_seconds : float
        So long an initiator has from IKE_SA_INIT to the end of IKE_AUTH.
    cookie_seconds : float
        A secret for cookies is used so long, and accepted so long again.
    """

    cookie_threshold: int = 16
    half_open: int = 1024
    per_source: int = 8
    half_open_seconds: float = 30.0
    cookie_seconds: float = 60.0

    def __post_init__(self):
        for name, low in (("cookie_threshold", 0), ("half_open", 1), ("per_source", 1)):
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
    """Counts handshakes that an initiator began and has not finished."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._sources: Counter = Counter()
        self._total = 0

    def __len__(self) -> int:
        return self._total

    @property
    def loaded(self) -> bool:
        """From here on a cookie is asked for."""
        return self._total >= self._limits.cookie_threshold

    def room(self, address: Address) -> bool:
        """Whether one more may begin from ``address``."""
        return self._total < self._limits.half_open and self._sources[_source(address)] < self._limits.per_source

    def add(self, address: Address) -> None:
        self._sources[_source(address)] += 1
        self._total += 1

    def remove(self, address: Address) -> None:
        key = _source(address)
        self._sources[key] -= 1
        if not self._sources[key]:
            del self._sources[key]
        self._total -= 1


def _source(address: Address) -> object:
    return ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address
