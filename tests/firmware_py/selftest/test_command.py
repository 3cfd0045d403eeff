# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate selftest`` as an operator sees it, at gateways that are wrong or do not answer."""

import json
import socket
import threading

import pytest

from spigate.firmware_py import cli, terminal
from spigate.firmware_py.selftest import command, registers, session
from spigate.firmware_py.selftest.checks import CHECKS, NAMES, Outcome
from spigate.firmware_py.tables import remote
from spigate.hdl.contract import rdl
from tests.firmware_py.selftest.gateway import REGISTERS, Registers, healthy, serving


@pytest.fixture
def quick(monkeypatch):
    """Waits that are for real hardware."""
    monkeypatch.setattr(remote, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(session, "QUIET_SECONDS", 0.01)
    monkeypatch.setattr(session, "STILL_SECONDS", 0.3)
    monkeypatch.setattr(registers, "CLOCK_SECONDS", 0.01)


def under_test(tmp_path, gateway, *words):
    with serving(tmp_path / "gateway.sock", gateway) as url:
        return cli.main(["selftest", "--dataplane", url, *words])


def test_nobody_there(tmp_path, capsys):
    assert cli.main(["selftest", "--dataplane", f"unix:{tmp_path}/none"]) == 2
    assert "No such file or directory; is the gateway running" in capsys.readouterr().err


def test_a_control_element_that_has_the_socket_keeps_it(tmp_path, capsys):
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(tmp_path / "busy"))
        busy.listen()
        busy.settimeout(10)
        threading.Thread(target=lambda: busy.accept()[0].close()).start()
        assert cli.main(["selftest", "--dataplane", f"unix:{tmp_path}/busy"]) == 2
    assert "no gateway answers there, or another control element has it" in capsys.readouterr().err


def test_dfes_that_are_on_say_that_a_control_element_may_be_at_work(tmp_path, capsys, quick):
    gateway = Registers(healthy() | {REGISTERS["cfe.enable"].address: 1})
    assert under_test(tmp_path, gateway) == 2
    assert "its DFEs are switched on (cfe.enable is 0x1)" in capsys.readouterr().err
    assert REGISTERS["table.command"].address not in gateway.words


def test_what_is_no_gateway_is_a_named_failure(tmp_path, capsys, quick):
    assert under_test(tmp_path, Registers({})) == 1
    assert "capabilities failed: No spigate: id reads 0x00000000" in capsys.readouterr().err


def test_a_gateway_that_stops_to_answer_is_a_named_failure(tmp_path, capsys, quick):
    assert under_test(tmp_path, Registers(healthy(), silent_from=40)) == 1
    shown = capsys.readouterr().out
    assert "erase failed: all tables erased" in shown
    assert "the gateway no answer within 0 s" in shown
    assert "the tables could not be erased at the end" in shown


def test_a_clock_that_stands_is_named_and_nothing_goes_on(tmp_path, capsys, quick):
    assert under_test(tmp_path, Registers(healthy(), counts=False)) == 1
    shown = capsys.readouterr().out
    assert "clock failed: the clock counts\n  register time: it read 0 twice" in shown
    assert shown.count("skipped") == len(CHECKS) - 4


def test_frames_that_do_not_come_up_are_named(tmp_path, capsys, quick):
    assert under_test(tmp_path, Registers(healthy()), "--json") == 1
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    results = {each["check"]: each["result"] for each in found["checks"]}
    assert results["capabilities"] == results["registers"] == results["clock"] == "passed"
    assert results["loop"] == "failed" and results["cam"] == "skipped"
    loop = next(each for each in found["checks"] if each["check"] == "loop")
    assert loop["failures"][0] == {
        "where": "a frame of 60 bytes as if from port network",
        "what": "it did not come up as it should",
    }
    assert loop["do"].startswith("try the link at a lower speed")
    assert not found["passed"] and found["written_words"] > 100


def test_a_bit_that_no_register_keeps_is_named(tmp_path, capsys, quick, monkeypatch):
    class Stuck(Registers):
        def answer(self, message):
            answer = super().answer(message)
            self.words[REGISTERS["cfe.patience"].address] |= 0x40
            return answer

    gateway = Stuck(healthy() | {REGISTERS["cfe.patience"].address: 0})
    assert under_test(tmp_path, gateway, "--check", "registers") == 1
    shown = capsys.readouterr().out
    assert "cfe.patience: 0x" in shown and "bits 6 read otherwise" in shown


def said(**changes):
    words = healthy()
    found = {
        name: register.unpack(words.get(register.address, 0))
        for name, register in REGISTERS.items()
        if REGISTERS["geometry"].address <= register.address <= REGISTERS["clock"].address
    }
    for place, value in changes.items():
        register, _, field = place.partition("__")
        found[register][field] = value
    return found


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({}, []),
        ({"geometry__dfes": 9}, ["geometry.dfes"]),
        ({"geometry__beat_bytes": 7}, ["geometry.beat_bytes"]),
        ({"geometry__contexts": 0}, ["geometry.contexts"]),
        ({"dfe_tables__sa_entries": 255}, ["dfe_tables.sa_entries"]),
        ({"cam__row_bits": 8}, ["cam"]),
        ({"cfe_tables__rules": 33}, ["cfe_tables.rules"]),
        ({"clock__khz": 0}, ["clock.khz"]),
        ({"algorithms__cipher_aes_gcm": 0}, ["algorithms"] * 3),
        ({"algorithms__key_aes128": 0}, ["algorithms"]),
        ({"algorithms__cipher_aes_cbc": 1}, ["algorithms"]),
        ({"features__replay_window": 32}, ["features.replay_window"]),
        ({"event_geometry__view": 7}, ["event_geometry"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_capabilities_that_no_gateway_has_are_named(change, where):
    assert [place for place, _ in registers._impossible(said(**change))] == where


def test_lines_fit_80_columns():
    check = next(check for check in CHECKS if check.name == "sas")
    failures = [{"where": "DFE 0, SA 200, use 1, outbound, aes_cbc with 256 bits", "what": "word " * 40}]
    outcomes = [Outcome(each, "passed", "x") for each in CHECKS[:3]] + [
        Outcome(check, "failed", "", failures)
    ]
    lines = command._lines(outcomes, "", 80)
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "1 check of 4 failed"
    assert any(line.startswith("  DFE 0, SA 200, use 1") for line in lines)
    whole = command._lines(outcomes, "", None)
    assert [line for line in whole if "word word" in line] == [
        f"  {failures[0]['where']}: {failures[0]['what']}"
    ]


@pytest.mark.parametrize(
    ("outcomes", "last"),
    [
        ([Outcome(each, "passed") for each in CHECKS], "all checks passed; all tables are empty"),
        ([Outcome(each, "passed") for each in CHECKS[:2]], "2 checks passed; all tables are empty"),
        (
            [Outcome(CHECKS[0], "passed"), Outcome(CHECKS[1], "skipped", "no DFE works")],
            f"what was tried passed; not tried: {NAMES[1]}",
        ),
    ],
)
def test_the_last_line_says_how_it_was(outcomes, last):
    assert command._lines(outcomes, "", None)[-1] == last


def test_every_check_says_what_it_shows_and_what_to_do():
    assert all(check.title and check.remedy for check in CHECKS)
    assert rdl.registers() is REGISTERS and terminal.GAP


def test_an_unknown_check_is_refused(capsys):
    assert cli.main(["selftest", "--dataplane", "unix:x", "--check", "csm"]) == 2
    assert "invalid choice: 'csm'" in capsys.readouterr().err
