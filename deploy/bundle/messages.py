"""The modules of protobuf messages that the function needs, with the modules that they import."""

import ast
import importlib.util
import re
from pathlib import Path

PROTOS = Path(__file__).parents[2] / "handler" / "backend" / "protos.py"  # the one place that imports them
NEEDS = re.compile(r"^from (tensorflow[\w.]*) import (\w+_pb2)\b", re.MULTILINE)


def needed() -> dict[Path, Path]:
    """Return the modules' files: path within a folder of source -> path where the package is installed.

    Imports neither TensorFlow nor the modules. Raises ModuleNotFoundError if a package is not installed.
    """
    files: dict[Path, Path] = {}
    pending = named(PROTOS.read_text(encoding="utf-8"))
    while pending:
        name = pending.pop()
        relative = Path(*name.split(".")).with_suffix(".py")
        if relative not in files:
            files[relative] = _installed(relative)
            source = files[relative].read_text(encoding="utf-8")
            pending += [f"{package}.{module}" for package, module in NEEDS.findall(source)]
    return dict(sorted(files.items()))


def named(source: str) -> list[str]:
    """Return the modules that a source imports by ``importlib.import_module`` with their names written out."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    loaders = (call for call in calls if ast.unparse(call.func) == "importlib.import_module")
    return [str(ast.literal_eval(call.args[0])) for call in loaders]


def _installed(relative: Path) -> Path:
    top = relative.parts[0]
    spec = importlib.util.find_spec(top)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [Path(folder, *relative.parts[1:]) for folder in folders if Path(folder, *relative.parts[1:]).is_file()]
    if not found:
        raise ModuleNotFoundError(f"{relative} must be installed with {top}, found none; run `make setup`")
    return found[0]
