# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Everything that a simulated design holds, to be compared: inside the simulator."""

from typing import Any

import cocotb.handle as handle


def state(top: Any) -> dict[str, str]:
    """Every signal and memory word below ``top``, by its path, as bits. For Icarus, which shows all of
    them.
    """
    found: dict[str, str] = {}
    _collect(top, "", found)
    return found


def _collect(scope: Any, path: str, found: dict[str, str]) -> None:
    for item in scope:
        name = f"{path}.{item._name}"
        if isinstance(item, handle.HierarchyObject | handle.HierarchyArrayObject):
            _collect(item, name, found)
        elif isinstance(item, handle.ArrayObject):
            found |= {f"{name}[{at}]": str(item[at].value) for at in item.range}
        elif isinstance(item, handle.LogicArrayObject | handle.LogicObject):
            found[name] = str(item.value)
