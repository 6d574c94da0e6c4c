"""Every metric equals scikit-learn's, with weights, whatever the batches, wherever it is used."""

import jax
import optax
import pytest

import fnn
from tests.helpers import scored

pytest.importorskip("sklearn")
KINDS = list(scored.MAKERS)
SHORT = [k if k == "numbers" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]


def assert_close(found, true, tolerance, where):
    wrong = {
        name: (found[name], expected)
        for name, expected in true.items()
        if not abs(found[name] - expected) <= tolerance * max(1.0, abs(expected))
    }
    assert wrong == {}, where


def call_all(kind, weight):
    """The figure of each metric, called."""
    names = list(kind.metrics)
    figures = jax.jit(lambda y, t, w: [kind.metrics[name](y, t, w) for name in names])
    return dict(zip(names, map(float, figures(kind.outputs, kind.targets, weight)), strict=True))


def histories(kind, weight, size):
    """The figures of a run that changes nothing, on the rows trained on and on those held out."""
    net, run = scored.passing(kind)
    rows = (kind.outputs, kind.targets)
    held = rows if weight is None else (*rows, weight)
    run = fnn.fit(net, kind.loss, optax.sgd(0.0), rows, epochs=1, batch_size=size, weights=weight, validation=held,
                  metrics=kind.metrics, params=run.params, progress=False)  # fmt: skip
    for columns in (run.history.metrics, run.history.validation_metrics):
        yield {name: float(values[0]) for name, values in columns.items()}


@pytest.mark.parametrize("name", SHORT)
def test_called_and_evaluated_they_equal_scikit_learns(name):
    kind = scored.kinds("float32")[name]
    net, run = scored.passing(kind)
    for weight in (None, scored.weights()):
        true = scored.true_figures(kind, weight)
        called = call_all(kind, weight)
        assert_close(called, true, 1e-6, (name, "called"))
        rows = (kind.outputs, kind.targets) if weight is None else (kind.outputs, kind.targets, weight)
        for size in (7, scored.ROWS):
            found = fnn.evaluate(net, run, rows, kind.metrics, size)
            assert set(found) == set(kind.metrics)
            assert_close(found, true, 1e-6, (name, "evaluated", size))
    assert_close(fnn.evaluate(net, run, rows, kind.metrics, 1), true, 1e-6, (name, "evaluated", 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one column"])
def test_columns_of_a_history_equal_scikit_learns(name):
    kind, weight = scored.kinds("float32")[name], scored.weights()
    for figures in histories(kind, weight, 7):
        assert_close(figures, scored.true_figures(kind, weight), 1e-6, name)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 7, None])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KINDS)
def test_everywhere_they_equal_scikit_learns(name, dtype, size, monkeypatch):
    monkeypatch.setattr("fnn.training.epoch_end.VALIDATION_ROWS", size or 4096)
    monkeypatch.setattr("fnn.training.epoch_end.IN_CACHE", 0)
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    with jax.enable_x64(dtype == "float64"):
        kind = scored.kinds(dtype)[name]
        net, run = scored.passing(kind)
        for weight in (None, scored.weights()):
            true = scored.true_figures(kind, weight)
            for figures in histories(kind, weight, size):
                assert_close(figures, true, tolerance, (name, size))
            rows = (kind.outputs, kind.targets) if weight is None else (kind.outputs, kind.targets, weight)
            found = fnn.evaluate(net, run, rows, kind.metrics, size or scored.ROWS)
            assert_close(found, true, tolerance, (name, "evaluated", size))
            called = call_all(kind, weight)
            assert_close(called, true, tolerance, (name, "called"))
