"""The Identification of packets that begin on this machine (RFC 791 3.2, 6864, 7739, 8200 4.5)."""
import os
from hashlib import blake2s

from spigate.firmware_py.sa import Address

_COUNTERS = 256


class Identifications:
    """A sequence for each pair of addresses, whatever SA, protocol or fragment its numbers go to (RFC 6864 4.3).

    It says nothing about that of another pair (RFC 7739 5.3) and starts elsewhere with each process, so that fragments of the one
    before are not put together with those of this one.

    IPv4's are 1 to 65535: Linux puts its own number in place of 0 in what raw sockets send (raw(7)), in each fragment another, and
    AH's ICV is over what was there before.
    """

    def __init__(self):
        self._secret, self._counters = os.urandom(32), [0] * _COUNTERS

    def next(self, source: Address, destination: Address) -> int:
        """16 bits for IPv4, 32 for IPv6; IPv4's come again after 65535 packets at the earliest."""
        digest = blake2s(source.packed + destination.packed, key=self._secret).digest()
        at = digest[0] % _COUNTERS
        self._counters[at] += 1
        number = int.from_bytes(digest[1:9]) + self._counters[at]
        return number % 0xFFFF + 1 if source.version == 4 else number & 0xFFFF_FFFF
