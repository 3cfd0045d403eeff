# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The core as an IP-XACT component: ``spigate export --ip-xact FILE``.

The memory map is PeakRDL's. What it does not know is added: bus interfaces, ports, and the Verilog file. The
elements are those of IEEE 1685-2009, which Vivado reads, or of IEEE 1685-2014.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from amaranth.hdl import Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from spigate import __version__
from spigate.hdl.contract import rdl
from spigate.hdl.preamble import STREAMS

NAME = "spigate"
"""Of the component's vendor and of the component, as of the Verilog module."""
LIBRARY = "ipsec"
_REGISTERS = "gateway"


@dataclass(frozen=True)
class Edition:
    """An edition of the standard.

    Members
    -------
    year : int
    prefix, namespace : str
        Of its elements.
    stream, lite : (vendor, library, bus, abstraction, version)
        The bus definitions that its readers have, of AXI4-Stream and AXI4-Lite.
    """

    year: int
    prefix: str
    namespace: str
    stream: tuple[str, str, str, str, str]
    lite: tuple[str, str, str, str, str]

    @property
    def qualified(self) -> bool:
        """Attributes have the prefix, too."""
        return self.year == 2009


EDITIONS = {
    # Vivado's own definitions. AXI4-Lite is a kind of its memory-mapped AXI.
    2009: Edition(
        2009,
        "spirit",
        "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009",
        ("xilinx.com", "interface", "axis", "axis_rtl", "1.0"),
        ("xilinx.com", "interface", "aximm", "aximm_rtl", "1.0"),
    ),
    # Arm's definitions, which tools other than Vivado have.
    2014: Edition(
        2014,
        "ipxact",
        "http://www.accellera.org/XMLSchema/IPXACT/1685-2014",
        ("amba.com", "AMBA4", "AXI4Stream", "AXI4Stream_rtl", "r0p0_1"),
        ("amba.com", "AMBA4", "AXI4-Lite", "AXI4-Lite_rtl", "r0p0"),
    ),
}
"""By year."""
DEFAULT_EDITION = 2014


def write(
    path: Path, ports: Mapping[str, wiring.Member], verilog: Path, edition: int = DEFAULT_EDITION
) -> Path:
    """Writes the component to ``path`` and returns the path.

    Parameters
    ----------
    path : Path
    ports : mapping of str to wiring.Member
        The module's, but ``clk`` and ``rst``: :func:`~spigate.hdl.export.core_ports`.
    verilog : Path
        The file that the component names, relative to ``path``.
    edition : int
        One of :data:`EDITIONS`.

    Raises
    ------
    ValueError
        PeakRDL's exporter is not installed.
    """
    try:
        from peakrdl_ipxact import IPXACTExporter
        from peakrdl_ipxact.exporter import Standard
    except ImportError:
        raise ValueError(
            "IP-XACT needs peakrdl-ipxact, which is not installed: pip install peakrdl-ipxact"
        ) from None
    exporter = IPXACTExporter(
        vendor=NAME, library=LIBRARY, version=__version__, standard=Standard(edition), xml_indent=" "
    )
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "registers.xml"
        exporter.export(rdl.tree(_REGISTERS), str(made), component_name=NAME)
        component = ElementTree.parse(made).getroot()
    make = _Maker(EDITIONS[edition], ports)
    file = Path(os.path.relpath(verilog.resolve(), path.resolve().parent)).as_posix()
    [maps] = [at for at, each in enumerate(component) if each.tag == make.tag("memoryMaps")]
    component.extend([make.model(), make.files(file)])  # the order of elements is the standard's
    component.insert(maps, make.interfaces(component[maps]))
    ElementTree.indent(component)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(component).write(path, encoding="UTF-8", xml_declaration=True)
    return path


class _Maker:
    """Makes what PeakRDL's exporter does not, in the words of an edition."""

    def __init__(self, edition: Edition, ports: Mapping[str, wiring.Member]):
        self.edition, self.ports = edition, ports
        ElementTree.register_namespace(edition.prefix, edition.namespace)

    def tag(self, name: str) -> str:
        """The whole name of an element."""
        return f"{{{self.edition.namespace}}}{name}"

    def node(self, name: str, /, *content: Element | str | int, **attributes: str) -> Element:
        """An element with a text or elements in it."""
        qualify = self.tag if self.edition.qualified else str
        made = Element(self.tag(name), {qualify(key): value for key, value in attributes.items()})
        for each in content:
            if isinstance(each, Element):
                made.append(each)
            else:
                made.text = str(each)
        return made

    def interfaces(self, maps: Element) -> Element:
        """A bus interface for each bundle of ports. That of the registers refers to the memory map."""
        [map_name] = [each.text or "" for each in maps.iterfind(f"*/{self.tag('name')}")]
        made = self.node("busInterfaces")
        for prefix, carries in STREAMS.items():
            lite = prefix == "s_axil"
            reference = [self.node("memoryMapRef", memoryMapRef=map_name)] if lite else []
            mode = self.node("slave" if prefix.startswith("s_") else "master", *reference)
            ports = {
                name.removeprefix(f"{prefix}_").upper(): name
                for name in self.ports
                if name.startswith(f"{prefix}_")
            }
            definition = self.edition.lite if lite else self.edition.stream
            made.append(self.interface(prefix, carries, definition, mode, ports))
        if self.edition.year == 2009:
            made.extend(self.clocks())
        return made

    def interface(
        self,
        name: str,
        carries: str,
        definition: tuple[str, str, str, str, str],
        mode: Element,
        ports: dict[str, str],
        **parameters: str,
    ) -> Element:
        """One bus interface. ``ports``: the module's, by their names in the bus definition."""
        vendor, library, bus, abstraction, version = definition
        common = {"vendor": vendor, "library": library, "version": version}
        pairs = [
            self.node(
                "portMap",
                self.node("logicalPort", self.node("name", logical)),
                self.node("physicalPort", self.node("name", physical)),
            )
            for logical, physical in ports.items()
        ]
        port_maps = self.node("portMaps", *pairs)
        given = [
            self.node("parameter", self.node("name", key.upper()), self.node("value", value))
            for key, value in parameters.items()
        ]
        head = [
            self.node("name", name),
            self.node("description", carries),
            self.node("busType", name=bus, **common),
        ]
        if self.edition.year == 2009:
            below = [self.node("abstractionType", name=abstraction, **common), mode, port_maps]
        else:
            reference = self.node("abstractionRef", name=abstraction, **common)
            types = self.node("abstractionTypes", self.node("abstractionType", reference, port_maps))
            below = [types, mode]
        return self.node("busInterface", *head, *below, *([self.node("parameters", *given)] if given else []))

    def clocks(self) -> Iterator[Element]:
        """What ties the other interfaces to ``clk`` and ``rst``, where there are definitions for it."""

        def signal(kind: str) -> tuple[str, str, str, str, str]:
            return "xilinx.com", "signal", kind, f"{kind}_rtl", "1.0"

        yield self.interface(
            "clk",
            "all ports are synchronous to it",
            signal("clock"),
            self.node("slave"),
            {"CLK": "clk"},
            associated_busif=":".join(STREAMS),
            associated_reset="rst",
        )
        yield self.interface(
            "rst",
            "synchronous, one clock or more",
            signal("reset"),
            self.node("slave"),
            {"RST": "rst"},
            polarity="ACTIVE_HIGH",
        )

    def model(self) -> Element:
        """The view that names the Verilog, and the ports."""
        view, module, files = "verilog", NAME, self.node("fileSetRef", self.node("localName", "verilog"))
        language = self.node("language", "verilog")
        ports = self.node("ports", self.port("clk", In, 1), self.port("rst", In, 1))
        for name, member in self.ports.items():
            ports.append(self.port(name, member.flow, Shape.cast(member.shape).width))
        if self.edition.year == 2009:
            parts = [
                self.node("name", view),
                self.node("envIdentifier", "::"),
                language,
                self.node("modelName", module),
                files,
            ]
            return self.node("model", self.node("views", self.node("view", *parts)), ports)
        views = self.node(
            "views",
            self.node("view", self.node("name", view), self.node("componentInstantiationRef", view)),
        )
        instance = self.node(
            "componentInstantiation",
            self.node("name", view),
            language,
            self.node("moduleName", module),
            files,
        )
        return self.node("model", views, self.node("instantiations", instance), ports)

    def port(self, name: str, flow: wiring.Flow, width: int) -> Element:
        """A port; one of a single bit has no range."""
        wire = self.node("wire", self.node("direction", "in" if flow == In else "out"))
        if width > 1:
            vector = self.node("vector", self.node("left", width - 1), self.node("right", 0))
            wire.append(vector if self.edition.year == 2009 else self.node("vectors", vector))
        return self.node("port", self.node("name", name), wire)

    def files(self, verilog: str) -> Element:
        """The one file that there is."""
        file = self.node("file", self.node("name", verilog), self.node("fileType", "verilogSource"))
        return self.node("fileSets", self.node("fileSet", self.node("name", "verilog"), file))
