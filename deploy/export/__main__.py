"""Export an instance-segmentation model for TensorFlow Serving, with int8 inputs and outputs.

Without a KIND, int8 is exported. Without a source, the bundled model of circles, squares and triangles is exported.
Exit codes: 0 done, 1 not possible, 2 options that do not fit together.
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from deploy.export import options
from deploy.export.kinds import DEFAULT
from deploy.export.reading import listed
from deploy.tools.signals import stop_signals
from deploy.tools.steps import step
from handler.errors import ContractViolation

if TYPE_CHECKING:
    from deploy.export.source import Source

EXAMPLE = "deploy.models.shapes.export:source"  # found by name: nothing here imports the bundled model


def main(
    arguments: Sequence[str] | None = None,
    *,
    prog: str = "python -m deploy.export",
    source: "Callable[[], Source] | None" = None,
) -> int:
    """Export and print the new folder; return the exit code. An error is one line on stderr.

    ``source`` returns the model to export. Without it, the command line names one, or the bundled model is exported.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given.insert(0, DEFAULT)
    top = options.parser(prog, str(__doc__), with_source=source is None)
    args = top.parse_args(given)
    if source is None:
        if options.names_no_source(args):
            source = _read_example
        elif problem := options.misfit(args):
            top.error(problem)
        else:
            source = partial(_read_source, args)
    try:
        with stop_signals():
            return _run(args, source)
    except KeyboardInterrupt:
        print("export: interrupted; nothing is left behind", file=sys.stderr)
        return 1


def _read_example() -> "Source":
    module, _, function = EXAMPLE.partition(":")
    example: Source = getattr(importlib.import_module(module), function)()
    return example


def _run(args: argparse.Namespace, read_source: "Callable[[], Source]") -> int:
    with step("loading TensorFlow"):  # seconds, which --help must not take
        from deploy.export import signatures, write  # noqa: PLC0415
        from deploy.export.graphs import ExportError  # noqa: PLC0415
        from deploy.export.settle import settle  # noqa: PLC0415

        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls the loader of old models deprecated
    try:
        with step("reading the source"):
            source = read_source()
        with step("running the source on pictures"):
            settled = settle(source, args.images, batch=getattr(args, "max_batch_size", 1) > 1)
        if args.kind == "check":
            from deploy.export.check import check  # noqa: PLC0415 - it needs the stand-in, as the report does

            print(check(settled, args.images))
            return 0
        source = settled.source
        for line in settled.lines:
            print(f"  {line}", file=sys.stderr)
        if args.kind == "report":
            from deploy.export.report.folder import write_report  # noqa: PLC0415 - it draws, the others do not

            print(write_report(source, args.images, args.output, settled.lines))
            return 0
        with step(f"exporting {source.graph.description}, {source.dialect}, as {args.kind}"):
            options_of_kind = {}
            if args.kind == DEFAULT:
                options_of_kind = {
                    "jpeg": not args.without_jpeg,
                    "image_size": not args.without_image_size,
                    "max_batch_size": args.max_batch_size,
                }
            exported = getattr(signatures, args.kind.replace("-", "_"))(source, **options_of_kind)
            folder = write.write(exported, args.output, settled.examples if args.kind == "int8" else ())
        print(folder)
    except (ExportError, ContractViolation) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


def _read_source(args: argparse.Namespace) -> "Source":
    """Read the model that the options name.

    A SavedModel that cannot be exported is refused before it is loaded. Raises ExportError or ContractViolation.
    """
    from deploy.export import graphs, source  # noqa: PLC0415

    settings, reading, trained = options.settings(args), options.reading(args), options.trained(args)

    def understood(graph: graphs.Graph) -> source.Source:
        found = source.of_graph(graph, settings, args.labels or {}, args.dialect, reading)
        unfit = [name for name in trained if name not in options.SHARED]
        if found.dialect != "matterport" and unfit:
            raise graphs.ExportError(f"{listed(unfit)} must come with a Matterport model, got {found.dialect}")
        if problem := options.misfit_of_graph(found.dialect, trained, reading, set(found.graph.inputs)):
            raise graphs.ExportError(problem)
        if found.resize.max_dim != settings.resize.max_dim and "max_dim" in trained:
            raise graphs.ExportError(f"--max-dim must be {found.resize.max_dim}, as the model says, got {args.max_dim}")
        return found

    for library in args.op_library or ():
        graphs.load_ops(library)
    if args.builder is not None:
        return understood(graphs.from_builder(args.builder, args.weights))
    signature = args.signature or "serving_default"
    return understood(graphs.from_saved_model(args.saved_model, signature, understood))


if __name__ == "__main__":
    sys.exit(main())
