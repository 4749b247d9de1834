"""State of TensorFlow 1 models: variables and tables stay what they are, and the export needs nothing of the source."""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from deploy.export.__main__ import main
from tests.deploy.export import savedmodels

v1 = tf.compat.v1
SIDE, ROWS = 256, 5  # the weights [256, 256] take more bytes than a constant that stays one
WEIGHTS = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
FOUND = savedmodels.detections(ROWS, (7, 7), 0)
CODES = dict(zip(range(ROWS), (3, 1, 4, 1, 5), strict=True))  # what the look-up tables know


def reference(session):
    """Return weights in a variable of references, one of which goes through a switch."""
    weights = v1.get_variable("weights", [SIDE, SIDE], use_resource=False)
    weights.load(WEIGHTS, session)
    with tf.control_dependencies([weights]):
        flag = v1.placeholder_with_default(True, [])
    _, switched = tf.raw_ops.RefSwitch(data=weights._ref(), pred=flag)
    return tf.identity(switched)


def resource(session):
    """Return weights in a variable of resources, read in a loop of TensorFlow 1's own kind."""
    weights = v1.get_variable("weights", [SIDE, SIDE], use_resource=True)
    weights.load(WEIGHTS, session)
    v1.disable_control_flow_v2()
    try:
        step = (lambda step, _: step < 2), (lambda step, total: (step + 1, total + weights / 2))
        return v1.while_loop(*step, [0, 0 * weights])[1]
    finally:
        v1.enable_control_flow_v2()


def constant(_):
    return tf.constant(WEIGHTS)


def save(folder, weigh, look_up=None):
    """Save a detection model whose scores are those of FOUND times what its state says; return the folder."""
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        image = v1.placeholder(tf.uint8, [1, None, None, 3], "image")
        boxes, classes, _, masks = (tf.constant(part)[None] for part in FOUND)
        sums = tf.reduce_sum(weigh(session), 1)[:ROWS] + 0 * tf.reduce_sum(tf.cast(image, tf.float32))
        outputs = {
            "detection_boxes": boxes,
            "detection_classes": look_up(folder.parent)[None] if look_up else classes,
            "detection_scores": tf.sigmoid(sums)[None],
            "detection_masks": masks,
        }
        session.run(v1.tables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
        signature = v1.saved_model.signature_def_utils.predict_signature_def({"image": image}, outputs)
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()
    return folder


def export(source, output):
    """Export a source, remove it, and return rows [N, 6] of the export for a grey image."""
    assert main(["--saved-model", str(source), "--max-dim=64", "--output", str(output)]) == 0
    shutil.rmtree(source.parent)
    serve = tf.saved_model.load(str(output / "1")).signatures["serving_default"]
    return serve(input_image=tf.zeros([1, 32, 32, 3], tf.int8))["mrcnn_detection"].numpy()[0]


@pytest.mark.parametrize("weigh", [reference, resource, constant])
def test_weights_are_variables_of_the_export(tmp_path, weigh):
    rows = export(save(tmp_path / "mine" / "1", weigh), tmp_path / "out")
    np.testing.assert_allclose(rows[:, 5], 1 / (1 + np.exp(-WEIGHTS.sum(1)[:ROWS])), rtol=1e-5)
    np.testing.assert_allclose(rows[:, :4], FOUND[0])
    version = tmp_path / "out" / "1"
    assert (version / "saved_model.pb").stat().st_size < WEIGHTS.nbytes
    reader = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    shapes = reader.get_variable_to_shape_map()
    assert [SIDE, SIDE] in shapes.values()


def large(folder):
    """Export more weights than protobuf's 2 GB, which a graph cannot hold; return the scores and the export's bytes."""

    def weigh(session):
        parts = [
            v1.get_variable(f"part_{part}", [14000, 14000], initializer=v1.zeros_initializer()) for part in range(3)
        ]
        session.run(v1.global_variables_initializer())
        return constant(session) + sum(tf.reduce_sum(part) for part in parts)

    rows = export(save(folder / "mine" / "1", weigh), folder / "out")
    return rows[:, 5], sum(path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file())


@pytest.mark.campaign
def test_more_than_2_gb_of_weights(tmp_path):
    """In a process of its own: TensorFlow keeps 8 GB of memory after it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        scores, size_bytes = process.submit(large, tmp_path).result()
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-WEIGHTS.sum(1)[:ROWS])), rtol=1e-5)
    assert size_bytes > 1 << 31


def integers(_):
    """Return classes from a table of numbers that the graph holds."""
    pairs = v1.lookup.KeyValueTensorInitializer(list(CODES), list(CODES.values()), tf.int64, tf.int64)
    return v1.lookup.StaticHashTable(pairs, -1).lookup(tf.range(ROWS, dtype=tf.int64))


def words(folder):
    """Return classes from a file of words, an asset of the model: word number n stands in line n."""
    asset = folder / "words.txt"
    asset.write_text("".join(f"word {line}\n" for line in range(10)))
    pairs = v1.lookup.TextFileInitializer(
        v1.constant(str(asset)),
        tf.string,
        v1.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        v1.lookup.TextFileIndex.LINE_NUMBER,
    )
    table = v1.lookup.StaticHashTable(pairs, -1)
    return table.lookup(tf.constant([f"word {code}" for code in CODES.values()]))


@pytest.mark.parametrize("look_up", [integers, words])
def test_lookup_tables_keep_their_contents(tmp_path, look_up):
    (tmp_path / "mine").mkdir()
    rows = export(save(tmp_path / "mine" / "1", constant, look_up), tmp_path / "out")
    assert rows[:, 4].tolist() == list(CODES.values())


def test_a_table_of_another_kind_is_named(tmp_path, capsys):
    def look_up(_):
        table = v1.lookup.experimental.DenseHashTable(tf.int64, tf.int64, -1, -2, -3)
        return table.lookup(tf.range(ROWS, dtype=tf.int64))

    save(tmp_path / "1", constant, look_up)
    assert main(["--saved-model", str(tmp_path / "1"), "--output", str(tmp_path / "out")]) == 1
    assert (
        "a lookup table must be HashTableV2 or MutableHashTableV2, got MutableDenseHashTableV2"
        in capsys.readouterr().err
    )


def test_a_model_saved_on_a_gpu_is_read_without_one(tmp_path):
    source = save(tmp_path / "mine" / "1", resource)
    path = source / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for node in saved.meta_graphs[0].graph_def.node:
        node.device = "/device:GPU:3"
    path.write_bytes(saved.SerializeToString())
    rows = export(source, tmp_path / "out")
    np.testing.assert_allclose(rows[:, 5], 1 / (1 + np.exp(-WEIGHTS.sum(1)[:ROWS])), rtol=1e-5)
