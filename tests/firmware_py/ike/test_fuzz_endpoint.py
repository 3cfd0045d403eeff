"""Mutated messages to endpoints at work; ``make fuzz`` takes a million of them."""
from tests.firmware_py import fuzzing
from tests.firmware_py.ike.fuzz_endpoint import fuzz

COUNT = 50_000


def test_peers_that_lie():
    counts = fuzzing.run(fuzz, COUNT)
    assert counts["mutated"] >= COUNT and counts["wrong"] > COUNT // 20
    for kind in ("ike-up", "child-rekeyed", "ike-rekeyed", "ike-down", "ike-failed", "child-failed", "refused"):
        assert counts[kind] > 20, kind
