"""The version stands in handler/__init__.py; what cannot read it there says the same."""

import json
import re
from pathlib import Path

from handler import __version__
from handler.web import openapi

ROOT = Path(__file__).parent.parent
TAGS = (
    re.compile(r"(?:\bsegment:|--build-arg VERSION=)(\d[\w.]*)"),
    re.compile(r"- name: segment\n(?:[# ]+newName: .*\n)?[# ]+newTag: (\S+)"),
)
SUFFIXES = (".md", ".yaml", ".sh", "Dockerfile")


def test_the_document_of_the_interface_reads_it():
    assert json.loads(openapi.document(("jpeg",), locked=False))["info"]["version"] == __version__


def test_every_tag_of_the_functions_image_is_it():
    files = [path for path in (ROOT / "deploy").rglob("*") if path.name.endswith(SUFFIXES)]
    found = {path: {tag for kind in TAGS for tag in kind.findall(path.read_text("utf-8"))} for path in files}
    assert sum(map(bool, found.values())) >= 6
    assert {path: tags for path, tags in found.items() if tags - {__version__}} == {}


def test_the_changelog_has_a_section_of_it():
    releases = re.findall(
        r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert releases[0] == __version__
