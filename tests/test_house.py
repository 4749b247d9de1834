import ast
from pathlib import Path

import pytest

HANDLER = Path(__file__).parent.parent / "handler"
ALLOWED = {
    "errors": set(),
    "log": set(),
    "memory": set(),
    "contract": {"errors"},
    "shapes": {"contract"},
    "routes": {"shapes"},
    "options": {"errors"},
    "jpeg": {"errors"},
    "image": {"errors", "jpeg"},
    "environ": {"errors"},
    "tls": {"errors"},
    "config": {"contract", "environ", "errors", "image", "tls"},
    "mold": {"contract", "errors", "image"},
    "quantize": {"contract", "errors"},
    "spans": set(),
    "rle": {"spans"},
    "polygons": set(),
    "masks": {"options", "polygons", "rle", "shapes", "spans"},
    "protos": set(),
    "varint": set(),
    "wire": {"errors", "protos", "varint"},
    "signature": {"protos", "contract", "errors"},
    "pipeline": {"contract", "errors", "image", "mold", "options", "quantize", "masks", "wire"},
    "tokens": {"errors"},
    "channel": {"errors", "tls", "tokens"},
    "serving": {"channel", "contract", "errors", "protos", "wire"},
    "formats": {"contract", "errors", "masks", "options", "pipeline", "routes", "shapes"},
    "openapi": {"__version__", "access", "options", "routes", "shapes"},
    "access": {"errors"},
    "bodies": {"errors", "options"},
    "web": {
        "access",
        "bodies",
        "contract",
        "errors",
        "formats",
        "log",
        "openapi",
        "options",
        "pipeline",
        "routes",
        "shapes",
    },
    "__init__": set(),
}
OUTSIDE = {
    "flask": {"access", "bodies", "web"},
    "werkzeug": {"bodies"},
    "grpc": {"channel"},
    "google.auth": {"tokens"},
    "google.oauth2": {"tokens"},
    "ssl": {"tls"},
    "PIL": {"image", "jpeg", "masks", "mold"},
    "contourpy": {"polygons"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            rooms = node.module == "handler"
            yield from (f"handler.{alias.name}" for alias in node.names) if rooms else [node.module]


def rooms():
    return sorted(HANDLER.rglob("*.py"))


def test_every_room_is_known():
    assert {path.stem for path in rooms()} == set(ALLOWED)


@pytest.mark.parametrize("path", rooms(), ids=lambda path: path.stem)
def test_imports_go_one_way(path):
    names = list(imports(path))
    assert {name.split(".")[1] for name in names if name.startswith("handler.")} <= ALLOWED[path.stem]
    tops = {name.split(".")[0] for name in names}
    assert not tops & {"tensorflow", "deploy", "tests", "main"}
    outside = [top for top in OUTSIDE for name in names if f"{name}.".startswith(f"{top}.")]
    assert all(path.stem in OUTSIDE[top] for top in outside)


def test_no_file_grows_past_reading():
    assert {path.name for path in rooms() if len(path.read_text().splitlines()) > 215} == set()
