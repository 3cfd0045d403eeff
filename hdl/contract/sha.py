# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The constants of SHA-1 and SHA-256 (FIPS 180-4 4.2), for gateware and software."""


def _primes(count: int) -> list[int]:
    primes: list[int] = []
    candidate = 2
    while len(primes) < count:
        if all(candidate % prime for prime in primes):
            primes.append(candidate)
        candidate += 1
    return primes


def _cube_root(value: int) -> int:
    """The integer part of the cube root, by bisection."""
    low, high = 0, value
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= value else (low, middle - 1)
    return low


SHA256_K = [_cube_root(prime << 96) & 0xFFFFFFFF for prime in _primes(64)]
"""32 bits of the fractional part of the cube roots of the first 64 primes: one a round."""
SHA1_K = [0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6]
"""One for each 20 rounds."""
