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
    for name in rdl.registers():
        assert name.rsplit(".", 1)[-1] in text, name
    assert "A driver that reads anything else here is not talking to a spigate" in text
    assert "Security Parameter Index, 256 to 2^32 - 1" in text


def test_every_field_is_described():
    """What the reference is made of: registers of one value or of several."""
    for node in rdl.tree("gateway").descendants(unroll=False):
        if hasattr(node, "low") and not (node.get_property("desc") or node.parent.get_property("desc")):
            raise AssertionError(f"{node.get_path()} has no description")
