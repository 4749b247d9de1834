"""HEIC, the photographs of iPhones: read by pillow-heif, a package that the function does not need otherwise."""

import functools
import importlib

from handler.errors import ConfigError

FORMAT = "HEIF"  # the name that Pillow knows it by


@functools.cache
def register() -> None:
    """Teach Pillow to open HEIC. Raises ConfigError if pillow-heif is not installed."""
    try:
        pillow_heif = importlib.import_module("pillow_heif")
    except ImportError as error:
        raise ConfigError("IMAGE_KINDS may name heic if the package pillow-heif is installed, got none") from error
    pillow_heif.register_heif_opener(thumbnails=False)
