"""What is exported: a graph, its dialect, and what the graph does not say of itself."""

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.export.dialects import recognise
from deploy.export.graphs import ExportError, Graph
from deploy.export.kinds import Dialect
from handler.backend.metadata import META_HEAD
from handler.model.contract import MatterportSettings


@dataclass(frozen=True)
class Source:
    """A graph, its dialect, and what the graph does not say of itself.

    ``settings`` are those of a Matterport model. For other dialects only ``resize`` counts: it limits what the client
    sends. ``labels``: names by class id, may be empty.
    """

    graph: Graph
    dialect: Dialect
    settings: MatterportSettings
    labels: Mapping[int, str]

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
    graph: Graph, settings: MatterportSettings, labels: Mapping[int, str], dialect: str | None = None
) -> Source:
    """Return a graph as a source, with ``labels``, or else the graph's own.

    The dialect is read from the graph's outputs if ``dialect`` is None. Raises ExportError if the graph is of no
    dialect or of another one, or if the labels are not as many as its classes.
    """
    source = Source(graph, recognise(graph, dialect), settings, labels or graph.labels)
    if source.dialect == "matterport":
        expected = set(range(1, source.num_classes))
        if source.labels and set(source.labels) != expected:
            ids = f"ids {min(source.labels)}..{max(source.labels)}"
            raise ExportError(
                f"--labels must have {len(expected)} names, one for each class of the model but the background, "
                f"got {len(source.labels)} with {ids}"
            )
    return source
