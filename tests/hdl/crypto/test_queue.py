# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest

from spigate.hdl.crypto.queue import Queue
from tests.hdl.streams import PAUSES, passes_on

MAKERS = {"queue of 1": lambda: Queue(8, depth=1), "queue of 4": lambda: Queue(8, depth=4)}


@pytest.mark.parametrize("pauses", PAUSES)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_keeps_items_and_their_order(make, pauses):
    passes_on(make(), pauses, range(1, 100))


def test_a_queue_has_a_depth():
    with pytest.raises(ValueError, match="depth must be 1 or more, not 0"):
        Queue(8, depth=0)
