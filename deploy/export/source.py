"""What is exported: a graph, its dialect, and what the graph does not say of itself."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deploy.export import yolo
from deploy.export.dialects import image_of, recognise
from deploy.export.graphs import ExportError, Graph, describe
from deploy.export.kinds import Dialect
from deploy.export.reading import DIALECTS_OF, Reading, listed
from handler.backend.metadata import META_HEAD
from handler.model.contract import MatterportSettings, Resize
from handler.model.matterport import ANCHORS, IMAGE, MASKS, META
from handler.types import Size

UNKNOWN = Reading()


@dataclass(frozen=True)
class Source:
    """A graph, its dialect, and what the graph does not say of itself.

    ``settings`` are those of a Matterport model. For other dialects only ``resize`` counts: it limits what the client
    sends. ``labels``: names by class id, may be empty. ``reading``: how its tensors are meant. ``is_requested``: an
    option named the dialect. ``takes_batch``: the graph answers several images at once as it does each alone.
    """

    graph: Graph
    dialect: Dialect
    settings: MatterportSettings
    labels: Mapping[int, str]
    reading: Reading = UNKNOWN
    is_requested: bool = False
    takes_batch: bool = False

    @property
    def num_classes(self) -> int:
        """Classes of a Matterport model, with the background, from the shape of its meta or its masks."""
        meta, masks = self.graph.inputs.get(META), self.graph.outputs[MASKS].shape
        if meta is not None and meta.shape.rank == 2 and meta.shape[1] is not None:
            return int(meta.shape[1]) - META_HEAD
        if masks.rank == 5 and masks[4] is not None:
            return int(masks[4])
        if self.labels:
            return max(self.labels) + 1
        raise ExportError("the number of classes must be in the shape of input_image_meta, got none: give --labels")

    @property
    def channels(self) -> int:
        """Channels of a Matterport model's image, 1 or 3."""
        return int(self.graph.inputs[IMAGE].shape[3] or 3)

    @property
    def frame_hw(self) -> Size | None:
        """Height and width of the image that a model of another dialect takes, None for any."""
        _, height, width, _ = image_of(self.graph).shape.as_list()
        return None if height is None else (height, width)

    @property
    def resize(self) -> Resize:
        """How the client resizes an image for the int8 export."""
        if self.dialect == "matterport":
            return self.settings.resize
        if self.frame_hw is None:
            return Resize(mode="fit", min_dim=0, max_dim=self.settings.resize.max_dim)
        mode: Literal["stretch", "letterbox"] = "stretch" if self.reading.resize == "stretch" else "letterbox"
        return Resize(mode=mode, min_dim=0, max_dim=max(self.frame_hw), frame_hw=self.frame_hw)

    @property
    def layout(self) -> yolo.Layout:
        """What the shapes of a YOLO say."""
        head, prototypes = (self.graph.outputs[name] for name in yolo.OUTPUTS)
        return yolo.read(image_of(self.graph), head, prototypes, self.reading.prototypes)

    @property
    def is_plain(self) -> bool:
        """Whether a client can do what the graph of a Matterport model wants: RGB, 0..255, meta, anchors, own masks."""
        if self.dialect != "matterport":
            return False
        complete = {META, ANCHORS} <= set(self.graph.inputs) and self.graph.outputs[MASKS].shape.rank in (5, None)
        usual = self.reading.scale in (None, "0..255") and self.reading.mask_values in (None, "0..1")
        return complete and usual and self.channels == 3 and not self.reading.bgr


def of_graph(
    graph: Graph,
    settings: MatterportSettings,
    labels: Mapping[int, str],
    dialect: str | None = None,
    reading: Reading = UNKNOWN,
) -> Source:
    """Return a graph as a source, with ``labels``, or else the graph's own.

    The dialect is read from the graph's outputs if ``dialect`` is None. Raises ExportError if the graph is of no
    dialect or of another one, if the labels are not as many as its classes, or if ``reading`` does not fit.
    """
    found, named = recognise(graph, dialect, reading)
    source = Source(named, found, settings, labels or graph.labels, reading, dialect is not None)
    unfit = [name for name, fits in DIALECTS_OF.items() if found not in fits and getattr(reading, name) is not None]
    if unfit:
        raise ExportError(f"{listed(unfit)} must come with a model of another dialect, got {found}")
    if found == "matterport":
        if source.labels or META in named.inputs:
            _check_labels(source.labels, source.num_classes - 1, "class of the model but the background")
        _check_frame(source)
    elif source.frame_hw is None and reading.resize is not None:
        raise ExportError("--resize must come with an image of fixed size, got a model that takes any size")
    if found == "yolo":
        layout = source.layout
        if layout.classes is not None:
            _check_labels(source.labels, layout.classes, "class of the model, the first as 1")
        source = dataclasses.replace(source, reading=yolo.with_defaults(reading, layout))
    image = named.inputs[IMAGE] if found == "matterport" else image_of(named)
    if reading.scale not in (None, "0..255") and not image.dtype.is_floating:
        raise ExportError(f"--scale {reading.scale} must come with an image of floats, got {describe(image)}")
    if image.shape[3] == 1 and (reading.bgr or reading.scale == "imagenet"):
        raise ExportError(f"--bgr and --scale imagenet must come with an image of 3 channels, got {describe(image)}")
    return source


def _check_labels(labels: Mapping[int, str], classes: int, each: str) -> None:
    if labels and set(labels) != set(range(1, classes + 1)):
        ids = f"ids {min(labels)}..{max(labels)}"
        raise ExportError(f"--labels must have {classes} names, one for each {each}, got {len(labels)} with {ids}")


def _check_frame(source: Source) -> None:
    """Raise ExportError if the frame or the mean does not fit the image of a Matterport model."""
    image, resize = source.graph.inputs[IMAGE], source.settings.resize
    height, width = image.shape.as_list()[1:3]
    if height is not None and not (resize.mode == "square" and height == width == resize.max_dim):
        got = f"{describe(image)} for --resize-mode {resize.mode} and --max-dim {resize.max_dim}"
        raise ExportError(f"a frame of fixed size must be square, --max-dim its side, got {got}")
    if ANCHORS not in source.graph.inputs and resize.mode != "square":
        raise ExportError(
            f"a model with its anchors in the graph must have one frame, --resize-mode square, got {resize.mode}"
        )
    if source.channels == 1 and len(set(source.settings.mean)) > 1:
        raise ExportError(
            "--mean must be the one MEAN_PIXEL of a model of 1 channel, "
            f"got {source.settings.mean} for {describe(image)}"
        )
