# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Every data plane beside RFC 4301's text, on 100,000 packets of random worlds; ``make fuzz`` does a
million in each.
"""

import asyncio
import random
from collections import Counter

import pytest

from spigate.firmware_py.tables.interface import GATEWARE, SOFTWARE
from tests.firmware_py.differential import PACKETS, PLANES, Wrong, run
from tests.firmware_py.differential_fragments import pieces
from tests.firmware_py.differential_layers import layers
from tests.firmware_py.ipsec import rfc4301

SHARES = [
    (name, share)
    for name, count in (("gateware", 4), ("software", 3), ("plane", 3))
    for share in range(count)
]
COUNT = 10_000


@pytest.mark.parametrize(("name", "share"), SHARES)
def test_every_data_plane_does_what_the_text_says(name, share):
    seed = random.randrange(1 << 32)
    print(f"python -m tests.firmware_py.differential, {name}, seed {seed}")
    counts = run(name, COUNT, seed)
    assert min(counts[action] for action in ("protect", "bypass", "discard")) > COUNT / 50


@pytest.mark.parametrize("seed", [3112547335, 2680859406, 2245541050, 1958866543])
@pytest.mark.parametrize("name", PLANES)
def test_a_world_that_went_wrong_once(name, seed):
    assert sum(run(name, PACKETS, seed).values()) >= PACKETS


@pytest.mark.parametrize("name", PLANES)
def test_a_data_plane_that_permits_more_is_found(name, monkeypatch):
    """As if inbound policy let nothing out of an SA."""
    monkeypatch.setattr(rfc4301.Gateway, "inbound", lambda gateway, packet, sas: False)
    with pytest.raises(Wrong, match="seed"):
        run(name, 2_000, 1)


@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE], ids=["gateware", "software"])
def test_fragments_go_no_other_way_than_their_packet(capabilities):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    counts = sum((asyncio.run(pieces(seed + world, capabilities)) for world in range(40)), Counter())
    assert min(counts[action] for action in ("protect", "bypass", "discard")) > 20 and counts["lost"] < 100


@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE], ids=["gateware", "software"])
def test_layers_modes_and_versions_are_what_the_text_says(capabilities):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    counts = sum((asyncio.run(layers(seed + world, capabilities)) for world in range(40)), Counter())
    for version in (4, 6):
        for action in ("protect", "bypass", "discard", "host"):
            assert (
                sum(count for (what, *_, of), count in counts.items() if (what, of) == (action, version)) > 20
            )
