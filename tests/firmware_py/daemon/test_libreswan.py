# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate ce`` and libreswan above a Linux kernel's own ESP and AH, in a user-mode Linux."""

import pytest

from tests.firmware_py.daemon.bed import CHAIN, SIZES, Gateway, child_of, config, ping, rekey_under_traffic
from tests.firmware_py.ike.authority import Chain, chains
from tests.firmware_py.ike.hosts import THEIRS, need
from tests.firmware_py.ike.libreswan import LIBRESWAN, Pluto
from tests.firmware_py.ike.network import SECRET

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.slow]
SUBNETS = "leftsubnet=10.2.0.0/24\nrightsubnet=10.1.0.0/24"


@pytest.fixture
def bed(uml, tmp_path):
    """Makes a pair: ``bed(our configuration, their connection)``."""
    need(*LIBRESWAN)
    running = []

    def make(ours: str, connection: str, chain: Chain | None = None) -> tuple[Gateway, Pluto]:
        pluto = Pluto(uml, tmp_path / "pluto")
        running.append(pluto)
        pluto.start(connection, chain=chain, secret="" if chain else SECRET.secret.decode())
        running.append(Gateway(uml.ours, tmp_path / "spigate", ours))
        running[1].start()
        return running[1], pluto

    yield make
    for each in reversed(running):
        each.close()


@pytest.mark.parametrize(
    "mode, words, theirs, who",
    [
        ("tunnel", "esp: aes128gcm16-ecp256", "esp=aes_gcm128;dh19\nesn=no", "we"),
        ("tunnel", "esp: aes128gcm16", "esp=aes_gcm128\nesn=no", "they"),
        ("tunnel", "esp: aes256-sha256-esn", "esp=aes256-sha2_256\nesn=yes", "we"),
        ("tunnel", "ah: sha256", "phase2=ah\nah=sha2_256\nesn=no", "we"),
        ("transport", "esp: aes256gcm16-esn", "esp=aes_gcm256\nesn=yes", "they"),
        ("transport", "ah: sha512-esn", "phase2=ah\nah=sha2_512\nesn=yes", "they"),
    ],
)
def test_pings_and_rekeying(uml, bed, mode, words, theirs, who):
    protocol, words = words.split(": ")
    connection = f"authby=secret\ntype={mode}\npfs={'yes' if 'ecp' in words else 'no'}\n{theirs}\n"
    gateway, pluto = bed(
        config(start="now" if who == "we" else "never", child=child_of(protocol, mode, words)),
        connection + SUBNETS * (mode == "tunnel"),
    )
    if who == "they":
        pluto.whack("--initiate", "--name", "net")
    gateway.happens("child-up")
    assert {row["protocol"] for row in gateway.rows("sas")} == {protocol}
    there = str(THEIRS) if mode == "transport" else "10.2.0.1"
    ping(uml.ours, there, SIZES)
    rekey_under_traffic(
        gateway,
        uml.ours,
        there,
        # libreswan 4.10 deletes the old one of AH as "ESP, SPI 00000000", so that it stays
        (lambda: pluto.whack("--rekey-ipsec", "--asynchronous", "--name", "net"))
        if protocol == "esp"
        else None,
        lambda: pluto.whack("--rekey-ike", "--asynchronous", "--name", "net"),
    )
    pluto.whack("--terminate", "--name", "net")
    gateway.happens("ike-down")


@pytest.mark.parametrize(
    "kind, method, who",
    [
        ("rsa", "rsa-sha2", "we"),
        ("rsa", "rsa-sha2", "they"),
        ("ecdsa256", "ecdsa-sha2_256", "they"),
        ("ecdsa384", "ecdsa-sha2_384", "we"),
        ("ecdsa521", "ecdsa-sha2_512", "they"),
    ],
)
def test_certificates(uml, bed, tmp_path, kind, method, who):
    ours, theirs = chains(kind, "a.example", "b.example")
    ours.write(tmp_path / "spigate")
    gateway, pluto = bed(
        config(start="now" if who == "we" else "never", credentials=CHAIN),
        f"authby={method}\nleftcert=own\nleftsendcert=always\nsendca=issuer\nrightca=%same\nesp=aes_gcm128\npfs=no\n{SUBNETS}",
        theirs,
    )
    if who == "they":
        pluto.whack("--initiate", "--name", "net")
    gateway.happens("child-up")
    ping(uml.ours, "10.2.0.1", SIZES)
