# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import json
import os
import socket
import subprocess
import sys
import threading
from importlib.metadata import version

import pytest

from spigate.firmware_py import cli
from spigate.firmware_py.daemon import commands


def call(*words):
    return subprocess.run(
        [sys.executable, "-m", "spigate.firmware_py.cli", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
    )


def test_help_lists_every_command_with_its_line():
    shown = call("--help")
    assert shown.returncode == 0
    for name, (_, _, text) in cli.COMMANDS.items():
        assert f" {name} {text} " in " ".join([*shown.stdout.split(), ""]), name
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_help_imports_no_command():
    program = (
        "import sys; from spigate.firmware_py import cli; cli.parser(); "
        "print([name for name in sys.modules if name.startswith(('spigate.sim', 'spigate.hdl', 'amaranth', 'cocotb'))])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_without_a_command_there_is_help():
    alone, asked = call(), call("--help")
    assert (alone.returncode, alone.stdout, alone.stderr) == (0, asked.stdout, "")


def test_the_version_is_that_of_the_installed_package():
    shown = call("--version")
    assert (shown.returncode, shown.stdout) == (0, f"spigate {version('spigate')}\n")


@pytest.mark.parametrize(
    "words, said",
    [
        (("rekey", ""), "argument NAME: expected a peer, or PEER/CHILD, not ''"),
        (("terminate", "/net"), "expected a peer, or PEER/CHILD, not '/net'"),
        (("sas", "--socket", "x" * 200), "path too long; is spigate ce running"),
        (("ce", "--config", ".", "--check"), ".: expected a TOML file that can be read"),
    ],
)
def test_what_was_expected_is_said(words, said):
    """It was ``invalid _name value``, ``None`` and ``[Errno 21]``."""
    shown = call(*words)
    assert shown.returncode == 2 and said in " ".join(shown.stderr.split())


def test_a_module_that_is_missing_and_has_no_name_is_told_of_as_it_is(monkeypatch, capsys):
    """Whoever raises ModuleNotFoundError by hand names none: the command ended with a traceback."""

    def run(args):
        raise ModuleNotFoundError("half of it is missing")

    monkeypatch.setattr(commands.sas, "run", run)
    assert cli.main(["sas"]) == 2 and capsys.readouterr().err == "spigate sas: half of it is missing\n"


@pytest.mark.parametrize(
    "words, said",
    [
        (("sas", "--foo"), "spigate sas: there is no option --foo (spigate sas --help)"),
        (("ce", "--confg", "x"), "spigate ce: there is no option --confg; do you mean --config?"),
        (("ce",), "spigate ce: the following arguments are required: --config (spigate ce --help)"),
        (("ce", "--config", "x", "y"), "spigate ce: it takes no y (spigate ce --help)"),
        (("repla",), "spigate: there is no command repla; do you mean replay?"),
        (("xyz", "--foo"), "spigate: there is no command xyz; spigate --help shows them"),
        (
            ("replay", "x", "--out", "y", "--beat-bytes", "wide"),
            "spigate replay: argument --beat-bytes: invalid int value: 'wide' (spigate replay --help)",
        ),
        (("--foo",), "spigate: there is no option --foo (spigate --help)"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(words, said):
    """It was the usage, and behind it what is wrong, without what may have been meant."""
    shown = call(*words)
    assert (shown.returncode, shown.stderr) == (2, f"{said}\n")


@pytest.mark.parametrize(
    "words, said",
    [
        (("bench", "--json", "/proc/x"), "/proc/x cannot be written: No such file or directory"),
        (("demo", "--out", "/proc/version"), "/proc/version must be a folder"),
        (("synth", "--json", "/proc"), "/proc must be a file, and is a folder"),
    ],
)
def test_what_cannot_be_written_is_said_at_once(words, said):
    """``bench`` and ``synth`` worked for up to an hour, and then lost what they had found."""
    shown = call(*words)
    assert shown.returncode == 2 and shown.stderr == f"spigate {words[0]}: {said}\n"


@pytest.mark.parametrize("words", [("sas",), ("sas", "--json"), ("events",), ("events", "--follow")])
def test_who_has_read_enough_is_no_error(tmp_path, words):
    """As ``grep -q`` in a loop: the command complained of a broken pipe, and failed."""
    rows = {
        "rows": [
            {"peer": f"b{number}", "time": "", "kind": "", "child": "", "text": ""} for number in range(5000)
        ]
    }

    def answer():
        with listener.accept()[0] as one:
            one.recv(1 << 16)
            one.sendall(json.dumps(rows).encode() + b"\n")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        with subprocess.Popen(
            [sys.executable, "-m", "spigate.firmware_py.cli", *words, "--socket", str(tmp_path / "control")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as shown:
            shown.stdout.readline()
            shown.stdout.close()
            assert (shown.stderr.read(), shown.wait(timeout=30)) == (b"", 0)
        thread.join()


def test_nobody_reads_at_all(tmp_path):
    program = "import sys; sys.stdout = None; from spigate.firmware_py import terminal; assert terminal.width() is None; terminal.console()"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_check_counts(tmp_path):
    (tmp_path / "psk").write_text("secret")
    (tmp_path / "psk").chmod(0o600)
    (tmp_path / "x.toml").write_text(
        '[peer.b]\nlocal_identity = "a"\nremote_identity = "b"\npsk_file = "psk"\n[[policy]]\n'
        'local = "10.1.0.0/16"\nremote = "10.2.0.0/16"\n[[policy]]\nlocal = "10.3.0.0/16"\nremote = "10.2.0.0/16"\n'
    )
    assert (
        call("ce", "--config", str(tmp_path / "x.toml"), "--check").stdout
        == f"{tmp_path / 'x.toml'}: 1 peer, 0 children, 0 SAs keyed by hand, 2 policies\n"
    )


def test_what_is_wrong_is_one_sentence(tmp_path):
    shown = call("replay", str(tmp_path / "absent"), "--out", str(tmp_path / "out"))
    assert shown.returncode == 2
    assert shown.stderr == f"spigate replay: {tmp_path / 'absent'}: expected a folder\n"
    shown = call("replay", str(tmp_path), "--out", str(tmp_path / "out"))
    assert shown.returncode == 2 and "xfrm-state.txt" in shown.stderr and "Traceback" not in shown.stderr
