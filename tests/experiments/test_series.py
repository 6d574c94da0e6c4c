"""Do D0's network, the series' parts 1 to 3 and the gradient check find at small size what they find at full size?"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # the experiments are run from the checkout, they are not installed

from experiments import gradient_check, hidden_layer, linear_regression, logistic_regression, two_layer


@pytest.fixture(scope="module")
def two_layers():
    return two_layer.main(two_layer.Settings(seeds=20))


@pytest.fixture(scope="module")
def linear():
    return linear_regression.main(linear_regression.Settings())


@pytest.fixture(scope="module")
def logistic():
    return logistic_regression.main(logistic_regression.Settings(grid=20))


@pytest.fixture(scope="module")
def hidden():
    return hidden_layer.main(hidden_layer.Settings(seeds=20))


@pytest.fixture(scope="module")
def checked():
    return gradient_check.main(gradient_check.Settings(points=6))


def failing(result):
    return [row.quantity for row in result.rows if not row.ok]


def labelled(result):
    axes = [ax for figure in result.figures for ax in figure.picture.axes if ax.get_label() != "<colorbar>"]
    return axes and all(ax.get_xlabel() and ax.get_legend() for ax in axes)


# ---- two layers


def test_two_layers_fall_monotonically_to_the_truth(two_layers):
    numbers = two_layers.numbers
    assert failing(two_layers) == []
    assert numbers["losses"].shape == (20, 1501) and numbers["losses"].dtype == np.float64
    assert (np.diff(numbers["losses"], axis=1) < 0).all()
    np.testing.assert_allclose(numbers["predictions"], [[0, 1, 1, 0]] * 20, atol=0.05)
    np.testing.assert_allclose(
        numbers["losses"][:, -1], np.square(numbers["predictions"] - [0, 1, 1, 0]).sum(1), rtol=1e-12
    )
    assert labelled(two_layers)


def test_two_layers_rows_fail_where_they_should():
    settings = two_layer.Settings(seeds=40)
    good, shown = np.zeros(40), np.array([0.01, 0.99, 0.99, 0.01])

    def verdicts(monotone, errors, shown, apart):
        return [row.ok for row in two_layer.rows(monotone, errors, shown, apart, settings)]

    monotone = np.ones(40, bool)
    assert all(verdicts(monotone, good, shown, 0.0))
    assert verdicts(np.arange(40) > 0, good, shown, 0.0).count(False) == 1
    assert verdicts(monotone, np.where(np.arange(40) < 2, 0.06, 0), shown, 0.0).count(False) == 1  # 38 of 40
    assert verdicts(monotone, good, shown + 0.05 * (np.arange(4) == 0), 1e-8) == [
        True,
        False,
        True,
        True,
        True,
        True,
        False,
    ]


def test_two_layers_short_of_iterations_are_not_at_the_truth():
    assert len(failing(two_layer.main(two_layer.Settings(seeds=3, iterations=100)))) >= 3


# ---- series 1: linear regression


def test_linear_regression_finds_the_closed_form(linear):
    numbers = linear.numbers
    assert failing(linear) == []
    x, t = numbers["x"][:, 0], numbers["t"][:, 0]
    best = np.linalg.lstsq(x[:, None], t, rcond=None)[0][0]
    np.testing.assert_allclose(numbers["weights"][linear_regression.BEST, -1], best, rtol=1e-12)
    np.testing.assert_array_equal(numbers["weights"][:, 0], 0)
    np.testing.assert_allclose(numbers["costs"][:, 0], (t**2).mean(), rtol=1e-12)
    # too small a learning rate has not arrived, too large a one goes from side to side
    slow, _, wide = numbers["weights"]
    assert abs(slow[-1] - best) > 0.01
    assert ((wide[:10] - best) * (wide[1:11] - best) < 0).all()
    assert labelled(linear)


def test_linear_regression_off_the_minimum_fails(linear):
    x, t, best = (linear.numbers[name] for name in ("x", "t", "best"))
    path = linear_regression.Path(linear.numbers["weights"], linear.numbers["costs"])
    off = path._replace(weights=path.weights * (1 + 1e-6))
    rows = linear_regression.rows_of(x, t, best, off, path, path.weights)
    assert [row.ok for row in rows] == [False, False, False, False, False, True, True]


# ---- series 1b and 2: logistic regression


@pytest.mark.slow
def test_logistic_regression_finds_the_highest_likelihood(logistic):
    numbers = logistic.numbers
    assert failing(logistic) == []
    np.testing.assert_allclose(numbers["weights"][-1], numbers["reference"], rtol=1e-6)
    assert numbers["wrong"] > 5  # not separable
    x, t, w = numbers["x"], numbers["t"], numbers["weights"][-1]
    y = 1 / (1 + np.exp(-x @ w))
    np.testing.assert_allclose(x.T @ (y - t), 0, atol=1e-9)
    np.testing.assert_allclose(numbers["costs"][-1], -np.log(np.where(t, y, 1 - y)).mean(), rtol=1e-12)
    aside = logistic_regression.mean_cost(x, t, w + 0.1 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]))
    assert (aside > numbers["costs"][-1]).all()
    assert labelled(logistic)


@pytest.mark.slow
def test_logistic_regression_short_of_steps_fails():
    result = logistic_regression.main(logistic_regression.Settings(points=20, steps=5, grid=10))
    assert [quantity.split(" ")[0] for quantity in failing(result)] == ["Weights", "Derivative"]


# ---- series 3 and 3b: a hidden layer, softmax


@pytest.mark.slow
def test_a_hidden_unit_separates_what_no_threshold_can(hidden):
    numbers = hidden.numbers
    assert failing(hidden) == []
    assert numbers["right_without"].max() <= numbers["best"].max() < 75
    assert 0 < numbers["rising"].sum() < 20
    assert numbers["right"][numbers["rising"]].min() >= 95
    assert (numbers["costs"][numbers["rising"], -1] < 0.1).all()
    assert labelled(hidden)


@pytest.mark.slow
def test_where_the_hidden_unit_fails_it_is_flat(hidden):
    numbers = hidden.numbers
    stuck = numbers["right"] < 95
    assert (numbers["right"][stuck] < 70).all()
    np.testing.assert_allclose(numbers["params"][0]["w"][stuck], 0, atol=0.01)


def test_best_threshold():
    assert hidden_layer.best_threshold(np.array([3.0, 1, 2, 4]), np.array([1, 0, 0, 1])) == 100
    assert hidden_layer.best_threshold(np.array([3.0, 1, 2, 4]), np.array([0, 1, 1, 0])) == 100
    assert hidden_layer.best_threshold(np.array([1.0, 2, 3]), np.array([0, 1, 0])) == pytest.approx(200 / 3)


@pytest.mark.slow
def test_a_wrong_unit_and_a_wrong_softmax_are_found(monkeypatch):
    x, t = (part[None] for part in hidden_layer.data(0, 5))
    spoilt = hidden_layer.fnn.elementwise("bump", hidden_layer.bump.value, lambda z: 2 * z)
    monkeypatch.setattr(hidden_layer, "bump", spoilt)
    assert not hidden_layer.unit_rows(x, t)[0].ok
    softmax = hidden_layer.fnn.softmax
    monkeypatch.setattr(
        hidden_layer.fnn, "softmax", softmax._replace(derivative=lambda z: 1.01 * softmax.derivative(z))
    )
    assert [row.ok for row in hidden_layer.softmax_rows()] == [False, False, True]


# ---- the gradient check


@pytest.mark.slow
def test_no_gradient_errors_in_the_right_networks(checked):
    numbers = checked.numbers
    assert failing(checked) == []
    assert [len(found.close) for found in numbers["right"].values()] == [17, 21, 73, 31]
    assert all(found.close.all() for found in numbers["right"].values())
    assert numbers["checks"]["right"].ok and not numbers["checks"]["spoilt"].ok


@pytest.mark.slow
def test_planted_mistakes_are_found_where_they_are(checked):
    where = {name: gradient_check.spoilt(found) for name, found in checked.numbers["planted"].items()}
    assert list(where.values()) == [["0.b", "0.w"], ["2.b"], ["0.w"], ["0.b", "0.w", "2.b", "2.w"]]


@pytest.mark.slow
def test_the_error_has_truncation_and_rounding(checked):
    steps, errors = checked.numbers["steps"], checked.numbers["errors"]
    second, sixth, single = errors[2, "float64"], errors[6, "float64"], errors[2, "float32"]
    assert 1e-6 < steps[second.argmin()] < 1e-3 < steps[sixth.argmin()] < 0.1
    assert second[0] > 100 * second.min() and second[-1] > 1e6 * second.min()
    assert sixth.min() < second.min() / 10
    assert np.nanmin(single) > 1000 * second.min()  # nan where a step is lost beside the numbers
    assert labelled(checked._replace(figures=checked.figures[:2]))


def test_power_is_the_slope():
    steps = np.logspace(-9, 0, 37)
    assert gradient_check.power(steps, steps**2 + 1e-16 / steps) == pytest.approx(2, abs=0.01)


@pytest.mark.slow
def test_an_unfound_mistake_fails(checked):
    right = checked.numbers["right"][gradient_check.D2]
    assert [row.ok for row in gradient_check.planted_rows({"none": right})] == [False]
    spoilt = checked.numbers["planted"][gradient_check.SUBTLE]
    row = gradient_check.right_rows({gradient_check.D2: spoilt})[0]
    assert not row.ok and row.reproduced == "6 gradient errors found"
