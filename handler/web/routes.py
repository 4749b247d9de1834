"""What can be read from the function, by path: the one list that the web, the index and /openapi.json go by."""

from dataclasses import dataclass
from typing import Any

from handler.web import schemas

BACKEND = (502, 503, 504)  # what a page that asks the model server can answer besides


@dataclass(frozen=True, slots=True)
class Page:
    """``answer``: its type; ``problems``: statuses it can fail with; ``locked``: where keys are asked for, here too."""

    summary: str
    answer: Any
    problems: tuple[int, ...] = ()
    locked: bool = False


ROOT = "/"
PAGES = {
    ROOT: Page("a short index", schemas.Index),
    "/health": Page("200 while the process runs; asks nobody", schemas.Health),
    "/ready": Page("200 when the model is available, else 503 with the reason", schemas.Ready, BACKEND),
    "/model": Page("the model contract in force", schemas.ModelAnswer, BACKEND, locked=True),
    "/openapi.json": Page("all of this, for programs", dict[str, Any]),
}
POST = "the instances in an image: the body, the part 'image' of a form, or base64 in JSON"
INDEX = {f"POST {ROOT}": POST, **{f"GET {path}": page.summary for path, page in PAGES.items()}}


def methods(path: str) -> str:
    """Return the methods that a path offers, as the header Allow wants them; every path but a page takes images."""
    if path == ROOT:
        return "GET, HEAD, OPTIONS, POST"
    return "GET, HEAD, OPTIONS" if path in PAGES else "OPTIONS, POST"
