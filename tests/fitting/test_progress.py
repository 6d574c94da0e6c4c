"""The progress bar: what it shows, and where it stays silent."""

import io
import logging
import sys

import numpy as np
import optax
import pytest

import fnn
from fnn.fitting.progress import progress_bar, study_progress_bar
from fnn.fitting.segments import Segment, segment_seconds


def segment(losses, validation=None, rows_per_second=1234.5):
    history = fnn.History(np.float32(losses), {}, None if validation is None else np.float32(validation), {})
    return Segment(None, history, rows_per_second)


def test_it_shows_epochs_losses_and_rows_per_second(capsys, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar(True, 10, 4) as show:
        show(segment([0.5, 0.25], [1.5, 1.25]))
        show(segment([], []))  # a part of an epoch: the last losses stay
    last = capsys.readouterr().err.rstrip().split("\r")[-1]
    assert "6/10" in last and "rows/s=1.23e+03, loss=0.25, validation=1.25" in last


@pytest.mark.parametrize("wanted, tty, installed", [(False, True, True), (True, False, True), (True, True, False)])
def test_it_is_silent_where_nobody_wants_or_sees_it(wanted, tty, installed, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: tty)
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    with progress_bar(wanted, 10, 0) as show:
        show(segment([0.5]))
    assert capsys.readouterr().err == ""


class Log:
    """What some services put in the place of stderr."""

    write = flush = lambda *of: None


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stderr", [None, Log(), closed()], ids=["none", "a log", "closed"])
def test_it_is_silent_where_stderr_is_no_file(stderr, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress_bar(True, 10, 0) as show, study_progress_bar(True, "study", 3, 10) as show_study:
        show(segment([0.5]))
        show_study(1, 10, True)


def test_segments_are_no_longer_than_checkpoints_are_apart():
    assert [segment_seconds(between) for between in (None, 10.0, 0.2, 0.0)] == [0.5, 0.5, 0.2, 0.05]


# ---- lines in a log


def test_a_log_gets_a_line_when_it_is_time_and_one_at_the_end(caplog, monkeypatch):
    with caplog.at_level(logging.INFO, "fnn"), progress_bar("log", 10, 4) as show:
        show(segment([0.5, 0.25], [1.5, 1.25]))
        assert caplog.messages == []
        monkeypatch.setattr("fnn.fitting.progress.LOG_SECONDS", -1.0)
    assert caplog.messages == ["fit: epochs 6 of 10, rows/s 1.23e+03, loss 0.25, validation 1.25"]
    with caplog.at_level(logging.INFO, "fnn"), study_progress_bar("log", "sweep", 3, 10) as show_study:
        show_study(1, 10, True)
    assert caplog.messages[1:] == 2 * ["sweep: epochs 10 of 30, finished 1/3"]


# ---- a function of the caller's

X = np.linspace(-1, 1, 64, dtype="float32")[:, None]


def fit(**more):
    parts = fnn.serial(fnn.dense(3), fnn.tanh, fnn.dense(1)), fnn.losses.squared_error, optax.sgd(0.1), (X, X**2)
    return fnn.fit(*parts, **{"epochs": 40, "batch_size": 16, "validation": 0.25, "progress": False, **more})


@pytest.fixture
def short_segments(monkeypatch):
    monkeypatch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)  # one step each


def test_it_is_called_with_every_epoch_of_the_history(short_segments):
    seen = []
    run = fit(on_segment=seen.append)
    assert [part.first_epoch for part in seen if len(part.history.loss)] == list(range(40))
    for name, values in run.history.figures().items():
        np.testing.assert_array_equal(np.concatenate([part.history.figures()[name] for part in seen]), values)
    assert seen[-1].best_epoch == run.best_epoch and seen[-1].epochs == 40
    assert all(part.rows_per_second > 0 for part in seen)


def test_true_ends_the_run_and_the_same_call_goes_on_to_the_same_bits(short_segments, tmp_path):
    folder = {"checkpoint": tmp_path / "run", "checkpoint_seconds": 0}
    part = fit(on_segment=lambda progress: progress.first_epoch + len(progress.history.loss) == 8, **folder)
    assert len(part.history.loss) == 8
    whole, again = fit(compile_effort="high"), fit(**folder)
    np.testing.assert_array_equal(again.history.loss, whole.history.loss)
    np.testing.assert_array_equal(again.params[0]["w"], whole.params[0]["w"])


def test_an_error_in_it_goes_on_and_what_was_done_is_kept(short_segments, tmp_path):
    def fail(progress):
        if progress.first_epoch == 5:
            raise RuntimeError("the disk of the log is full")

    with pytest.raises(RuntimeError, match="the disk of the log"):
        fit(on_segment=fail, checkpoint=tmp_path)
    seen = []
    fit(on_segment=seen.append, checkpoint=tmp_path)
    assert seen[0].first_epoch in (5, 6)


@pytest.mark.parametrize("returned", ["no", 1, np.zeros(2)], ids=str)
def test_what_is_neither_true_nor_false_is_refused(returned):
    with pytest.raises(TypeError, match="on_segment: expected it to return True, False or None, got"):
        fit(on_segment=lambda progress: returned)


@pytest.mark.parametrize("wrong", [3, "print", fnn.Run, lambda: None], ids=["number", "name", "class", "no argument"])
def test_what_is_no_function_is_refused_before_anything_compiles(wrong, compiled):
    with pytest.raises(TypeError, match="on_segment: expected a function of one argument, got"):
        fit(on_segment=wrong)
    with pytest.raises(TypeError, match="progress: expected True or False, got 'logs'"):
        fit(progress="logs")
    assert not any("run" in name for name in compiled)
