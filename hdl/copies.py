# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Equal components, written to Verilog once.

A gateway has up to eight equal DFEs with up to four equal lanes each. Elaborated one by one they make a
file as many times as long, which every tool then reads, compiles and optimises as many times. Where the
platform keeps modules, they become instances of one module.
"""

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import Flow

from spigate.hdl import verilog


class Copy(wiring.Component):
    """An instance of the Verilog module ``name``, which was made from a component with ``signature``."""

    def __init__(self, name: str, signature: wiring.Signature):
        self._name = name
        super().__init__(signature)

    def elaborate(self, platform):
        m = Module()
        ports = {}
        for path, member, value in self.signature.flatten(self):
            direction = "i" if member.flow == Flow.In else "o"
            ports[f"{direction}_{'__'.join(map(str, path))}"] = value
        m.submodules.copy = Instance(self._name, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
        return m


def copies(platform, name: str, make, count: int) -> list[wiring.Component]:
    """``count`` components like the one that ``make()`` makes.

    Parameters
    ----------
    platform
        Where it has a dictionary ``modules``, the component is written there as Verilog (key and module name:
        ``name``), and what is returned are instances of it. Otherwise they are ``count`` components.
    name
        What it is, the same wherever the same is made.
    """
    modules = getattr(platform, "modules", None)
    if modules is None:
        return [make() for _ in range(count)]
    original = make()
    name = f"spigate_{name}"
    modules[name] = verilog.convert(original, name=name, platform=platform)
    return [Copy(name, original.signature) for _ in range(count)]
