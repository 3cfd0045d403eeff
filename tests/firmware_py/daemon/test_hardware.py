# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate ce`` and a gateway in hardware, simulated, opposite strongSwan above a Linux kernel's own ESP
and AH, and above its own.
"""

import os
import socket
import time
from contextlib import ExitStack, closing, contextmanager
from threading import Thread

import pytest

from tests.firmware_py.daemon.bed import Traffic, echoed, ping, rekey_under_traffic, transfer
from tests.firmware_py.daemon.board import (
    PORTS,
    SERVER,
    SERVER_6,
    Board,
    done,
    dropped,
    hardware_config,
    metrics,
    of_version,
    simulate,
)
from tests.firmware_py.ike.hosts import OURS, THEIRS, inside
from tests.firmware_py.ike.strongswan import Charon, conf_of, swanctl_conf

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.slow]
SMALL = ("--beat-bytes", "8", "--dfes", "1", "--lanes", "1")
LARGE = ("--beat-bytes", "16", "--dfes", "3", "--lanes", "2")
"""Gateways that other tests simulate, too."""
INSIDE, INSIDE_6 = "10.2.0.1", "fd00:2::1"
"""Behind the peer."""
SIZES = (*range(20), *range(20, 200, 23), 500, 998, 1024, 1299, 1300)
"""Of pings that fit through the tunnel."""
FRAGMENTED = (1473, 3000)
LENGTH = 200_000
SOFT = 150
"""Packets of a soft lifetime: more than the pings, fewer than TCP takes for LENGTH bytes."""
OTHER = "10.99.0.3"
"""Another peer."""
DPD = "dpd_seconds = 2\nretransmission = { timeout = 0.3, tries = 2 }"
SOFTWARE = "software: packets that no DFE can do"
ICMP, TCP = 1, 6
BYPASS = """
[[policy]]
action = "bypass"
local = "10.1.0.0/24"
remote = "10.99.0.0/24"
protocol = 1

[[policy]]
action = "bypass"
local = "10.1.0.0/24"
remote = "10.99.0.0/24"
protocol = 6
remote_ports = [7, 7]
"""
DISCARD = """
[[policy]]
action = "discard"
local = "10.1.0.0/24"
remote = "10.2.0.0/24"
protocol = 6
"""


@pytest.fixture(scope="module")
def board(request, kernel, tmp_path_factory):
    """One after the other, where tests want different ones."""
    with Board(tmp_path_factory.mktemp("board"), kernel[0], *getattr(request, "param", SMALL)) as made:
        yield made


@pytest.fixture
def tunnel(kernel, tmp_path):
    """:func:`tunnels` of one test's."""
    with tunnels(kernel, tmp_path / "ce") as make:
        yield make


@contextmanager
def tunnels(kernel, ours):
    """Makes a tunnel and waits until it stands: ``make(board, theirs=..., who=...)`` gives the gateway.
    Other words are those of
    :func:`hardware_config`."""
    _, folder, charon = kernel
    with ExitStack() as stack:

        def make(board, *, who="we", theirs=None, **words):
            (folder / "swanctl.conf").write_text(
                theirs or swanctl_conf(esp=words.get("words", "aes128gcm16"))
            )
            charon.load()
            start = {"we": "now", "they": "never", "traffic": "traffic"}[who]
            gateway = board.control_element(ours, hardware_config(start=start, **words))
            stack.callback(ends_in_order, gateway)
            gateway.start()
            if who == "they":
                charon.swanctl("--initiate", "--child", "net")
            if who != "traffic":
                gateway.happens("child-up")
            return gateway

        yield make


def ends_in_order(gateway):
    gateway.close()
    assert gateway.ended(0) == 0, gateway.log.read_text()


def answers(uml, source, destination):
    """Whether one does."""
    return " 1 received" in uml.run("ping", "-c", 1, "-W", 1, "-I", source, destination, check=False)


def reaches(board, destination, size=56, seconds=1.0):
    """Whether one of the server's does."""
    try:
        ping(board.server, destination, (size,), timeout=seconds)
    except AssertionError:
        return False
    return True


def places(gateway):
    return {row["where"] for row in gateway.rows("sas")}


def in_dfes(gateway):
    """All SAs are at work, in hardware."""
    where = places(gateway)
    return bool(where) and all(each.startswith("DFE ") for each in where)


def came_up(found):
    """Punts of what is not the host's own."""
    return sum(
        count
        for name, count in found.items()
        if name.startswith("punts_total") and not any(each in name for each in ('"ike"', '"not_ip"'))
    )


def into_dfes(found):
    return sum(count for name, count in found.items() if name.startswith("dfe_packets_total"))


@pytest.mark.parametrize(
    "who, esp", [("we", "aes128gcm16"), ("they", "aes256-sha256"), ("traffic", "aes128gcm16")]
)
def test_esp_is_done_in_hardware(board, kernel, tunnel, who, esp):
    uml, _, _ = kernel
    gateway = tunnel(
        board, who=who, words=esp, child=f"soft = {{ packets = {SOFT} }}" if who == "traffic" else ""
    )
    if who == "traffic":
        assert gateway.rows("ike") == []
    ping(board.server, INSIDE)  # the first packet of all is not lost
    gateway.until(lambda: in_dfes(gateway), "work in DFEs")
    before = metrics(gateway)
    ping(board.server, INSIDE, SIZES)
    uml.pings(SERVER, (0, 1000, 1300), source=INSIDE, times=3)
    pings = len(SIZES) + 3 * 3
    gateway.until(
        lambda: (
            min(
                done(gateway, kind) - before[f'packets_total{{kind="{kind}"}}']
                for kind in ("encrypted", "decrypted")
            )
            >= pings
        ),
        "counts",
    )
    after = metrics(gateway)
    assert into_dfes(after) - into_dfes(before) >= 2 * pings
    assert came_up(after) - came_up(before) < 5
    echoed(board.server, INSIDE, os.urandom(LENGTH))
    if who == "traffic":
        gateway.happens("child-rekeyed")  # the hardware says that the soft lifetime is over
    else:
        assert in_dfes(gateway)
    board.forget_paths()
    ping(board.server, INSIDE, FRAGMENTED)
    uml.pings(SERVER, FRAGMENTED, source=INSIDE, times=1)
    if who == "we":
        gateway.until(lambda: SOFTWARE in places(gateway), "a fragment takes SAs to software")
        gateway.until(lambda: in_dfes(gateway), "they go back", 40)
        ping(board.server, INSIDE, SIZES)
        uml.pings(SERVER, (0, 1300), source=INSIDE, times=1)
        assert in_dfes(gateway)


@pytest.mark.parametrize(
    "protocol, words, version, why",
    [
        ("esp", "aes128gcm16-esn", 4, "extended sequence numbers"),
        ("ah", "sha256", 4, "AH"),
        ("esp", "aes128gcm16", 6, "IPv6"),
    ],
)
def test_what_the_hardware_lacks_is_done_in_software(board, kernel, tunnel, protocol, words, version, why):
    theirs = of_version(version, swanctl_conf(esp=words)).replace("esp_proposals", f"{protocol}_proposals")
    here, there = (SERVER, INSIDE) if version == 4 else (SERVER_6, INSIDE_6)
    gateway = tunnel(board, theirs=theirs, protocol=protocol, words=words, version=version)
    ping(board.server, there, SIZES)
    if version == 6:
        assert not reaches(board, there, FRAGMENTED[0])  # the server hears how long a packet may be
    ping(board.server, there, FRAGMENTED)
    board.forget_paths()
    kernel[0].pings(here, (0, 1300), source=there, times=3)
    expected = {f"software: {why}"}
    gateway.until(lambda: places(gateway) == expected, f"work in software for {expected}")


def test_transport_mode_is_for_the_gateways_own_host(board, kernel, tunnel):
    gateway = tunnel(board, theirs=conf_of("esp", "transport", "aes128gcm16"), mode="transport")
    ping(board.ours, str(THEIRS), SIZES)
    kernel[0].pings(str(OURS), (0, 1300), source=str(THEIRS), times=3)
    gateway.until(lambda: in_dfes(gateway), "work in DFEs")
    gateway.until(
        lambda: min(done(gateway, kind) for kind in ("encrypted", "decrypted")) >= len(SIZES), "counts"
    )
    assert not reaches(board, str(THEIRS)), "what is not the host's own does not pass"


def nothing_passes(board, uml):
    """Neither way, nor from the gateway itself."""
    board.pin_gateway(True)
    with board.leaving("network") as out, board.leaving("server") as into:
        assert not reaches(board, INSIDE) and not reaches(board, str(THEIRS))
        assert not answers(uml, str(THEIRS), SERVER)
    board.pin_gateway(False)
    assert not out and not into


@pytest.fixture(scope="class")
def gateway(board, kernel, tmp_path_factory):
    """Of a tunnel that several tests share."""
    with tunnels(kernel, tmp_path_factory.mktemp("ce")) as make:
        yield make(board)


class TestOneTunnel:
    def test_rekeying_loses_no_ping(self, board, kernel, gateway):
        _, _, charon = kernel
        rekey_under_traffic(
            gateway,
            board.server,
            INSIDE,
            lambda: charon.swanctl("--rekey", "--child", "net"),
            lambda: charon.swanctl("--rekey", "--ike", "gw"),
            rounds=5,
        )
        gateway.until(lambda: in_dfes(gateway), "work in DFEs")

    def test_path_mtu(self, board, gateway):
        """The server hears how long a packet may be, and the next one fits."""
        mtu = 1500 - 20 - 8 - 8 - 16 - 2
        """Without IP header, ESP header, IV, ICV and trailer."""
        longest = mtu - 28

        def pinged(size):
            return board.in_server("ping", "-M", "do", "-c", 1, "-W", 3, "-s", size, INSIDE)

        ping(board.server, INSIDE)
        for size in (longest + 1, 1472):
            board.forget_paths()
            assert " 1 received" in pinged(longest)
            for told in (
                f"From 10.1.0.1 icmp_seq=1 Frag needed and DF set (mtu = {mtu})",
                f"message too long, mtu={mtu}",
            ):
                printed = pinged(size)
                assert told in printed and " 0 received" in printed, printed
            assert " 1 received" in pinged(longest)
        board.forget_paths()

    def test_what_no_policy_names_does_not_pass(self, board, kernel, gateway):
        uml, _, _ = kernel
        ping(board.server, INSIDE)
        gateway.until(lambda: in_dfes(gateway), "work in DFEs")
        before = dropped(gateway, "policy")
        with board.leaving("network") as out:
            assert not reaches(board, str(THEIRS))
        assert not [frame for frame in out if frame[12:14] == b"\x08\0" and frame[14:][9] == ICMP]
        gateway.until(lambda: dropped(gateway, "policy") > before, "counts")
        before = dropped(gateway, "policy")
        with board.leaving("server") as into:
            assert not answers(uml, str(THEIRS), SERVER)
        assert not [frame for frame in into if frame[12:14] == b"\x08\0" and frame[14:][9] == ICMP]
        gateway.until(lambda: dropped(gateway, "policy") > before, "counts")
        ping(board.server, INSIDE)

    def test_neighbours_change_and_are_not_there(self, board, kernel, gateway):
        uml, _, _ = kernel
        ping(board.server, INSIDE, SIZES)
        for mac in ("02:00:00:00:77:02", "02:00:00:00:77:01"):
            board.change_server_mac(mac)
            gateway.until(lambda: answers(uml, INSIDE, SERVER), "the new address is learned", 30)
            ping(board.server, INSIDE, SIZES)
        before = dropped(gateway, "no_neighbour")
        with Traffic(board.server, INSIDE) as traffic:
            assert not answers(uml, INSIDE, "10.1.0.77")
            gateway.until(lambda: dropped(gateway, "no_neighbour") > before, "gives up")
        assert traffic.error is None, traffic.error
        assert traffic.count > 20

    def test_there_is_one_control_element(self, board, gateway, tmp_path):
        board.refuses(
            tmp_path / "ce",
            hardware_config(start="never"),
            f"{board.url}: no gateway answers there, or another control element has it",
        )
        ping(board.server, INSIDE)
        assert gateway.count("child-up") == 1

    def test_the_hardware_goes_on_without_the_control_element_and_ends_with_it(self, board, kernel, gateway):
        uml, _, charon = kernel
        ping(board.server, INSIDE)
        before = {row["spi"] for row in gateway.rows("sas")}
        gateway.kill()
        with board.leaving("network") as out, board.leaving("server") as into:
            ping(board.server, INSIDE, SIZES)
            uml.pings(SERVER, (0, 1300), source=INSIDE, times=3)
        assert len(out) > len(SIZES) and len(into) > len(SIZES)
        gateway.start()
        gateway.happens("child-up")
        ping(board.server, INSIDE, SIZES)
        assert not before & {row["spi"] for row in gateway.rows("sas")}
        assert charon.swanctl("--list-sas").count("ESTABLISHED") == 1  # the others ended by INITIAL_CONTACT
        gateway.close()
        assert "ESTABLISHED" not in charon.swanctl("--list-sas")
        nothing_passes(board, uml)


def test_the_gateway_dies_and_comes_back(board, tmp_path):
    """It is said once, and that it works again."""
    words = (tmp_path / "own.sock", {"network": "spigate-dies-n", "server": "spigate-dies-s"}, *SMALL)
    process = simulate(*words)
    gateway = board.control_element(
        tmp_path / "ce", hardware_config(start="never"), url=f"unix:{tmp_path / 'own.sock'}"
    )
    try:
        gateway.start()
        process.kill()
        process.communicate()
        gateway.until(lambda: gone_and_started(gateway) == (1, 1), "says that it is gone")
        said = f"unix:{tmp_path / 'own.sock'}: the gateway hung up; it is tried again until it is back"
        assert said in gateway.log.read_text()
        time.sleep(3)  # tries, of which nothing is said
        process = simulate(*words)
        gateway.until(lambda: gone_and_started(gateway) == (1, 2), "works again", 60)
        process.kill()
        process.communicate()
        gateway.until(lambda: gone_and_started(gateway) == (2, 2), "says that it is gone again")
        gateway.close()
        assert gateway.ended(0) == 0
    finally:
        gateway.close()
        process.kill()


def gone_and_started(gateway):
    """How often it has said so."""
    log = gateway.log.read_text()
    return log.count("gateway-gone"), log.count("event=started")


def test_what_cannot_be(board, tmp_path):
    """Exit code 2, and a sentence."""
    text = hardware_config(start="never")
    nobody, other = tmp_path / "nobody", tmp_path / "other"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(other))
        listening.listen()
        Thread(target=_say_something, args=(listening,), daemon=True).start()
        board.refuses(
            tmp_path / "a",
            text,
            f"unix:{other}: no gateway answers there, or another control element has it",
            url=f"unix:{other}",
        )
    board.refuses(
        tmp_path / "a",
        text,
        f"unix:{nobody}: No such file or directory; is the gateway running, and may this user reach it?",
        url=f"unix:{nobody}",
    )
    for url in ("tcp://x", "nonsense"):
        board.refuses(
            tmp_path / "a",
            text,
            f"expected unix:PATH or serial:///dev/DEVICE?baud=RATE for a gateway in hardware, not {url!r}",
            url=url,
        )
    board.refuses(
        tmp_path / "a", text.replace(PORTS, ""), "needs [port.network] and [port.server] in its configuration"
    )


def _say_something(listening):
    connection, _ = listening.accept()
    connection.sendall(b"220 mail.example")
    connection.close()


def test_policies(board, kernel, tunnel):
    uml, _, _ = kernel
    gateway = tunnel(board, more=BYPASS + DISCARD)
    # bypass: in the clear, both ways
    before = done(gateway, "bypassed")
    with board.leaving("network") as out:
        ping(board.server, str(THEIRS), SIZES)
        uml.pings(SERVER, (0, 1000), source=str(THEIRS), times=3)
        echoed(board.server, str(THEIRS), os.urandom(20_000))
    assert sum(frame[14:][9] in (ICMP, TCP) for frame in out if frame[12:14] == b"\x08\0") > len(SIZES)
    gateway.until(lambda: done(gateway, "bypassed") - before >= 2 * (len(SIZES) + 6), "counts")
    # discard: nothing passes of what the peer's traffic would include; the rest of it does
    ping(board.server, INSIDE, SIZES)
    with pytest.raises(TimeoutError):
        connect(board, INSIDE, 7)
    ping(board.server, INSIDE, SIZES)
    # What passes in the clear does so without a peer, and ends with the control element.
    gateway.command("terminate", "b")
    gateway.happens("ike-down")
    ping(board.server, str(THEIRS), SIZES)
    gateway.close()
    nothing_passes(board, uml)


def connect(board, address, port, seconds=2):
    with inside(board.server):
        socket.create_connection((address, port), seconds).close()


def test_a_peer_with_esp_in_udp_and_its_death(board, tunnel, tmp_path):
    """strongSwan's own ESP is always in UDP."""
    with board.peer(OTHER) as peer, ExitStack() as stack:
        folder = tmp_path / "charon"
        folder.mkdir()
        (folder / "swanctl.conf").write_text(swanctl_conf().replace(str(THEIRS), OTHER))
        charon = Charon(peer, folder)
        charon.start()
        stack.callback(charon.close)
        text = hardware_config(peer=DPD).replace(str(THEIRS), OTHER)
        gateway = stack.enter_context(closing(board.control_element(tmp_path / "ce", text)))
        gateway.start()
        gateway.happens("child-up")
        ping(board.server, INSIDE, (*SIZES, *FRAGMENTED))
        ping(peer.theirs, SERVER, SIZES, source=INSIDE)
        transfer(board.server, peer.theirs, INSIDE, os.urandom(20_000))
        gateway.until(
            lambda: (
                {(row["protocol"], row["where"]) for row in gateway.rows("sas")}
                == {("esp-in-udp", "software: ESP in UDP")}
            ),
            "says where",
        )
        board.forget_paths()
        charon.kill()
        gateway.happens("peer-dead")
        gateway.until(lambda: gateway.rows("sas") == [], "gives up its SAs")


def test_traffic_says_that_a_peer_is_alive(board, kernel, tunnel):
    """Its kernel goes on when its charon is dead."""
    uml, _, charon = kernel
    gateway = tunnel(board, peer=DPD)
    charon.kill()
    try:
        killed = time.monotonic()
        with Traffic(board.server, INSIDE) as traffic:
            while time.monotonic() < killed + 3.5:  # without traffic it would be dead by then
                assert gateway.count("peer-dead") == 0
                time.sleep(0.2)
        assert traffic.error is None, traffic.error
        gateway.happens("peer-dead")
    finally:
        charon.close()
        charon.start()


@pytest.mark.parametrize("board", [LARGE], indirect=True)
def test_sas_spread_over_dfes(board, tunnel):
    """And rekeying takes them from one to another, under traffic."""
    gateway = tunnel(board)
    seen, rekeyed = set(), 0
    with Traffic(board.server, INSIDE) as traffic:
        while seen != {"DFE 0", "DFE 1", "DFE 2"}:
            gateway.until(lambda: in_dfes(gateway), "work in DFEs")
            seen |= places(gateway)
            assert rekeyed < 20, seen
            gateway.command("rekey", "b/net")
            rekeyed += 1
            gateway.happens("child-rekeyed", rekeyed)
    assert traffic.error is None, traffic.error
    assert traffic.count >= 2 * rekeyed
    found = metrics(gateway)
    assert all(
        found[f'dfe_packets_total{{dfe="{dfe}"}}'] and found[f'dfe_healthy{{dfe="{dfe}"}}']
        for dfe in range(3)
    )
