# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What is written to show bits: numbers that differ from place to place, their complements, and addresses
that are forwarded.

All of it is the same in every run, so that a place that fails can be tried again.
"""

from collections.abc import Iterator, Sequence
from hashlib import shake_128

_FIRST_BYTE = 0x55
"""Of addresses: neither it nor its complement is of loopback, multicast or class E."""
_ALL = 0xFFFF_FFFF


def number(bits: int, *place: object) -> int:
    """A number of so many bits that belongs to a place. Two places have different ones, and half of their
    bits differ."""
    return int.from_bytes(data(-(-bits // 8), *place)) & ((1 << bits) - 1)


def data(size: int, *place: object) -> bytes:
    """Bytes that belong to a place."""
    return shake_128(repr(place).encode()).digest(size)


def address(*place: object) -> int:
    """An IPv4 address that belongs to a place, and may be a source and a destination, as may its complement
    (:func:`complement`)."""
    return _FIRST_BYTE << 24 | number(24, *place)


def complement(value: int, bits: int = 32) -> int:
    """All bits the other way round."""
    return value ^ ((1 << bits) - 1)


def neighbours(value: int, *, bits: Sequence[int] = range(32)) -> Iterator[tuple[int, int]]:
    """Numbers of the bits, and addresses that differ from ``value`` in that bit alone: those that a packet
    may have."""
    for bit in bits:
        other = value ^ 1 << bit
        if other >> 24 not in (0, 127) and other >> 24 < 224:
            yield bit, other


def in_turn(index: int, choices: int, *, thorough: bool) -> range:
    """Which of ``choices`` near misses the entry ``index`` gets: all, or one, another one than the entries
    around it."""
    return range(choices) if thorough else range(index % choices, index % choices + 1)
