# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Numbers of packets that begin here."""

from ipaddress import ip_address

import pytest

from spigate.firmware_py.ipsec.identification import SOFTWARE_NUMBERS, Identifications

A, B, C = (ip_address(f"192.0.2.{last}") for last in (1, 2, 3))
A_6, B_6 = ip_address("2001:db8::1"), ip_address("2001:db8::2")


def test_ipv4_takes_all_but_zero_before_one_comes_again():
    made = Identifications()
    assert {made.next(A, B) for _ in range(0xFFFF)} == set(range(1, 0x10000))


def test_beside_dfes_software_has_a_share():
    made = Identifications(SOFTWARE_NUMBERS)
    assert {made.next(A, B) for _ in range(8191)} == set(range(1, 8192))


@pytest.mark.parametrize("source, destination", [(A, B), (A_6, B_6)])
def test_each_process_starts_elsewhere(source, destination):
    assert len({Identifications().next(source, destination) for _ in range(8)}) > 1


def test_pairs_of_addresses_say_nothing_about_each_other():
    made = [Identifications() for _ in range(8)]
    assert len({each.next(A, B) - each.next(A, C) for each in made}) > 1


def test_ipv6_has_32_bits():
    made = Identifications()
    numbers = [made.next(A_6, B_6) for _ in range(3)]
    assert [(number - numbers[0]) % (1 << 32) for number in numbers] == [0, 1, 2]
    assert max(Identifications().next(A_6, B_6) for _ in range(32)) >> 16
