"""A share of the fuzzing of endpoints, with a seed that is printed where it fails."""
import random

from tests.firmware_py.ike.fuzz_endpoint import fuzz


def test_peers_that_lie():
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    counts = fuzz(4000, seed)
    for kind in ("wrong", "ike-up", "child-rekeyed", "ike-rekeyed", "ike-down", "ike-failed", "child-failed", "refused"):
        assert counts[kind] > 3, counts
