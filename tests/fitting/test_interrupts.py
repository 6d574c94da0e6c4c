"""Ctrl-C and SIGTERM: what is under way is kept, then whoever would have got the signal gets it."""

import itertools
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import optax
import pytest

import fnn
from fnn.devices.threads import Task
from fnn.fitting import interrupts
from fnn.fitting.interrupts import catch_signals
from fnn.runs import TrainingInterrupted
from tests.helpers.problems import LABELS, LOSS, X, fit, net, same_bits
from tests.helpers.signals import BOTH, ending_of, handler

MORE = {"epochs": 12, "validation": (X[:20], LABELS[:20])}


def handlers():
    return [signal.getsignal(number) for number in BOTH]


@pytest.fixture(autouse=True)
def handlers_and_threads_are_as_before():
    before, threads = handlers(), set(threading.enumerate())
    yield
    assert handlers() == before
    assert set(threading.enumerate()) <= threads


@pytest.fixture
def sent(monkeypatch):
    """A function: from then on this process gets these signals after so many segments of one step."""

    def send(*numbers, after):
        def signalling(*args):
            for i, segment in enumerate(fnn.fitting.segments.segments(*args)):
                if i == after:
                    for number in numbers:
                        os.kill(os.getpid(), number)
                yield segment

        monkeypatch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)
        monkeypatch.setattr("fnn.fitting.host_loop.segments", signalling)

    yield send
    monkeypatch.undo()


# ---- what a signal ends with


@pytest.mark.parametrize("number", BOTH)
def test_the_run_so_far_is_on_the_exception_and_the_next_call_resumes(number, sent, tmp_path, monkeypatch):
    whole = fit(**MORE)
    sent(number, after=14)  # steps, four an epoch
    stop = ending_of(fit, **MORE, checkpoint=tmp_path)
    assert type(stop) is KeyboardInterrupt  # of a class of its own the process would not end by the signal
    assert str(stop) == (
        f"training: expected 12 epochs, got {signal.Signals(number).name} in epoch 3, step 2 (both counted from 0); "
        f"the run so far is kept in {tmp_path}. Call fit again to resume."
    )
    run = stop.run
    assert same_bits(run.history.loss, whole.history.loss[:3])
    assert run.best_epoch == int(np.argmin(run.history.validation_loss))
    assert same_bits(run.params, fit(**MORE | {"epochs": run.best_epoch + 1}).params)
    monkeypatch.undo()
    assert same_bits(fit(**MORE, checkpoint=tmp_path), whole)


def test_without_a_checkpoint_the_message_says_what_to_do(sent):
    sent(signal.SIGINT, after=0)
    stop = ending_of(fit, **MORE)
    assert str(stop).endswith("in epoch 0, step 0 (both counted from 0); the run so far is in no file. Pass checkpoint="
                              "folder to keep runs.")  # fmt: skip
    assert stop.run.history.loss.shape == (0,) and stop.run.best_epoch is None
    assert all(np.isfinite(leaf).all() for leaf in stop.run.params[0].values())


def test_a_checkpoint_that_could_not_be_written_is_not_said_to_be_kept(sent, tmp_path, monkeypatch):
    def full(*args):
        raise OSError("the disk is full.")

    monkeypatch.setattr("fnn.fitting.resume.write_checkpoint", full)
    sent(signal.SIGINT, after=5)
    with pytest.warns(UserWarning, match="the disk is full"):
        stop = ending_of(fit, **MORE, checkpoint=tmp_path)
    assert f"the run so far could not be written to {tmp_path}. Free space, or pass another folder." in str(stop)


def test_a_signal_when_all_is_done_ends_the_program_too(sent, tmp_path):
    whole = fit(**MORE)
    sent(signal.SIGINT, after=48)
    stop = ending_of(fit, **MORE, checkpoint=tmp_path)
    assert str(stop) == (
        f"training: expected 12 epochs, got SIGINT when all was done; the whole run is kept in {tmp_path}. "
        "Call fit again to load the run."
    )
    assert same_bits(stop.run, whole)


def test_a_handler_that_returns_lets_the_program_go_on_with_what_there_is(sent):
    whole, got = fit(**MORE), []
    sent(signal.SIGTERM, after=14)
    with handler(signal.SIGTERM, lambda number, frame: got.append((number, frame))):
        with pytest.warns(TrainingInterrupted, match="got SIGTERM in epoch 3, step 2") as caught:
            run = fit(**MORE)
        sent(signal.SIGTERM, after=48)
        assert same_bits(fit(**MORE), whole)  # no warning: all was done
    assert [number for number, _ in got] == [signal.SIGTERM] * 2 and got[0][1].f_code
    assert caught[0].filename.endswith("problems.py")
    assert same_bits(run.history.loss, whole.history.loss[:3])


def test_a_handler_that_raises_is_obeyed_and_its_exception_has_the_run(sent):
    def leave(number, frame):
        sys.exit(7)

    sent(signal.SIGTERM, after=14)
    with handler(signal.SIGTERM, leave), pytest.raises(SystemExit) as caught:
        fit(**MORE)
    assert caught.value.code == 7 and len(caught.value.run.history.loss) == 3
    assert "got SIGTERM in epoch 3" in caught.value.__notes__[0]


def test_an_error_at_the_same_time_swallows_no_signal(sent, monkeypatch):
    def broken(*args):
        os.kill(os.getpid(), signal.SIGINT)
        raise ZeroDivisionError("at the same time")
        yield

    monkeypatch.setattr("fnn.fitting.host_loop.segments", broken)
    stop = ending_of(fit, **MORE)
    assert isinstance(stop.__context__, ZeroDivisionError) and stop.run is None


SCRIPT = """
import os, signal, sys, numpy as np, optax, fnn, fnn.fitting.segments, fnn.fitting.host_loop
def signalling(*args):
    for i, segment in enumerate(fnn.fitting.segments.segments(*args)):
        if i == 3:
            for name in sys.argv[2:]:
                os.kill(os.getpid(), getattr(signal, name))
        yield segment
fnn.fitting.host_loop.segments = signalling
fnn.fitting.segments.SEGMENT_SECONDS = 1e-9
x = np.ones((8, 2), "float32")
for number in range(3):
    fnn.fit(fnn.serial(fnn.dense(1)), fnn.losses.squared_error, optax.sgd(0.1), (x, x[:, :1]), epochs=9,
            checkpoint=sys.argv[1], progress=False)
    print("has trained")
"""


@pytest.mark.parametrize(
    "names, status",
    [
        pytest.param(["SIGTERM"], -15, marks=pytest.mark.slow),
        pytest.param(["SIGINT"], -2, marks=pytest.mark.slow),
        (["SIGINT", "SIGTERM"], -15),
    ],
)
def test_a_script_ends_by_the_signal_and_says_what_is_kept(names, status, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    last = done.stderr.strip().splitlines()[-1].removeprefix("KeyboardInterrupt: ")
    assert last.startswith("training: expected 9 epochs, got SIG") and last.endswith(
        f"; the run so far is kept in {tmp_path}. Call fit again to resume."
    )
    assert sorted(os.listdir(tmp_path)) == [
        f"checkpoint-{number}.safetensors" for number in range(len(os.listdir(tmp_path)))
    ]


# ---- more than one


def test_a_storm_is_one_signal(sent):
    sent(*[signal.SIGINT] * 50, after=5)
    assert "got SIGINT in epoch 1, step 1" in str(ending_of(fit, **MORE))


def test_a_second_one_interrupts_at_once_if_the_first_had_no_effect_for_long(monkeypatch):
    monkeypatch.setattr(interrupts, "PATIENCE", -1.0)
    with pytest.raises(KeyboardInterrupt), catch_signals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.heard()
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second is raised")


def test_each_kind_is_handed_on_and_sigterm_first():
    got = []
    with (
        handler(signal.SIGINT, lambda number, frame: got.append(number)),
        handler(signal.SIGTERM, lambda number, frame: got.append(number)),
        catch_signals() as signals,
    ):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert got == [] and signals.heard()
    assert got == [signal.SIGTERM, signal.SIGINT]


def test_one_that_comes_while_another_is_handed_on_is_not_lost():
    got = []

    def first(number, frame):
        signal.raise_signal(signal.SIGTERM)
        raise KeyboardInterrupt

    with (
        handler(signal.SIGTERM, lambda number, frame: got.append(number)),
        handler(signal.SIGINT, first),
        pytest.raises(KeyboardInterrupt),
        catch_signals(),
    ):
        signal.raise_signal(signal.SIGINT)
    assert got == [signal.SIGTERM]


def test_blocks_within_blocks_hand_on_to_the_outer_one_without_a_warning(recwarn):
    with pytest.raises(KeyboardInterrupt) as caught, catch_signals() as outer:
        with catch_signals() as inner:
            signal.raise_signal(signal.SIGINT)
            inner.keep("a part", "inner: got {}".format)
        inner.warn()
        outer.keep("the whole", "outer: got {}".format)
    assert (caught.value.run, str(caught.value)) == ("the whole", "outer: got SIGINT") and not recwarn.list


def test_a_block_hears_what_came_to_the_one_around_it():
    """As the fit on all rows of a cross-validation, which has signals held back before it does so itself."""
    with pytest.raises(KeyboardInterrupt), catch_signals() as outer:
        signal.raise_signal(signal.SIGINT)
        with catch_signals() as inner:
            assert inner.heard()
        with pytest.raises(KeyboardInterrupt):
            inner.warn()  # there is nothing to go on with
        assert outer.heard()


class Astray:
    """Something whose end is the moment at which Ctrl-C is pressed: what is raised there is swallowed."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("when", ["before the block", "after it"])
def test_a_ctrl_c_that_python_swallows_is_raised_again(when, monkeypatch):
    def swallow(original):
        def call(*arguments, **more):
            del_me = Astray()
            del del_me
            return original(*arguments, **more)

        return call

    name = "trace_run" if when == "before the block" else "_report_divergence"
    monkeypatch.setattr(f"fnn.fitting.host_loop.{name}", swallow(getattr(fnn.fitting.host_loop, name)))
    began = []

    def none(*arguments):
        began.append(1)
        yield from ()

    monkeypatch.setattr("fnn.fitting.host_loop.segments", none)
    assert ending_of(fit, **MORE) and began == ([] if when == "before the block" else [1])


# ---- where no signal is caught


def test_handlers_are_restored_after_an_error_too():
    before = handlers()
    with pytest.raises(ZeroDivisionError), catch_signals():
        assert handlers() != before
        raise ZeroDivisionError


def test_in_another_thread_nothing_is_caught_and_it_runs():
    before, runs = handlers(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal, "signal", lambda *args: pytest.fail("handlers are of the main thread"))
        thread = threading.Thread(target=lambda: runs.append(fit(epochs=2)))
        thread.start()
        thread.join()
    assert len(runs[0].history.loss) == 2 and handlers() == before


def test_an_ignored_signal_stays_ignored():
    with handler(signal.SIGINT, signal.SIG_IGN), catch_signals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert not signals.heard()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore")  # JAX and Python warn of forks
def test_a_forked_process_gets_its_signals_at_once():
    """As the workers of a data loader do, which are ended by SIGTERM."""
    with catch_signals() as signals:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert not signals.heard()


# ---- where waiting takes long


@pytest.fixture
def stuck(monkeypatch):
    """The compiler waits until the test is over; a signal comes as soon as it does."""
    let_go = threading.Event()

    class Stuck(Task):
        def __init__(self, function, name):
            def work():
                os.kill(os.getpid(), signal.SIGINT)
                let_go.wait()
                return function()

            super().__init__(work, name)

    monkeypatch.setattr("fnn.compilation.programs.Task", Stuck)
    monkeypatch.setattr("fnn.devices.threads.PATIENCE", 0.05)
    before = set(threading.enumerate())
    yield
    let_go.set()
    for thread in set(threading.enumerate()) - before:
        thread.join()


LATER = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("stream", "resumed")]


@pytest.mark.parametrize("kind", ["arrays", *LATER])
def test_a_compiler_that_takes_long_is_not_waited_for(kind, tmp_path, request):
    rows = X[: {"arrays": 91, "stream": 92, "resumed": 93}[kind]]  # a shape of its own: nothing is compiled
    data = (lambda: [(rows, LABELS[: len(rows)])]) if kind == "stream" else (rows, LABELS[: len(rows)])
    more = {"batch_size": 16, "progress": False, "checkpoint": tmp_path}
    run = lambda epochs: fnn.fit(net(), LOSS, optax.sgd(0.1), data, epochs=epochs, **more)  # noqa: E731
    if kind == "resumed":
        run(2)
        fnn.clear_caches()
    request.getfixturevalue("stuck")
    stop = ending_of(run, 5)
    if kind == "resumed":
        assert "in epoch 2, step 0" in str(stop) and len(stop.run.history.loss) == 2
    else:
        assert str(stop) == (
            "training: expected 5 epochs, got SIGINT while it compiled; nothing has been trained. "
            "Call fit again to train."
        )
        assert stop.run is None


def test_a_stream_that_waits_is_given_up_and_its_thread_ends(tmp_path):
    ended = []

    def chunks(epoch):
        try:
            yield X[:64], LABELS[:64]
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)
                while True:
                    threading.Event().wait(0.01)  # rows that never come
        finally:
            ended.append(epoch)

    whole = fit(X[:64], LABELS[:64], epochs=2, shuffle=False, key=1)
    more = {"epochs": 9, "batch_size": 32, "shuffle": False, "key": 1, "progress": False}
    stop = ending_of(fnn.fit, net(), LOSS, optax.sgd(0.1, momentum=0.9), chunks, **more)
    assert len(stop.run.history.loss) == 2 and ended == [0, 1, 2]
    np.testing.assert_allclose(stop.run.history.loss, whole.history.loss, rtol=1e-6)


def test_a_stream_whose_first_rows_are_compared_is_given_up_too(tmp_path, monkeypatch):
    monkeypatch.setattr("fnn.devices.threads.PATIENCE", 0.05)
    waits = itertools.count()

    def chunks(epoch):
        yield X[:64], LABELS[:64]
        if resumes:
            os.kill(os.getpid(), signal.SIGINT)
            while next(waits) >= 0:
                threading.Event().wait(0.01)

    more = {"batch_size": 32, "progress": False, "checkpoint": tmp_path}
    train = lambda epochs: fnn.fit(net(), LOSS, optax.sgd(0.1), chunks, epochs=epochs, **more)  # noqa: E731
    resumes = False
    train(2)
    resumes = True
    stop = ending_of(train, 5)
    assert "in epoch 2, step 0" in str(stop) and next(waits) > 0
