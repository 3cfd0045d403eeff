"""The field GF(2^8) of AES (FIPS 197 4), as tables made by its rules."""
POLYNOMIAL = 0x11b


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
        result ^= (a << n | a >> 8 - n) & 0xff
    return result


INVERSE = [_inverse(a) for a in range(256)]
SBOX = [affine(INVERSE[a]) for a in range(256)]
