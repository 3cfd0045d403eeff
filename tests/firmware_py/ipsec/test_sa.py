# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.sa import (
    AH,
    ANY_IPV4,
    ANY_IPV6,
    Auth,
    Cipher,
    Encapsulation,
    Lifetime,
    Sa,
    Selectors,
)
from spigate.hdl.contract.enums import Direction, Mode

GOOD = {
    "direction": Direction.INBOUND,
    "spi": 0x1234,
    "source": ip_address("192.0.2.1"),
    "destination": ip_address("192.0.2.2"),
    "mode": Mode.TUNNEL,
    "cipher": Cipher.AES_CBC,
    "key": b"secret-secret-16",
    "auth": Auth.HMAC_SHA256_128,
    "auth_key": b"another secret, of 32 bytes, yes",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spi": 255}, "spi must be 256 to 2\\^32 - 1, not 255"),
        ({"spi": 1 << 32}, "spi must be"),
        ({"protocol": 17}, "protocol must be 50 .ESP. or 51 .AH., not 17"),
        ({"destination": ip_address("::1")}, "destination must be an IPv4 address, like source"),
        ({"key": b"short"}, "key must be 16 or 24 or 32 bytes for aes-cbc, not '5 bytes'"),
        ({"salt": b"salt"}, "salt must be 0 bytes for aes-cbc, not '4 bytes'"),
        ({"auth_key": b"short"}, "auth_key must be 32 bytes for hmac-sha256-128, not '5 bytes'"),
        ({"auth": Auth.NONE}, "auth must be an HMAC, because aes-cbc does not authenticate, not 'none'"),
        ({"icv_bytes": 16}, "icv_bytes must be 0, because aes-cbc does not authenticate"),
        ({"cipher": Cipher.AES_GCM, "salt": b"salt"}, "icv_bytes must be 8 or 12 or 16 for aes-gcm, not 0"),
        (
            {"cipher": Cipher.AES_GCM, "salt": b"salt", "icv_bytes": 16},
            "auth must be none, because aes-gcm authenticates",
        ),
        ({"cipher": Cipher.NULL}, "key must be 0 bytes for null"),
        ({"protocol": AH}, "cipher must be null, because AH does not encrypt, not 'aes-cbc'"),
        ({"replay_window": -1}, "replay_window must be 0 to 4096, not -1"),
        ({"window": 1 << 64}, "window must be 64 bits"),
        ({"sequence": 1 << 32}, "sequence must be 0 to 2\\^32 - 1"),
        ({"sequence": 1 << 64, "esn": True}, "sequence must be 0 to 2\\^64 - 1"),
        ({"mtu": 65536}, "mtu must be 0 to 65535"),
        ({"outer_tos": 256}, "outer_tos must be"),
        ({"outer_ttl": 0}, "outer_ttl must be 1 to 255, not 0"),
        (
            {"soft": Lifetime(bytes=9), "hard": Lifetime(bytes=8)},
            "soft bytes must be at most hard bytes, 8, not 9",
        ),
    ],
)
def test_names_the_field_that_is_wrong(changes, message):
    Sa(**GOOD)
    with pytest.raises(InputError, match=message) as caught:
        Sa(**{**GOOD, **changes})
    assert "secret" not in str(caught.value)


def test_shows_no_secrets():
    one = replace(Sa(**GOOD), reqid=7)
    shown = f"{one!r} {one} {one.suite}"
    assert "secret" not in shown and one.key.hex() not in shown
    assert str(one) == "inbound ESP SA 0x00001234 to 192.0.2.2"
    assert one.suite == "aes-cbc-128 with hmac-sha256-128"
    assert one.identity == (ip_address("192.0.2.2"), 50, 0x1234)
    in_udp = replace(one, encapsulation=Encapsulation(4500, 4501))
    assert in_udp.identity == one.identity, "it is we who chose the SPI"
    assert replace(in_udp, direction=Direction.OUTBOUND, reqid=7).identity == (*one.identity, 4501, 7)


def test_lifetimes_are_positive():
    with pytest.raises(InputError, match="lifetime packets must be 1 to 2\\^64 - 1, or None, not 0"):
        Lifetime(packets=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "10.0.0.0/8"}, "selectors.source must be a network, not '10.0.0.0/8'"),
        (
            {"destination": ANY_IPV6.source},
            "selectors.destination must be an IPv4 network, like selectors.source",
        ),
        ({"protocol": 256}, "selectors.protocol must be 0 to 255, not 256"),
        (
            {"source_ports": (5, 4)},
            "selectors.source_ports must be two numbers, 0 to 65535, in order, not \\(5, 4\\)",
        ),
    ],
)
def test_selectors_name_what_is_wrong(changes, message):
    with pytest.raises(InputError, match=message):
        replace(ANY_IPV4, **changes)


networks = st.builds(
    lambda number, prefix: ip_network((number, prefix), strict=False), st.integers(0, 3), st.integers(29, 32)
)
ports = st.builds(lambda a, b: (min(a, b), max(a, b)), st.integers(0, 3), st.integers(0, 3)) | st.just(
    (0, 0xFFFF)
)
selections = st.builds(Selectors, networks, networks, st.sampled_from([None, 6, 17]), ports, ports)
hosts = st.builds(ip_address, st.integers(0, 3))
flows = st.tuples(hosts, hosts, st.sampled_from([1, 6, 17]), st.integers(0, 3), st.integers(0, 3))


@given(selections, selections, flows)
def test_overlaps_and_covers_agree_with_matches(one, other, flow):
    source, destination, protocol, sport, dport = flow
    packet = (source, destination, protocol, None if protocol == 1 else (sport, dport))
    both = one.matches(*packet) and other.matches(*packet)
    assert not both or one.overlaps(other)
    assert not (one.covers(other) and other.matches(*packet)) or one.matches(*packet)
    assert one.overlaps(other) == other.overlaps(one) and one.covers(one)
    common = one.intersection(other)
    assert (common is not None and common.matches(*packet)) == both


def test_ports_are_looked_at_only_where_there_are_any():
    one = replace(ANY_IPV4, destination_ports=(0, 1023))
    host = ip_address("10.0.0.1")
    assert one.matches(host, host, 17, (5, 53)) and not one.matches(host, host, 17, (5, 1024))
    assert not one.matches(host, host, 1, None) and ANY_IPV4.matches(host, host, 1, None)
