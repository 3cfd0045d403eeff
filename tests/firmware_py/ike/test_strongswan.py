# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Our endpoint and strongSwan's charon, live, both beginning."""

import subprocess

import pytest

from spigate.firmware_py.ike.engine.actions import Datagram
from spigate.firmware_py.ike.engine.admission import Limits
from spigate.firmware_py.ike.engine.context import Settings
from spigate.firmware_py.ike.engine.endpoint import Endpoint
from spigate.firmware_py.ike.peers.certificates import Authorities
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import KeyPair, Pad, Peer, PreSharedKey
from spigate.firmware_py.ike.peers.retransmission import Retransmission
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.registry import ExchangeType, NotifyType, PayloadType
from spigate.hdl.contract.enums import Direction
from spigate.hdl.contract.protocols import NON_ESP_MARKER
from tests.firmware_py.ike.authority import MAKERS, chains
from tests.firmware_py.ike.hosts import OURS, THEIRS
from tests.firmware_py.ike.network import SECRET, child, esp, ike, net
from tests.firmware_py.ike.strongswan import CERTIFICATES, Charon, Pump, echo, open_esp, swanctl_conf

pytestmark = [pytest.mark.xdist_group("strongswan"), pytest.mark.slow]

IKE = "aes128gcm16-prfsha256-ecp256"
ESP = "aes128gcm16"


def us(**settings) -> Peer:
    values = {
        "local_identity": Identity.parse("a.example"),
        "remote_identity": "b.example",
        "local_credential": SECRET,
        "remote_credential": SECRET,
        "address": THEIRS,
        "local_address": OURS,
        "proposals": ike(IKE),
        "children": (child(proposals=esp(ESP)),),
        "dpd_seconds": None,
        "retransmission": Retransmission(timeout=0.5),
    }
    return Peer(name="b", **{**values, **settings})


@pytest.fixture
def live(wire, tmp_path):
    """Makes a pair: ``live(our peer, their configuration)``."""
    running = []

    def make(
        peer: Peer, conf: str, *, settings: Settings | None = None, charon: str = ""
    ) -> tuple[Pump, Charon]:
        for name in ("x509", "x509ca", "private"):
            (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / "swanctl.conf").write_text(conf)
        theirs = Charon(wire, tmp_path, charon)
        running.append(theirs)
        theirs.start()
        pump = Pump(wire, Endpoint(Pad([peer]), settings))
        running.append(pump)
        return pump, theirs

    yield make
    for each in reversed(running):
        each.close()


def wait(pump: Pump, process: subprocess.Popen) -> str:
    """Until the command is through; its output."""
    pump.until(lambda: process.poll() is not None, 60)
    output = process.stdout.read()
    assert process.returncode == 0, output
    return output


def they_begin(pump: Pump, charon: Charon, name: str = "net") -> None:
    wait(pump, charon.start_swanctl("--initiate", "--child", name))


def we_begin(pump: Pump) -> None:
    pump.act("initiate", "b")
    pump.until(lambda: pump.count("child-up") == 1)


def begin(pump: Pump, charon: Charon, who: str) -> None:
    we_begin(pump) if who == "we" else they_begin(pump, charon)
    assert pump.count("child-up") == 1
    passes(pump, charon)


def passes(pump: Pump, charon: Charon) -> None:
    """Their ping is understood by the keys that were agreed on, and so is, by them, the answer."""
    pump.esp.clear()
    with charon.ping("10.2.0.1", "10.1.0.7") as ping:
        pump.until(lambda: pump.esp)
        plain = open_esp(pump.plane.inbound[int.from_bytes(pump.esp[0][:4])], pump.esp[0])
        assert plain[12:20] == bytes([10, 2, 0, 1, 10, 1, 0, 7])
        pump.send_esp(list(pump.plane.sending.values())[0], echo(plain))
        assert ping.recv(1500)[12:] == bytes([10, 1, 0, 7, 10, 2, 0, 1]) + echo(plain)[20:]


@pytest.mark.parametrize("who", ["we", "they"])
@pytest.mark.parametrize(
    "ike_words, esp_words",
    [
        ("aes128gcm16-prfsha256-ecp256", "aes128gcm16"),
        ("aes256gcm16-prfsha384-ecp384", "aes256gcm16-ecp384"),
        ("aes128-sha256-modp2048", "aes128-sha256"),
        ("aes256-sha512-ecp521", "aes256-sha512"),
        ("aes256-sha384-modp3072", "aes256-sha384-modp2048"),
        ("chacha20poly1305-prfsha256-x25519", "chacha20poly1305"),
        ("aes192-sha256-modp4096", "aes128gcm16-x25519"),
    ],
)
def test_suites(live, who, ike_words, esp_words):
    peer = us(proposals=ike(ike_words), children=(child(proposals=esp(esp_words)),))
    pump, charon = live(peer, swanctl_conf(ike=ike_words, esp=esp_words))
    begin(pump, charon, who)


def test_rekeying_from_both_sides(live):
    pump, charon = live(
        us(children=(child(proposals=esp("aes128gcm16-ecp256")),)), swanctl_conf(esp="aes128gcm16-ecp256")
    )
    we_begin(pump)
    assert "ESTABLISHED" in charon.swanctl("--list-sas")
    pump.act("rekey", "b", "net")
    pump.until(lambda: pump.count("child-rekeyed") == 1)
    pump.act("rekey", "b")
    pump.until(lambda: pump.count("ike-rekeyed") == 1)
    passes(pump, charon)
    wait(pump, charon.start_swanctl("--rekey", "--child", "net"))
    pump.until(lambda: pump.count("child-rekeyed") == 2)
    wait(pump, charon.start_swanctl("--rekey", "--ike", "gw"))
    pump.until(lambda: pump.count("ike-rekeyed") == 2)
    passes(pump, charon)
    pump.act("terminate", "b")
    pump.until(lambda: pump.count("ike-down") == 1)
    assert charon.swanctl("--list-sas") == ""


@pytest.mark.parametrize("ours, theirs", [("net", "net"), (None, None), ("net", None), (None, "net")])
def test_rekeying_at_once(live, ours, theirs):
    """Both begin within the same moment, several times; one tunnel is left, and it works."""
    pump, charon = live(us(), swanctl_conf(), settings=Settings(linger_seconds=0.5))
    we_begin(pump)
    words = ("--child", "net") if theirs else ("--ike", "gw")
    for _ in range(3):
        process = charon.start_swanctl("--rekey", *words)
        pump.hold(0.15)
        pump.act("rekey", "b", ours)
        wait(pump, process)
        pump.run(0.7)
    pump.until(
        lambda: (
            len(pump.plane.inbound)
            == len(pump.plane.outbound)
            == 1
            == sum(each.alive for each in pump.endpoint.ikes)
        ),
        40,
    )
    # charon may still be waiting to try again what we answered with TEMPORARY_FAILURE.
    for _ in range(40):
        listed = charon.swanctl("--list-sas")
        if listed.count("ESTABLISHED") == listed.count("INSTALLED") == 1:
            break
        pump.run(0.5)
    log = charon.log.read_text()
    assert ("collision" if ours == theirs else "TEMP_FAIL") in log
    assert listed.count("ESTABLISHED") == 1 and listed.count("INSTALLED") == 1, listed
    passes(pump, charon)


def test_they_end_it(live):
    pump, charon = live(us(), swanctl_conf())
    they_begin(pump, charon)
    wait(pump, charon.start_swanctl("--terminate", "--child", "net"))
    pump.until(lambda: pump.count("child-down") == 1)
    wait(pump, charon.start_swanctl("--terminate", "--ike", "gw"))
    pump.until(lambda: pump.count("ike-down") == 1)
    assert not pump.plane.inbound and not pump.plane.outbound and not pump.plane.policies


def certified(folder, kind: str) -> tuple[KeyPair, Authorities]:
    """Our key pair and whom we trust; theirs, in files."""
    ours, theirs = chains(kind, "a.example", "b.example")
    theirs.write(folder)
    return KeyPair(ours.key, (ours.own, ours.middle)), Authorities([ours.root])


@pytest.mark.parametrize("who", ["we", "they"])
@pytest.mark.parametrize("kind", MAKERS)
def test_certificates(live, tmp_path, who, kind):
    own, trusted = certified(tmp_path, kind)
    peer = us(local_credential=own, remote_credential=trusted, fragment_bytes=576)
    pump, charon = live(
        peer,
        swanctl_conf(auth=CERTIFICATES, connection="fragmentation = yes\n send_cert = always"),
        charon="fragment_size = 600",
    )
    begin(pump, charon, who)
    assert any(data[:4] == NON_ESP_MARKER and data[20] == PayloadType.SKF for data in pump.received)


def test_certificates_of_another_authority(live, tmp_path):
    own, trusted = certified(tmp_path, "ecdsa256")
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    peer = us(local_credential=certified(stranger, "ecdsa256")[0], remote_credential=trusted)
    pump, charon = live(peer, swanctl_conf(auth=CERTIFICATES))
    pump.act("initiate", "b")
    pump.until(lambda: pump.count("ike-failed") == 1)
    assert "AUTHENTICATION_FAILED" in pump.events[-1].text


@pytest.mark.parametrize("who", ["we", "they"])
def test_wrong_secret(live, who):
    pump, charon = live(
        us(local_credential=PreSharedKey(b"another"), remote_credential=PreSharedKey(b"another")),
        swanctl_conf(),
    )
    if who == "we":
        pump.act("initiate", "b")
    else:
        process = charon.start_swanctl("--initiate", "--child", "net")
        pump.until(lambda: process.poll() is not None)
        assert process.returncode and "AUTHENTICATION_FAILED" in process.stdout.read()
    pump.until(lambda: pump.count("ike-failed") == 1)
    assert not pump.plane.inbound and charon.swanctl("--list-sas") == ""


@pytest.mark.parametrize("who", ["we", "they"])
def test_invalid_ke(live, who):
    """Whoever begins guesses wrong, and comes again with the other's group; the same for the child's own."""
    first, second = "aes128gcm16-prfsha256-{}", "aes128gcm16-{}"
    both, one = "ecp384-ecp256", "ecp256"
    ours, theirs = (both, one) if who == "we" else (one, both)
    peer = us(proposals=ike(first.format(ours)), children=(child(proposals=esp(second.format(ours))),))
    pump, charon = live(peer, swanctl_conf(ike=first.format(theirs), esp=second.format(theirs)))
    begin(pump, charon, who)
    if who == "we":
        assert Message.parse(pump.received[0]).notify(NotifyType.INVALID_KE_PAYLOAD)
        pump.act("rekey", "b", "net")
    else:
        wait(pump, charon.start_swanctl("--rekey", "--child", "net"))
    pump.until(lambda: pump.count("child-rekeyed") == 1)
    passes(pump, charon)


def test_they_ask_for_a_cookie(live):
    pump, charon = live(us(), swanctl_conf(), charon="cookie_threshold = 1\n cookie_threshold_ip = 1")
    other = Endpoint(Pad([us()]))
    other.initiate(0.0, "b")
    pump.raw(next(each.data for each in other.take() if isinstance(each, Datagram)))
    pump.run(0.3)
    pump.received.clear()
    we_begin(pump)
    assert Message.parse(pump.received[0]).notify(NotifyType.COOKIE)


def test_we_ask_for_a_cookie(live):
    pump, charon = live(us(), swanctl_conf(), settings=Settings(limits=Limits(cookie_threshold=0)))
    they_begin(pump, charon)
    inits = dict.fromkeys(
        data for data in pump.received if data[18] == ExchangeType.IKE_SA_INIT
    )  # Each once, however often it was sent.
    assert [bool(Message.parse(data).notify(NotifyType.COOKIE)) for data in inits] == [False, True]
    passes(pump, charon)


def test_dead_peer(live):
    peer = us(dpd_seconds=1, retransmission=Retransmission(timeout=0.2, factor=1.2, tries=3))
    pump, charon = live(peer, swanctl_conf())
    we_begin(pump)
    pump.run(2.5)
    assert pump.count("peer-dead") == 0
    charon.kill()
    pump.until(lambda: pump.count("peer-dead") == 1)
    assert not pump.plane.inbound and not pump.plane.outbound


def test_we_are_dead(live):
    pump, charon = live(us(), swanctl_conf(connection="dpd_delay = 1"))
    we_begin(pump)
    pump.run(2.5)
    assert "ESTABLISHED" in charon.swanctl("--list-sas") and pump.count("ike-down") == 0


def test_both_start_anew(live):
    """INITIAL_CONTACT, either way: the other forgets what it had."""
    pump, charon = live(us(), swanctl_conf(connection="unique = replace"))
    we_begin(pump)
    pump.restart(Endpoint(Pad([us()])))
    we_begin(pump)
    assert charon.swanctl("--list-sas").count("ESTABLISHED") == 1
    passes(pump, charon)
    charon.kill()
    charon.start()
    they_begin(pump, charon)
    assert "the peer began anew" in [event.text for event in pump.events]
    assert len(pump.plane.inbound) == 1
    passes(pump, charon)


@pytest.mark.parametrize("who", ["we", "they"])
def test_narrowing(live, who):
    """They would have all of 10.1.0.0/16, we a half of what they have."""
    config = child(
        traffic="10.1.0.0/24=10.2.0.0/25" if who == "they" else "10.1.0.0/17=10.2.0.0/16", proposals=esp(ESP)
    )
    pump, charon = live(us(children=(config,)), swanctl_conf(remote_ts="10.1.0.0/16"))
    begin(pump, charon, who)
    agreed = pump.plane.policies[0].selectors
    assert agreed == net("10.1.0.0/24=10.2.0.0/25" if who == "they" else "10.1.0.0/17=10.2.0.0/24")


def test_no_common_traffic(live):
    pump, charon = live(
        us(children=(child(traffic="10.9.0.0/24=10.8.0.0/24", proposals=esp(ESP)),)), swanctl_conf()
    )
    pump.act("initiate", "b")
    pump.until(lambda: pump.count("child-failed") == 1)
    assert "TS_UNACCEPTABLE" in pump.events[-1].text and pump.count("ike-up") == 1
    assert "ESTABLISHED" in charon.swanctl("--list-sas")


def test_several_children(live):
    more = "other {\n local_ts = 10.2.1.0/24\n remote_ts = 10.1.1.0/24\n esp_proposals = aes256gcm16\n }"
    children = (
        child(proposals=esp(ESP)),
        child("other", "10.1.1.0/24=10.2.1.0/24", proposals=esp("aes256gcm16")),
    )
    pump, charon = live(us(children=children), swanctl_conf(more=more))
    pump.act("initiate", "b")
    pump.until(lambda: pump.count("child-up") == 2)
    assert charon.swanctl("--list-sas").count("INSTALLED") == 2
    wait(pump, charon.start_swanctl("--terminate", "--child", "other"))
    they_begin(pump, charon, "other")
    assert len(pump.plane.outbound) == 2
    assert {sa.direction for sa in pump.plane.outbound} == {Direction.OUTBOUND}
    assert [len(sa.key) for sa in pump.plane.outbound] == [16, 32]


def test_loss(live):
    """Our first datagrams never arrive, at any point of the exchange."""
    pump, charon = live(us(), swanctl_conf())
    pump.lose = 2
    we_begin(pump)
    for _ in range(2):
        pump.lose = 1
        wait(pump, charon.start_swanctl("--rekey", "--child", "net"))
        pump.run(2)
    pump.until(lambda: pump.count("child-rekeyed") == 2)
    passes(pump, charon)
