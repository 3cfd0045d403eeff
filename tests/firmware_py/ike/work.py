# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""How much work a call does, counted, not timed: lines of Python that run."""

import sys
from collections.abc import Callable


def lines(call: Callable[[], object]) -> tuple[int, object]:
    """Lines that ran in ``call()``, the standard library's among them, and what it returned, or the
    exception that it raised.
    """
    count = 0

    def on_line(frame, event, argument):
        nonlocal count
        count += event == "line"
        return on_line

    before = sys.gettrace()
    sys.settrace(lambda frame, event, argument: on_line)
    try:
        result = call()
    except Exception as error:
        result = error
    finally:
        sys.settrace(before)
    return count, result
