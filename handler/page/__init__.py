"""The page that browsers get at ``/``, and ``client``, the package that it is made with.

``page.html``, ``page.css``, ``page.js`` and ``tasks.js`` (what runs in a worker) become one document without external
files. Nothing is read before the first request. May import nothing of handler.
"""

import base64
import functools
import hashlib
import re
from pathlib import Path

FOLDER = Path(__file__).parent
CLIENT = ("rle", "masks", "photo", "segment")  # in the order in which they need each other
MODULE_ONLY = re.compile(r"^import .*?;\n|^export ", re.MULTILINE)
SLOT = re.compile(r"<(script|style)( id=\"\w+\")?>\{(\w+)\}</\1>")
POLICY = (
    "default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; img-src blob: data:; "
    "media-src blob:; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@functools.cache
def document() -> tuple[bytes, str]:
    """Return the page as HTML, and its Content-Security-Policy, which allows its own scripts and style by hash."""
    sources = {
        "style": _read("page.css"),
        "client": MODULE_ONLY.sub("", "".join(_read(f"client/{name}.js") for name in CLIENT)),
        "tasks": _read("tasks.js"),
        "page": "".join(_read(f"{name}.js") for name in ("stage", "samples", "take", "page")),
    }
    hashes: dict[str, list[str]] = {"script": [], "style": []}

    def fill(slot: re.Match[str]) -> str:
        tag, identity, name = slot[1], slot[2] or "", slot[3]
        digest = hashlib.sha256(sources[name].encode()).digest()
        hashes[tag].append(f"'sha256-{base64.b64encode(digest).decode('ascii')}'")
        return f"<{tag}{identity}>{sources[name]}</{tag}>"

    coins = base64.b64encode((FOLDER / "coins.webp").read_bytes()).decode("ascii")
    html = SLOT.sub(fill, _read("page.html").replace("{coins}", coins))
    policy = POLICY.format(scripts=" ".join(hashes["script"]), styles=" ".join(hashes["style"]))
    return html.encode(), policy


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
