"""Batching as TensorFlow Serving does it: requests of one signature become one run of the graph.

*Strategy*. Each set of inputs and outputs has a queue of batches. A request joins the last batch of its queue if it
fits. A batch is run if it is full, if another one waits behind it, or if its time is over. The threads of all models
are shared. One run gets the inputs of all requests, joined at axis 0, and its outputs are split again. What fails
there fails for every request of the batch.

Sources: tensorflow_serving ``batching/batching_session.cc`` and ``batching_util.cc``, tensorflow
``core/kernels/batching_util/shared_batch_scheduler.h``.
"""

import functools
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from deploy.model_server.errors import Code, ServingError, StartError
from deploy.model_server.flags import Flags
from deploy.model_server.servable import Array, Servable

_MAX_PADDED_RANK = 6
_NUMBERS = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")


@dataclass(frozen=True)
class Parameters:
    """TensorFlow Serving's BatchingParameters, with its defaults."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False

    def __post_init__(self) -> None:
        if self.allowed_batch_sizes and self.allowed_batch_sizes[-1] != self.max_batch_size:
            raise StartError(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{self.allowed_batch_sizes[-1]}; expected {self.max_batch_size}"
            )

    @classmethod
    def from_flags(cls, flags: Flags) -> Self | None:
        """Return the parameters of a command line, None without batching. Raises StartError."""
        if not flags.enable_batching:
            return None
        return cls.from_file(Path(flags.batching_parameters_file)) if flags.batching_parameters_file else cls()

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a text BatchingParameters. Raises StartError."""
        message = _message_type()()
        try:
            text_format.Parse(path.read_text(encoding="utf-8"), message)
        except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
            raise StartError(f"--batching_parameters_file {path} must be a text BatchingParameters: {error}") from error
        numbers = {name: int(getattr(message, name).value) for name in _NUMBERS if message.HasField(name)}
        return cls(
            **numbers,
            allowed_batch_sizes=tuple(message.allowed_batch_sizes),
            pad_variable_length_inputs=message.pad_variable_length_inputs,
        )

    def padding(self, size: int) -> int:
        """Return how many rows bring a batch of ``size`` to the next allowed size."""
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= size), size) - size


@functools.cache
def _message_type() -> Any:
    """Return the type of BatchingParameters, which tensorflow-serving-api does not hold."""
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="batching_parameters.proto", package="deploy.model_server", syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    add = file.message_type.add(name="BatchingParameters").field.add
    wrapped = {"label": field_type.LABEL_OPTIONAL, "type": field_type.TYPE_MESSAGE}
    for number, name in enumerate(_NUMBERS, start=1):
        add(name=name, number=number, type_name=".google.protobuf.Int64Value", **wrapped)
    add(name="thread_pool_name", number=5, type_name=".google.protobuf.StringValue", **wrapped)
    add(name="allowed_batch_sizes", number=6, label=field_type.LABEL_REPEATED, type=field_type.TYPE_INT64)
    add(name="pad_variable_length_inputs", number=7, label=field_type.LABEL_OPTIONAL, type=field_type.TYPE_BOOL)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("deploy.model_server.BatchingParameters"))


@dataclass
class _Task:
    """One request: its inputs by tensor name, all with ``size`` rows, and its outputs to come."""

    feeds: Mapping[str, Array]
    size: int
    answer: Future[list[Array]] = field(default_factory=Future)


@dataclass
class _Batch:
    tasks: list[_Task] = field(default_factory=list)
    opened_s: float = 0.0

    @property
    def size(self) -> int:
        return sum(task.size for task in self.tasks)


@dataclass
class _Queue:
    """The batches of one signature of one model; ``run`` answers the tasks of one."""

    run: Any  # from a list of tasks to None
    batches: list[_Batch] = field(default_factory=list)


class Scheduler:
    """The batches of all models, and the threads that run them until ``close``."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._queues: list[_Queue] = []
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{place}", daemon=True)
            for place in range(parameters.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def add_queue(self, run: Any) -> _Queue:
        """Return a new queue, whose batches ``run`` answers."""
        queue = _Queue(run)
        with self._changed:
            self._queues.append(queue)
        return queue

    def remove_queues(self, queues: Sequence[_Queue]) -> None:
        """Forget queues that get no further requests."""
        with self._changed:
            self._queues = [queue for queue in self._queues if queue not in queues]

    def schedule(self, queue: _Queue, task: _Task) -> None:
        """Put a request into the last batch of its queue, or into a new one. Raises ServingError without room."""
        most, longest = self.parameters.max_batch_size, self.parameters.max_enqueued_batches
        if task.size > most:
            message = f"Task size {task.size} is larger than maximum input batch size {most}"
            raise ServingError(Code.INVALID_ARGUMENT, message)
        with self._changed:
            if not queue.batches or queue.batches[-1].size + task.size > most:
                if len(queue.batches) >= longest:
                    raise ServingError(
                        Code.UNAVAILABLE,
                        "The batch scheduling queue to which this task was submitted is full; currently"
                        f" {len(queue.batches)} batches enqueued and max_enqueued_batches is {longest}",
                    )
                queue.batches.append(_Batch(opened_s=time.monotonic()))
            queue.batches[-1].tasks.append(task)
            self._changed.notify_all()

    def close(self) -> None:
        """End the threads; each first ends the batch that it runs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(1.0)

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            queue, batch = taken
            queue.run(batch.tasks)

    def _take(self) -> tuple[_Queue, _Batch] | None:
        """Wait for a batch that is to be run, and return it, the queues in turn; None once closed."""
        with self._changed:
            while not self._closed:
                waits_s: list[float] = []
                for queue in self._queues:
                    if not queue.batches:
                        continue
                    wait_s = self._wait_s(queue)
                    if wait_s <= 0:
                        self._queues.remove(queue)
                        self._queues.append(queue)
                        return queue, queue.batches.pop(0)
                    waits_s.append(wait_s)
                self._changed.wait(min(waits_s, default=None))
        return None

    def _wait_s(self, queue: _Queue) -> float:
        """Return the seconds until the first batch of a queue is to be run."""
        first = queue.batches[0]
        if len(queue.batches) > 1 or first.size >= self.parameters.max_batch_size:
            return 0.0
        return first.opened_s + self.parameters.batch_timeout_micros / 1e6 - time.monotonic()


class BatchingServable(Servable):
    """A loaded version that runs the requests of each signature in batches."""

    def __init__(
        self,
        session: tf.compat.v1.Session,
        signatures: Mapping[str, meta_graph_pb2.SignatureDef],
        scheduler: Scheduler | None = None,
    ) -> None:
        super().__init__(session, signatures)
        self.scheduler = scheduler
        self._waiting: dict[tuple[frozenset[str], tuple[str, ...]], _Queue] = {}
        self._adding = threading.Lock()

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """Return what the graph answers for this request's rows of a batch. Raises ServingError."""
        if self.scheduler is None:
            return super().run(feeds, fetches)
        task = _Task(feeds, batch_size(feeds))
        names = tuple(sorted(fetches))
        key = frozenset(feeds), names
        with self._adding:
            if key not in self._waiting:
                self._waiting[key] = self.scheduler.add_queue(functools.partial(self._answer, names))
            queue = self._waiting[key]
        self.scheduler.schedule(queue, task)
        found = dict(zip(names, task.answer.result(), strict=True))
        return [found[name] for name in fetches]

    def close(self) -> None:
        """Free the session and its queues. No thread may be in ``run``."""
        if self.scheduler is not None:
            self.scheduler.remove_queues(list(self._waiting.values()))
        super().close()

    def _answer(self, fetches: tuple[str, ...], tasks: list[_Task]) -> None:
        """Run one batch; its requests get their rows, or all the same error."""
        assert self.scheduler is not None  # noqa: S101 - its thread calls this
        try:
            feeds = merge([task.feeds for task in tasks], self.scheduler.parameters)
            outputs = split(super().run(feeds, fetches), [task.size for task in tasks], self.scheduler.parameters)
        except Exception as error:  # noqa: BLE001 - the requests' own threads raise it
            for task in tasks:
                task.answer.set_exception(error)
            return
        for task, rows in zip(tasks, outputs, strict=True):
            task.answer.set_result(rows)


def load_batching(path: Path, scheduler: Scheduler) -> Servable:
    """Load the SavedModel in ``path`` to be run in batches. Raises ServingError."""
    servable = BatchingServable.load(path)
    servable.scheduler = scheduler
    return servable


def batch_size(feeds: Mapping[str, Array]) -> int:
    """Return how many rows the inputs of a request have. Raises ServingError if they have none, or not as many."""
    if not feeds:
        raise ServingError(Code.INVALID_ARGUMENT, "Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in feeds.values()):
        raise ServingError(Code.INVALID_ARGUMENT, "Batching Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in feeds.values()}
    if len(sizes) > 1:
        message = "Batching Run() input tensors must have equal 0th-dimension size"
        raise ServingError(Code.INVALID_ARGUMENT, message)
    return sizes.pop()


def merge(requests: Sequence[Mapping[str, Array]], parameters: Parameters) -> dict[str, Array]:
    """Return the inputs of all requests, joined at axis 0, with rows up to the next allowed size.

    Raises ServingError if their shapes differ and must not be padded.
    """
    rows = parameters.padding(sum(len(next(iter(feeds.values()))) for feeds in requests))
    merged = {}
    for name in requests[0]:
        arrays = [feeds[name] for feeds in requests]
        if parameters.pad_variable_length_inputs:
            highest = np.max([array.shape for array in arrays], axis=0)
            arrays = [pad(array, tuple(highest[1:])) for array in arrays]
        elif len({array.shape[1:] for array in arrays}) > 1:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off."
                "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
                "have equal dimensions starting with the first dim.",
            )
        merged[name] = np.concatenate([*arrays, *[arrays[-1][:1]] * rows])
    return merged


def pad(array: Array, shape: tuple[int, ...]) -> Array:
    """Return an array [n, ...] as [n, *shape], with its first value behind its own. Raises ServingError."""
    if array.shape[1:] == shape:
        return array
    if array.ndim > _MAX_PADDED_RANK:
        raise ServingError(Code.INVALID_ARGUMENT, "Only tensors with rank from 1 to 6 can be padded.")
    if not array.size:
        raise ServingError(Code.INVALID_ARGUMENT, "Got empty tensor in batch of non-empty tensors.")
    after = [(0, 0), *((0, most - own) for most, own in zip(shape, array.shape[1:], strict=True))]
    return np.pad(array, after, constant_values=array.flat[0])


def split(outputs: Sequence[Array], sizes: Sequence[int], parameters: Parameters) -> list[list[Array]]:
    """Return the outputs of each request, of ``sizes`` rows. Raises ServingError if axis 0 is not the batch's."""
    total = sum(sizes)
    for array in outputs:
        if array.ndim == 0:
            raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(array) != total + parameters.padding(total):
            raise ServingError(
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input"
                " tensors",
            )
    ends = np.cumsum(sizes)
    return [[array[end - size : end] for array in outputs] for end, size in zip(ends, sizes, strict=True)]
