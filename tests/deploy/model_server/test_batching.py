"""Requests that the server joins: what is joined, padded and split, in TensorFlow Serving's words if it cannot be.

The expected messages are those of tensorflow_serving's batching_session.cc and batching_util.cc.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from deploy.model_server.batching import BatchingServable, Parameters, Scheduler, load_batching, merge, split
from deploy.model_server.errors import Code, ServingError, StartError
from deploy.model_server.flags import FlagError, Flags, parse

TOGETHER = Parameters(max_batch_size=4, batch_timeout_micros=10_000_000, num_batch_threads=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a model of rows [n, k]: their sums, how many rows it got, and one sum of all."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "x")])
    def sums(x):
        return {"sum": tf.reduce_sum(x, 1), "rows": tf.fill(tf.shape(x)[:1], tf.shape(x)[0])}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "x")])
    def total(x):
        return {"total": tf.reduce_sum(x, keepdims=True)[0]}

    module.functions = {"serving_default": sums, "total": total}
    path = tmp_path_factory.mktemp("model") / "1"
    tf.saved_model.save(module, str(path), dict(module.functions))
    return path


@pytest.fixture
def serve(folder):
    """Return a function that loads the model with other parameters than TOGETHER."""
    schedulers = []

    def load(parameters=TOGETHER):
        schedulers.append(Scheduler(parameters))
        return load_batching(folder, schedulers[-1])

    yield load
    for scheduler in schedulers:
        scheduler.close()


def ask(servable, rows, signature="serving_default"):
    found = servable.signatures[signature]
    names = sorted(found.outputs)
    values = servable.run(
        {found.inputs["x"].name: np.asarray(rows, np.float32)}, [found.outputs[name].name for name in names]
    )
    return dict(zip(names, values, strict=True))


def ask_all(servable, requests, signature="serving_default"):
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda rows: ask(servable, rows, signature), requests))


def test_a_full_batch_is_run_at_once_and_each_request_gets_its_rows(serve):
    requests = [[[1, 2]], [[3, 4], [5, 6]], [[7, 8]]]
    for rows, found in zip(requests, ask_all(serve(), requests), strict=True):
        assert found["sum"].tolist() == np.sum(rows, axis=1).tolist()
        assert set(found["rows"]) == {4}


def test_a_batch_that_is_not_full_waits_for_its_time(serve):
    soon = Parameters(max_batch_size=4, batch_timeout_micros=20_000, num_batch_threads=1)
    assert ask(serve(soon), [[1, 2]])["rows"].tolist() == [1]


def test_rows_fill_a_batch_up_to_an_allowed_size(serve):
    allowed = Parameters(max_batch_size=4, num_batch_threads=1, allowed_batch_sizes=(2, 4))
    found = ask(serve(allowed), [[1, 2], [3, 4], [5, 6]])
    assert (found["sum"].tolist(), found["rows"].tolist()) == ([3, 7, 11], [4] * 3)


def test_the_padding_is_the_first_value_and_only_where_told(serve):
    padding = Parameters(max_batch_size=2, batch_timeout_micros=10_000_000, pad_variable_length_inputs=True)
    wide, narrow = ask_all(serve(padding), [[[1, 2, 3]], [[4, 5]]])
    assert (wide["sum"].tolist(), narrow["sum"].tolist()) == ([6], [4 + 5 + 4])
    together = Parameters(max_batch_size=2, batch_timeout_micros=10_000_000)
    with pytest.raises(ServingError) as failure:
        ask_all(serve(together), [[[1, 2, 3]], [[4, 5]]])
    assert failure.value.code == Code.FAILED_PRECONDITION
    assert failure.value.message == (
        "Tensors with name 'serving_default_x:0' from different tasks have different shapes and padding is turned off."
        "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
        "have equal dimensions starting with the first dim."
    )


@pytest.mark.parametrize(
    ("rows", "signature", "code", "message"),
    [
        ([[1]] * 5, "serving_default", "INVALID_ARGUMENT", "Task size 5 is larger than maximum input batch size 4"),
        (1, "serving_default", "INVALID_ARGUMENT", "Batching Run() input tensors must have at least one dimension"),
        ([[1]] * 4, "total", "FAILED_PRECONDITION", "Batched output tensor's 0th dimension does not equal the sum of"),
    ],
)
def test_what_cannot_be_joined_is_refused(serve, rows, signature, code, message):
    with pytest.raises(ServingError) as failure:
        ask(serve(), rows, signature)
    assert (failure.value.code, failure.value.message[: len(message)]) == (Code[code], message)


def test_inputs_of_one_request_have_as_many_rows_each(serve):
    servable = serve()
    with pytest.raises(ServingError, match=r"input tensors must have equal 0th-dimension size"):
        BatchingServable.run(servable, {"a": np.zeros(2), "b": np.zeros(3)}, ["c"])
    with pytest.raises(ServingError, match=r"must have at least one input tensor"):
        BatchingServable.run(servable, {}, ["c"])


def test_a_full_queue_refuses(serve):
    """While the one thread waits for the first batch, one more may wait: the third finds no room."""
    slow = Parameters(max_batch_size=1, max_enqueued_batches=1, num_batch_threads=1)
    servable, started, go_on = serve(slow), threading.Event(), threading.Event()
    answer = servable._answer

    def wait(*arguments):
        started.set()
        go_on.wait(10)
        answer(*arguments)

    servable._answer = wait
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, servable, [[1]])]
        assert started.wait(10)
        waiting.append(pool.submit(ask, servable, [[2]]))
        while not any(queue.batches for queue in servable._waiting.values()):
            pass
        with pytest.raises(ServingError, match=r"UNAVAILABLE: .* 1 batches enqueued and max_enqueued_batches is 1"):
            ask(servable, [[3]])
        go_on.set()
        assert [one.result()["sum"].tolist() for one in waiting] == [[1], [2]]


def test_empty_and_scalar_tensors_are_not_padded():
    padding = Parameters(pad_variable_length_inputs=True)
    with pytest.raises(ServingError, match=r"Got empty tensor in batch of non-empty tensors"):
        merge([{"x": np.zeros((1, 0))}, {"x": np.zeros((1, 2))}], padding)
    with pytest.raises(ServingError, match=r"rank from 1 to 6"):
        merge([{"x": np.zeros((1,) * 7)}, {"x": np.zeros((1,) * 6 + (2,))}], padding)
    with pytest.raises(ServingError, match=r"Batched output tensor has 0 dimensions"):
        split([np.zeros(())], [1], padding)


def test_the_parameters_file(tmp_path):
    path = tmp_path / "batching.txt"
    path.write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 5 } max_enqueued_batches { value: 7 }\n"
        'num_batch_threads { value: 3 } thread_pool_name { value: "any" }\n'
        "allowed_batch_sizes: 2 allowed_batch_sizes: 8 pad_variable_length_inputs: true"
    )
    flags = parse(["--model_base_path=m", "--enable_batching", f"--batching_parameters_file={path}"])
    assert Parameters.from_flags(flags) == Parameters(8, 5, 7, 3, (2, 8), True)
    path.write_text("")
    assert Parameters.from_flags(flags) == Parameters()
    assert Parameters.from_flags(Flags(enable_batching=True)) == Parameters(1000, 0, 10)
    assert Parameters.from_flags(Flags()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size: 8", "must be a text BatchingParameters"),
        ("nothing { value: 8 }", "must be a text BatchingParameters"),
        ("allowed_batch_sizes: 4 max_batch_size { value: 8 }", "last entry was 4; expected 8"),
        ("allowed_batch_sizes: 4", "last entry was 4; expected 1000"),
        (None, "must be a text BatchingParameters"),
    ],
)
def test_a_wrong_parameters_file_is_named(tmp_path, text, message):
    path = tmp_path / "batching.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StartError, match=message):
        Parameters.from_file(path)


def test_the_file_alone_is_refused():
    with pytest.raises(FlagError, match="must come with --enable_batching"):
        Flags(batching_parameters_file="batching.txt")
