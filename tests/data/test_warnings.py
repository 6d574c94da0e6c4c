"""Every warning of fnn points at the user's own line, from wherever it is raised."""

import ast
import queue
import shutil
import signal
import threading
import warnings
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import fnn
from fnn.data import checks
from fnn.losses import sparse_cross_entropy, sparse_softmax_cross_entropy, squared_error
from tests.helpers.signals import handler

X = np.linspace(-1, 1, 12, dtype="float32")[:, None]
WIDE = X.astype("float64")
LABELS = (X[:, 0] > 0).astype("int32")
NET = fnn.serial(fnn.dense(1))
ENDS_IN_SOFTMAX = fnn.serial(fnn.dense(2), fnn.softmax)
SGD = optax.sgd(0.1)
SIZES = {"epochs": 2, "batch_size": 4, "progress": False}
LONG = {"epochs": 20, "batch_size": 4, "progress": False}
TWO = {"devices": jax.devices("cpu")[:1] * 2, "width": 1, "progress": False}
HERE = {**LONG, "devices": jax.devices("cpu")[:1], "width": 1}  # no thread, so that a signal is heard at once


def chunks(epoch):
    """A stream whose rows lose digits, seen by the thread that reads ahead."""
    yield WIDE[:6], X[:6]
    yield WIDE[6:], X[6:]


def shuffled():
    """A stream that gives other rows each epoch."""
    at = np.random.default_rng().permutation(12)
    yield X[at], X[at]


def no_space(*arguments):
    raise OSError(28, "expected to write the file, got 'No space left on device'.")


@pytest.fixture(scope="module")
def run():
    return fnn.fit(NET, squared_error, SGD, (X, X), **SIZES)


@pytest.fixture(scope="module")
def first_folder(tmp_path_factory):
    """A folder with two checkpoints of each kind, the newer one of `damaged` cut short."""
    at = tmp_path_factory.mktemp("checkpoints")
    for epochs in (2, 3):
        fnn.fit(NET, squared_error, SGD, (X, X), epochs=epochs, progress=False, checkpoint=at / "damaged")
    newest = at / "damaged/checkpoint-1.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    fnn.fit(NET, squared_error, SGD, shuffled, **SIZES, checkpoint=at / "shuffled")
    return at


@pytest.fixture
def folder(first_folder, tmp_path):
    """A copy of it, for runs that go on in it."""
    return shutil.copytree(first_folder, tmp_path, dirs_exist_ok=True)


# each call on the line of its lambda
CALLS = {
    "fit, data": lambda *_: fnn.fit(NET, squared_error, SGD, (WIDE, X), **SIZES),
    "fit, params": lambda *_: fnn.fit(NET, squared_error, SGD, (X, X), params=wide_params(), **SIZES),
    "fit, stream": lambda *_: fnn.fit(NET, squared_error, SGD, chunks, **SIZES),
    "fit, outputs": lambda *_: fnn.fit(ENDS_IN_SOFTMAX, sparse_softmax_cross_entropy, SGD, (X, LABELS), **SIZES),
    "fit, diverged": lambda *_: fnn.fit(NET, squared_error, optax.sgd(1e30), (X, X), **LONG),
    "fit, damaged": lambda run, at: fnn.fit(NET, squared_error, SGD, (X, X), epochs=3, checkpoint=at / "damaged"),
    "fit, shuffled": lambda run, at: fnn.fit(NET, squared_error, SGD, shuffled, **LONG, checkpoint=at / "shuffled"),
    "predict, array": lambda run, at: fnn.predict(NET, run, WIDE),
    "predictor": lambda run, at: fnn.predictor(NET, run)(WIDE),
    "predict, chunks": lambda run, at: fnn.predict(NET, run, iter([WIDE[:6], WIDE[6:]])),
    "predict, run": lambda run, at: fnn.predict(NET, run._replace(params=wide_params()), X),
    "evaluate, array": lambda run, at: fnn.evaluate(NET, run, (WIDE, X), {"loss": squared_error}),
    "evaluate, chunks": lambda run, at: fnn.evaluate(NET, run, iter([(WIDE, X)]), {"loss": squared_error}),
    "sweep, data": lambda *_: fnn.sweep(NET, squared_error, sgd, (WIDE, X), over={"lr": [0.1, 0.2]}, **SIZES),
    "sweep, outputs": lambda *_: fnn.sweep(fnn.serial(fnn.dense(2)), sparse_cross_entropy, sgd, (X, LABELS), **OVER),
    "folds, data": lambda *_: fnn.cross_validate(NET, squared_error, SGD, (WIDE, X), folds=3, **SIZES),
    "ensemble, data": lambda *_: fnn.ensemble(NET, squared_error, SGD, (WIDE, X), members=2, **SIZES),
}
OVER = {"over": {"lr": [0.1, 0.2]}, **SIZES}


def sgd(settings):
    return optax.sgd(settings["lr"])


def wide_params():
    return ({"w": np.ones((1, 1)), "b": np.zeros(1)},)


def check_line(caught, call):
    """All of them at the line of the call."""
    places = {(w.filename, w.lineno) for w in caught}
    assert places == {(__file__, call.__code__.co_firstlineno)}, [str(w.message) for w in caught]


@pytest.mark.parametrize("name", CALLS)
def test_a_warning_points_at_the_line_of_the_user(name, run, folder):
    with pytest.warns(Warning) as caught:
        CALLS[name](run, folder)
    check_line(caught, CALLS[name])


def test_so_does_one_of_a_write_that_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("fnn.fitting.resume.write_checkpoint", no_space)
    calls = [
        lambda: fnn.fit(NET, squared_error, SGD, (X, X), **SIZES, checkpoint=tmp_path / "run"),
        lambda: fnn.sweep(NET, squared_error, sgd, (X, X), **OVER, width=1, checkpoint=tmp_path / "one"),
        # in a thread for each device
        lambda: fnn.sweep(NET, squared_error, sgd, (X, X), **OVER | TWO, checkpoint=tmp_path / "two"),
    ]
    for call in calls:
        with pytest.warns(UserWarning, match="No space left") as caught:
            call()
        check_line(caught, call)


def test_so_does_one_of_another_version(tmp_path, monkeypatch):
    call = lambda: fnn.fit(NET, squared_error, SGD, (X, X), **SIZES, checkpoint=tmp_path)  # noqa: E731
    call()
    monkeypatch.setattr("fnn.fitting.resume.versions", lambda: {"jax": "0.0.1"})
    with pytest.warns(UserWarning, match=r"got jax 0\.0\.1") as caught:
        call()
    check_line(caught, call)


def test_so_does_one_of_an_interrupt(monkeypatch):
    sent = []

    def signalling(*arguments):
        for number, segment in enumerate(fnn.fitting.segments.segments(*arguments)):
            if number == 10 and not sent:
                sent.append(signal.raise_signal(signal.SIGINT))
            yield segment

    monkeypatch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)
    monkeypatch.setattr("fnn.fitting.host_loop.segments", signalling)
    monkeypatch.setattr("fnn.studies.jobs.segments", signalling)
    calls = [
        lambda: fnn.fit(NET, squared_error, SGD, (X, X), **LONG),
        lambda: fnn.sweep(NET, squared_error, sgd, (X, X), **OVER | HERE),
        lambda: fnn.cross_validate(NET, squared_error, SGD, (X, X), folds=3, **HERE),
        lambda: fnn.ensemble(NET, squared_error, SGD, (X, X), members=2, **HERE),
    ]
    for call in calls:
        sent.clear()
        with handler(signal.SIGINT, lambda *of: None), pytest.warns(fnn.TrainingInterrupted) as caught:
            call()
        check_line(caught, call)


def test_what_a_stream_of_the_user_calls_points_at_the_stream(run):
    """In the thread that reads ahead there is a line of the user's between."""

    def predicted(epoch):
        yield X, fnn.predict(NET, run, WIDE)

    with pytest.warns(UserWarning, match="x: float64 data are cut") as caught:
        fnn.fit(NET, squared_error, SGD, predicted, **SIZES)
    assert {(w.filename, w.lineno) for w in caught} == {(__file__, predicted.__code__.co_firstlineno + 1)}


def test_so_does_one_in_a_thread_of_the_user():
    lines = queue.SimpleQueue()

    def work():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            checks.LostDigits(["x"]).warn(np.float32)
            lines.put([(w.filename, w.lineno) for w in caught])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert lines.get() == [(__file__, work.__code__.co_firstlineno + 3)]


def test_of_float64_data_a_process_is_warned_once(run):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fnn.predict(NET, run, WIDE)
        fnn.evaluate(NET, run, (WIDE, WIDE), {"loss": fnn.losses.squared_error})
    assert len(caught) == 1
    with warnings.catch_warnings():
        checks.said_in_process.clear()
        warnings.simplefilter("error")
        for _ in range(2):  # an exception has not told of anything yet
            with pytest.raises(UserWarning, match="float64 data are cut"):
                fnn.predict(NET, run, WIDE)


def test_a_line_that_has_warned_is_quiet_as_python_has_it(run):
    def both():
        checks.said_in_process.clear()
        fnn.predict(NET, run, WIDE)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            both()
        checks.said_in_process.clear()
        fnn.predict(NET, run, WIDE)
    assert len(caught) == 2


def warns_itself(text):
    """Whether a module calls `warnings.warn`, or names a stack level."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            counted = any(keyword.arg == "stacklevel" for keyword in node.keywords)
            if counted or ast.unparse(node.func) in ("warnings.warn", "warnings.warn_explicit"):
                return True
    return False


def test_nobody_counts_frames():
    assert warns_itself("warnings.warn('here', stacklevel=2)") and not warns_itself("warn('here')")
    package = Path(fnn.__file__).parent
    found = {str(p.relative_to(package)) for p in package.rglob("*.py") if warns_itself(p.read_text())}
    assert found == {"data/warnings.py"}
