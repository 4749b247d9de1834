"""The README names what there is, and nothing else."""

import re
from pathlib import Path

import pytest

from handler import options
from handler.config import Config
from handler.pipeline import Options

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/model/README.md")


class Asked(dict):
    """An environment without variables that remembers which were asked for."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def get(self, name, default=None):
        self.names.add(name)
        return default


def rows(heading):
    section = README.split(f"\n{heading}\n")[1].split("\n## ")[0]
    cells = (line.strip("|").split("|") for line in section.splitlines() if re.match(r"\| `\w+` ", line))
    return {name.strip().strip("`"): value.strip() for name, value, *_ in cells}


def test_every_setting_with_its_default():
    asked = Asked()
    default = Config.from_environ(asked)
    table = rows("### Settings")
    assert set(table) == asked.names
    stated = {name: cell.strip("`") for name, cell in table.items() if cell}
    assert Config.from_environ(stated) == default


def test_every_option():
    table = rows("## The HTTP interface")
    assert set(table) == set(options._PARSERS)
    for name, choices in (("mask", options.MASKS), ("format", options.FORMATS)):
        assert re.findall(r"`(\w+)`", table[name]) == list(choices)
    assert Options().mask == "rle"


def test_every_target_of_make_is_real():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", "".join((ROOT / name).read_text() for name in DOCUMENTS)))
    assert named <= targets, named - targets
    described = set(re.findall(r"^(\w+):.*## ", makefile, re.MULTILINE))
    assert described == targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    folder = (ROOT / document).parent
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text(encoding="utf-8"))
    missing = [link for link in links if not link.startswith("https://") and not (folder / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:handler|deploy|tests|\.ci)/[\w./-]*)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
