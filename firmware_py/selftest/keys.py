# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""CAM keys that can lie in a given slot, with most of their bits as they are wished for."""

from collections.abc import Sequence

from spigate.firmware_py.errors import InputError
from spigate.hdl.contract import hashing
from spigate.hdl.contract.protocols import ESP

SPI_BITS = 32


class Slots:
    """Finds keys of IPv4 and ESP. A key is a number: the SPI in bits 31:0, the destination in 63:32.

    Parameters
    ----------
    rows : int
        Of a way of the CAM, a power of two.
    pivots : sequence of int
        Bits of a key that may be other than wished, from which those that are needed are chosen: as many as
        a row's number has.
    """

    def __init__(self, rows: int, pivots: Sequence[int]):
        self._rows = rows
        self._flips = [self._solve(way, pivots) for way in range(hashing.WAYS)]

    def _solve(self, way: int, pivots: Sequence[int]) -> list[int]:
        """For each bit of the row's number the bits of a key that change it alone: Gauss' elimination over
        GF(2). Raises InputError where ``pivots`` are too few.
        """
        zero = self._row(way, 0)
        pairs = [(self._row(way, 1 << bit) ^ zero, 1 << bit) for bit in pivots]
        found: list[tuple[int, int]] = []
        for wanted in range(self._rows.bit_length() - 1):
            at = next((at for at, (row, _) in enumerate(pairs) if row >> wanted & 1), None)
            if at is None:
                raise InputError(f"bits {list(pivots)} do not reach every row of way {way}")
            row, key = pairs.pop(at)
            pairs = [(r ^ row, k ^ key) if r >> wanted & 1 else (r, k) for r, k in pairs]
            found = [(r ^ row, k ^ key) if r >> wanted & 1 else (r, k) for r, k in found]
            found.append((row, key))
        return [key for _, key in found]

    def _row(self, way: int, key: int) -> int:
        number = hashing.cam_key(destination=key >> SPI_BITS, protocol=ESP, spi=key & 0xFFFF_FFFF, ipv6=False)
        return hashing.cam_row(way, number, self._rows)

    def key(self, way: int, row: int, wish: int) -> int:
        """The key for that slot that is ``wish`` but for pivots."""
        needed = self._row(way, wish) ^ row
        for bit, flip in enumerate(self._flips[way]):
            if needed >> bit & 1:
                wish ^= flip
        return wish
