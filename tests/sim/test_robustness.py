"""The whole gateway on frames that no one should send, with a control element that is gone, and with a port that
stands still."""
import os
import random

from spigate.sim.gateway import Configuration

BENCH = "tests.sim.bench_robustness"
FRAMES = 10_000
CONFIGURATION = Configuration(beat_bytes=8, dfes=1, lanes=1)


def seed() -> int:
    """``SPIGATE_SEED``, or another one each time; printed, so that a failure can be had again."""
    value = int(os.environ.get("SPIGATE_SEED", random.SystemRandom().getrandbits(32)))
    print(f"SPIGATE_SEED={value}")
    return value


def test_random_and_mutated_frames_are_accounted_for():
    CONFIGURATION.model().run(BENCH, testcase="mutated_frames", parameters={"frames": FRAMES, "seed": seed()})


def test_a_control_element_that_reads_nothing_stops_no_other_packet():
    CONFIGURATION.model().run(BENCH, testcase="no_control_element", parameters={"seed": seed()})


def test_a_port_that_stands_still_stops_no_other_port():
    CONFIGURATION.model().run(BENCH, testcase="port_stands_still", parameters={"seed": seed()})
