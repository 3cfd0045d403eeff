# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The anti-replay window (RFC 4303 3.4.3) and the upper half of extended sequence numbers (RFC 4303
appendix A).
"""

from spigate.firmware_py.errors import InputError

_SUBSPACE = 1 << 32
_HALF = 1 << 31
"""The window over which the upper half is inferred where no replay is checked: half the numbers that a
packet can carry, so that packets may be late or early by as much (RFC 4303 A2)."""


class ReplayWindow:
    """Which sequence numbers an inbound SA has received.

    Parameters
    ----------
    size : int
        Numbers that the window covers; 0: no anti-replay service, every number is fresh.
    esn : bool
        Numbers are 64 bits, of which packets carry the lower 32.
    sequence, received : int
        The highest number received, and the window: bit i is set when ``sequence - i`` was received.
    """

    def __init__(self, size: int, *, esn: bool = False, sequence: int = 0, received: int = 0):
        if not 0 <= size < _SUBSPACE:
            raise InputError(f"size must be 0 to 2^32 - 1, not {size!r}")
        self.size, self.esn, self.sequence, self.received = size, esn, sequence, received

    def extend(self, low: int) -> int:
        """The whole number of a packet that carries ``low``: without ESN that, otherwise the one nearest to
        the window (RFC 4303 A2.2)."""
        if not self.esn:
            return low
        high, top = divmod(self.sequence, _SUBSPACE)
        size = self.size or _HALF
        if top >= size - 1:
            high += low < top - size + 1
        elif low >= (top - size + 1) % _SUBSPACE:
            high -= 1
        return max(high, 0) * _SUBSPACE + low

    def fresh(self, number: int) -> bool:
        """Whether ``number`` is neither 0, nor left of the window, nor seen before."""
        if not self.size:
            return True
        behind = self.sequence - number
        return number != 0 and (behind < 0 or (behind < self.size and not self.received >> behind & 1))

    def accept(self, number: int) -> None:
        """Takes ``number``, whose packet has proved authentic, into the window."""
        if not self.size:
            self.sequence = max(self.sequence, number)
            return
        ahead = number - self.sequence
        if ahead > 0:
            self.received = (self.received << ahead if ahead < self.size else 0) | 1
            self.sequence = number
        else:
            self.received |= 1 << -ahead
        self.received &= (1 << self.size) - 1
