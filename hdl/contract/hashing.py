# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Hash functions of the classifier, as data: what gateware and host must compute alike.

Every hash bit is the parity of the key under a fixed mask: an XOR tree in hardware, a population count on
the host (the H3 family of Carter and Wegman, "Universal classes of hash functions", 1979). The masks come
from SHA-256 of a text that names them, so nobody chose them. Each is the AND of two such strings: it takes
a quarter of the key's bits, which makes a tree three levels of LUT4 deep at half the area of a mask with
half the bits.

Nothing here needs Amaranth.
"""

from functools import cache
from hashlib import sha256

WAYS = 3
"""Ways of the CAM."""
CAM_KEY_BITS = 169
"""Destination 128, SPI 32, protocol 8, IPv6 1, from the low bits up: a CAM entry up to its ``ipv6``."""
SEED = "spigate 2"
"""The first number for which neighbouring SPIs and hosts always differ in a row, and each bit of a key
counts.
"""


def cam_key(*, destination: int, protocol: int, spi: int, ipv6: bool = False) -> int:
    """The CAM's key as a number of :data:`CAM_KEY_BITS` bits."""
    return destination | spi << 128 | protocol << 160 | int(ipv6) << 168


def cam_rows(entries: int) -> int:
    """Rows of each way of a CAM for ``entries`` entries: half as many, rounded up to a power of two.

    Raises
    ------
    ValueError
        ``entries`` is not 64 to 8192.
    """
    if not 64 <= entries <= 8192:
        raise ValueError(f"entries must be 64 to 8192, not {entries!r}")
    return 1 << ((entries + 1) // 2 - 1).bit_length()


@cache
def masks(name: str, key_bits: int, bits: int) -> tuple[int, ...]:
    """One mask of ``key_bits`` bits for each of the ``bits`` bits of the hash ``name``, lowest first.

    Mask *b* is the low ``key_bits`` bits of SHA-256("``SEED`` ``name`` *b* 0") AND SHA-256("``SEED``
    ``name`` *b* 1"), both read as little-endian numbers.
    """
    if not 1 <= key_bits <= 256:
        raise ValueError(f"key_bits must be 1 to 256, not {key_bits!r}")

    def part(bit: int, half: int) -> int:
        return int.from_bytes(sha256(f"{SEED} {name} {bit} {half}".encode()).digest(), "little")

    return tuple((part(bit, 0) & part(bit, 1)) % (1 << key_bits) for bit in range(bits))


def apply(hash_masks: tuple[int, ...], key: int) -> int:
    """The hash of ``key``: bit *b* is the parity of ``key`` under mask *b*."""
    return sum(((key & mask).bit_count() & 1) << bit for bit, mask in enumerate(hash_masks))


def way_hash(way: int, key_bits: int, rows: int) -> tuple[int, ...]:
    """The masks of way ``way`` of a CAM with ``rows`` rows (a power of two): one for each bit of the row."""
    if rows < 2 or rows & rows - 1:
        raise ValueError(f"rows must be a power of two, not {rows!r}")
    return masks(f"cam way {way}", key_bits, rows.bit_length() - 1)


def cam_row(way: int, key: int, rows: int) -> int:
    """The row of ``way`` where the entry with ``key`` may be. Its index in table writes is ``way * rows +
    row``.
    """
    return apply(way_hash(way, CAM_KEY_BITS, rows), key)
