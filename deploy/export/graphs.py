"""A model as a callable graph, read from a Keras builder and weights, or from a SavedModel of TensorFlow 1 or 2."""

import importlib
import inspect
import re
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import keras
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from deploy.export import tensorflow_1
from deploy.export.labels import read_ultralytics
from handler.errors import ContractViolation
from handler.model.contract import CONTRACT_OUTPUT, CONTRACT_QUERY, CONTRACT_SIGNATURE, ModelContract

TAG = "serve"
OF_OLDER_KERAS = re.compile(r"(module|module named|from) '(keras|tensorflow)(\.[\w.]+)?'")  # in Python's own words
NEEDS_GPU = re.compile(r"\bNHWC\b|No OpKernel was registered|No registered '|Could not find device|\bGPU\b")  # on a CPU
FOREIGN = (__file__, "<", *map(sysconfig.get_path, ("stdlib", "purelib")))  # code that is not the builder's own
NOT_INLINED = MappingProxyType({"_noinline": True})  # attributes of a tf.function that TensorFlow leaves as it is
Tensors = Mapping[str, tf.Tensor]


class ExportError(Exception):
    """The source or the target is not what an export needs; the message says what was expected and what came."""


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs by name, with the types and shapes that a signature declares."""

    inputs: Mapping[str, tf.TensorSpec]
    outputs: Mapping[str, tf.TensorSpec]

    def listing(self) -> str:
        """Return inputs and outputs as an error shows them."""
        return f"inputs {_listing(self.inputs)} and outputs {_listing(self.outputs)}"


@dataclass(frozen=True)
class Graph(Signature):
    """A model: named inputs to named outputs.

    ``owned`` has to be saved with a function that calls the graph: variables, or the loaded model. ``labels``: names by
    class id, if it carries them. ``others``: the model's other signatures. ``names``: its own names of
    what a dialect names.
    """

    call: Callable[[Tensors], Tensors]
    owned: tuple[Any, ...]
    description: str
    labels: Mapping[int, str] = field(default_factory=dict)
    others: Mapping[str, Signature] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


def from_builder(builder: str, weights: Path) -> Graph:
    """Build the Keras model of ``package.module:function`` and load its weights file.

    Raises ExportError if there is no such builder or file, if the weights are of another network, or if the builder
    itself fails.
    """
    build = _import_builder(builder)
    if not weights.is_file():
        raise ExportError(f"--weights must be a Keras weights file, got {weights}, which does not exist")
    try:
        model = build()
    except Exception as error:  # its own code may raise anything
        _check_eager(builder)
        raise ExportError(f"--builder must return a Keras model, got from {builder} {_failure(error)}") from error
    _check_eager(builder)
    if not isinstance(model, keras.Model):
        raise ExportError(f"--builder must return a Keras model, got {type(model).__name__} from {builder}")
    try:
        _load_weights(model, weights)
    except (ValueError, OSError, UserWarning) as error:
        raise ExportError(f"--weights must fit the model of {builder}, got {weights}: {reason(error)}") from error
    return from_keras(model, f"{builder} {weights.name}")


def _import_builder(builder: str) -> Callable[[], Any]:
    module_name, _, function_name = builder.partition(":")
    try:
        build: Callable[[], Any] = getattr(importlib.import_module(module_name), function_name)
        inspect.signature(build).bind()
    except Exception as error:  # a module runs its own code
        _check_eager(builder)
        expected = "package.module:function that can be called without arguments"
        raise ExportError(f"--builder must be {expected}, got {builder}: {_failure(error)}") from error
    _check_eager(builder)
    return build


def _check_eager(builder: str) -> None:
    """Raise ExportError if the builder's code has made this process one of TensorFlow 1: Keras 3 cannot work there."""
    if not tf.executing_eagerly():
        cure = "remove its disable_eager_execution() or disable_v2_behavior()"
        raise ExportError(f"--builder must leave eager execution on, got {builder}, which switches it off: {cure}")


def _failure(error: Exception) -> str:
    """Return what went wrong in the builder's code, where, and what to do."""
    text = f"{type(error).__name__}: {reason(error)}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(FOREIGN)]
    if own:
        text += f" ({Path(own[-1].filename).name}, line {own[-1].lineno})"
    if OF_OLDER_KERAS.search(str(error)):
        text += "; it is written for an older Keras: save a SavedModel where it runs, and give that as --saved-model"
    return text


def _load_weights(model: keras.Model, weights: Path) -> None:
    """Load a file of Keras 3 (.weights.h5) or, by the names of layers, of Keras 2 (.h5).

    Raises ValueError, OSError or UserWarning if the file does not fit.
    """
    if weights.suffix not in (".h5", ".hdf5"):
        raise ValueError("it must be a file of weights, .weights.h5 or .h5")
    if weights.name.endswith(".weights.h5"):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of layers that the file has no weights for
            model.load_weights(weights)
        return
    with h5py.File(weights) as file:
        names = file.get("model_weights", file).attrs.get("layer_names", [])
    found = {name.decode() if isinstance(name, bytes) else name for name in names}
    missing = [layer.name for layer in model.layers if layer.weights and layer.name not in found]
    if missing:  # Keras would leave these as they are
        raise ValueError(f"it has no weights for {', '.join(missing[:5])}, {len(missing)} layers in all")
    model.load_weights(weights, by_name=True)


def from_keras(model: keras.Model, description: str) -> Graph:
    """Return a Keras model as a graph; outputs that are not a dict get the names of their layers."""

    def by_name(outputs: Any) -> Tensors:
        return outputs if isinstance(outputs, dict) else dict(zip(model.output_names, _listed(outputs), strict=True))

    def call(tensors: Tensors) -> Tensors:
        given = {tensor.name: tensors[tensor.name] for tensor in model.inputs}
        return by_name(model(given if isinstance(model.input, dict) else list(given.values()), training=False))

    try:
        outputs = by_name(model.output)
    except (AttributeError, ValueError) as error:
        expected = "a functional model (keras.Model(inputs, outputs)), its outputs a dict or a flat list"
        raise ExportError(f"--builder must return {expected}, got {type(model).__name__}: {reason(error)}") from error
    if not isinstance(model.output, dict) and len(outputs) < len(model.output_names):
        got = ", ".join(model.output_names)
        raise ExportError(f"the model's outputs must have names of their own, got {got}: return a dict of outputs")
    for name, tensor in outputs.items():
        if not isinstance(tensor, keras.KerasTensor):
            kind = type(tensor).__name__
            raise ExportError(f"the model's outputs must be tensors by name, got a {kind} for {name!r}")
    # ``owned`` takes TensorFlow's variables, not Keras's around them. Keras's are saved as copies: a server that loads
    # the graph, as TensorFlow Serving does, restores the copies and never the variables that the functions read.
    return Graph(
        inputs={tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in model.inputs},
        outputs={name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in outputs.items()},
        call=call,
        owned=tuple(variable.value for variable in model.variables),
        description=description,
    )


def _listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def from_saved_model(folder: Path, signature: str, check: Callable[[Graph], object] = lambda _: None) -> Graph:
    """Read a SavedModel of TensorFlow 1 or 2. Raises ExportError if it is not one or has no such signature.

    ``check`` gets the graph before it is loaded, which takes long, and raises ExportError to refuse it.
    """
    meta_graph = _meta_graph(folder)
    named = {name: one for name, one in meta_graph.signature_def.items() if not name.startswith("__")}
    if signature not in named:
        raise ExportError(
            f"--signature must be one of the model's, {', '.join(sorted(named)) or 'none'}, got {signature}"
        )
    definition = named.pop(signature)
    declared = Graph(
        *_declared(definition),
        call=_not_loaded,
        owned=(),
        description=f"SavedModel {folder.name if not folder.name.isdigit() else f'{folder.parent.name}/{folder.name}'}",
        others={name: Signature(*_declared(other)) for name, other in named.items()},
    )
    check(declared)
    _check_ops(meta_graph)
    try:
        function, owned = _load(folder, meta_graph, signature)
        labels = _contract_labels(folder, meta_graph)
    except (tf.errors.OpError, OSError, ValueError, KeyError, AssertionError, RuntimeError) as error:
        raise ExportError(f"--saved-model must be one that TensorFlow loads, got {folder}: {reason(error)}") from error
    labels = labels or _ultralytics_labels(folder)
    return replace(declared, call=lambda tensors: function(**tensors), owned=owned, labels=labels)


def _not_loaded(_: Tensors) -> Tensors:
    raise RuntimeError("a graph must be loaded before it is called, got one that its signature alone declares")


def _load(folder: Path, meta_graph: Any, signature: str) -> tuple[Callable[..., Tensors], tuple[Any, ...]]:
    if not meta_graph.HasField("object_graph_def"):
        return tensorflow_1.load(folder, meta_graph, signature)
    loaded = tf.saved_model.load(str(folder))
    return loaded.signatures[signature], (loaded,)


def load_ops(library: Path) -> None:
    """Load a library of TensorFlow ops that are not TensorFlow's own. Raises ExportError if it is none."""
    try:
        tf.load_op_library(str(library.absolute()))
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        raise ExportError(f"--op-library must be a library of ops for this TensorFlow, got {reason(error)}") from error


def nodes(saved_model: Any) -> Iterator[Any]:
    """Yield every node of a SavedModel or of one of its graphs, those of functions, too."""
    for meta_graph in getattr(saved_model, "meta_graphs", [saved_model]):
        yield from meta_graph.graph_def.node
        for function in meta_graph.graph_def.library.function:
            yield from function.node_def


def _check_ops(meta_graph: Any) -> None:
    """Raise ExportError if an op of the graph is not registered in this process."""
    functions = {function.signature.name for function in meta_graph.graph_def.library.function}
    ops = {node.op for node in nodes(meta_graph)} - functions
    if missing := sorted(op for op in ops if op_def_registry.get(op) is None):
        cure = "give the library that has them with --op-library; the server needs it, too"
        raise ExportError(f"the ops of the model must be registered in TensorFlow, got {', '.join(missing)}: {cure}")


def _declared(definition: Any) -> tuple[dict[str, tf.TensorSpec], dict[str, tf.TensorSpec]]:
    """Return the inputs and the outputs of a SignatureDef."""
    inputs = {name: _spec(info, name) for name, info in definition.inputs.items()}
    return inputs, {name: _spec(info, None) for name, info in definition.outputs.items()}


def _meta_graph(folder: Path) -> Any:
    path = folder / "saved_model.pb"
    try:
        content = path.read_bytes()
    except OSError as error:
        expected = "a folder with a saved_model.pb (of one version: base_path/1)"
        raise ExportError(f"--saved-model must be {expected}, got {folder}: {error.strerror}") from error
    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString(content)
    except DecodeError as error:
        raise ExportError(f"--saved-model must be a SavedModel, got {len(content)} other bytes in {path}") from error
    for meta_graph in message.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == {TAG}:
            return meta_graph
    seen = [", ".join(meta_graph.meta_info_def.tags) for meta_graph in message.meta_graphs]
    raise ExportError(f"--saved-model must have a graph tagged {TAG} alone, got {seen or 'none'}")


def _ultralytics_labels(folder: Path) -> Mapping[int, str]:
    """Return the labels of the file that Ultralytics writes beside a model, none without it."""
    try:
        return read_ultralytics(folder / "metadata.yaml")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ExportError(str(error)) from error


def _contract_labels(folder: Path, meta_graph: Any) -> Mapping[int, str]:
    """Return the labels of the model's contract, if it carries one."""
    if CONTRACT_SIGNATURE not in meta_graph.signature_def:
        return {}
    state = tf.saved_model.load(str(folder)).signatures[CONTRACT_SIGNATURE]
    try:
        text = state(**{CONTRACT_QUERY: tf.zeros([1], tf.int8)})[CONTRACT_OUTPUT].numpy()[0]
        return ModelContract.from_json(text).labels
    except (tf.errors.OpError, ContractViolation, KeyError, TypeError) as error:
        raise ExportError(f"the model's {CONTRACT_SIGNATURE} must give its contract, got {reason(error)}") from error


def _spec(info: Any, name: str | None) -> tf.TensorSpec:
    shape = tf.TensorShape(info.tensor_shape) if not info.tensor_shape.unknown_rank else tf.TensorShape(None)
    return tf.TensorSpec(shape, tf.DType(info.dtype), name)


def describe(spec: tf.TensorSpec) -> str:
    """Return type and shape as errors show them, such as float32 [any, 100, 6]."""
    if spec.shape.rank is None:
        return f"{spec.dtype.name} of any rank"
    return f"{spec.dtype.name} [{', '.join('any' if size is None else str(size) for size in spec.shape)}]"


def _listing(specs: Mapping[str, tf.TensorSpec]) -> str:
    return "; ".join(f"{name} {describe(spec)}" for name, spec in sorted(specs.items())) or "none"


def reason(error: Exception) -> str:
    """Return the line of an error that says why; the first line of a failed graph says only that it failed.

    If the graph needs a GPU, the line says so.
    """
    lines = [line for line in str(error).splitlines() if line and not line[0].isspace()]
    if not lines:
        return type(error).__name__
    if not isinstance(error, tf.errors.OpError):
        return lines[0]
    gpu = [line for line in lines if NEEDS_GPU.search(line)]
    return f"{gpu[-1]} (the graph needs a GPU: export on a machine that has one)" if gpu else lines[-1]
