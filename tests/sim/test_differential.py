# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Random policies and flows through the gateware, beside RFC 4301's text: a share of what
tests/firmware_py/test_differential.py does.
"""

import random

import pytest

from spigate.sim.design import Configuration

pytestmark = pytest.mark.slow

MODEL = Configuration(beat_bytes=8, dfes=1, lanes=1)


@pytest.mark.xdist_group("replay-small")
def test_the_gateware_does_what_the_text_says():
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    MODEL.model().run("tests.sim.bench_differential", parameters={"seed": seed, "worlds": 6, "packets": 160})


@pytest.mark.xdist_group("replay-small")
def test_the_gateware_does_to_frames_what_linux_does():
    """By way of the model, which tests/firmware_py/test_differential_linux.py has beside a Linux kernel."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    MODEL.model().run(
        "tests.sim.bench_differential", parameters={"seed": seed, "linux": 1, "worlds": 4, "packets": 120}
    )
