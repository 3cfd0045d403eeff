# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The hash functions of :mod:`spigate.hdl.contract.hashing` in gateware."""

from amaranth.hdl import Cat, Value, ValueLike


def parities(masks: tuple[int, ...], key: ValueLike) -> Value:
    """The hash of ``key`` under ``masks``, lowest bit first. Combinational."""
    key = Value.cast(key)
    return Cat(Cat(key[at] for at in range(len(key)) if mask >> at & 1).xor() for mask in masks)
