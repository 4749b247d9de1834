"""A signature of a TensorFlow 1 SavedModel as a function whose variables and lookup tables TensorFlow 2 can save.

*Strategy.* TensorFlow 2 loads such a model, but cannot save what holds its state: its variables would load without
values. Constants in their places can be saved, but a server then needs six times the memory. So leave out the nodes
that hold state, and put variables and tables of TensorFlow 2 in their places. The rest of the graph stays as it is::

    VariableV2 w -> Identity w/read -> Conv2D        becomes
    tf.Variable -> ReadVariableOp -> Identity w/read -> Conv2D

Large constants become variables, too: exporters of that time often froze the weights into the graph.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm

v1 = tf.compat.v1
REFERENCES, RESOURCES = ("Variable", "VariableV2"), ("VarHandleOp",)
TABLES = ("HashTableV2", "MutableHashTableV2")
LARGE_BYTES = 1 << 16  # a constant of so many bytes is a weight


@dataclass(frozen=True)
class Holder:
    """What holds state in the place of a node: a variable or a table, and the tensor that other nodes take."""

    owned: Any
    tensor: Callable[[], tf.Tensor]


def load(folder: Path, meta_graph: Any, signature: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the signature as a function of its named inputs, and the variables and tables that the function needs.

    Raises ValueError if the graph has lookup tables of another kind, and what TensorFlow raises if it cannot load it.
    """
    definition = meta_graph.signature_def[signature]
    inputs = {name: info.name for name, info in definition.inputs.items()}
    outputs = {name: info.name for name, info in definition.outputs.items()}
    needed = v1.graph_util.extract_sub_graph(meta_graph.graph_def, [_node(name) for name in outputs.values()])
    ends = {_node(name) for name in (*inputs.values(), *outputs.values())}
    holders = _read(folder, meta_graph, [node for node in needed.node if node.name not in ends and _holds_state(node)])
    rest = _cut(needed, holders)
    kept = {node.name for node in rest.node}
    used = sorted(name for name, tensor in inputs.items() if _node(tensor) in kept)
    wrapped = v1.wrap_function(partial(_import, rest, holders), [])
    tensor = wrapped.graph.get_tensor_by_name
    function = wrapped.prune(
        [tensor(inputs[name]) for name in used], {name: tensor(output) for name, output in outputs.items()}
    )
    return lambda **tensors: function(*(tensors[name] for name in used)), tuple(one.owned for one in holders.values())


def _node(tensor: str) -> str:
    """Return the name of the node of a tensor ``node:0`` or of a control input ``^node``."""
    return tensor.removeprefix("^").partition(":")[0]


def _holds_state(node: Any) -> bool:
    if node.op == "Const":
        is_weight = tf.DType(node.attr["dtype"].type).is_floating and not node.input  # an input ties it to a loop
        return bool(is_weight and node.attr["value"].tensor.ByteSize() >= LARGE_BYTES)
    if "HashTable" in node.op and node.op not in TABLES:
        raise ValueError(f"a lookup table must be {' or '.join(TABLES)}, got {node.op} {node.name}")
    return node.op in (*REFERENCES, *RESOURCES, *TABLES)


def _read(folder: Path, meta_graph: Any, nodes: Sequence[Any]) -> dict[str, Holder]:
    """Load the model into a session, and copy variables and tables out of it, one after another."""
    graph, holders = tf.Graph(), {}
    with closing(v1.Session(graph=graph)) as session:
        with graph.as_default():
            tags = list(meta_graph.meta_info_def.tags)
            v1.saved_model.load(session, tags, str(folder), clear_devices=True)  # it may have been saved on a GPU
            contents = [_contents(graph, node) for node in nodes]
        for node, tensors in tqdm(zip(nodes, contents, strict=True), "variables", len(nodes), disable=None):
            holders[node.name] = _holder(node, session.run(tensors))
    return holders


def _contents(graph: tf.Graph, node: Any) -> Any:
    """Return the tensors that hold the state of a node."""
    tensor, attr = graph.get_tensor_by_name(f"{node.name}:0"), node.attr
    if node.op in TABLES:
        types = {"Tkeys": attr["key_dtype"].type, "Tvalues": attr["value_dtype"].type}
        return tuple(tf.raw_ops.LookupTableExportV2(table_handle=tensor, **types))
    return tf.raw_ops.ReadVariableOp(resource=tensor, dtype=attr["dtype"].type) if node.op in RESOURCES else tensor


def _holder(node: Any, state: Any) -> Holder:
    if node.op in TABLES:
        pairs = tf.lookup.KeyValueTensorInitializer(*state, node.attr["key_dtype"].type, node.attr["value_dtype"].type)
        table = tf.lookup.StaticHashTable(pairs, tf.zeros([], pairs.value_dtype))  # each look-up names its own default
        return Holder(table, lambda: table.resource_handle)
    variable = tf.Variable(state, trainable=False)
    return Holder(variable, lambda: variable.handle if node.op in RESOURCES else variable.read_value())


def _cut(graph_def: Any, holders: Mapping[str, Holder]) -> Any:
    """Return the graph without the nodes of the holders, and without what ties others to them or to a device."""
    rest = v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    rest.node.extend(node for node in graph_def.node if node.name not in holders)
    for node in rest.node:
        node.device = ""
        node.attr.pop("_class", None)
        node.op = node.op.removeprefix("Ref")  # RefSwitch and the like take a reference, which a read value is not
        node.input[:] = [name for name in node.input if not (name.startswith("^") and _node(name) in holders)]
    return rest


def _import(graph_def: Any, holders: Mapping[str, Holder]) -> None:
    taken = {_node(name) for node in graph_def.node for name in node.input}
    with tf.name_scope("segment_state"):  # names that the graph has for nodes of its own would make it rename those
        capture = v1.get_default_graph().capture
        tensors = {f"{name}:0": capture(holder.tensor()) for name, holder in holders.items() if name in taken}
    tf.graph_util.import_graph_def(graph_def, tensors, name="")
