r"""One model's versions: base path -> loaded versions, watched, loaded, retried, retired and remembered.

The states of a version, as ``GetModelStatus`` reports them::

    LOADING -> AVAILABLE -> UNLOADING -> END
       \-> END with the error, once the retries are used up

One thread does all of it in turn: look at the base path, load the versions to serve, and retire the others once one of
these is available. As in TensorFlow Serving, a version that is retried delays every later change, and the start.
Source: tensorflow_serving ``core/aspired_versions_manager.cc``, availability-preserving policy, and recorded statuses
of the real server.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from deploy.model_server.errors import Code, ServingError
from deploy.model_server.models import Model
from deploy.model_server.servable import Servable

_log = logging.getLogger(__name__)


class State(IntEnum):
    """ModelVersionStatus.State."""

    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version; ``code`` and ``message`` say why it failed, if it did."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


@dataclass(frozen=True)
class Timing:
    """Seconds between looks (0: look once), attempts after the first to load a version, seconds between these."""

    poll_wait_s: float = 1.0
    max_load_retries: int = 5
    load_retry_interval_s: float = 60.0


@dataclass
class _Lease:
    """A loaded version and the number of requests inside it; the last one to leave a retired version closes it."""

    servable: Servable
    users: int = 0
    retired: bool = False


class ModelVersions:
    """The versions of one model and the thread that keeps them current. ``load``: loads a version's folder."""

    def __init__(self, model: Model, timing: Timing, load: Callable[[Path], Servable] = Servable.load) -> None:
        self.model = model
        self._load_servable = load
        self.settled = threading.Event()  # set once the first versions found have loaded or failed
        self._timing = timing
        self._lock = threading.Lock()
        self._statuses: dict[int, VersionStatus] = {}
        self._serving: dict[int, _Lease] = {}
        self._failed: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watch-{model.name}", daemon=True)

    def start(self) -> None:
        """Start to watch the base path."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Stop watching and retire every version; abandon a load in progress after ``timeout_s``."""
        self._stop.set()
        self._thread.join(timeout_s)
        with self._lock:
            versions = list(self._serving)
        for version in versions:
            self._retire(version)

    def statuses(self) -> list[VersionStatus]:
        """Return every version ever seen, newest first."""
        with self._lock:
            return [self._statuses[version] for version in sorted(self._statuses, reverse=True)]

    @contextmanager
    def use(self, version: int | None) -> Iterator[tuple[int, Servable]]:
        """Borrow a version, or the latest (None); it stays loaded until the block ends. Raises ServingError."""
        with self._lock:
            number = max(self._serving, default=None) if version is None else version
            lease = self._serving.get(number) if number is not None else None
            if number is None or lease is None:
                wanted = f"Latest({self.model.name})" if version is None else f"Specific({self.model.name}, {version})"
                raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
            lease.users += 1
        try:
            yield number, lease.servable
        finally:
            with self._lock:
                lease.users -= 1
                last = lease.retired and not lease.users
            if last:
                self._close(number, lease)

    def _watch(self) -> None:
        while not self._stop.is_set():
            wanted = self._look()
            if wanted is not None:
                self._apply(wanted)
            if not self._timing.poll_wait_s or self._stop.wait(self._timing.poll_wait_s):
                return

    def _look(self) -> dict[int, Path] | None:
        """Return the versions to serve, or None if the base path cannot be read and nothing should change."""
        base_path = self.model.base_path
        try:
            entries = sorted(base_path.iterdir())
        except OSError as error:
            _log.error("model %s: base path %s cannot be read: %s", self.model.name, base_path, error.strerror)
            return None
        found = {int(entry.name): entry for entry in entries if entry.name.isascii() and entry.name.isdigit()}
        if not found:
            _log.warning("model %s: no numbered version folder in %s", self.model.name, base_path)
        return self.model.policy.choose(found)

    def _apply(self, wanted: dict[int, Path]) -> None:
        self._failed &= wanted.keys()  # a version that vanished may come back and is then tried again
        for version, path in wanted.items():
            if version not in self._serving and version not in self._failed and not self._stop.is_set():
                self._load(version, path)
        if wanted:
            self.settled.set()
        if not wanted or wanted.keys() & self._serving.keys():
            for version in self._serving.keys() - wanted.keys():
                self._retire(version)

    def _load(self, version: int, path: Path) -> None:
        self._note(VersionStatus(version, State.LOADING))
        for retries_left in range(self._timing.max_load_retries, -1, -1):
            try:
                self._check_folder(version, path)
                servable = self._load_servable(path)
            except ServingError as error:
                _log.error("model %s version %d cannot be loaded: %s", self.model.name, version, error)
                if retries_left and self._still_wanted(version):
                    continue
                self._failed.add(version)
                self._note(VersionStatus(version, State.END, error.code, error.message))
                return
            with self._lock:
                self._serving[version] = _Lease(servable)
                self._statuses[version] = VersionStatus(version, State.AVAILABLE)
            _log.info("model %s version %d is available from %s", self.model.name, version, path)
            return

    def _check_folder(self, version: int, path: Path) -> None:
        if path.is_file():
            servable = f"{{name: {self.model.name} version: {version}}}"
            message = (
                f"Error while attempting to reserve resources to load servable {servable}: {path}; Not a directory"
            )
            raise ServingError(Code.FAILED_PRECONDITION, message)

    def _still_wanted(self, version: int) -> bool:
        """Pause between two attempts, then return whether to try again."""
        if self._stop.wait(self._timing.load_retry_interval_s):
            return False
        wanted = self._look()
        return wanted is None or version in wanted

    def _retire(self, version: int) -> None:
        with self._lock:
            lease = self._serving.pop(version, None)
            if lease is None:
                return  # stop() and a watch that outlived it meet here
            lease.retired = True
            self._statuses[version] = VersionStatus(version, State.UNLOADING)
            idle = not lease.users
        if idle:
            self._close(version, lease)

    def _close(self, version: int, lease: _Lease) -> None:
        lease.servable.close()
        with self._lock:
            if version not in self._serving:  # it may have come back while its last request was answered
                self._statuses[version] = VersionStatus(version, State.END)
        _log.info("model %s version %d is unloaded", self.model.name, version)

    def _note(self, status: VersionStatus) -> None:
        with self._lock:
            self._statuses[status.version] = status
