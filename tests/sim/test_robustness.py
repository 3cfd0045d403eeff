# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The whole gateway on frames that no one should send, with a control element that is gone, and with a port
that stands still."""

import os
import random

import pytest

from spigate.sim.bench_traffic import SUITES
from spigate.sim.design import Configuration

pytestmark = pytest.mark.slow

BENCH = "tests.sim.bench_robustness"
FRAMES = {"small": 10_000, "large": 3000}
MODELS = {
    "small": Configuration(beat_bytes=8, dfes=1, lanes=1),
    "large": Configuration(beat_bytes=16, dfes=3, lanes=2),
}
TRAFFIC = {"small": {"suites": ["gcm128"]}, "large": {"suites": list(SUITES)[:4], "outbound": True}}


def seed() -> int:
    """``SPIGATE_SEED``, or another one each time; printed, so that a failure can be had again."""
    value = int(os.environ.get("SPIGATE_SEED", random.SystemRandom().getrandbits(32)))
    print(f"SPIGATE_SEED={value}")
    return value


both = pytest.mark.parametrize(
    "size", [pytest.param(size, marks=pytest.mark.xdist_group(f"replay-{size}")) for size in MODELS]
)


@both
def test_random_and_mutated_frames_are_accounted_for(size):
    MODELS[size].model().run(
        BENCH, testcase="mutated_frames", parameters={"frames": FRAMES[size], "seed": seed(), **TRAFFIC[size]}
    )


@both
def test_a_control_element_that_reads_nothing_stops_no_other_packet(size):
    MODELS[size].model().run(BENCH, testcase="no_control_element", parameters={"seed": seed()})


@both
def test_a_port_that_stands_still_stops_no_other_port(size):
    MODELS[size].model().run(BENCH, testcase="port_stands_still", parameters={"seed": seed()})


@pytest.mark.xdist_group("robustness-stand-in")
def test_a_dfe_that_dies_takes_no_other_ones_packets_with_it():
    Configuration(beat_bytes=16, dfes=3, lanes=1, stand_in=True).model().run("tests.sim.bench_dead_dfe")
