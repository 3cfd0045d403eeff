# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The daemon's loop without its sockets: one thing that goes wrong costs nothing else, and the log stays
small.
"""

import asyncio
import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from spigate.firmware_py.daemon import logs
from spigate.firmware_py.daemon.loop import Daemon
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.engine.actions import Datagram, InstallSa, Socket
from spigate.firmware_py.ike.peers.pad import Pad
from spigate.firmware_py.ipsec.sa import Lifetime
from tests.firmware_py.ike.network import Host, Network, child, pair, peer, reverse
from tests.firmware_py.ike.raw import connected

CHILD = child(soft=Lifetime(seconds=100), hard=Lifetime(seconds=1000), jitter=0)


class Plane:
    """A data plane that refuses what it is told to."""

    def __init__(self, config, clock):
        self.refuses, self.sas, self.policies, self.came = set(), [], [], []

    def _may(self, name: str) -> None:
        if name in self.refuses:
            raise RuntimeError(name)

    def apply(self, output) -> None:
        self._may(type(output).__name__)
        if isinstance(output, InstallSa):
            self.sas.append(output.sa)

    def applied(self) -> None:
        self._may("applied")

    def datagram(self, data, local, remote, tos) -> None:
        self.came.append(data)
        self._may("datagram")

    def forget_held(self, peer: str) -> None:
        pass


class Link:
    """What came, and what went, at a UDP port."""

    def __init__(self):
        self.came: list[tuple] = []
        self.went: list[Datagram] = []
        self.error: OSError | None = None

    def datagrams(self):
        came, self.came = self.came, []
        yield from came

    def send(self, datagram: Datagram) -> None:
        if self.error:
            raise self.error
        self.went.append(datagram)


@pytest.fixture
def daemon():
    """B's, opposite a simulated A. ``daemon.hear(datagrams)``: they come at once, and what goes is
    returned. ``daemon.later(seconds)``: so much time passes for its loop, likewise. ``daemon.log``: what
    was logged."""
    logs.set_up("text", "INFO")
    logs.LOG.handlers[0].setStream(io.StringIO())
    network, a, b = pair()
    config = SimpleNamespace(
        pad=Pad(
            [
                peer(
                    "a",
                    "b",
                    "a",
                    address=None,
                    local_address=None,
                    dpd_seconds=None,
                    children=(reverse(CHILD),),
                )
            ]
        ),
        settings=None,
        sas=(),
        state=Path("state"),
        control=None,
        metrics_port=0,
    )
    made = Daemon(config, Plane)
    made._loop = loop = asyncio.new_event_loop()
    made._control, link = SimpleNamespace(tell=lambda row: None), Link()
    made._udp = {(4, 500): link, (4, 4500): link}

    def hear(*datagrams: Datagram) -> list[Datagram]:
        link.came += [(each.data, each.destination, each.source, 0) for each in datagrams]
        made._from_udp(link)
        went, link.went = link.went, []
        return went

    def later(seconds: float) -> list[Datagram]:
        now = loop.time() + seconds
        loop.time = lambda: now
        for _ in range(3):  # a timer that is due may ask for the next one
            loop.call_soon(loop.stop)
            loop.run_forever()
        went, link.went = link.went, []
        return went

    made.link = link
    made.hear, made.later, made.network, made.a, made.log = (
        hear,
        later,
        network,
        a,
        logs.LOG.handlers[0].stream.getvalue,
    )
    yield made
    made._loop.close()


def sent(network: Network, host: Host, command, *arguments) -> list[Datagram]:
    network.seen.clear()
    command(*arguments)
    return [each for each in network.seen if each.source.address == host.address]


def handshake(daemon) -> None:
    network, a = daemon.network, daemon.a
    network.filters.append(lambda datagram: None)
    asked = sent(network, a, a.initiate, "b")
    for _ in range(2):
        answered = daemon.hear(*asked)
        network.seen.clear()
        for each in answered:
            a.receive(each.data, each.destination, each.source)
        asked = [each for each in network.seen if each.source.address == a.address]


def test_a_handshake(daemon):
    handshake(daemon)
    assert len(daemon.a.standing) == 1 and len(daemon._plane.sas) == 2 and daemon._timer is not None


def test_what_is_not_there_is_not_replaced(daemon):
    """``spigate rekey`` ended with 0 and without a word."""
    for name, said in (
        (None, "peer 'a' has no IKE SA that could be replaced"),
        ("net", "peer 'a' has no child SA 'net' that could be replaced"),
    ):
        with pytest.raises(InputError, match=said):
            daemon._command("rekey", "a", name)
    handshake(daemon)
    for name in (None, "net"):
        assert daemon._command("rekey", "a", name) == []


@pytest.mark.parametrize("refuses", ["applied", "datagram", "key log"])
def test_what_goes_wrong_costs_nothing_else(daemon, refuses):
    daemon._plane.refuses.add(refuses)
    if refuses == "key log":

        def full(line):
            raise OSError(28, "No space left on device")

        daemon._key_log = SimpleNamespace(ike=full, sa=full)
    handshake(daemon)
    esp = Datagram(
        Socket(daemon.a.address, 4500), Socket(daemon.network.hosts[1].address, 4500), b"\0\0\1\1" + bytes(20)
    )
    daemon.hear(*[esp] * 500)
    assert len(daemon._plane.came) == 500
    assert len(daemon.a.standing) == 1 and len(daemon._plane.sas) == 2 and daemon._timer is not None
    logged = daemon.log()
    assert (
        'event="internal error"' in logged
        and logged.count("\n") < 2 * logs.PER_NAME
        and len(logged) < 2 * logs.PER_NAME * logs.MAX_LINE
    )


def test_an_sa_that_cannot_be_installed_is_no_sa(daemon):
    daemon._plane.refuses.add("InstallSa")
    handshake(daemon)
    assert not any(ike.children for ike in daemon._endpoint.ikes) and daemon._timer is not None
    assert "RuntimeError" in daemon.log()


@pytest.mark.parametrize("breaks", ["ike", "output"])
def test_a_timer_that_breaks_stops_none_and_loses_nothing(daemon, monkeypatch, breaks):
    """Audit s20: in the loop's own timer. One of two IKE SAs meets an exception where its child SA is to be
    rekeyed, or in what it then wants of the data plane; the other one asks its peer at the same moment, and
    the loop's timer is set again."""
    one, other = (connected(daemon._endpoint, daemon._loop.time(), port=port) for port in (501, 502))
    [first] = [each for each in daemon._endpoint.ikes if each.spi_i == one.spi_i]
    daemon._settle()
    honest = type(first).rekey_child

    def rekey_child(ike, child_, now):
        if ike is not first:
            return honest(ike, child_, now)
        if breaks == "ike":
            raise ValueError("nobody expected it")
        daemon._plane.refuses.add("RemoveSa")
        return child_.end(now, "for the test")

    monkeypatch.setattr(type(first), "rekey_child", rekey_child)
    asked = daemon.later(200)
    assert any(each.data[:8] == other.spi_i for each in asked), "the other's request is on its way"
    assert ("ValueError" if breaks == "ike" else "RuntimeError") in daemon.log()
    assert daemon._timer.when() > daemon._loop.time() and not daemon._timer.cancelled()
    assert any(each.data[:8] == other.spi_i for each in daemon.later(30)), "and is repeated"


def test_the_operator_hears_once_that_nothing_goes(daemon):
    """A wrong ``local_address`` or a missing route was seen at the level debug alone."""
    link, a = daemon.link, daemon.a
    daemon._config.pad = Pad([peer("a", "b", "a")])
    daemon.network.filters.append(lambda datagram: None)
    asked = sent(daemon.network, a, a.initiate, "b")

    def told() -> int:
        return daemon.log().count("level=warning event=not-sent")

    for error, times in ((101, 1), (101, 1), (99, 2), (None, 2), (99, 3)):
        link.error = OSError(error, os.strerror(error)) if error else None
        daemon.hear(*asked)
        assert told() == times
    assert 'text="Network is unreachable"' in daemon.log()
    daemon._udp.clear()
    daemon._from_udp(link)
    link.error = None
    link.came = [(each.data, each.destination, each.source, 0) for each in asked]
    daemon._from_udp(link)
    assert 'text="this host has no IPv4"' in daemon.log()


def test_addresses_that_strangers_make_up_hide_no_peers(daemon):
    daemon._config.pad = Pad([peer("a", "b", "a")])
    daemon.link.error = OSError(101, "Network is unreachable")
    own = Socket(daemon.network.hosts[1].address, 500)
    for each in range(500):
        daemon._send(Datagram(own, Socket(type(daemon.a.address)(0xC6336400 + each), 500), b""))
    assert daemon.log() == "" and not daemon._unreached
    daemon._send(Datagram(own, Socket(daemon.a.address, 500), b""))
    assert daemon.log().count("event=not-sent peer=a") == 1


def test_strangers_fill_no_log(daemon):
    """Two thousand beginnings from addresses of nobody's, with contents of all kinds."""
    for each in range(2000):
        source = Socket(type(daemon.a.address)(0xC6336400 + each % 256), 500 + each)
        daemon.hear(
            Datagram(
                source,
                Socket(daemon.network.hosts[1].address, 500),
                bytes([1 + each % 250]) * 8
                + bytes(8)
                + bytes([33, 0x20, 34, 8])
                + bytes(4)
                + (28 + each % 900).to_bytes(4)
                + bytes(each % 900),
            )
        )
    assert len(daemon.log()) < 20_000
