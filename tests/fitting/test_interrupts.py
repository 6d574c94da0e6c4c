"""Ctrl-C and SIGTERM: the segment is finished, what there is comes back, and the next call goes on."""

import os
import signal
import threading

import numpy as np
import pytest

import fnn
from fnn.fitting.interrupts import catch_signals
from fnn.runs import TrainingInterrupted
from tests.helpers.problems import LABELS, X, fit, same_bits

MORE = {"epochs": 12, "validation": (X[:20], LABELS[:20])}
BOTH = (signal.SIGINT, signal.SIGTERM)


def handlers():
    return [signal.getsignal(number) for number in BOTH]


@pytest.fixture(autouse=True)
def handlers_are_as_before():
    before = handlers()
    yield
    assert handlers() == before


@pytest.fixture
def sent(monkeypatch):
    """A function: from then on this process gets this signal after so many segments of one step."""

    def send(number, after):
        def signalling(*args):
            for i, segment in enumerate(fnn.fitting.segments.segments(*args)):
                if i == after:
                    os.kill(os.getpid(), number)
                yield segment

        monkeypatch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)
        monkeypatch.setattr("fnn.fitting.host_loop.segments", signalling)

    yield send
    monkeypatch.undo()


@pytest.mark.parametrize("number", BOTH)
def test_what_there_is_comes_back_with_a_warning_and_the_next_call_goes_on(number, sent, tmp_path, monkeypatch):
    whole = fit(**MORE)
    sent(number, after=14)  # steps, four an epoch
    with pytest.warns(TrainingInterrupted) as caught:
        run = fit(**MORE, checkpoint=tmp_path)
    assert str(caught[0].message) == (
        f"training: expected 12 epochs, got {signal.Signals(number).name} in epoch 3, step 2 (both counted from 0); "
        f"what there is comes back, and is kept in {tmp_path}. Call fit again to go on from there."
    )
    assert caught[0].filename.endswith("problems.py")
    assert same_bits(run.history.loss, whole.history.loss[:3])
    assert run.best_epoch == int(np.argmin(run.history.validation_loss))
    assert same_bits(run.params, fit(**MORE | {"epochs": run.best_epoch + 1}).params)
    monkeypatch.undo()
    assert same_bits(fit(**MORE, checkpoint=tmp_path), whole)


def test_without_a_checkpoint_the_warning_says_what_to_do(sent):
    sent(signal.SIGINT, after=0)  # while it compiled
    with pytest.warns(TrainingInterrupted, match="in epoch 0, step 0 .*comes back. Pass checkpoint=folder to be ab"):
        run = fit(**MORE)
    assert run.history.loss.shape == (0,) and run.best_epoch is None
    assert all(np.isfinite(leaf).all() for leaf in run.params[0].values())


def test_a_signal_when_all_is_done_is_no_interruption(sent):
    sent(signal.SIGINT, after=48)
    assert len(fit(**MORE).history.loss) == 12


def test_a_second_one_interrupts_at_once(sent, tmp_path):
    def twice(*args):
        for i, segment in enumerate(fnn.fitting.segments.segments(*args)):
            if i == 5:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            yield segment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fnn.fitting.host_loop.segments", twice)
        patch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)
        with pytest.raises(KeyboardInterrupt):
            fit(**MORE)


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
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with catch_signals() as names:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
        assert names == ["SIGTERM"]
    finally:
        signal.signal(signal.SIGINT, before)
