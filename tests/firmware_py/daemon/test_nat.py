# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate ce`` and strongSwan with a NAT between them, a Linux kernel's."""

import os
import time
from contextlib import closing

import pytest

from tests.firmware_py.daemon.bed import (
    Gateway,
    child_of,
    config,
    echoed,
    ping,
    rekey_under_traffic,
    transfer,
)
from tests.firmware_py.daemon.nat import NAT, NEAR, ROUTER, Nat
from tests.firmware_py.ike.hosts import OURS, THEIRS, ip, need
from tests.firmware_py.ike.strongswan import Charon, swanctl_conf

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.slow]
SIZES = (0, 56, 1300, 1353, 1472, 9000)
ADDRESSES = {"us": (str(THEIRS), str(OURS)), "them": (ROUTER, NEAR)}
"""By who is behind the NAT: where they are for us, and we for them."""
DEAD_PEER_DETECTION = {
    "us": "dpd_seconds = 0.5\nretransmission = { timeout = 0.2 }",
    "them": "dpd_seconds = 0",
}
"""We tell them soon where we are; they tell us by ESP, and nothing that we send makes the NAT a mapping
before.
"""


def ours(hidden: str, start: str, peer: str = "", child: str = "") -> str:
    text = config(start=start, peer=peer, child=child or child_of())
    return text.replace(f'"{OURS}"', f'"{NEAR}"').replace(f'"{THEIRS}"', f'"{ADDRESSES[hidden][0]}"')


def theirs(hidden: str, **words) -> str:
    return swanctl_conf(**words).replace(f"remote_addrs = {OURS}", f"remote_addrs = {ADDRESSES[hidden][1]}")


def port_of(charon: Charon) -> str:
    """Where we are for them."""
    return charon.swanctl("--list-sas").split("remote 'a.example' @ ")[1].split("]")[0]


@pytest.fixture
def bed(wire, tmp_path):
    """Makes a NAT and a pair: ``bed(hidden, our start, our further settings)``."""
    need(*NAT)
    running = []

    def make(hidden: str, start: str, peer: str = "") -> tuple[Nat, Gateway, Charon]:
        nat = Nat(wire, hidden)
        running.append(nat)
        nat.open()
        (tmp_path / "charon").mkdir()
        (tmp_path / "charon/swanctl.conf").write_text(theirs(hidden))
        charon = Charon(wire, tmp_path / "charon")
        running.append(charon)
        charon.start()
        gateway = Gateway(nat.ours, tmp_path / "spigate", ours(hidden, start, peer))
        running.append(gateway)
        gateway.start()
        return nat, gateway, charon

    ip("-n", wire.theirs, "route", "replace", "default", "via", str(OURS))
    yield make
    for each in reversed(running):
        each.close()


@pytest.mark.parametrize("hidden, who", [("us", "we"), ("them", "they"), ("them", "we")])
def test_rekeying_and_a_new_mapping(wire, bed, hidden, who):
    nat, gateway, charon = bed(hidden, "now" if who == "we" else "never", DEAD_PEER_DETECTION[hidden])
    if who == "they":
        charon.swanctl("--initiate", "--child", "net")
    gateway.happens("child-up")
    assert {row["protocol"] for row in gateway.rows("sas")} == {"esp-in-udp"}
    ping(nat.ours, "10.2.0.1", SIZES)
    ping(wire.theirs, "10.1.0.1", SIZES)
    transfer(nat.ours, wire.theirs, "10.2.0.1", os.urandom(1 << 20))
    rekey_under_traffic(
        gateway,
        nat.ours,
        "10.2.0.1",
        lambda: charon.swanctl("--rekey", "--child", "net"),
        lambda: charon.swanctl("--rekey", "--ike", "gw"),
    )
    before = port_of(charon)
    nat.forget()
    if hidden == "them":  # their ESP alone says so
        ping(wire.theirs, "10.1.0.1", SIZES)
        assert gateway.count("peer-moved") == 1
        ping(nat.ours, "10.2.0.1", SIZES)
    else:  # our next message to them says so
        gateway.until(lambda: port_of(charon) != before, "they follow")
        ping(nat.ours, "10.2.0.1", SIZES)
        ping(wire.theirs, "10.1.0.1", SIZES)


@pytest.mark.parametrize("kept", [True, False])
def test_keepalives_keep_the_mapping(wire, bed, kept):
    """Nothing else is sent, until they have something for us."""
    nat, gateway, charon = bed("us", "now", f"dpd_seconds = 0\nkeepalive_seconds = {1 if kept else 0}")
    gateway.happens("child-up")
    ping(nat.ours, "10.2.0.1")
    nat.limit(2)
    ping(nat.ours, "10.2.0.1")
    time.sleep(5)
    if kept:
        ping(wire.theirs, "10.1.0.1")
    else:
        with pytest.raises(AssertionError, match="no answer"):
            ping(wire.theirs, "10.1.0.1", timeout=1)


@pytest.mark.parametrize(
    "hidden, mode, who", [("us", "tunnel", "we"), ("them", "tunnel", "they"), ("us", "transport", "we")]
)
def test_with_the_kernels_esp(kernel, tmp_path, hidden, mode, who):
    need(*NAT)
    uml, folder, charon = kernel
    conf = theirs(hidden, extra=f"mode = {mode}")
    if mode == "transport":
        conf = conf.replace("local_ts = 10.2.0.0/24", "").replace("remote_ts = 10.1.0.0/24", "")
    (folder / "swanctl.conf").write_text(conf)
    charon.load()
    there = ADDRESSES[hidden][0] if mode == "transport" else "10.2.0.1"
    with closing(Nat(uml, hidden)) as nat:
        nat.open()
        with closing(
            Gateway(
                nat.ours,
                tmp_path,
                ours(
                    hidden,
                    "now" if who == "we" else "never",
                    DEAD_PEER_DETECTION[hidden],
                    child_of(mode=mode),
                ),
            )
        ) as gateway:
            gateway.start()
            if who == "they":
                charon.swanctl("--initiate", "--child", "net")
            gateway.happens("child-up")
            assert {row["protocol"] for row in gateway.rows("sas")} == {"esp-in-udp"}
            ping(nat.ours, there, SIZES)
            echoed(nat.ours, there, os.urandom(1 << 20))
            rekey_under_traffic(gateway, nat.ours, there, lambda: charon.swanctl("--rekey", "--child", "net"))
            before = port_of(charon)
            nat.forget()
            if hidden == "them":
                uml.run("ping", "-c", 1, "-I", "10.2.0.1", "10.1.0.1")
                assert gateway.count("peer-moved") == 1
            else:  # their kernel follows our ESP, and charon our next message
                gateway.until(lambda: port_of(charon) != before, "they follow")
            ping(nat.ours, there, SIZES)
