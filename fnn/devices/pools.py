"""Tasks on a pool of workers, of this machine or of many: on what has the interface of `concurrent.futures.Executor`.

A task calls a function with a thing that many tasks share. Things are pickled once, large arrays apart from them, into
a folder from which each worker reads them once. A worker that cannot see the folder is sent them with its task. In the
folder each task also writes how far it has come, and looks whether it is to stop.

What is lost with a worker runs again, a bounded number of times. What the function raises is raised here.
"""

import concurrent.futures
import contextlib
import hashlib
import io
import math
import os
import pickle
import shutil
import tempfile
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from fnn import arguments
from fnn.arguments import trees
from fnn.devices.threads import apply_thread_settings, thread_settings

STEP, LOOK = 0.02, 0.2  # seconds between two looks: at what has ended, at how far the others have come
PATIENCE = 4.0  # seconds that tasks have to end with what there is of them, once the program was asked to stop
LOST = 3  # how often a task may be lost, and how often tasks may be lost one after another without any that ends
LARGE = 2**16  # bytes of an array that is pickled apart from the thing that it is in
KEPT = 8  # things that a worker keeps
PREFIX, STOP, VERSIONS = ".pool-", "stop", "versions"
INSTALL = 'Run: pip install "fnn[workers]", or define its functions in a module.'


def check_executor(executor: Any) -> Any:
    """`executor=` of a study: a pool, or a function without arguments that makes one; or None."""
    if isinstance(executor, type):
        pool = "lambda: ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('spawn'))"
        got = arguments.describe_value(executor)
        raise TypeError(f"executor: expected an executor, or a function that makes one, got {got}. Pass {pool}.")
    if executor is None or callable(getattr(executor, "submit", None)):
        return executor
    hint = "Pass a concurrent.futures.ProcessPoolExecutor, say, or a function that makes one."
    return arguments.function("executor", executor, 0, "an executor, or a function that makes one", hint)


class Pool:
    """The workers of one call.

    Args:
        executor: the pool; or a function that makes one, which is called again where a pool has broken.
        parent: where to make the folder, which workers on other machines can see too; None: in the system's place for
            temporary files.
        tell: called with a sentence where tasks were lost.
    """

    def __init__(self, executor: Any, parent: str | None, tell: Callable[[str], None]) -> None:
        self._make = None if hasattr(executor, "submit") else executor
        self._pool = executor if self._make is None else None
        self._tell, self._settings = tell, {VERSIONS: _versions(), **thread_settings()}
        _remove_stale(parent)
        self.folder = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
        self._futures: dict[int, Any] = {}
        self._lost: dict[int, int] = {}  # task -> how often
        self._to_send: set[int] = set()  # tasks whose worker could not see the folder
        self._barren = 0  # how often tasks were lost since one ended

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
        if self._make is not None and self._pool is not None:
            self._pool.shutdown(wait=not self._futures)
        shutil.rmtree(self.folder, ignore_errors=True)  # by which those that still work know as well

    def results(
        self,
        function: Callable[..., Any],
        things: Sequence[Any],
        tasks: Sequence[tuple[int, Any]],
        show: Callable[[int, int], None],
        must_stop: Callable[[], bool],
    ) -> Iterator[tuple[int, Any]]:
        """The number of each task, and what it returned, in the order in which they end.

        Args:
            function: of a module, called as `function(thing, argument, must_stop, show)` in a worker.
            things: what tasks share.
            tasks: the number of its thing, and its argument.
            show: called with a task's number and what it last showed.
            must_stop: whether to end early: what has not begun then has no result.

        Raises:
            RuntimeError: a task was lost too often, or the pool broke and is none that can be made again.
        """
        packed = [pack(thing, self.folder) for thing in things]
        waiting, until, due = list(range(len(tasks))), math.inf, 0.0
        while waiting or self._futures:
            if until == math.inf and must_stop():
                self._stop()
                waiting, until = [], time.monotonic() + PATIENCE
            if time.monotonic() > until:
                return
            waiting = self._submit(waiting, function, packed, tasks) if waiting else []
            ended, again = self._collect()
            waiting += [] if until < math.inf else again
            yield from ended
            if time.monotonic() >= due:
                self._show(show)
                due = time.monotonic() + LOOK
            if not ended:
                time.sleep(STEP)

    def _submit(self, waiting: list[int], function: Any, packed: list[Any], tasks: Sequence[Any]) -> list[int]:
        """Hand the tasks to the pool; those that it did not take."""
        if self._pool is None:
            made = arguments.call("executor", self._make or (lambda: None), what="a function that makes an executor")
            if not (callable(getattr(made, "submit", None)) and callable(getattr(made, "shutdown", None))):
                got = arguments.describe_thing(made)
                raise TypeError(
                    f"executor: expected a function that makes an executor, got one of {got}. "
                    "Return a concurrent.futures.ProcessPoolExecutor, say."
                )
            self._pool = made
        for at, place in enumerate(waiting):
            thing, argument = tasks[place]
            name, parcels = packed[thing]
            sent = {name: _read(self.folder, name) for name in parcels} if place in self._to_send else {}
            try:
                self._futures[place] = self._pool.submit(
                    run_task, self.folder, name, sent, function, place, argument, self._settings
                )
            except concurrent.futures.BrokenExecutor as error:
                self._renew(error)
                return waiting[at:]
            except RuntimeError as error:  # it has been shut down
                raise RuntimeError(
                    f"executor: expected one that takes tasks, got one that says: {error}. Pass one that is open."
                ) from error
        return []

    def _collect(self) -> tuple[list[tuple[int, Any]], list[int]]:
        """What tasks have returned since the last look; and those that are to run again."""
        ended, again, lost = [], [], {}
        for place in [place for place, future in self._futures.items() if future.done()]:
            future = self._futures.pop(place)
            try:
                kind, value = future.result()
            except BaseException as error:  # not the function's: the worker's, or the pool's
                if not self._is_stopping():
                    lost[place] = error
                continue
            if kind == "error":
                raise value
            if kind == "missing":
                if place in self._to_send:
                    raise RuntimeError("executor: expected workers to get what is sent, got none. Use another pool.")
                self._to_send.add(place)
                again.append(place)
                continue
            self._barren = 0
            ended.append((place, value))
        if lost:
            self._count(lost)
        return ended, again + list(lost)

    def _count(self, lost: dict[int, BaseException]) -> None:
        """Tell of tasks that were lost; raise where that is too often."""
        error = next(iter(lost.values()))
        begun = [place for place in lost if self._remove_mark(place)]
        for place in begun:
            self._lost[place] = self._lost.get(place, 0) + 1
        self._barren += 1
        often = max(self._barren, *(self._lost.get(place, 0) for place in lost))
        got = f"{type(error).__name__} ({error})"
        if often > LOST:
            raise RuntimeError(
                f"executor: expected workers that finish their tasks, got {got} {often} times. "
                "Look into the log of the workers; give them more memory, if that ran out."
            ) from error
        self._tell(
            f"executor: expected workers that stay, got {got}. What they were at runs again; "
            "look into their log if that happens often."
        )
        if isinstance(error, concurrent.futures.BrokenExecutor):
            self._renew(error)

    def _renew(self, error: BaseException) -> None:
        """Let a broken pool go; the next one is made when it is needed."""
        if self._make is None:
            raise RuntimeError(
                f"executor: expected a pool that works, got one that has broken ({error}). "
                "Pass a function that makes the pool: it is called again then."
            ) from error
        if self._pool is not None:
            self._pool.shutdown(wait=False)
        self._pool = None

    def _show(self, show: Callable[[int, int], None]) -> None:
        for place in [int(name) for name in os.listdir(self.folder) if name.isdecimal()]:
            with contextlib.suppress(OSError, ValueError):  # it is being written
                if place in self._futures:
                    show(place, int(_read(self.folder, str(place))))

    def _remove_mark(self, place: int) -> bool:
        """Whether a task had begun, as far as can be seen from here."""
        with contextlib.suppress(OSError):
            os.remove(os.path.join(self.folder, str(place)))
            return True
        return False

    def _stop(self) -> None:
        """Tell the tasks to stop; those that have not begun never do."""
        for place, future in list(self._futures.items()):  # first, or a worker that has stopped begins another
            if future.cancel():
                del self._futures[place]
        with contextlib.suppress(OSError):
            _write(self.folder, STOP, b"")

    def _is_stopping(self) -> bool:
        return os.path.exists(os.path.join(self.folder, STOP))


def _remove_stale(parent: str | None) -> None:
    """Remove what a call that was killed has left, by which its tasks end: whoever calls this holds the lock."""
    for name in [] if parent is None else os.listdir(parent):
        if name.startswith(PREFIX):
            shutil.rmtree(os.path.join(parent or "", name), ignore_errors=True)


def _write(folder: str, name: str, data: bytes) -> None:
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)


def _read(folder: str, name: str) -> bytes:
    with open(os.path.join(folder, name), "rb") as file:
        return file.read()


# ---- what tasks share


def pack(thing: Any, folder: str) -> tuple[str, list[str]]:
    """Pickle a thing into files of a folder, large arrays apart; its name, and those of all files. Names are digests.

    >>> import numpy as np, tempfile
    >>> from fnn.devices.pools import pack, unpack
    >>> folder = tempfile.mkdtemp()
    >>> name, names = pack({"large": np.ones(20_000), "square": lambda x: x * x}, folder)
    >>> thing = unpack(name, {}, folder)
    >>> thing["square"](3), thing["large"].sum(), len(names)
    (9, np.float64(20000.0), 2)
    """
    try:
        from cloudpickle import Pickler
    except ImportError:
        from pickle import Pickler
    names: list[str] = []

    def keep(data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        if not os.path.exists(os.path.join(folder, name)):
            _write(folder, name, data)
        names.append(name)
        return name

    class Packer(Pickler):  # type: ignore[misc]
        def persistent_id(self, part: Any) -> Any:
            plain = isinstance(part, (np.ndarray, jax.Array)) and not trees.is_key(part) and part.dtype != object
            if not plain or part.nbytes < LARGE:
                return None
            return keep(pickle.dumps(np.asarray(part), protocol=5)), isinstance(part, jax.Array)

    file = io.BytesIO()
    try:
        Packer(file, protocol=5).dump(thing)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        hint = INSTALL if Pickler is pickle.Pickler else "Define it from numbers and functions alone."
        raise TypeError(f"executor: expected a study that can be pickled, got {error}. {hint}") from error
    return keep(file.getvalue()), names


class MissingParcel(Exception):
    """A worker has not got what it needs."""


_lock = threading.RLock()  # a worker may have threads
_things = OrderedDict[str, Any]()  # by their digests, those used last at the end
_arrays: Any = weakref.WeakValueDictionary()  # what these hold


def unpack(name: str, sent: dict[str, bytes], folder: str) -> Any:
    """What `pack` has pickled, from what was sent or from the folder; it is kept for the next tasks."""

    def fetch(name: str) -> bytes:
        with contextlib.suppress(OSError):
            data = sent.get(name) or _read(folder, name)
            if hashlib.sha256(data).hexdigest() == name:
                return data
        raise MissingParcel(name)

    class Unpacker(pickle.Unpickler):
        def persistent_load(self, known: tuple[str, bool]) -> Any:
            if known not in _arrays:
                array = pickle.loads(fetch(known[0]))
                _arrays[known] = array = jax.device_put(array) if known[1] else array
            return _arrays[known]

    with _lock:
        if name not in _things:
            _things[name] = Unpacker(io.BytesIO(fetch(name))).load()
        _things.move_to_end(name)
        while len(_things) > KEPT:
            _things.popitem(last=False)
        return _things[name]


# ---- in a worker


def run_task(
    folder: str,
    name: str,
    sent: dict[str, bytes],
    function: Callable[..., Any],
    place: int,
    argument: Any,
    settings: dict[str, Any],
) -> tuple[str, Any]:
    """One task: ("done", what the function returns), ("error", what it raises) or ("missing", None)."""
    seen = os.path.isdir(folder)

    def must_stop() -> bool:
        return seen and (os.path.exists(os.path.join(folder, STOP)) or not os.path.isdir(folder))

    def show(number: int) -> None:
        with contextlib.suppress(OSError):
            _write(folder, str(place), str(number).encode())

    settings = dict(settings)  # a pool of threads hands over the very one
    versions = settings.pop(VERSIONS)
    try:
        if versions != _versions():
            hint = "Install the same in both places."
            raise ValueError(f"executor: expected workers with {versions}, got one with {_versions()}. {hint}")
        with apply_thread_settings(settings):
            thing = unpack(name, sent, folder)
            show(0)
            return "done", function(thing, argument, must_stop, show)
    except MissingParcel:
        return "missing", None
    except Exception as error:
        return "error", _portable(error)


def _versions() -> str:
    return f"fnn {version('fnn')}, jax {jax.__version__}"


def _portable(error: Exception) -> Exception:
    """An error that can be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
