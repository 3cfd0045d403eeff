# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The Identification of packets that begin on this machine (RFC 791 3.2, 6864, 7739, 8200 4.5), and whose
numbers are whose where DFEs make some of them."""

import os
from hashlib import blake2s
from itertools import cycle

from spigate.firmware_py.ipsec.sa import Address

_COUNTERS = 256
_ALL = 0xFFFF
SOFTWARE_NUMBERS = 0x1FFF
"""The software path's, beside DFEs: 1 to this. They have the others."""


class Identifications:
    """A sequence for each pair of addresses, whatever SA, protocol or fragment its numbers go to (RFC 6864
    4.3).

    It says nothing about that of another pair (RFC 7739 5.3) and starts elsewhere with each process, so
    that fragments of the one before are not put together with those of this one.

    IPv4's are 1 to 65535: Linux puts its own number in place of 0 in what raw sockets send (raw(7)), in
    each fragment another, and AH's ICV is over what was there before.

    Parameters
    ----------
    numbers : int
        The last of IPv4's.
    """

    def __init__(self, numbers: int = _ALL):
        self._secret, self._counters, self._numbers = os.urandom(32), [0] * _COUNTERS, numbers

    def next(self, source: Address, destination: Address) -> int:
        """16 bits for IPv4, 32 for IPv6; IPv4's come again after ``numbers`` packets at the earliest."""
        digest = blake2s(source.packed + destination.packed, key=self._secret).digest()
        at = digest[0] % _COUNTERS
        self._counters[at] += 1
        number = int.from_bytes(digest[1:9]) + self._counters[at]
        return number % self._numbers + 1 if source.version == 4 else number & 0xFFFF_FFFF


class DfeIdentifications:
    """A DFE's sequence, as ``hdl/dfe/identification.py`` has it: the lowest bits are its index, and those
    of software are left out.

    Parameters
    ----------
    index : int
        0 to ``dfes`` - 1.
    dfes : int
    """

    def __init__(self, index: int, dfes: int):
        step = 1 << (dfes - 1).bit_length()
        self._numbers = cycle(range(SOFTWARE_NUMBERS + 1 + index, 0x10000, step))

    def next(self) -> int:
        """Each again after all others of the sequence."""
        return next(self._numbers)
