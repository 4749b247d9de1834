"""Export the model of people: ``python -m deploy.models.people.export KIND --output FOLDER``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.export import __main__ as exporter
from deploy.models.people import wheel
from deploy.tools.processes import ROOT, RunError

FOLDER = ROOT / "build" / "people"
LABELS = Path(__file__).parent / "labels.txt"


def main(arguments: Sequence[str]) -> int:
    """Run the exporter on the SavedModel, as a person would; return the exit code. An error is one line on stderr."""
    try:
        saved_model = save(FOLDER)
    except RunError as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    reading = ("--mask-of=box", "--mask-values=0..1", "--first-class=1")
    return exporter.main([*arguments, f"--saved-model={saved_model}", f"--labels={LABELS}", *reading])


def save(folder: Path) -> Path:
    """Write the float32 SavedModel into ``folder``, which keeps the wheel; return its path. Raises RunError."""
    folder.mkdir(parents=True, exist_ok=True)
    files = wheel.networks(folder)
    import tensorflow as tf  # noqa: PLC0415 - seconds, which an error must not take

    from deploy.models.people.network import People  # noqa: PLC0415

    model = People(*files)
    tf.saved_model.save(model, folder / "saved_model", signatures={"serving_default": model.serve})
    return folder / "saved_model"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
