"""Every data plane beside RFC 4301's text, on 100,000 packets of random worlds; ``make fuzz`` does a million in each."""
import random

import pytest

from tests.firmware_py import rfc4301
from tests.firmware_py.differential import PLANES, Wrong, run

SHARES = [(name, share) for name, count in (("gateware", 4), ("software", 3), ("plane", 3)) for share in range(count)]
COUNT = 10_000


@pytest.mark.parametrize(("name", "share"), SHARES)
def test_every_data_plane_does_what_the_text_says(name, share):
    seed = random.randrange(1 << 32)
    print(f"python -m tests.firmware_py.differential, {name}, seed {seed}")
    counts = run(name, COUNT, seed)
    assert min(counts[action] for action in ("protect", "bypass", "discard")) > COUNT / 50


@pytest.mark.parametrize("name", PLANES)
def test_a_data_plane_that_permits_more_is_found(name, monkeypatch):
    """As if inbound policy let nothing out of an SA."""
    monkeypatch.setattr(rfc4301.Gateway, "inbound", lambda gateway, packet, sas: False)
    with pytest.raises(Wrong, match="seed"):
        run(name, 2_000, 1)
