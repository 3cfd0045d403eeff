# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate ce`` and strongSwan, live: pings and TCP through the tunnel, rekeying under traffic, dead
peers.
"""

import os

import pytest

from tests.firmware_py.daemon.bed import (
    CHAIN,
    SIZES,
    Gateway,
    child_of,
    config,
    ping,
    rekey_under_traffic,
    transfer,
)
from tests.firmware_py.ike.authority import chains
from tests.firmware_py.ike.hosts import Wire
from tests.firmware_py.ike.network import SECRET
from tests.firmware_py.ike.strongswan import CERTIFICATES, Charon, swanctl_conf

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.slow]
MEGABYTE = 1 << 20


@pytest.fixture
def bed(wire, tmp_path):
    """Makes a pair: ``bed(our configuration, theirs)``; ``settings``: further ones of charon's."""
    running = []

    def make(ours: str, theirs: str, *, settings: str = "") -> tuple[Gateway, Charon]:
        folder = tmp_path / "charon"
        for name in ("x509", "x509ca", "private"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "swanctl.conf").write_text(theirs)
        for each in (Charon(wire, folder, settings), Gateway(wire.ours, tmp_path / "spigate", ours)):
            running.append(each)
            each.start()
        return running[1], running[0]

    yield make
    for each in reversed(running):
        each.close()


def work(wire: Wire) -> None:
    """Everything passes, both ways."""
    ping(wire.ours, "10.2.0.1", SIZES)
    ping(wire.theirs, "10.1.0.1", SIZES)
    data = os.urandom(MEGABYTE)
    transfer(wire.ours, wire.theirs, "10.2.0.1", data)
    transfer(wire.theirs, wire.ours, "10.1.0.1", data)


@pytest.mark.parametrize("esp", ["aes128gcm16", "aes256-sha256"])
def test_we_begin(wire, bed, esp):
    gateway, _ = bed(config(child=child_of(words=esp)), swanctl_conf(esp=esp))
    gateway.happens("child-up")
    work(wire)
    tables = [gateway.command(name) for name in ("sas", "ike", "policies", "events")]
    assert all("10.2.0.0/24" in tables[2] and each.strip() for each in tables)
    gateway.command("terminate", "b")
    gateway.happens("ike-down")
    assert gateway.rows("sas") == [] and gateway.command("sas").strip() == "no SAs"


def test_they_begin(wire, bed):
    gateway, charon = bed(config(start="never"), swanctl_conf())
    charon.swanctl("--initiate", "--child", "net")
    work(wire)
    assert "there is no peer 'c'" in gateway.command("terminate", "c", code=2).lower()


def test_the_first_packet_begins(wire, bed):
    gateway, _ = bed(config(start="traffic"), swanctl_conf())
    assert gateway.rows("ike") == []
    ping(wire.ours, "10.2.0.1")
    assert gateway.count("child-up") == 1


# What charon signs with, settings of its own, and what both sides' signatures are called in its log: ours,
# theirs
SIGNATURES = {
    "rsa-pkcs1": ("rsa", "", "RSA_EMSA_PSS_SHA2_256_SALT_32", "RSA_EMSA_PKCS1_SHA2_256"),
    "rsa-pss": ("rsa", "rsa_pss = yes", "RSA_EMSA_PSS_SHA2_256_SALT_32", "RSA_EMSA_PSS_SHA2_256_SALT_32"),
    "rsa-without-rfc-7427": ("rsa", "signature_authentication = no", "RSA signature", "RSA signature"),
    "ecdsa256": ("ecdsa256", "", "ECDSA_WITH_SHA256_DER", "ECDSA_WITH_SHA256_DER"),
    "ecdsa384": ("ecdsa384", "", "ECDSA_WITH_SHA384_DER", "ECDSA_WITH_SHA384_DER"),
    "ecdsa521": ("ecdsa521", "", "ECDSA_WITH_SHA512_DER", "ECDSA_WITH_SHA512_DER"),
    "ecdsa256-without-rfc-7427": (
        "ecdsa256",
        "signature_authentication = no",
        "ECDSA-256 signature",
        "ECDSA-256 signature",
    ),
    "ed25519": ("ed25519", "", "ED25519", "ED25519"),
}


@pytest.mark.parametrize("who", ["we", "they"])
@pytest.mark.parametrize("case", SIGNATURES)
def test_certificates(wire, bed, tmp_path, case, who):
    kind, settings, our_scheme, their_scheme = SIGNATURES[case]
    ours, theirs = chains(kind, "a.example", "b.example")
    ours.write(tmp_path / "spigate")
    theirs.write(tmp_path / "charon")
    gateway, charon = bed(
        config(credentials=CHAIN, start="now" if who == "we" else "never"),
        swanctl_conf(auth=CERTIFICATES),
        settings=settings,
    )
    if who == "they":
        charon.swanctl("--initiate", "--child", "net")
    gateway.happens("child-up")
    ping(wire.ours, "10.2.0.1", SIZES)
    log = charon.log.read_text()
    assert f"authentication of 'a.example' with {our_scheme} successful" in log
    assert f"authentication of 'b.example' (myself) with {their_scheme} successful" in log


def test_a_servers_access_token_is_replaced_while_the_gateway_runs(wire, bed, tmp_path):
    token = tmp_path / "spigate/token"
    token.parent.mkdir()
    token.write_text("of yesterday")
    token.chmod(0o600)
    server = '[server.web]\nidentity = "a.example"\naddresses = ["10.1.0.0/24"]\ntoken_file = "token"\n'
    ours = config(start="never", credentials="").replace('local_identity = "a.example"', 'server = "web"')
    gateway, charon = bed(ours + server, swanctl_conf())
    assert "AUTHENTICATION_FAILED" in charon.swanctl("--initiate", "--child", "net", check=False)
    token.write_text(SECRET.secret.decode() + "\n")
    charon.swanctl("--initiate", "--child", "net")
    work(wire)
    assert SECRET.secret.decode() not in gateway.log.read_text()


def test_rekeying_loses_no_packet(wire, bed):
    gateway, charon = bed(config(), swanctl_conf())
    gateway.happens("child-up")
    for _ in range(2):
        rekey_under_traffic(
            gateway,
            wire.ours,
            "10.2.0.1",
            lambda: charon.swanctl("--rekey", "--child", "net"),
            lambda: charon.swanctl("--rekey", "--ike", "gw"),
        )
    work(wire)


@pytest.mark.parametrize("unique", ["never", "no"])
def test_a_peer_that_was_killed_is_reached_when_it_is_back(wire, bed, unique):
    """With `never` it does not say INITIAL_CONTACT: the child of before its death sent, until its IKE SA
    was found to be dead.
    """
    gateway, charon = bed(
        config(start="never", peer="dpd_seconds = 300"), swanctl_conf(connection=f"unique = {unique}")
    )
    charon.swanctl("--initiate", "--child", "net")
    ping(wire.ours, "10.2.0.1", SIZES)
    charon.kill()
    charon.start()
    charon.swanctl("--initiate", "--child", "net")
    gateway.happens("child-up", 2)
    assert gateway.count("ike-down") == (unique == "no")
    ping(wire.ours, "10.2.0.1", SIZES)
    work(wire)


def test_a_peer_that_was_killed_is_noticed(wire, bed):
    gateway, charon = bed(
        config(peer="dpd_seconds = 1\nretransmission = { timeout = 0.2, tries = 2 }"), swanctl_conf()
    )
    gateway.happens("child-up")
    charon.kill()
    gateway.happens("peer-dead")
    assert gateway.rows("sas") == []
    gateway.until(lambda: gateway.count("ike-failed") >= 1, "tries again")
