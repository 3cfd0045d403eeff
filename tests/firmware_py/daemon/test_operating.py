# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What an operator has: control socket, logs, metrics, key log."""

import asyncio
import json
import logging
import os
import socket
import stat
import subprocess
import sys
from collections import Counter
from ipaddress import ip_address, ip_network
from types import SimpleNamespace

import pytest

from spigate.firmware_py.daemon import hardware, keylog, logs, status
from spigate.firmware_py.daemon.control_socket import Control, ask
from spigate.firmware_py.daemon.counting import Counting
from spigate.firmware_py.daemon.metrics import MOST_AT_ONCE, serve
from spigate.firmware_py.daemon.plane import Plane
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.engine.actions import InstallSa
from spigate.firmware_py.ike.engine.endpoint import Endpoint
from spigate.firmware_py.ike.peers.pad import Pad
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection
from spigate.firmware_py.ipsec.sa import Auth, Cipher, Sa, Selectors
from spigate.firmware_py.tables.interface import GATEWARE, Counters
from spigate.hdl.contract.enums import Direction, Mode, Reason


def refuse(peer, child=None):
    raise InputError(f"There is no peer {peer!r}")


COMMANDS = {"sas": lambda: [{"spi": "00001000"}], "events": lambda: [{"kind": "old"}], "terminate": refuse}


def with_control(path, do):
    """``do(control)`` in a thread, while the socket is served."""

    async def main():
        async with Control(path, COMMANDS) as control:
            return await asyncio.get_running_loop().run_in_executor(
                None, do, control, asyncio.get_running_loop()
            )

    return asyncio.run(main())


def test_control_answers_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "control"

    def do(control, loop):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(ask(path, command="sas")) == [{"spi": "00001000"}]
        with pytest.raises(InputError, match="There is no peer 'x'"):
            list(ask(path, command="terminate", peer="x"))
        for request in ({"command": "frob"}, {"command": "sas", "more": 1}, {}):
            with pytest.raises(
                InputError, match="expected an object with a command, one of sas, events, terminate"
            ):
                list(ask(path, **request))

    with_control(path, do)
    assert not path.exists()
    with pytest.raises(InputError, match="No such file or directory; is spigate ce running"):
        list(ask(path, command="sas"))


def test_events_are_followed(tmp_path):
    def do(control, loop):
        rows = ask(tmp_path / "control", command="events", follow=True)
        first = next(rows)
        loop.call_soon_threadsafe(control.tell, {"kind": "new"})
        return first, next(rows)

    assert with_control(tmp_path / "control", do) == ({"kind": "old"}, {"kind": "new"})


def test_a_second_gateway_is_refused_and_a_dead_ones_socket_is_not_in_the_way(tmp_path):
    path = tmp_path / "control"

    def again(control, loop):
        with pytest.raises(InputError, match="a gateway is running there already"):
            asyncio.run(Control(path, COMMANDS).__aenter__())

    with_control(path, again)
    subprocess.run(
        [sys.executable, "-c", f"import socket; socket.socket(socket.AF_UNIX).bind({str(path)!r})"],
        check=True,
    )
    assert path.exists()
    assert with_control(path, lambda control, loop: list(ask(path, command="sas")))


def test_only_a_socket_is_cleared_away(tmp_path):
    """Whatever stood there and was no gateway's was removed."""
    path = tmp_path / "notes"
    path.write_text("mine")
    with pytest.raises(InputError, match="expected a socket, or nothing"):
        with_control(path, lambda control, loop: None)
    assert path.read_text() == "mine"


SA = Sa(
    direction=Direction.OUTBOUND,
    spi=0x1000,
    source=ip_address("192.0.2.1"),
    destination=ip_address("192.0.2.2"),
    mode=Mode.TUNNEL,
    cipher=Cipher.AES_CBC,
    key=bytes(range(16)),
    auth=Auth.HMAC_SHA256_128,
    auth_key=bytes(range(32)),
    esn=True,
)


def test_metrics_are_prometheus_text():
    plane = Plane(
        Pad(),
        [],
        [
            Policy(
                selectors=Selectors(ip_network("10.0.0.0/8"), ip_network("10.0.0.0/8")),
                direction=PolicyDirection.OUT,
                action=PolicyAction.DISCARD,
            )
        ],
        clock=lambda: 0,
    )
    plane.send(bytes(20))
    text = status.metrics(Endpoint(Pad()), plane, {"ike-up": 3})

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def main():
        async with serve(port, lambda: text):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            other, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\n\r\n")
            return head, body, await other.read()

    head, body, other = asyncio.run(main())
    assert head.startswith(b"HTTP/1.1 200 OK") and body.decode() == text and other.startswith(b"HTTP/1.1 404")
    for line in (
        'spigate_dropped_packets_total{reason="malformed"} 1',
        'spigate_events_total{kind="ike-up"} 3',
        "spigate_policies 1",
        "# TYPE spigate_sas gauge",
    ):
        assert line in text.splitlines()


def test_metrics_take_few_connections():
    """Whoever is on this host, and says nothing, used up the gateway's file descriptors."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def main():
        async with serve(port, lambda: "x"):
            made = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_AT_ONCE + 20)]
            ends = await asyncio.gather(
                *(asyncio.wait_for(reader.read(), 0.5) for reader, _ in made), return_exceptions=True
            )
            for _, writer in made:
                writer.close()
            await asyncio.sleep(0.1)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            return ends, await reader.read()

    ends, answer = asyncio.run(main())
    assert ends.count(b"") == 20 and answer.startswith(b"HTTP/1.1 200 OK")


def test_logs_are_one_line_a_record(capsys):
    for form in ("text", "json"):
        logs.set_up(form, "INFO")
        logs.log(logging.INFO, "ike-up", peer="b", child="", text='says "x"\nand = more')
        logs.log(logging.DEBUG, "not shown")
    text, json_line = capsys.readouterr().err.splitlines()
    assert text.endswith(r'level=info event=ike-up peer=b text="says \"x\"\nand = more"')
    assert {**json.loads(json_line), "time": ""} == {
        "time": "",
        "level": "info",
        "event": "ike-up",
        "peer": "b",
        "text": 'says "x"\nand = more',
    }


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("value", ["x" * 120_000, "\U0001f600" * 120_000, "\0" * 120_000, '\n=" ' * 40_000])
def test_a_line_has_a_longest_length(capsys, form, value):
    logs.set_up(form, "INFO")
    logs.log(logging.INFO, "refused", peer=value, child=value, ike=value, text=value)
    logs.log(logging.INFO, "refused", text=value)
    try:
        raise ValueError(value)
    except ValueError:
        logs.LOG.exception(value)
    for line in capsys.readouterr().err.splitlines(keepends=True):
        assert line.endswith("\n") and len(line.encode()) <= logs.MAX_LINE and line.isascii()
        if form == "json":
            assert json.loads(line)["time"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_of_many_values_has_a_longest_length_too(capsys, form):
    logs.set_up(form, "INFO")
    logs.log(logging.INFO, "refused", **{f"value{at}": at for at in range(1000)})
    line = capsys.readouterr().err
    assert line.endswith("\n") and line.count("\n") == 1 and len(line) == logs.MAX_LINE


def test_each_kind_has_a_rate(capsys):
    """What is more is counted: what a stranger, or a peer, makes happen cannot fill the log."""
    now = [0.0]
    logs.set_up("json", "INFO", logs.Rates(lambda: now[0]))
    for each in range(1000):
        logs.log(logging.INFO, "peer-moved", peer="a", text=str(each))
        logs.log(logging.INFO, "refused", peer=f"192.0.2.{each}")
    logs.log(logging.INFO, "ike-up", peer="a")
    told = Counter(json.loads(line)["event"] for line in capsys.readouterr().err.splitlines())
    assert told == {"peer-moved": logs.PER_NAME, "refused": logs.PER_KIND, "ike-up": 1}
    now[0] += logs.PERIOD_SECONDS
    logs.log(logging.INFO, "peer-moved", peer="a", text="again")
    rows = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(row["event"], row.get("kind"), row.get("count")) for row in rows] == [
        ("left-out", "peer-moved", 980),
        ("left-out", "refused", 800),
        ("peer-moved", None, None),
    ]
    for _ in range(30):
        logs.log(logging.INFO, "refused", peer="x")
    logs.LOG.handlers[0].close()
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["count"] == 10


def test_rows_have_no_keys():
    plane = Plane(Pad(), clock=lambda: 5)
    plane.apply(InstallSa("b", "net", SA))
    (row,) = status.sas(plane, 12.5)
    assert (row["spi"], row["suite"], row["seconds"]) == ("00001000", "aes-cbc-128 with hmac-sha256-128", 7)
    assert SA.key.hex() not in str(row) and SA.auth_key.hex() not in str(row)


def test_the_key_log_is_its_owners_alone(tmp_path):
    folder = tmp_path / "keys"
    before = os.umask(0)
    made = keylog.Folder(folder)
    os.umask(before)
    made.sa(SA)
    made.ike("a line")
    made.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {
        keylog.ESP_SA: 0o600,
        keylog.IKE_TABLE: 0o600,
    }
    assert (folder / keylog.ESP_SA).read_text() == (
        '"IPv4","192.0.2.1","192.0.2.2","0x00001000","AES-CBC [RFC3602]","0x000102030405060708090a0b0c0d0e0f",'
        '"HMAC-SHA-256-128 [RFC4868]","0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f","64-bit"\n'
    )


def test_metrics_of_hardware():
    """What its counters have grown by since it was opened; they wrap at 32 bits."""
    plane = hardware.Hardware(None, lambda: 0.0, "unix:none")
    names = ("packets_in", "bytes_in", "encrypted", "decrypted", "bypassed")

    class Driver:
        capabilities = GATEWARE
        counts = [dict.fromkeys(names, (1 << 32) - 5), dict.fromkeys(names, 0)]
        drops = {Reason.ICV: 7}

        async def counters(self):
            return Counters(dfes=[dict(counts) for counts in self.counts], drops=dict(self.drops))

        async def healthy(self):
            return 0b01

    async def look():
        plane._counting = await Counting.open(Driver())
        Driver.counts[0].update(dict.fromkeys(names, 5))
        Driver.counts[1]["packets_in"] = 3
        Driver.drops.update({Reason.ICV: 9, Reason.REPLAY: 1})
        await plane._counting.look()
        await plane._counting.look()

    plane._waiting = SimpleNamespace(drops=Counter(no_neighbour=4))
    plane._control = SimpleNamespace(
        dropped=Counter({Reason.POLICY: 6, Reason.ICV: 1}),
        software=Counter(encrypted=100),
        punted=Counter({Reason.NO_RULE: 8}),
        policies=(),
    )
    asyncio.run(look())
    lines = status.metrics(Endpoint(Pad()), plane, {}).splitlines()
    for line in (
        'spigate_packets_total{kind="encrypted"} 110',
        'spigate_packets_total{kind="decrypted"} 10',
        'spigate_dfe_packets_total{dfe="0"} 10',
        'spigate_dfe_packets_total{dfe="1"} 3',
        'spigate_dfe_bytes_total{dfe="0"} 10',
        'spigate_dfe_healthy{dfe="0"} 1',
        'spigate_dfe_healthy{dfe="1"} 0',
        'spigate_punts_total{reason="no_rule"} 8',
        'spigate_dropped_packets_total{reason="icv"} 3',
        'spigate_dropped_packets_total{reason="replay"} 1',
        'spigate_dropped_packets_total{reason="policy"} 6',
        'spigate_dropped_packets_total{reason="no_neighbour"} 4',
    ):
        assert line in lines
