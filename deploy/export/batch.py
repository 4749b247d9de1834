"""Several images in one run of an export: each is answered as if it came alone.

*Strategy*. With ``--enable_batching``, TensorFlow Serving joins the requests of a signature at axis 0, pads images of
different sizes, and splits the outputs at axis 0 again. Three ways lead through the graph:

1. One image: the graph as it is without all this.
2. Several images in frames of one size, and a source that takes several: one run of the source.
3. Any others: one run after the other.

Where one image has fewer detections than another one, zeros fill its rows up: a row of class 0 ends the list.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2

from deploy.export import answer, frame
from deploy.export.dialects import COUNT, MARKS
from deploy.export.graphs import NOT_INLINED, Tensors
from deploy.export.source import Source
from handler.model.matterport import ANCHORS, IMAGE, META

META_FRAME = slice(4, 6)  # the place of the frame's height and width in meta

At = Callable[[Any], tf.Tensor]  # from an image's place in the batch to its codes int8 [1, h, w, 3]


def segmenter(source: Source, alone: Any) -> Callable[[tf.Tensor, At, Callable[[], tf.Tensor]], Tensors]:
    """Return a function from n images to mrcnn_detection float32 [n, N, 6] and mrcnn_mask int8 [n, N, mh, mw].

    It takes n, a function from a place to the codes there, and one that gives the images' sizes int32 [n, 2]. ``alone``
    is the tf.function for one image, int8 [1, h, w, 3].
    """
    inputs = source.graph.inputs if source.takes_batch else {}
    frames = {name: tf.TensorSpec([None, *spec.shape[1:]], spec.dtype) for name, spec in inputs.items()}

    def shapes() -> Mapping[str, tf.TensorSpec]:
        found: Mapping[str, tf.TensorSpec] = alone.get_concrete_function().structured_outputs
        return found

    @tf.function(
        input_signature=[frames, tf.TensorSpec([None, 2], tf.int32)], experimental_attributes=NOT_INLINED
    )  # one for all signatures, so that it is traced once and gives each the same bits
    def together(inputs: Tensors, sizes_hw: tf.Tensor) -> Tensors:
        outputs = source.graph.call(dict(inputs))
        used = [name for name in (*MARKS[source.dialect], COUNT) if name in outputs]

        def own(place: tf.Tensor) -> Tensors:
            found = {name: outputs[name][place : place + 1] for name in used}
            return answer.coded(*answer.rows_and_masks(source, found, sizes_hw[place]))

        return _stacked(own, tf.shape(sizes_hw)[0], shapes())

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.int8)])
    def frame_of(codes: tf.Tensor) -> Tensors:
        return answer.inputs(source, answer.rgb_of(codes))

    def segment(count: tf.Tensor, image_at: At, sizes_hw: Callable[[], tf.Tensor]) -> Tensors:
        def one_by_one() -> Tensors:
            return _stacked(lambda place: alone(image_at(place)), count, shapes())

        def framed() -> Tensors:
            specs = {name: tf.TensorSpec(spec.shape[1:], spec.dtype) for name, spec in frames.items()}
            return _mapped(lambda place: frame_of(image_at(place)), count, specs)

        def several() -> Tensors:
            if not source.takes_batch:
                return one_by_one()
            sizes = sizes_hw()
            fits: Tensors = tf.cond(_is_one_frame(source, sizes), lambda: together(framed(), sizes), one_by_one)
            return fits

        outputs: Tensors = tf.cond(count == 1, lambda: alone(image_at(0)), several)
        return outputs

    return segment


def _is_one_frame(source: Source, sizes_hw: tf.Tensor) -> tf.Tensor:
    """Tell whether images of ``sizes_hw`` int32 [n, 2] reach the source in frames of one size."""
    if source.dialect == "matterport":
        frames_hw = tf.broadcast_to(frame.frame_size(sizes_hw, source.settings.resize), tf.shape(sizes_hw))
    else:
        frames_hw = sizes_hw if source.frame_hw is None else tf.constant([source.frame_hw])
    return tf.reduce_all(frames_hw == frames_hw[:1])


def run_frames(source: Source, run: Any, inputs: Tensors) -> Tensors:
    """Return the outputs of ``run``, the tf.function of a Matterport model, for n frames with their meta and anchors.

    The server may have padded frames of different sizes: each meta tells the size of its own.
    """
    frames_hw = tf.cast(inputs[META][:, META_FRAME], tf.int32)
    count = tf.shape(frames_hw)[0]

    def own(place: tf.Tensor) -> Tensors:
        height, width = tf.unstack(frames_hw[place])
        anchors = frame.count_anchors(frames_hw[place], source.settings.anchors)
        one = slice(place, place + 1)
        found: Tensors = run(
            {
                IMAGE: inputs[IMAGE][one, :height, :width],
                META: inputs[META][one],
                ANCHORS: inputs[ANCHORS][one, :anchors],
            }
        )
        return found

    whole = count == 1
    if source.takes_batch:
        whole |= tf.reduce_all(frames_hw == tf.shape(inputs[IMAGE])[1:3])
    shapes = run.get_concrete_function().structured_outputs
    outputs: Tensors = tf.cond(whole, lambda: run(dict(inputs)), lambda: _stacked(own, count, shapes))
    return outputs


def _stacked(one: Callable[[tf.Tensor], Tensors], count: tf.Tensor, shapes: Mapping[str, tf.TensorSpec]) -> Tensors:
    """Return the outputs ``one`` [1, N, ...] of each place as [n, N, ...], with zeros up to the greatest N."""
    kinds: dict[str, Any] = {name: tf.TensorSpec(spec.shape[1:], spec.dtype) for name, spec in shapes.items()}
    kinds |= {
        name: tf.RaggedTensorSpec(kind.shape, kind.dtype, ragged_rank=0)
        for name, kind in kinds.items()
        if kind.shape.rank is not None and kind.shape[0] is None
    }
    found = _mapped(one, count, kinds)
    return {name: one.to_tensor() if isinstance(one, tf.RaggedTensor) else one for name, one in found.items()}


def _mapped(one: Callable[[tf.Tensor], Tensors], count: tf.Tensor, kinds: Mapping[str, Any]) -> Tensors:
    """Return what ``one`` gives for each place 0 to n - 1, tensors [1, ...], joined to [n, ...]."""

    def at(place: tf.Tensor) -> Tensors:
        found = one(place)
        return {name: found[name][0] for name in kinds}

    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    joined: Tensors = tf.map_fn(at, tf.range(count), fn_output_signature=dict(kinds), parallel_iterations=1)
    # A loop that TensorFlow takes apart fails if this export is a source itself ("inputs from different frames").
    for operation in graph.get_operations()[before:]:
        if operation.type in {"While", "StatelessWhile"}:
            operation._set_attr("_lower_using_switch_merge", attr_value_pb2.AttrValue(b=False))
    return joined
