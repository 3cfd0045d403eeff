"""Mutated packets by the software path; ``make fuzz`` takes a million of them."""
import time

from tests.firmware_py.fuzz_packets import run

COUNT = 20_000


def test_mutated_packets():
    seed = time.time_ns() & 0xFFFF_FFFF
    print(f"seed {seed}")
    found = run(COUNT, seed)
    assert found["fed"] >= COUNT and found["sent"] > COUNT // 10
    # Every kind of damage is met, not only the one that is looked for first.
    for reason in ("malformed", "icv", "replay", "policy", "no_sa", "padding"):
        assert found[f"dropped {reason}"] > 0, reason
