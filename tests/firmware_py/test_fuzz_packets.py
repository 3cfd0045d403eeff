# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Mutated packets by the software path; ``make fuzz`` takes a million of them."""

import pytest

from tests.firmware_py import fuzzing
from tests.firmware_py.fuzz_packets import fuzz

COUNT = 50_000


@pytest.mark.slow
def test_mutated_packets():
    found = fuzzing.run(fuzz, COUNT)
    assert found["fed"] >= COUNT and found["sent"] > COUNT // 10
    # Every kind of damage is met, not only the one that is looked for first.
    for reason in ("malformed", "icv", "replay", "policy", "no_sa", "padding"):
        assert found[f"dropped {reason}"] > 0, reason
