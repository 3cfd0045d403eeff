"""Our endpoint and strongSwan's charon, live, both beginning."""
import subprocess

import pytest

from spigate.firmware_py.ike.endpoint import Endpoint
from spigate.firmware_py.ike.identities import Identity
from spigate.firmware_py.ike.pad import Pad, Peer, PreSharedKey
from tests.firmware_py.ike.network import child, esp, ike
from tests.firmware_py.ike.strongswan import OURS, THEIRS, Charon, Pump, Wire, need

SECRET = "a secret of two peers"
IKE = "aes128gcm16-prfsha256-ecp256"
ESP = "aes128gcm16"


def swanctl_conf(*, ike: str = IKE, esp: str = ESP, local: str = "auth = psk", remote: str = "auth = psk",
                 children: str = "", connection: str = "", start: str = "none") -> str:
    return f"""
connections {{
  gw {{
    version = 2
    local_addrs = {THEIRS}
    remote_addrs = {OURS}
    proposals = {ike}
    mobike = no
    {connection}
    local {{ {local}
      id = b.example }}
    remote {{ {remote}
      id = a.example }}
    children {{
      net {{
        local_ts = 10.2.0.0/24
        remote_ts = 10.1.0.0/24
        esp_proposals = {esp}
        start_action = {start}
        {children} }} }} }} }}
secrets {{
  ike {{ id-a = a.example
    id-b = b.example
    secret = "{SECRET}" }} }}
"""


def us(**settings) -> Peer:
    secret = PreSharedKey(SECRET.encode())
    values = {"local_identity": Identity.parse("a.example"), "remote_identity": "b.example",
              "local_credential": secret, "remote_credential": secret, "address": THEIRS, "local_address": OURS,
              "proposals": ike(IKE), "children": (child(proposals=esp(ESP)),), "dpd_seconds": None}
    return Peer(name="b", **{**values, **settings})


@pytest.fixture(scope="module")
def wire():
    need()
    with Wire() as made:
        yield made


@pytest.fixture
def live(wire, tmp_path):
    """Makes a pair: ``live(our peer, their configuration)``."""
    running = []

    def make(peer: Peer, conf: str) -> tuple[Pump, Charon]:
        for name in ("x509", "x509ca", "private"):
            (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / "swanctl.conf").write_text(conf)
        charon = Charon(wire, tmp_path)
        charon.__enter__()
        running.append(charon)
        pump = Pump(wire, Endpoint(Pad([peer])))
        running.append(pump)
        return pump, charon

    yield make
    for each in reversed(running):
        each.close() if isinstance(each, Pump) else each.__exit__()


def wait(pump: Pump, process: subprocess.Popen) -> str:
    """Until the command is through; its output."""
    pump.until(lambda: process.poll() is not None, 20)
    output = process.stdout.read()
    assert process.returncode == 0, output
    return output


def test_we_begin_and_both_rekey(live):
    pump, charon = live(us(), swanctl_conf())
    pump.act("initiate", "b")
    pump.until(lambda: pump.count("child-up") == 1)
    assert "ESTABLISHED" in charon.swanctl("--list-sas")
    pump.act("rekey", "b", "net")
    pump.until(lambda: pump.count("child-rekeyed") == 1)
    pump.act("rekey", "b")
    pump.until(lambda: pump.count("ike-rekeyed") == 1)
    wait(pump, charon.start_swanctl("--rekey", "--child", "net"))
    pump.until(lambda: pump.count("child-rekeyed") == 2)
    wait(pump, charon.start_swanctl("--rekey", "--ike", "gw"))
    pump.until(lambda: pump.count("ike-rekeyed") == 2)
    pump.act("terminate", "b")
    pump.until(lambda: pump.count("ike-down") == 1)
    assert charon.swanctl("--list-sas") == ""


def test_they_begin(live):
    pump, charon = live(us(), swanctl_conf())
    wait(pump, charon.start_swanctl("--initiate", "--child", "net"))
    assert pump.count("child-up") == 1
    wait(pump, charon.start_swanctl("--terminate", "--ike", "gw"))
    pump.until(lambda: pump.count("ike-down") == 1)
