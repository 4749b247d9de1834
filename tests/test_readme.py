"""The README names what there is, and nothing else."""

import re
from pathlib import Path
from typing import get_args

import pytest

from handler.config import Config
from handler.errors import SegmentError
from handler.options import Format, MaskEncoding, Options
from tests.support.environ import Asked

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/README.md", "deploy/models/shapes/README.md")


def rows(column):
    """Return first and second cells of the table whose first column has that title."""
    table = README.split(f"\n| {column} | ")[1].split("\n\n")[0]
    cells = (line.strip("|").split("|") for line in table.splitlines() if re.match(r"\| `\w+` ", line))
    return {name.strip().strip("`"): value.strip() for name, value, *_ in cells}


def test_every_setting_with_its_default():
    asked = Asked()
    default = Config.from_environ(asked)
    table = rows("variable")
    assert set(table) == asked.names
    stated = {name: cell.strip("`") for name, cell in table.items() if cell}
    assert Config.from_environ(stated) == default


@pytest.mark.parametrize(("column", "script"), [(2, "function"), (3, "model")])
def test_every_knob_of_a_script_with_its_default(column, script):
    source = (ROOT / f"deploy/gcloud/{script}.sh").read_text(encoding="utf-8")
    options = re.search(r"^OPTIONS='(.*?)'", source, re.MULTILINE | re.DOTALL)[1].split()
    defaults = source.split("\nusage() {")[0]
    flags = re.search(r"^parse '.*?' .* '(.*?)' ", source, re.MULTILINE)[1].split()
    section = (ROOT / "deploy/README.md").read_text(encoding="utf-8").split("\n## Every knob\n")[1].split("\n## ")[0]
    cells = " ".join(row.split("|")[column] for row in section.splitlines() if row.startswith("|"))
    assert set(re.findall(r"`(--[a-z-]+)`", cells)) == {*options, *flags}
    for option in options:
        default = re.search(rf"\b{option[2:].upper().replace('-', '_')}=([\w-]+)", defaults)
        if default:
            assert f"`{option}` {default[1]}" in cells


def test_every_option():
    table = rows("option")
    assert set(table) == set(Options.__struct_fields__)
    for name, choices in (("mask", get_args(MaskEncoding)), ("format", get_args(Format))):
        assert re.findall(r"`(\w+)`", table[name]) == list(choices)
    assert set(rows("mask")) == set(get_args(MaskEncoding))
    assert set(rows("format")) == set(get_args(Format))
    assert (Options().mask, Options().format) == ("rle", "instances")


def test_every_status():
    section = README.split("\n## The HTTP interface\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (\d{3}(?:, \d{3})*) \|", section, re.MULTILINE)
    named = {int(status) for cell in cells for status in cell.split(", ")}
    assert named == {error.status for error in (SegmentError, *subclasses(SegmentError))}


def subclasses(kind):
    return {found for child in kind.__subclasses__() for found in (child, *subclasses(child))}


def test_every_target_of_make_is_real():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"\bmake ([\w-]+)", "".join((ROOT / name).read_text() for name in DOCUMENTS)))
    assert named <= targets, named - targets
    described = set(re.findall(r"^([\w-]+):.*## ", makefile, re.MULTILINE))
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
