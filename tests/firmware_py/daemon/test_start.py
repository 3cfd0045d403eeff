# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What ``spigate ce --dataplane`` takes."""

import argparse

import pytest

from spigate.firmware_py.daemon import start
from spigate.firmware_py.daemon.hardware import Hardware
from spigate.firmware_py.daemon.software import Software
from spigate.firmware_py.errors import InputError
from tests.firmware_py.daemon.test_config import CHILD, PORTS, SECRET


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command on a configuration; gives the data plane that a daemon would have got."""
    made = []

    class Daemon:
        def __init__(self, config, make, key_log):
            self._plane = make(config, lambda: 0.0)

        async def run(self):
            made.append(self._plane)

    monkeypatch.setattr(start, "Daemon", Daemon)
    monkeypatch.setattr(start.logs, "set_up", lambda form, level: None)
    (tmp_path / "psk").write_text(SECRET)
    (tmp_path / "psk").chmod(0o600)
    file = tmp_path / "spigate.toml"

    def call(text, *words):
        file.write_text(text)
        parser = argparse.ArgumentParser()
        start.add_arguments(parser)
        assert start.run(parser.parse_args(["--config", str(file), *words])) == 0
        return made.pop() if made else None

    return call


@pytest.mark.parametrize("words", [(), ("--dataplane", "soft")])
def test_this_process_unless_said(run, words):
    assert isinstance(run(CHILD, *words), Software)


@pytest.mark.parametrize("url", ["unix:/run/gateway.sock", "serial:///dev/ttyUSB0?baud=115200"])
def test_a_gateway_in_hardware(run, url):
    assert isinstance(run(PORTS + CHILD, "--dataplane", url), Hardware)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        *(
            (url, f"unix:PATH or serial:///dev/DEVICE\\?baud=RATE for a gateway in hardware, not {url!r}")
            for url in ("hard", "", "/run/gateway.sock", "tcp:host:1")
        ),
        ("unix:", "expected unix:PATH with the socket of a gateway in hardware, not 'unix:'"),
        ("serial:///dev/ttyUSB0?baud=x", "baud must be a number of bits a second, not 'x'"),
    ],
)
def test_what_names_no_gateway(run, url, said):
    with pytest.raises(InputError, match=f"--dataplane must be soft, or hardware's: .*{said}"):
        run(PORTS + CHILD, "--dataplane", url)


@pytest.mark.parametrize("check", [(), ("--check",)])
def test_hardware_needs_ports(run, check):
    with pytest.raises(InputError, match=r"a gateway in hardware needs \[port.network\] and \[port.server\]"):
        run(CHILD, "--dataplane", "unix:/run/gateway.sock", *check)
    run(CHILD, *check)


def test_a_check_starts_nothing(run, capsys):
    assert run(PORTS + CHILD, "--dataplane", "unix:/run/gateway.sock", "--check") is None
    assert capsys.readouterr().out.endswith(
        "spigate.toml: 1 peer, 1 child, 0 SAs keyed by hand, 0 policies\n"
    )
