"""The photograph that the commands send."""

from pathlib import Path

from PIL import Image

from deploy.tools.processes import RunError


def write_photo(path: Path) -> Path:
    """Write the photograph of this name that scikit-image brings along, as PNG: coins, astronaut."""
    from skimage import data  # noqa: PLC0415 - it takes a second, and a given photograph needs none

    Image.fromarray(getattr(data, path.stem)()).save(path)
    return path


def read_image(path: Path) -> bytes:
    """Return the file's bytes. Raises RunError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"the image must be a file that can be read, got {path}: {error.strerror}") from error
    if not data:
        raise RunError(f"the image must be a JPEG, PNG or WebP, got {path}, which is empty")
    return data
