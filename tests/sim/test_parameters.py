# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Gateways of random legal parameters: every table is filled to what the capability registers say, through
the real driver, and everything is looked up.

``SPIGATE_DRAWS=20`` makes as many of them, of parameters as far as they go, instead of two small ones.
"""

import os
import random

import pytest

from spigate.hdl.contract.parameters import PARAMETERS
from spigate.sim.design import Configuration

pytestmark = pytest.mark.slow

DRAWS = int(os.environ.get("SPIGATE_DRAWS", "0"))
SMALL = {
    "dfes": (1, 2),
    "lanes": (1,),
    "cam_entries": (1024,),
    "sa_entries": (256, 512),
    "sources": range(1, 40),
}
"""What is drawn from for `make test`, where all that is allowed would take minutes."""
LARGE = {"sa_entries": (256, 512, 1024, 2048, 4096), "sources": range(1, 300), "clock_khz": (50,)}
TOLD = ("beat_bytes", "dfes", "lanes", "cam_entries", "rules", "routes", "sa_entries", "sources", "clock_khz")


def drawn(seed: int, limits: dict) -> Configuration:
    """Parameters of a gateway; printed, so that a failure can be had again."""
    source = random.Random(seed)
    values = {
        name: source.choice(limits.get(name, parameter.allowed)) for name, parameter in PARAMETERS.items()
    }
    made = Configuration(stand_in=True, **values)
    print(made)
    return made


SEEDS = [random.SystemRandom().getrandbits(32) for _ in range(DRAWS)] or [1, 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_table_holds_what_the_registers_say(seed):
    made = drawn(seed, LARGE if DRAWS else SMALL)
    told = {name: getattr(made, name) for name in TOLD}
    made.model().run("tests.sim.bench_parameters", parameters={"told": told})


def test_an_engine_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="engine must be one of compact, .*, not 'fast'"):
        Configuration(engine="fast")


@pytest.mark.parametrize("seed", range(20))
def test_what_is_not_legal_is_refused_with_a_sentence(seed):
    """Any parameter, next to its range or anywhere."""
    source = random.Random(seed)
    for name, parameter in PARAMETERS.items():
        legal = set(parameter.allowed)
        near = [edge + step for edge in (min(legal), max(legal)) for step in (-1, 1)]
        value = source.choice(
            [each for each in (*near, 0, -source.getrandbits(9), 1 << 40) if each not in legal]
        )
        with pytest.raises(ValueError) as refused:
            Configuration(**{name: value})
        assert str(refused.value) == f"{name} must be {parameter.limits}, not {value!r}"
