# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The field GF(2^8) of AES (FIPS 197 4), as tables made by its rules."""

from amaranth.hdl import Cat, Module, Mux, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

POLYNOMIAL = 0x11B


def multiply(a: int, b: int) -> int:
    """Product of two field elements."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= POLYNOMIAL
        b >>= 1
    return product


def _inverse(a: int) -> int:
    """``a`` to the power 254: the inverse, and 0 for 0."""
    result = 1
    for _ in range(254):
        result = multiply(result, a)
    return result


def affine(a: int) -> int:
    """The affine transformation of SubBytes (FIPS 197 5.1.1)."""
    result = 0x63
    for n in range(5):
        result ^= (a << n | a >> 8 - n) & 0xFF
    return result


INVERSE = [_inverse(a) for a in range(256)]
SBOX = [affine(INVERSE[a]) for a in range(256)]
INVERSE_SBOX = [SBOX.index(a) for a in range(256)]


def inverse_mix_column(column):
    """InvMixColumns (FIPS 197 5.3.3) of a column of four bytes, byte 0 in the low bits."""
    own = [column.word_select(row, 8) for row in range(4)]
    total = own[0] ^ own[1] ^ own[2] ^ own[3]
    # 14, 11, 13, 9 times the bytes from its own row down.
    return Cat(
        total
        ^ own[row]
        ^ _double((own[row] ^ own[(row + 1) % 4]) ^ _double(own[row] ^ own[(row + 2) % 4] ^ _double(total)))
        for row in range(4)
    )


def _double(byte):
    return Cat(0, byte[:7]) ^ Mux(byte[7], POLYNOMIAL & 0xFF, 0)


class Lookup(wiring.Component):
    """Looks up each byte of a vector in a table of 256 bytes, in the same clock.

    Parameters
    ----------
    table : list of int
    count : int
        Bytes of the vector.

    Members
    -------
    i, o : unsigned(8 * count)
    """

    def __init__(self, *, table: list[int], count: int):
        if len(table) != 256:
            raise ValueError(f"table must have 256 bytes, not {len(table)!r}")
        self._table, self._count = table, count
        super().__init__({"i": In(8 * count), "o": Out(8 * count)})

    def elaborate(self, platform):
        m = Module()
        found = []
        for at in range(self._count):
            # One memory a byte: synthesisers handle tables with many ports badly.
            m.submodules[f"table_{at}"] = table = memory.Memory(
                shape=unsigned(8), depth=256, init=self._table
            )
            port = table.read_port(domain="comb")
            m.d.comb += port.addr.eq(self.i.word_select(at, 8))
            found.append(port.data)
        m.d.comb += self.o.eq(Cat(found))
        return m
