"""The function itself, but that it decodes every photograph whole."""

from handler.image import jpeg

jpeg.plan = lambda *_: None

from main import segment  # noqa: E402, F401
