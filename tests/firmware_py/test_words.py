# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""No message says "1 bytes"."""

import re
from pathlib import Path

import pytest

from spigate.firmware_py.words import counted

ROOT = Path(__file__).parents[2]
PLURAL = re.compile(r"\{len\([^{}()]*\)\} (?:bytes|frames|packets|peers|children|policies|SAs)\b")
"""What stands in a message, and may be one."""


def test_one_and_several():
    assert [counted(number, "peer") for number in (0, 1, 2)] == ["0 peers", "1 peer", "2 peers"]
    assert [counted(number, "policy", "policies") for number in (1, 2)] == ["1 policy", "2 policies"]


@pytest.mark.parametrize("folder", ["firmware_py", "sim", "boards"])
def test_lengths_are_told_with_the_right_word(folder):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PLURAL.search(line)
    ]
    assert not found, "say counted(len(...), word)"
