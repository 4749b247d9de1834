"""Export the bundled model: ``python -m deploy.models.shapes.export KIND --output FOLDER``."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploy.export import __main__ as exporter
from deploy.models.shapes import bundled

if TYPE_CHECKING:
    from deploy.export.source import Source


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the exporter on the bundled model; return the exit code."""
    return exporter.main(arguments, prog="python -m deploy.models.shapes.export", source=source)


def source() -> "Source":
    """Return the bundled model as the exporter takes it."""
    from deploy.export.graphs import from_builder  # noqa: PLC0415 - seconds of TensorFlow, which --help must not take
    from deploy.export.source import of_graph  # noqa: PLC0415

    labels = dict(enumerate(bundled.SETTINGS.labels, start=1))
    return of_graph(from_builder(bundled.BUILDER, bundled.WEIGHTS), bundled.SETTINGS, labels)


if __name__ == "__main__":
    sys.exit(main())
