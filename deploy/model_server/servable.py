"""One SavedModel version, loaded as TensorFlow Serving loads it: the ``serve`` graph in a session of its own."""

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2

from deploy.model_server.errors import Code, ServingError

_SAVED_MODEL = "saved_model.pb"
_TAG = "serve"

Array = npt.NDArray[Any]


class Servable:
    """A loaded version: its signatures, and a session that any number of threads may run."""

    def __init__(self, session: tf.compat.v1.Session, signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> None:
        self.signatures = signatures
        self._session = session
        self._runners: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load variables, tables and the init op of the SavedModel in ``path``. Raises ServingError."""
        _check(path)
        session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(session, [_TAG], os.fspath(path))
        except tf.errors.OpError as error:
            session.close()
            raise ServingError(Code(error.error_code), str(error.message)) from error
        except Exception as error:
            # Python's loader, unlike the C++ one, raises any kind of exception for a bad graph. None may end the watch
            # for better versions.
            session.close()
            raise ServingError(Code.UNKNOWN, f"{type(error).__name__}: {error}") from error
        return cls(session, dict(meta_graph.signature_def))

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """Return the tensors named ``fetches`` for those in ``feeds``. Raises ServingError.

        Other threads may run Python while the kernels run.
        """
        runner = self._runner(tuple(sorted(feeds)), tuple(fetches))
        try:
            values = runner(*(feeds[name] for name in sorted(feeds)))
        except tf.errors.OpError as error:
            raise ServingError(Code(error.error_code), str(error.message)) from error
        return [np.asarray(value, None if isinstance(value, np.ndarray | np.generic) else object) for value in values]

    def close(self) -> None:
        """Free the session. No thread may be in ``run``."""
        self._runners.clear()
        self._session.close()

    def _runner(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Any:
        with self._lock:
            runner = self._runners.get((feeds, fetches))
            if runner is None:
                for name in fetches:
                    self._check_fetch(name)
                # Session.run checks shapes, casts dtypes and rewrites messages; TensorFlow Serving does none of it.
                # This callable hands arrays to the C++ session as they are.
                options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
                runner = self._session._make_callable_from_options(options)
                self._runners[feeds, fetches] = runner
            return runner

    def _check_fetch(self, name: str) -> None:
        node, _, index = name.partition(":")
        try:
            operation = self._session.graph.get_operation_by_name(node)
        except KeyError as error:
            raise ServingError(Code.NOT_FOUND, f"FetchOutputs node {name}: not found") from error
        if int(index or 0) >= len(operation.outputs):
            raise ServingError(
                Code.OUT_OF_RANGE,
                f"Node '{node}' (type: '{operation.type}', num of outputs: {len(operation.outputs)})"
                f" does not have output {index or 0}",
            )


def _check(path: Path) -> None:
    """Raise ServingError with the code and words of the C++ loader if Python's has others."""
    try:
        serialised = (path / _SAVED_MODEL).read_bytes()
    except FileNotFoundError as error:
        if (path / "saved_model.pbtxt").exists():
            return
        raise ServingError(
            Code.NOT_FOUND,
            "Specified file path does not appear to contain a SavedModel bundle (should have a file called"
            f" `{_SAVED_MODEL}`)\nSpecified file path: {path}",
        ) from error
    except OSError as error:
        raise ServingError(Code.PERMISSION_DENIED, f"{path / _SAVED_MODEL}; {error.strerror}") from error
    saved_model = saved_model_pb2.SavedModel()
    try:
        saved_model.ParseFromString(serialised)
    except DecodeError as error:
        raise ServingError(Code.OUT_OF_RANGE, "Read less bytes than requested") from error
    if not any(set(graph.meta_info_def.tags) == {_TAG} for graph in saved_model.meta_graphs):
        raise ServingError(
            Code.NOT_FOUND,
            f"Could not find meta graph def matching supplied tags: {{ {_TAG} }}. To inspect available tag-sets in the"
            " SavedModel, please use the SavedModel CLI: `saved_model_cli`",
        )
