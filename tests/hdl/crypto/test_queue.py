import pytest

from spigate.hdl.crypto.queue import Queue
from tests.hdl.streams import PAUSES, put, simulate, take

ITEMS = range(1, 100)
MAKERS = {"queue of 1": lambda: Queue(8, depth=1), "queue of 4": lambda: Queue(8, depth=4)}


@pytest.mark.parametrize("pauses", PAUSES)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_keeps_items_and_their_order(make, pauses):
    dut = make()
    source_pause, sink_pause = PAUSES[pauses]()

    async def feed(ctx):
        await put(ctx, dut.i, ITEMS, source_pause)

    async def read(ctx):
        assert [await take(ctx, dut.o, sink_pause) for _ in ITEMS] == list(ITEMS)

    simulate(dut, feed, read)


def test_a_queue_has_a_depth():
    with pytest.raises(ValueError, match="depth must be 1 or more, not 0"):
        Queue(8, depth=0)
