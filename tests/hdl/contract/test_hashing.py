# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import hashlib

import pytest

from spigate.hdl.contract import hashing

ROWS = [32, 512, 4096]


def rank(vectors):
    """Rank over GF(2)."""
    basis = {}
    for vector in vectors:
        while vector:
            top = vector.bit_length()
            if top not in basis:
                basis[top] = vector
                break
            vector ^= basis[top]
    return len(basis)


def test_masks_are_what_their_documentation_says():
    halves = [hashlib.sha256(f"spigate 2 cam way 1 3 {half}".encode()).digest() for half in (0, 1)]
    expected = bytes(a & b for a, b in zip(*halves, strict=True))
    assert hashing.way_hash(1, 256, 512)[3] == int.from_bytes(expected, "little")
    assert hashing.way_hash(1, 169, 512)[3] == int.from_bytes(expected, "little") & (1 << 169) - 1


@pytest.mark.parametrize("rows", ROWS)
def test_every_row_can_be_reached_by_spi_alone_and_by_address_alone(rows):
    for way in range(hashing.WAYS):
        masks = hashing.way_hash(way, hashing.CAM_KEY_BITS, rows)
        assert rank(mask >> 128 & 0xFFFF_FFFF for mask in masks) == len(masks)
        assert rank(mask & 0xFFFF_FFFF for mask in masks) == len(masks)


@pytest.mark.parametrize("rows", [512, 4096])
def test_neighbouring_keys_never_share_all_their_rows(rows):
    """SPIs that differ in their low 15 bits only, or hosts of a /17, differ in at least one way."""
    masks = [
        mask for way in range(hashing.WAYS) for mask in hashing.way_hash(way, hashing.CAM_KEY_BITS, rows)
    ]
    for low in (0, 128):
        columns = [sum((mask >> low + bit & 1) << at for at, mask in enumerate(masks)) for bit in range(15)]
        assert rank(columns) == 15


def test_every_bit_of_the_key_counts():
    masks = [mask for way in range(hashing.WAYS) for mask in hashing.way_hash(way, hashing.CAM_KEY_BITS, 512)]
    assert all(any(mask >> bit & 1 for mask in masks) for bit in range(hashing.CAM_KEY_BITS))


def test_hash_is_linear_and_within_the_rows():
    a, b = (
        hashing.cam_key(destination=d, protocol=50, spi=s)
        for d, s in ((0xC0000201, 0x1234), (0x0A000001, 0xFFFE))
    )
    for way in range(hashing.WAYS):
        assert hashing.cam_row(way, a ^ b, 512) == hashing.cam_row(way, a, 512) ^ hashing.cam_row(way, b, 512)
        assert 0 <= hashing.cam_row(way, a, 512) < 512


@pytest.mark.parametrize("entries, rows", [(64, 32), (1024, 512), (1500, 1024), (8192, 4096)])
def test_rows_are_half_the_entries_rounded_up(entries, rows):
    assert hashing.cam_rows(entries) == rows


@pytest.mark.parametrize("entries", [0, 63, 8193])
def test_refuses_sizes_it_cannot_have(entries):
    with pytest.raises(ValueError, match=f"entries must be 64 to 8192, not {entries}"):
        hashing.cam_rows(entries)
