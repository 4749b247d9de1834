"""A TensorFlow Lite file -> a TensorFlow function of the same operators, for any batch.

Weights that the file keeps as float16 or sparse are float32 here: the interpreter unpacks them likewise before it
starts. Source: TensorFlow, lite/schema/schema.fbs.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from deploy.export.graphs import ExportError
from handler.types import Array

TYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT32: np.int32,
}
OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
PADDING = {schema.Padding.SAME: "SAME", schema.Padding.VALID: "VALID"}
ACTIVATIONS: dict[int, Callable[[tf.Tensor], tf.Tensor]] = {
    schema.ActivationFunctionType.NONE: lambda tensor: tensor,
    schema.ActivationFunctionType.RELU: tf.nn.relu,
    schema.ActivationFunctionType.RELU6: tf.nn.relu6,
}

Network = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def load(content: bytes) -> Network:
    """Return a function from the network's one input, float32 [n, h, w, c], to its outputs by name."""
    model = schema.ModelT.InitFromPackedBuf(content)
    (graph,) = model.subgraphs
    constants = dict(_constants(model, graph))

    def call(image: tf.Tensor) -> dict[str, tf.Tensor]:
        tensors = {**constants, graph.inputs[0]: image}
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            name = OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
            given = [tensors[index] for index in operator.inputs]
            tensors[operator.outputs[0]] = _run(name, given, operator.builtinOptions)
        return {graph.tensors[index].name.decode(): tensors[index] for index in graph.outputs}

    return call


def _run(name: str, given: list[Any], options: Any) -> tf.Tensor:
    """Return the output of one operator. Raises ExportError for one that is not known here."""
    match name, given:
        case (("DEQUANTIZE" | "DENSIFY"), [one]):  # _constants did it
            output = one
        case "CONV_2D", [image, kernel, bias]:
            output = tf.nn.conv2d(image, kernel.transpose(1, 2, 3, 0), **_window(options)) + bias
        case "DEPTHWISE_CONV_2D", [image, kernel, bias]:
            kernel = kernel.reshape(*kernel.shape[1:3], -1, options.depthMultiplier)
            output = tf.nn.depthwise_conv2d(image, kernel, **_window(options)) + bias
        case "MAX_POOL_2D", [image]:
            size, step = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
            output = tf.nn.max_pool2d(image, size, step, PADDING[options.padding])
        case "ADD", [one, other]:
            output = one + other
        case "CONCATENATION", _:
            output = tf.concat(given, options.axis)
        case "PAD", [image, margins]:
            output = tf.pad(image, margins)
        case "RESHAPE", [tensor, shape]:
            output = tf.reshape(tensor, tf.concat([tf.shape(tensor)[:1], shape[1:]], 0))
        case "RESIZE_BILINEAR", [image, size]:
            convention = {"align_corners": options.alignCorners, "half_pixel_centers": options.halfPixelCenters}
            output = tf.raw_ops.ResizeBilinear(images=image, size=size, **convention)
        case "DEPTH_TO_SPACE", [image]:
            output = tf.nn.depth_to_space(image, options.blockSize)
        case "LOGISTIC", [tensor]:
            output = tf.sigmoid(tensor)
        case _:
            raise ExportError(f"the operators of the network must be known, got {name} of {len(given)} inputs")
    return ACTIVATIONS[getattr(options, "fusedActivationFunction", schema.ActivationFunctionType.NONE)](output)


def _window(options: Any) -> dict[str, Any]:
    """Return strides, padding and dilations of a convolution; depthwise and other ones need four strides."""
    dilations = (options.dilationHFactor, options.dilationWFactor)
    return {
        "strides": (1, options.strideH, options.strideW, 1),
        "padding": PADDING[options.padding],
        "dilations": dilations,
    }


def _constants(model: Any, graph: Any) -> Iterator[tuple[int, Array]]:
    """Yield index and value of each tensor with a value, floats as float32."""
    for index, tensor in enumerate(graph.tensors):
        content = model.buffers[tensor.buffer].data
        if content is None or len(content) == 0:
            continue
        values = np.frombuffer(bytes(content), TYPES[tensor.type])
        values = values if values.dtype == np.int32 else values.astype(np.float32)
        if tensor.sparsity is None:
            yield index, values.reshape(tensor.shape)
        else:
            yield index, dense(values, tuple(tensor.shape), tensor.sparsity)


def dense(values: Array, shape: tuple[int, ...], sparsity: Any) -> Array:
    """Return a sparse tensor as a dense one.

    The format is a tree with a level for each dimension, then one for each dimension of the blocks, in traversal order.
    A node of a dense level has all children, one of a CSR level those of its segment. The leaves are the values.
    """
    path = np.zeros((1, 0), np.int64)  # a row for each node of the level, with its place on all levels above
    sizes = np.ones(len(sparsity.traversalOrder), np.int64)
    for order, level in zip(sparsity.traversalOrder, sparsity.dimMetadata, strict=True):
        if level.format == schema.DimensionType.DENSE:
            sizes[order] = level.denseSize
            children = np.tile(np.arange(level.denseSize), len(path))
            path = path.repeat(level.denseSize, 0)
        else:
            children = np.asarray(level.arrayIndices.values)
            path = path.repeat(np.diff(level.arraySegments.values), 0)
        path = np.column_stack([path, children])
    place = path[:, np.argsort(sparsity.traversalOrder)]
    index = place[:, : len(shape)].copy()
    for block, dimension in enumerate(() if sparsity.blockMap is None else sparsity.blockMap, start=len(shape)):
        index[:, dimension] = index[:, dimension] * sizes[block] + place[:, block]
    tensor = np.zeros(shape, values.dtype)
    tensor[tuple(index.T)] = values
    return tensor
