"""The documentation: its lines, its pictures and figures are what their sources make, and its site builds
without a warning and without a link that leads nowhere.
"""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests/data").rglob("*.md")])
WIDTH = 110


def loaded(path: Path):
    """A script of the documentation, as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


draw, site = loaded(ROOT / "docs/pictures/draw.py"), loaded(ROOT / "docs/site/build.py")


def too_long(text: str) -> list[str]:
    """Lines that a diff cannot show. Rows of tables may be as long as they like, and so may a line that is a
    link alone."""
    return [
        line
        for line in text.splitlines()
        if len(line) > WIDTH and not line.lstrip().startswith("|") and " " in line.strip()
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_are_short(path):
    assert too_long(path.read_text()) == []


def test_a_long_line_is_found():
    assert too_long(f"{'word ' * 22}x\n| {'cell ' * 40}|\n") == [f"{'word ' * 22}x"]


@pytest.mark.parametrize("name", draw.PICTURES)
def test_pictures_are_what_the_script_draws(name):
    assert (ROOT / "docs/pictures" / name).read_text() == draw.PICTURES[name]().svg()


def test_no_picture_is_forgotten():
    assert {path.name for path in (ROOT / "docs/pictures").glob("*.svg")} == set(draw.PICTURES)
    shown = "".join(path.read_text() for path in PAGES)
    assert [name for name in draw.PICTURES if f"pictures/{name}" not in shown] == []


def test_the_glossary_has_the_project_s_words_once():
    terms = re.findall(r"^(\S.*)\n: ", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    words = [word.strip() for term in terms for word in term.split(",")]
    assert len(set(words)) == len(words)
    needed = "CFE DFE CE Punt Inject Recirculate SPI SAD SPD CAM Lane Context Beat Generation Guard Rule Route Reason"
    assert set(needed.split()) <= set(words)


def test_each_decision_record_is_listed_and_has_its_parts():
    folder = ROOT / "docs/decisions"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert records and records == re.findall(r"\]\((\d+\S+\.md)\)", (folder / "README.md").read_text())
    for name in records:
        parts = re.findall(r"^\*\*(\w+)\.\*\*", (folder / name).read_text(), re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequences", "Rejected"], name


def test_a_page_with_a_dead_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="here">a</h1><a href="#here"></a><a href="b.html#there"></a><a href="c.html"></a>'
        '<a href="b.html#here"></a><a href="https://example.org/x"></a><img src="none.svg">'
    )
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    assert list(site.dead_links(tmp_path)) == [
        "a.html: c.html leads to no file",
        "a.html: b.html#here leads to no heading of that name",
        "a.html: none.svg leads to no file",
    ]


@pytest.fixture
def small_site(tmp_path, monkeypatch):
    """A function that builds a site of one page."""
    top = tmp_path / "top"
    (top / "docs").mkdir(parents=True)
    (tmp_path / "site").mkdir()
    conf = (ROOT / "docs/site/conf.py").read_text()
    (tmp_path / "site/conf.py").write_text(conf)

    def build(text: str) -> int:
        (tmp_path / "site/index.md").write_text(
            "# Site\n\n```{toctree}\ndocs/page.md\nmodules/index.md\n```\n"
        )
        (top / "docs/page.md").write_text(text)
        monkeypatch.setattr(site, "TOP", top)
        monkeypatch.setattr(site, "SITE", tmp_path / "site")
        monkeypatch.setattr(site, "HALVES", {"spigate.hdl.axi": "A small package"})
        return site.build(tmp_path / "out")

    return build


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("# Page\n\n## Part\n\n[here](#part)\n", 0),
        ("# Page\n\n[nowhere](other.md)\n", 1),
        ("# Page\n\n[nowhere](#part)\n", 1),
        ("# Page\n\n![nothing](none.svg)\n", 1),
        ("# Page\n\n```{nothing}\n```\n", 1),
    ],
    ids=["whole", "no page", "no heading", "no picture", "no directive"],
)
def test_a_site_with_a_fault_fails(small_site, text, failed):
    assert small_site(text) == failed


def test_the_site_builds(tmp_path):
    """All of it, with the docstrings of every module, in a process of its own as ``make docs`` does."""
    command = [sys.executable, ROOT / "docs/site/build.py", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "html/registers/index.html").is_file()
    assert "class=" in (tmp_path / "html/modules/spigate.hdl.html").read_text()
    assert json.loads((ROOT / "docs/figures/measured.json").read_text())
