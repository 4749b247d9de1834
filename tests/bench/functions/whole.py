"""The function itself, but that it decodes every photograph whole."""

from handler.image import jpeg

jpeg.plan_scaled_decode = lambda *_: None

from main import segment  # noqa: E402, F401
