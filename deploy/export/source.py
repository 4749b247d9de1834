"""What is exported: a graph, its dialect, and what the graph does not say of itself."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from deploy.export import yolo
from deploy.export.dialects import recognise
from deploy.export.graphs import ExportError, Graph
from deploy.export.kinds import Dialect, YoloOptions
from handler.backend.metadata import META_HEAD
from handler.model.contract import MatterportSettings


@dataclass(frozen=True)
class Source:
    """A graph, its dialect, and what the graph does not say of itself.

    ``settings`` are those of a Matterport model. For other dialects only ``resize`` counts: it limits what the client
    sends. ``labels``: names by class id, may be empty. ``detector``: what a YOLO says of itself, None for all others.
    """

    graph: Graph
    dialect: Dialect
    settings: MatterportSettings
    labels: Mapping[int, str]
    detector: yolo.Detector | None = None

    @property
    def num_classes(self) -> int:
        """Classes of a Matterport model, with the background, from the shape of its meta or its masks."""
        meta, masks = self.graph.inputs["input_image_meta"].shape, self.graph.outputs["mrcnn_mask"].shape
        if meta.rank == 2 and meta[1] is not None:
            return int(meta[1]) - META_HEAD
        if masks.rank == 5 and masks[4] is not None:
            return int(masks[4])
        if self.labels:
            return max(self.labels) + 1
        raise ExportError("the number of classes must be in the shape of input_image_meta, got none: give --labels")


def of_graph(
    graph: Graph,
    settings: MatterportSettings,
    labels: Mapping[int, str],
    dialect: str | None = None,
    yolo_options: YoloOptions | None = None,
) -> Source:
    """Return a graph as a source, with ``labels``, or else the graph's own.

    The dialect is read from the graph's outputs if ``dialect`` is None. Raises ExportError if the graph is of no
    dialect or of another one, or if the labels are not as many as its classes.
    """
    found = recognise(graph, dialect)
    detector = yolo.read(graph, yolo_options or YoloOptions()) if found == "yolo" else None
    if detector is not None:
        settings = msgspec.structs.replace(settings, resize=detector.resize)
    source = Source(graph, found, settings, labels or graph.labels, detector)
    if source.dialect == "matterport":
        _check_labels(source.labels, source.num_classes - 1, "class of the model but the background")
    elif detector is not None and detector.classes is not None:
        _check_labels(source.labels, detector.classes, "class of the model, the first as 1")
    return source


def _check_labels(labels: Mapping[int, str], classes: int, each: str) -> None:
    if labels and set(labels) != set(range(1, classes + 1)):
        ids = f"ids {min(labels)}..{max(labels)}"
        raise ExportError(f"--labels must have {classes} names, one for each {each}, got {len(labels)} with {ids}")
