"""``spigate ce`` and strongSwan, live: pings and TCP through the tunnel, rekeying under traffic, dead peers."""
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.firmware_py.host.bed import Gateway, Traffic, ping, transfer
from tests.firmware_py.ike.authority import SIGNING, Authority
from tests.firmware_py.ike.hosts import Wire
from tests.firmware_py.ike.strongswan import Charon
from tests.firmware_py.ike.test_strongswan import CERTIFICATES, swanctl_conf

# The peer is a process of its own with timers of its own, on a machine that may be loaded.
pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.flaky(reruns=2)]
SIZES = (0, 1, 56, 500, 1331, 1352, 1353, 1472, 1473, 3000, 9000, 65000)
MEGABYTE = 1 << 20
CONFIG = """
[host]
addresses = ["10.1.0.1/24"]
control = "CONTROL"

[peer.b]
address = "10.99.0.2"
local_address = "10.99.0.1"
local_identity = "a.example"
remote_identity = "b.example"
{credentials}
proposals = ["aes128gcm16-prfsha256-ecp256"]
retry_seconds = 1
{peer}

[peer.b.child.net]
traffic = [{{ local = "10.1.0.0/24", remote = "10.2.0.0/24" }}]
proposals = ["{esp}"]
start = "{start}"
"""


def config(*, start: str = "now", credentials: str = 'psk_file = "psk"', peer: str = "", esp: str = "aes128gcm16") -> str:
    return CONFIG.format(start=start, credentials=credentials, peer=peer, esp=esp)


@pytest.fixture
def bed(wire, tmp_path):
    """Makes a pair: ``bed(our configuration, theirs)``."""
    running = []

    def make(ours: str, theirs: str) -> tuple[Gateway, Charon]:
        folder = tmp_path / "charon"
        for name in ("x509", "x509ca", "private"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "swanctl.conf").write_text(theirs)
        for each in (Charon(wire, folder), Gateway(wire.ours, tmp_path / "spigate", ours)):
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
    gateway, _ = bed(config(esp=esp), swanctl_conf(esp=esp))
    gateway.happens("child-up")
    work(wire)
    tables = [gateway.command(name) for name in ("sas", "ike", "policies", "events")]
    assert all("10.2.0.0/24" in tables[2] and each.strip() for each in tables)
    gateway.command("terminate", "b")
    gateway.happens("ike-down")
    assert gateway.rows("sas") == [] and gateway.command("sas") == ""


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


def credentials(folder: Path) -> str:
    """ECDSA certificates for both, in the folders of both; our configuration of them."""
    now = datetime.now(UTC)
    dates = {"not_before": now - timedelta(days=1), "not_after": now + timedelta(days=1)}
    authority = Authority(ec.generate_private_key(ec.SECP256R1()), **dates)
    for side, name in (("spigate", "a.example"), ("charon", "b.example")):
        home = folder / side
        home.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = authority.issue(key.public_key(), name, **dates, extensions=(
            (x509.SubjectAlternativeName([x509.DNSName(name)]), False), (SIGNING, True)))
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        for path, data in (("private/key.pem", private), ("x509/own.pem", certificate.public_bytes(serialization.Encoding.PEM)),
                           ("x509ca/ca.pem", authority.certificate.public_bytes(serialization.Encoding.PEM))):
            (home / path).parent.mkdir(exist_ok=True)
            (home / path).write_bytes(data)
        (home / "private/key.pem").chmod(0o600)
    return 'certificate_files = ["x509/own.pem"]\nkey_file = "private/key.pem"\nca_files = ["x509ca/ca.pem"]'


def test_certificates(wire, bed, tmp_path):
    (tmp_path / "charon").mkdir()
    gateway, _ = bed(config(credentials=credentials(tmp_path)),
                     swanctl_conf(auth=CERTIFICATES))
    gateway.happens("child-up")
    ping(wire.ours, "10.2.0.1", SIZES)


def test_rekeying_loses_no_packet(wire, bed):
    gateway, charon = bed(config(), swanctl_conf())
    gateway.happens("child-up")
    with Traffic(wire.ours, "10.2.0.1") as traffic:
        for turn in (1, 2):
            gateway.command("rekey", "b/net")
            gateway.happens("child-rekeyed", 2 * turn - 1)
            gateway.command("rekey", "b")
            gateway.happens("ike-rekeyed", 2 * turn - 1)
            charon.swanctl("--rekey", "--child", "net")
            gateway.happens("child-rekeyed", 2 * turn)
            charon.swanctl("--rekey", "--ike", "gw")
            gateway.happens("ike-rekeyed", 2 * turn)
    assert traffic.error is None and traffic.count > 50
    work(wire)


def test_a_peer_that_was_killed_is_noticed(wire, bed):
    gateway, charon = bed(config(peer="dpd_seconds = 1\nretransmission = { timeout = 0.2, tries = 2 }"), swanctl_conf())
    gateway.happens("child-up")
    charon.kill()
    gateway.happens("peer-dead")
    assert gateway.rows("sas") == []
    gateway.until(lambda: gateway.count("ike-failed") >= 1, "tries again")
