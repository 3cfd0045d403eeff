# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Windows, timers, cookies and counts: the small parts of the engine."""

import random
from ipaddress import ip_address

import pytest

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.engine.admission import Cookies, HalfOpen, Limits, Lingering
from spigate.firmware_py.ike.engine.boundary import Boundary
from spigate.firmware_py.ike.engine.message_ids import Arrival, GivenUp, RequestWindow, ResponseWindow
from spigate.firmware_py.ike.engine.timers import Timers
from spigate.firmware_py.ike.peers.retransmission import Retransmission


def test_requests_come_again_later_and_later():
    window = RequestWindow(Retransmission(timeout=1, factor=2, tries=3))
    assert not window.busy and window.send(10, (b"x",)) == (b"x",) and window.deadline == 11
    deadlines = []
    for _ in range(3):
        assert window.repeat(window.deadline) == (b"x",)
        deadlines.append(window.deadline)
    assert deadlines == [13, 17, 25]
    with pytest.raises(GivenUp):
        window.repeat(25)


def test_answers_and_numbers():
    window = RequestWindow(Retransmission())
    window.send(0, (b"x",))
    assert window.expects(0) and not window.expects(1)
    window.answered()
    assert not window.busy and not window.expects(1)
    window.send(0, (b"y",))
    assert window.expects(1) and not window.expects(0)
    window.again()
    window.send(0, (b"z",))
    assert window.expects(1)


def test_hints_make_it_shorter():
    window = RequestWindow(Retransmission(timeout=1, factor=1, tries=9))
    window.send(0, (b"x",))
    window.shorten(1)
    window.shorten(5)
    window.repeat(1)
    with pytest.raises(GivenUp):
        window.repeat(2)


def test_each_request_once():
    window = ResponseWindow()
    assert window.arrival(0) == Arrival.NEW and window.arrival(1) == Arrival.OUTSIDE
    window.answer((b"r",))
    assert window.arrival(0) == Arrival.REPEATED and window.response == (b"r",)
    window.answer((b"s",))
    assert window.arrival(0) == Arrival.OUTSIDE and window.arrival(2) == Arrival.NEW


@pytest.mark.parametrize("name, value", [("timeout", 0), ("factor", 0.5), ("tries", -1), ("tries", 10_000)])
def test_retransmission_that_cannot_be(name, value):
    with pytest.raises(InputError, match=f"retransmission {name} must be"):
        Retransmission(**{name: value})


def test_timers():
    timers, seen = Timers(Boundary(None)), []
    for when in (3, 1, 2):
        timers.at(when, lambda now, when=when: seen.append((when, now)))
    cancelled = timers.at(0.5, lambda now: seen.append("never"))
    cancelled.cancel()
    assert timers.next == 1
    timers.run(2.5)
    assert seen == [(1, 2.5), (2, 2.5)] and timers.next == 3
    timers.at(2, lambda now: timers.at(2, lambda now: seen.append("both")))
    timers.run(2.5)
    assert seen[-1] == "both"


def test_cancelled_timers_take_no_room():
    timers = Timers(Boundary(None))
    for _ in range(10_000):
        timers.at(1e9, lambda now: None).cancel()
    assert len(timers._heap) < 100


def test_cookies():
    cookies = Cookies(60, random.Random(1).randbytes)
    at, spi, nonce = ip_address("192.0.2.1"), b"12345678", bytes(16)
    cookie = cookies.make(30, nonce, at, spi)
    assert cookies.valid(59, cookie, nonce, at, spi) and cookies.valid(119, cookie, nonce, at, spi)
    assert not cookies.valid(121, cookie, nonce, at, spi)
    cookie = cookies.make(130, nonce, at, spi)
    assert not cookies.valid(130, cookie, nonce, ip_address("192.0.2.2"), spi)
    assert not cookies.valid(130, cookie, nonce, at, b"87654321")
    assert not cookies.valid(130, cookie, bytes(17), at, spi)
    assert len(cookies._secrets) <= 2


def test_half_open_counts_networks_of_ipv6():
    half = HalfOpen(Limits(per_source=2, half_open=5, cookie_threshold=3))
    for last in (1, 2):
        half.add(ip_address(f"2001:db8::{last}"))
    inside, outside = ip_address("2001:db8::3"), ip_address("2001:db8:0:1::3")
    assert not half.room(inside) and half.room(outside)
    assert half.asks(0, inside) and not half.asks(
        0, outside
    )  # half of what one may have, and not yet of what all may
    half.add(ip_address("192.0.2.1"))
    assert half.asks(0, outside) and len(half) == 3 and not half.full
    half.remove(ip_address("2001:db8::1"))
    assert half.room(inside) and not half.asks(0, inside)


def test_failures_count_for_a_while():
    half = HalfOpen(Limits(cookie_threshold=3, per_source=4, half_open_seconds=30))
    address, other = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    for now in (0, 10, 20):
        half.add(address)
        half.remove(address)
        half.failed(now, address)
    assert len(half) == 0 and half.load(20) == 3 and half.asks(20, other)
    assert half.load(30) == 2 and not half.asks(30, other) and not half.asks(30, address)
    assert half.load(50) == 0 and not half._failed


def test_lingering_has_so_many_places():
    gone = []
    lingering = Lingering(Limits(lingering=3, per_source=2))
    for number, address in enumerate(("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3")):
        lingering.add(number, ip_address(address), lambda number=number: gone.append(number))
    assert gone == [0, 1] and len(lingering) == 3
    for number in range(5):
        lingering.remove(number)
    assert len(lingering) == 0 and not lingering._sources


@pytest.mark.parametrize(
    "name, value", [("cookie_threshold", -1), ("half_open", 0), ("lingering", 0), ("half_open_seconds", 0)]
)
def test_limits_that_cannot_be(name, value):
    with pytest.raises(InputError, match=f"{name} must be"):
        Limits(**{name: value})
