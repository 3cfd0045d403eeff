# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""README.md, the guides and the examples on a Debian 12 that has nothing but what they say, at a terminal of
80 columns.
"""

import re
import shutil
import subprocess

import pytest

from tests.install.debian import Debian
from tests.install.environments import TOP

pytestmark = [pytest.mark.xdist_group("debian"), pytest.mark.slow]
README = (TOP / "README.md").read_text()
GUIDES = ("docs/operating.md", "docs/hardware.md")


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    """With a checkout, and what README.md asks for."""
    root = tmp_path_factory.mktemp("debian") / "root"
    try:
        made = Debian(root)
        checkout = root / "root/spigate"
        checkout.mkdir()
        files = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True).stdout
        packed = subprocess.run(
            ["tar", "c", "--null", "-T", "-"], cwd=TOP, input=files, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "x"], cwd=checkout, input=packed, check=True)
        asked = re.search(r"^On Debian 12 with (\w+), ([\w+]+) and (\w+):$", README, re.M)
        made.run(f"apt-get update -qq && apt-get install -y -qq {' '.join(asked.groups())}")
        yield made
    finally:
        shutil.rmtree(root, ignore_errors=True)


def test_the_first_command_of_the_readme(debian):
    printed = debian.run("cd spigate && make demo")
    assert re.search(r"^Every packet is as the reference model made it: \d+ frames", printed, re.M)
    table = re.findall(r"^(?:302|308-310|322-326) .*$", printed, re.M)
    assert len(table) == 4 and max(map(len, table)) <= 80
    [shown] = re.findall(r"```text\n(.*?)```", README, re.S)
    seen = " ".join(printed.split())
    for line in filter(None, re.split(r"\n|\.\.\.", shown)):
        assert " ".join(line.split()) in seen, "what README.md shows is not what comes"


def test_the_other_commands_of_the_readme(debian):
    """Those that come to an end by themselves."""
    [block] = re.findall(r"^    spigate ce .*\n(?:    .*\n)+", README, re.M)
    ended = [line for line in block.splitlines() if not re.match(r" *spigate (ce|simulate) ", line)]
    assert len(ended) == 3
    printed = debian.run("cd spigate && . .venv/bin/activate\n" + "\n".join(ended))
    assert printed.count("dropped: none") == 2


def test_the_guides(debian):
    for guide in GUIDES:
        for command in re.findall(r"^    (apt install .*)$", (TOP / guide).read_text(), re.M):
            debian.run(command.replace("apt install", "apt-get install -y -qq"))
    printed = debian.run(
        "cd spigate && SPIGATE_PEERS_REQUIRED=1 .venv/bin/python -m pytest tests/firmware_py/daemon/test_guide.py",
        network=False,
        seconds=1500,
    )
    assert "2 passed" in printed


def test_the_examples(debian):
    """But LiteX's, which compiles a model for minutes that is no other here than elsewhere, and the simulation
    of spigate.core, which no README shows and which needs Icarus.
    """
    printed = debian.run(
        "cd spigate && SPIGATE_PEERS_REQUIRED=1 .venv/bin/python -m pytest tests/install/test_examples.py"
        " -k 'not litex and not simulation'",
        seconds=1500,
    )
    assert re.search(r"^=+ \d+ passed, 2 deselected in", printed, re.M)
