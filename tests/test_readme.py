"""The documents name what there is and nothing else, lead every reader on, and are written in short sentences."""

import importlib.util
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from deploy.export.kinds import DIALECTS, KINDS
from handler.config import Config
from handler.errors import SegmentError
from handler.options import Format, MaskEncoding, Options
from handler.web.formats.instances import Instances
from tests.support.settings import VARIABLES

ROOT = Path(__file__).parent.parent
README_LINES = 150
SENTENCE_WORDS = 40
CLICKS = 2
FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ITEM = re.compile(r"^ *(?:[-*]|\d+\.) ", re.MULTILINE)


def documents():
    """Yield the path of every document below the project's folder."""
    folders = [ROOT / name for name in ("handler", "deploy", "tests")]
    found = [*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


DOCUMENTS = documents()


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


HANDLER = read("handler/README.md")
EXPORT = read("deploy/export/README.md")
every_document = pytest.mark.parametrize("document", DOCUMENTS)


def rows(column, text=HANDLER):
    """Return first and second cells of the table whose first column has that title."""
    table = text.split(f"\n| {column} | ")[1].split("\n\n")[0]
    cells = (line.strip("|").split("|") for line in table.splitlines() if re.match(r"\| `[\w-]+` ", line))
    return {name.strip().strip("`"): value.strip() for name, value, *_ in cells}


def test_every_setting_with_its_default():
    default = Config.from_environ({})
    table = rows("variable")
    assert set(table) == VARIABLES
    stated = {name: cell.strip("`") for name, cell in table.items() if cell}
    assert Config.from_environ(stated) == default


@pytest.mark.parametrize(("column", "script"), [(2, "function"), (3, "model")])
def test_every_option_of_a_script_with_its_default(column, script):
    source = read(f"deploy/gcloud/{script}.sh")
    options = re.search(r"^OPTIONS='(.*?)'", source, re.MULTILINE | re.DOTALL)[1].split()
    defaults = source.split("\nusage() {")[0]
    flags = re.search(r"^parse '.*?' .* '(.*?)' ", source, re.MULTILINE)[1].split()
    section = read("deploy/README.md").split("\n## All options\n")[1].split("\n## ")[0]
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


@pytest.mark.parametrize("document", ["README.md", "handler/README.md"])
def test_the_answer_is_of_the_type_that_the_function_sends(document):
    (answer,) = re.findall(r"```json\n(.*?)```", read(document), re.DOTALL)
    assert len(msgspec.json.decode(answer, type=Instances).instances) == 1


def test_every_kind_and_dialect_and_option_of_the_exporter():
    assert [*rows("kind", EXPORT), "check", "report"] == list(KINDS)
    assert tuple(rows("dialect", EXPORT)) == DIALECTS
    options = set(re.findall(r'\badd\("(--[a-z-]+)"', read("deploy/export/options.py")))
    assert set(re.findall(r"(?<!-)--[a-z-]+[a-z]", EXPORT)) == options | {"--help"}


def test_every_status():
    section = HANDLER.split("\n### Errors\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (\d{3}(?:, \d{3})*) \|", section, re.MULTILINE)
    named = {int(status) for cell in cells for status in cell.split(", ")}
    assert named == {error.status for error in (SegmentError, *subclasses(SegmentError))}


def subclasses(kind):
    return {found for child in kind.__subclasses__() for found in (child, *subclasses(child))}


def test_every_target_of_make_is_real():
    makefile = read("Makefile")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"\bmake ([\w-]+)", "".join(map(read, DOCUMENTS))))
    assert named <= targets, named - targets
    described = set(re.findall(r"^([\w-]+):.*## ", makefile, re.MULTILINE))
    assert described == targets


def anchors(text):
    """Return the anchors that GitHub gives to the headings of a document."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(document):
    """Return the links of a document into the project, as path and anchor; "" for one that is not there."""
    found = [link.partition("#")[::2] for link in LINK.findall(FENCE.sub("", read(document)))]
    own = [(path, anchor) for path, anchor in found if not path.startswith("https:")]
    return [((ROOT / document).parent / path if path else ROOT / document, anchor) for path, anchor in own]


@every_document
def test_links_lead_somewhere(document):
    missing = [str(path) for path, _ in links(document) if not path.exists()]
    missing += [f"{path}#{name}" for path, name in links(document) if name and name not in anchors(path.read_text())]
    assert missing == []


def test_every_document_is_two_clicks_from_the_readme():
    seen = {"README.md"}
    for _ in range(CLICKS):
        paths = {path.resolve() for document in seen for path, _ in links(document) if path.suffix == ".md"}
        seen |= {path.relative_to(ROOT).as_posix() for path in paths}
    assert set(DOCUMENTS) - seen == set()


@every_document
def test_files_named_exist(document):
    paths = re.findall(r"`((?:handler|deploy|tests|\.ci)/[\w./-]*)`", read(document))
    assert [path for path in paths if not (ROOT / path).exists()] == []


@every_document
def test_programs_named_exist(document):
    modules = set(re.findall(r"python -m ([a-z_]+(?:\.[a-z_]+)*)", read(document)))
    ours = {module for module in modules if module.split(".")[0] in ("deploy", "tests")}
    files = {module: ROOT / module.replace(".", "/") for module in ours}
    missing = [name for name, path in files.items() if not (path.with_suffix(".py").exists() or path.is_dir())]
    assert missing + [name for name in modules - ours if importlib.util.find_spec(name) is None] == []


def sentences(text):
    """Yield the sentences of a document outside of code and tables; a piece of code, or a link, is as its text."""
    prose = "\n".join(line for line in FENCE.sub("\n", text).splitlines() if not line.lstrip().startswith(("|", "#")))
    prose = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "code", prose))
    for block in re.split(r"\n\s*\n", ITEM.sub("\n\n", prose)):
        yield from (" ".join(one.split()) for one in re.split(r"(?<=[.!?])[*)]*\s+", block) if one.strip())


@every_document
def test_sentences_are_short(document):
    assert [one for one in sentences(read(document)) if len(one.split()) > SENTENCE_WORDS] == []


def test_the_count_of_words_can_fail():
    long = " ".join(["word"] * 41)
    text = f"# {long}\n\nShort. {long}.\n\n```\n{long}\n```\n\n| {long} |\n\n- {long} `{long}`\n- [one two](three).\n"
    assert list(sentences(text)) == ["Short.", f"{long}.", f"{long} code", "[one two]."]


def test_the_readme_is_read_in_five_minutes():
    assert len(read("README.md").splitlines()) <= README_LINES


@every_document
def test_kinds_of_export_have_their_present_names(document):
    assert re.findall(r"\b(article|boundary)\b", read(document), re.IGNORECASE) == []
