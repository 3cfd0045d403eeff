# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate simulate``: a process, driven by hosts at its TAP devices and a control element at its socket."""

import asyncio
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from ipaddress import ip_network
from itertools import chain
from pathlib import Path

import pytest

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.sa import ANY_IPV4
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.interface import Action, CfeSettings, Route, Rule, Source
from spigate.firmware_py.tables.punt import InjectHeader, InjectMode, PuntHeader, pack_inject, pack_punt
from spigate.firmware_py.tables.punt_queues import ROOM
from spigate.firmware_py.tables.remote import (
    GREETING,
    Kind,
    Message,
    Messages,
    RemoteGateway,
    pack_words,
    unpack_words,
)
from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Direction, Port, PuntClass, Reason
from spigate.sim.bench_traffic import ETHERNET, Tunnels, clear
from spigate.sim.board import model
from spigate.sim.design import Configuration
from spigate.sim.live_control import MAX_OUTPUT, MAX_REQUESTS, PUNT_OUTPUT, Client
from tests.firmware_py.ike.hosts import ip, need
from tests.sim.live_hosts import simulation

pytestmark = [pytest.mark.xdist_group("live"), pytest.mark.slow]
CONFIGURATION = Configuration(beat_bytes=8, dfes=1, lanes=1)
"""The one that replays are tested with."""
WORDS = ("--beat-bytes", "8", "--dfes", "1", "--lanes", "1")
OURS, THEIRS = bytes.fromhex("02000000aa01"), bytes.fromhex("02000000aa02")
LONGEST = 1918
ROUTE = 5
TABLE_DATA = rdl.registers()["table.data"].address
NOWHERE = 0xFF00


@pytest.fixture(scope="module")
def built():
    need()
    CONFIGURATION.model()


@pytest.fixture(scope="module")
def shared(built, tmp_path_factory):
    with simulation(tmp_path_factory.mktemp("live"), *WORDS) as made:
        yield made


@pytest.fixture
def fresh(built, tmp_path):
    with simulation(tmp_path, *WORDS) as made:
        yield made


def controlled(simulated, work):
    """What ``work`` returns, a coroutine function that takes a RemoteGateway and the Driver on it."""

    async def run():
        gateway = await RemoteGateway.open(simulated.url)
        try:
            return await asyncio.wait_for(work(gateway, await Driver.open(gateway)), 60)
        finally:
            await gateway.close()

    return asyncio.run(run())


async def pass_clear_packets(driver):
    """From the network to the server, with a new Ethernet header."""
    await driver.configure(CfeSettings(enable=1))
    await driver.write_source(0, 0, Source(ip_network("0.0.0.0/0"), frozenset({Port.NETWORK})))
    await driver.write_route(ROUTE, Route(Port.SERVER, THEIRS, OURS))
    await driver.add_rule(Rule(ANY_IPV4, frozenset({Port.NETWORK}), Action.BYPASS, route=ROUTE))


def receive(connection, kind):
    """The next message of that kind that comes at a plain socket."""
    messages = Messages()
    while data := connection.recv(1 << 16):
        for message in messages.feed(data):
            if message.kind == kind:
                return message
    raise AssertionError("hung up")


def greeted(simulated, seconds=10.0):
    """A plain socket that has been greeted; tried again while another client's end may not have been seen."""
    end = time.monotonic() + seconds
    while True:
        connection = simulated.connect()
        if connection.recv(len(GREETING), socket.MSG_WAITALL) == GREETING:
            return connection
        connection.close()
        assert time.monotonic() < end


def test_the_socket_is_its_owners_alone(shared):
    assert stat.S_IMODE(shared.path.stat().st_mode) == 0o600


def test_it_is_the_configuration_and_can_be_cleared(shared):
    async def work(gateway, driver):
        await driver.clear()
        await driver.check()
        return driver.capabilities

    found = controlled(shared, work)
    assert (found.beat_bytes, found.dfes, found.lanes) == (
        CONFIGURATION.beat_bytes,
        CONFIGURATION.dfes,
        CONFIGURATION.lanes,
    )


def test_a_clear_packet_gets_through_and_tables_stay_when_the_control_element_goes(fresh):
    async def write(gateway, driver):
        await pass_clear_packets(driver)

    controlled(fresh, write)
    for size in (50, LONGEST - 14):
        packet = clear(size, size)
        fresh.network.send(ETHERNET + packet)
        assert fresh.server.receive() == THEIRS + OURS + b"\x08\0" + packet

    async def count(gateway, driver):
        return await driver.counters()

    # What no gateway takes, and what not even the bus model does, harms nobody.
    fresh.network.send(ETHERNET + bytes(LONGEST))
    fresh.network.send(ETHERNET + bytes(5000))
    fresh.network.send(ETHERNET + clear(60, 1))
    assert fresh.server.receive()[14:] == clear(60, 1)
    assert controlled(fresh, count).drops == {Reason.OVERSIZE: 1}
    code, out, _ = fresh.end()
    assert code == 0 and "dropped: 1 too long" in out


def test_esp_in_both_directions(fresh):
    into = Tunnels("gcm128", Direction.INBOUND)
    out = Tunnels("cbc128-sha256", Direction.OUTBOUND, first=1)

    async def write(gateway, driver):
        await driver.configure(CfeSettings(enable=1))
        await into.write(driver)
        await out.write(driver)

    controlled(fresh, write)
    for number in range(3):
        fresh.network.send(into.frame(number, into.clear(400, number)))
        assert into.opened(fresh.server.receive()) == into.clear(400, number)
        fresh.server.send(out.frame(number, out.clear(300, number)))
        sent, expected = out.opened(fresh.network.receive()), out.clear(300, number)
        assert sent[:8] == expected[:8] and sent[12:] == expected[12:]  # time to live and checksum apart


def test_misses_come_up_and_frames_go_down(shared):
    frame = ETHERNET + clear(120, 7)

    async def work(gateway, driver):
        await driver.clear()
        await driver.configure(CfeSettings(enable=1))
        for ingress, host, other in (
            (Port.NETWORK, shared.network, shared.server),
            (Port.SERVER, shared.server, shared.network),
        ):
            host.send(frame)
            header, punted = await asyncio.wait_for(gateway.receive(), 10)
            assert (header.reason, header.ingress, punted) == (Reason.NO_RULE, ingress, frame)
            for number in range(20):
                await gateway.inject(InjectMode.DIRECT, 1 - ingress, 0, punted + bytes([number]))
            assert [other.receive() for _ in range(20)] == [frame + bytes([number]) for number in range(20)]
        await gateway.inject(InjectMode.CLASSIFY, Port.SERVER, 1, frame)
        header, punted = await asyncio.wait_for(gateway.receive(), 10)
        assert (header.ingress, header.depth, punted) == (Port.SERVER, 1, frame)

    controlled(shared, work)


def test_what_the_gateway_refuses_is_told_and_goes_on(shared):
    async def work(gateway, driver):
        with pytest.raises(BusError, match="refused to write 0xff00"):
            await gateway.write(NOWHERE, [0] * 3)
        with pytest.raises(BusError, match="refused to read 0xff04"):
            await gateway.read(NOWHERE + 4)
        with pytest.raises(BusError, match="an address that is not there"):
            await driver.check()
        await driver.check()

    controlled(shared, work)
    with greeted(shared) as connection:
        for message in (
            Message(Kind.READ, pack_words([0])),
            Message(Kind.READ, pack_words([1 << 31])),
            Message(Kind.WRITE, b"", 8),
            Message(Kind.READ, pack_words([1]), 2),
        ):
            connection.sendall(message.pack())
            answer = receive(connection, message.kind)
            assert answer.refused and b"must be" in answer.body
        # What cannot be injected has no answer; what comes behind it has.
        connection.sendall(
            Message(Kind.INJECT).pack()
            + Message(Kind.INJECT, bytes(5000)).pack()
            + Message(Kind.INJECT, b"x").pack()
            + Message(Kind.READ, pack_words([1])).pack()
        )
        assert unpack_words(receive(connection, Kind.READ).body) == [int.from_bytes(b"SPIG")]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        Message(Kind.PUNT, bytes(30)).pack(),
        Message(Kind.READ, bytes(3)).pack(),
        Message(Kind.WRITE, bytes(7)).pack(),
        Message(Kind.WRITE, bytes(4), refused=True).pack(),
    ],
)
def test_who_sends_garbage_is_hung_up_on(shared, data):
    with greeted(shared) as connection:
        connection.sendall(data)
        assert connection.recv(100) == b""
    greeted(shared).close()


def test_there_is_one_control_element_at_a_time(shared):
    with greeted(shared) as first:
        with shared.connect() as second:
            assert second.recv(100) == b""
        with pytest.raises(InputError, match="another control element"):
            asyncio.run(RemoteGateway.open(shared.url))
        first.sendall(Message(Kind.READ, pack_words([1])).pack())
        assert unpack_words(receive(first, Kind.READ).body) == [int.from_bytes(b"SPIG")]
    greeted(shared).close()


def test_a_control_element_that_goes_in_the_middle_of_its_bursts_harms_nobody(shared):
    for _ in range(5):
        with greeted(shared) as connection:
            connection.sendall(
                Message(Kind.READ, pack_words([64])).pack()
                + Message(Kind.WRITE, pack_words([0] * 52), TABLE_DATA).pack() * 40
                + Message(Kind.READ, pack_words([9])).pack()[:-2]
            )
    with greeted(shared) as connection:
        connection.sendall(Message(Kind.READ, pack_words([1])).pack())
        assert unpack_words(receive(connection, Kind.READ).body) == [int.from_bytes(b"SPIG")]


def test_bursts_that_come_together_are_answered_in_order(shared):
    addresses = [4 * (at % 3) for at in range(3 * MAX_REQUESTS)]
    with greeted(shared) as connection:
        connection.sendall(
            b"".join(Message(Kind.READ, pack_words([1]), address).pack() for address in addresses)
        )
        messages, found = Messages(), []
        while len(found) < len(addresses):
            found += messages.feed(connection.recv(1 << 16))
    assert [message.address for message in found] == addresses
    words = {message.address: message.body for message in found}
    assert len(words) == 3 and all(words[message.address] == message.body for message in found)


def test_a_control_element_that_reads_nothing_stops_no_packet(fresh):
    async def write(gateway, driver):
        await pass_clear_packets(driver)

    controlled(fresh, write)
    punted = bytes(12) + b"\x08\x06" + bytes(1486)
    with greeted(fresh) as connection:
        for number in range(2 * MAX_OUTPUT // len(punted)):
            fresh.network.send(punted)
            if number % 100 == 0:
                fresh.network.send(ETHERNET + clear(60, number))
                assert fresh.server.receive()[14:] == clear(60, number)
        # When it reads again, it has what there was room for, and is answered.
        connection.sendall(Message(Kind.READ, pack_words([1])).pack())
        assert unpack_words(receive(connection, Kind.READ).body) == [int.from_bytes(b"SPIG")]
    code, out, _ = fresh.end(signal.SIGINT)
    assert code == 0
    dropped = int(out.partition("dropped: ")[2].partition(" punts")[0])
    # What did not find room in its class, in what waits to be sent, and in the socket.
    sent = 2 * MAX_OUTPUT // len(punted)
    assert sent // 2 < dropped < sent - ROOM[PuntClass.LINK]


def test_frames_without_a_control_element_or_a_device_that_is_up_are_lost(fresh):
    fresh.network.send(bytes(12) + b"\x08\x06" + bytes(46))
    time.sleep(1)  # so that it has come up before somebody is there

    async def work(gateway, driver):
        ip("-n", fresh.server.namespace, "link", "set", fresh.server.device, "down")
        await gateway.inject(InjectMode.DIRECT, Port.SERVER, 0, ETHERNET + clear(60, 1))
        await driver.counters()
        ip("-n", fresh.server.namespace, "link", "set", fresh.server.device, "up")
        with pytest.raises(OSError, match="down"):  # what the host's socket says once
            fresh.server.receive()
        await gateway.inject(InjectMode.DIRECT, Port.SERVER, 0, ETHERNET + clear(60, 2))
        assert fresh.server.receive() == ETHERNET + clear(60, 2)

    controlled(fresh, work)
    code, out, _ = fresh.end()
    assert code == 0 and "dropped: 1 at device server, 1 punts" in out
    assert not fresh.path.exists()


def processes(namespace):
    return subprocess.run(
        ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True
    ).stdout.split()


def test_an_idle_gateway_sleeps(shared):
    def seconds():
        """Of user and of system, of the command and its simulator."""
        ticks = (
            Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
            for process in processes(shared.namespace)
        )
        return sum(map(int, chain.from_iterable(ticks))) / os.sysconf("SC_CLK_TCK")

    time.sleep(0.5)
    before = seconds()
    time.sleep(2)
    assert seconds() - before < 0.4


def test_a_device_that_is_taken_away_ends_it(fresh):
    ip("-n", fresh.server.namespace, "link", "del", fresh.server.device)
    code = fresh.process.wait(10)
    _, errors = fresh.process.communicate()
    assert (
        code == 1
        and errors.splitlines()[-1].startswith("spigate simulate: the TAP device at port server is gone")
        and errors.count("\n") <= 2  # before that, that a model is being made
    )
    assert not fresh.path.exists()


CALLS = """
import contextlib, io, json, sys
from spigate.firmware_py import cli
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            code = cli.main(["simulate", *words])
        except SystemExit as error:
            code = error.code
    print(json.dumps([code, errors.getvalue()]))
"""


def called(namespace, *calls, prefix=()):
    """Exit code and errors of each call of the command."""
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *prefix, sys.executable, "-c", CALLS, json.dumps(calls)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=20,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_is_wrong_is_one_sentence(shared, tmp_path):
    other, absent, file = (
        ("--network", "other-n", "--server", "other-s"),
        tmp_path / "absent",
        tmp_path / "file",
    )
    file.write_text("")
    cases = {
        "a gateway is running there already": (*other, "--socket", str(shared.path)),
        "No such file or directory": (*other, "--socket", str(absent / "x")),
        "path too long": (*other, "--socket", str(tmp_path / ("x" * 200))),
        "in use": (*other, "--socket", str(file)),
        "dfes": (*other, "--socket", str(absent), "--dfes", "9"),
        "TAP device same: Device or resource busy": (
            "--network",
            "same",
            "--server",
            "same",
            "--socket",
            str(absent),
        ),
    }
    *shown, usage = called(shared.namespace, *cases.values(), ("--network", "sixteen-letters-"))
    for text, (code, errors) in zip(cases, shown, strict=True):
        assert code == 2 and text in errors and errors.count("\n") == 1, errors
    assert usage[0] == 2 and "at most 15" in usage[1]
    assert file.exists() and shared.path.exists() and not absent.exists()
    [(code, errors)] = called(shared.namespace, other, prefix=("setpriv", "--bounding-set", "-net_admin"))
    assert code == 2 and "it wants root" in errors and errors.count("\n") == 1


UNSOUND = """
import sys
from pathlib import Path
from spigate.firmware_py import cli
from spigate.sim import board
from spigate.sim.board import model
from spigate.sim.design import Configuration
Configuration.model = lambda self, **_: board.model(Path({path!r}), beat_bytes=8, simulator="icarus")
sys.exit(cli.main())
"""


def test_a_gateway_that_breaks_a_port_s_rules_ends_it(tmp_path):
    need()
    gateway = tmp_path / "spigate.v"
    gateway.write_text(
        (Path(__file__).parent / "loopback.v")
        .read_text()
        .replace("m_tkeep <= s_tkeep;", "m_tkeep <= s_tkeep & 8'hfd;")
    )
    model(gateway, beat_bytes=8, simulator="icarus")
    with simulation(tmp_path, program=("-c", UNSOUND.format(path=str(gateway)))) as broken:
        broken.network.send(bytes(60))
        assert broken.process.wait(10) == 1
        assert (
            broken.process.stderr.read()
            == "spigate simulate: At its port server the gateway left a hole in tkeep\n"
        )


def test_it_writes_a_waveform(tmp_path):
    need()
    written = tmp_path / "live.vcd"
    with simulation(tmp_path, *WORDS, "--simulator", "icarus", "--waveform", str(written)) as made:
        made.network.send(bytes(12) + b"\x08\x06" + bytes(46))
        controlled(made, lambda _, driver: driver.counters())
        assert made.end()[0] == 0
    head, _, changes = written.read_text().partition("$enddefinitions")
    board = head[head.index("$scope module board") :]
    valid = re.search(r"\$var wire 1 (\S+) s_axis_network_tvalid \$end", board)[1]
    assert f"\n1{valid}\n" in changes
    assert "s_axis_network_tvalid" in written.with_suffix(".gtkw").read_text()


def test_a_socket_that_a_killed_one_left_is_no_hindrance(built, tmp_path):
    with simulation(tmp_path, *WORDS) as first:
        first.process.kill()
        first.process.wait()
        assert first.path.exists()
        end = time.monotonic() + 10
        while processes(first.namespace):  # the simulator ends with it
            assert time.monotonic() < end
            time.sleep(0.05)
    with simulation(tmp_path, *WORDS) as second:
        greeted(second).close()


# The conversation alone


def test_a_client_takes_few_requests_at_a_time_and_none_without_room_for_its_answer():
    client, request = Client(), Message(Kind.READ, pack_words([1]))
    client.feed(request.pack() * (MAX_REQUESTS - 1))
    assert client.listening
    client.feed(request.pack())
    assert not client.listening and client.next() == request and client.listening
    client.answer(request, bytes(MAX_OUTPUT))
    assert client.next() is None
    client.sent(len(client.output))
    assert client.next() == request


def test_a_client_that_does_not_read_hears_ike_nevertheless():
    """What finds its class full is dropped, nothing for another class's sake; what comes up is told by
    turns.
    """
    client = Client()
    client.sent(len(GREETING))
    junk, ike = (
        pack_punt(PuntHeader(reason, Port.NETWORK), bytes(1000)) for reason in (Reason.NO_RULE, Reason.IKE)
    )
    told = [client.punt(junk) for _ in range(1000)]
    assert 500 < sum(told) < 700 and told == sorted(told, reverse=True)
    assert all(client.punt(ike) for _ in range(50)) and len(client.output) < PUNT_OUTPUT + 2000
    client.sent(len(client.output))
    heard = [message.body for message in Messages().feed(bytes(client.output))]
    assert heard.count(ike) == 50


def test_a_client_s_inject_is_the_frame_as_it_is():
    client, data = Client(), pack_inject(InjectHeader(InjectMode.DIRECT, Port.SERVER), b"frame")
    client.feed(Message(Kind.INJECT, data).pack())
    assert client.next() == Message(Kind.INJECT, data) and client.output == GREETING
