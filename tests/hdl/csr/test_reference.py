# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest

from spigate.hdl.contract import rdl
from spigate.hdl.csr import reference


def test_builds_and_knows_every_register(tmp_path, capsys):
    assert reference.main([str(tmp_path / "registers")]) == 0
    page = tmp_path / "registers" / "index.html"
    assert capsys.readouterr().out.strip() == str(page)
    assert page.is_file()
    # One page of content a node; its name, and the descriptions, come from the RDL.
    text = "\n".join(
        path.read_text() for path in (tmp_path / "registers").rglob("*") if path.suffix in (".html", ".js")
    )
    for name in [*rdl.registers(), *rdl.registers("board")]:
        assert name.rsplit(".", 1)[-1] in text, name
    assert "A driver that reads anything else here is not talking to a spigate" in text
    assert "Security Parameter Index, 256 to 2^32 - 1" in text


@pytest.mark.parametrize("name", ["gateway", "board"])
def test_every_field_is_described(name):
    """What the reference is made of: registers of one value or of several."""
    for node in rdl.tree(name).descendants(unroll=False):
        if hasattr(node, "low") and not (node.get_property("desc") or node.parent.get_property("desc")):
            raise AssertionError(f"{node.get_path()} has no description")


@pytest.mark.parametrize("name", reference.HEADERS)
def test_the_headers_are_the_gatewares_and_every_field_is_described(name, tmp_path):
    layout, _, fields = reference.HEADERS[name]
    node = reference.headers(tmp_path).get_child_by_name(name)
    shown = {field.inst_name: (field.low, field.width, field.get_property("desc")) for field in node.fields()}
    meant = {
        each: (field.offset, field.width, fields[each])
        for each, field in layout
        if each not in ("reserved", "unused")
    }
    assert shown == meant


def test_the_reasons_of_punts_are_named(tmp_path):
    reason = reference.headers(tmp_path).get_child_by_name("punt").get_child_by_name("reason")
    assert {member.name for member in reason.get_property("encode")} >= {"unknown_spi", "ike", "too_big"}


def test_the_headers_are_in_the_reference(tmp_path):
    folder = reference.build(tmp_path / "registers").parent
    text = "\n".join(path.read_text() for path in folder.rglob("*") if path.suffix in (".html", ".js"))
    assert "In front of a frame that comes up on m_axis_punt" in text
    assert "classify it as if it had come in at" in text
