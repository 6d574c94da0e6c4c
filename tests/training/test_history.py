"""The history as a table and as a picture."""

import csv

import numpy as np
import pytest

import fnn
from fnn import plots
from tests.helpers.problems import LABELS, X, fit

HISTORY = fnn.History(
    np.float32([0.1, 1 / 3]), {"a, b": np.float32([1, 2])}, np.float32([np.nan, 2e-9]), {"a, b": np.float32([3, 4])}
)


def test_a_table_with_a_row_an_epoch_and_all_digits(tmp_path):
    path = tmp_path / "history.csv"
    HISTORY.to_csv(path)
    names, *rows = csv.reader(path.read_text().splitlines())
    assert names == ["epoch", "loss", "a, b", "validation_loss", "validation_a, b"]
    assert [row[0] for row in rows] == ["0", "1"]
    expected = np.stack([HISTORY.loss, HISTORY.metrics["a, b"], HISTORY.validation_loss, [3, 4]], 1)
    np.testing.assert_array_equal(np.float32([row[1:] for row in rows]), expected)


def test_float64_keeps_its_digits_and_without_validation_there_are_no_columns_of_it(tmp_path):
    fnn.History(np.array([1 / 3]), {}, None, {}).to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == "epoch,loss\n0,0.3333333333333333\n"


def test_no_epochs_give_the_names_alone(tmp_path):
    fnn.History(np.zeros(0), {}, None, {}).to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == "epoch,loss\n"


def test_columns_of_one_name_raise_and_do_not_overwrite_each_other(tmp_path):
    for metrics, name in (({"loss": HISTORY.loss}, "loss"), ({"epoch": HISTORY.loss}, "epoch"),
                          ({"a": HISTORY.loss, "validation_a": HISTORY.loss}, "validation_a"),
                          ({"validation_loss": HISTORY.loss}, "validation_loss")):  # fmt: skip
        history = fnn.History(HISTORY.loss, metrics, HISTORY.loss, metrics)
        with pytest.raises(ValueError, match=f"metrics: expected names of your own, got '{name}', a column"):
            history.to_csv(tmp_path / "history.csv")
        with pytest.raises(ValueError, match=f"metrics: expected names of your own, got '{name}', a column"):
            fit(metrics=dict.fromkeys(metrics, fnn.accuracy))


def test_curves_of_a_run_mark_the_epoch_that_its_parameters_are_from():
    part = {"validation": (X[:20], LABELS[:20]), "metrics": {"a": fnn.accuracy}, "monitor": "a", "mode": "max"}
    run = fit(X[20:], LABELS[20:], epochs=30, min_delta=0.2, **part)
    history = run.history
    assert run.best_epoch != int(np.argmin(history.validation_loss))
    (ax,) = plots.curves(run).axes
    training, validation, best = ax.get_lines()
    np.testing.assert_array_equal(training.get_ydata(), history.loss)
    np.testing.assert_array_equal(validation.get_ydata(), history.validation_loss)
    assert list(best.get_xdata()) == [run.best_epoch]
    assert best.get_ydata()[0] == pytest.approx(history.validation_loss[run.best_epoch])
