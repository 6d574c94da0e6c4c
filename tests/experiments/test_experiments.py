"""The experiments find at small size what they find at full size, and is the page what it says it is?"""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure as Picture

from experiments import __main__ as runner, circles, digits, report, tables, text_selection

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def circles_result():
    return circles.main(circles.Settings(seeds=20, grid=30))


@pytest.fixture(scope="module")
def digits_result():
    return digits.main(digits.Settings(seeds=1, epochs=20))


def by_quantity(result):
    return {row.quantity: row for row in result.rows}


# ---- circles


@pytest.mark.slow
def test_circles_reproduces_the_document(circles_result):
    numbers = circles_result.numbers
    assert (numbers["accepted"], numbers["parameters"]) == (17, 17)
    assert numbers["table_error"] < 1e-12
    assert numbers["right"][circles.SHOWN] == 100
    assert (numbers["right"] == 100).sum() >= 16  # of 20; about 190 of 200
    costs = numbers["costs"]
    assert costs.shape == (20, 301)
    assert np.isfinite(costs).all()
    # at weights near 0 both classes have probability near ½: 100 ln 2
    np.testing.assert_allclose(costs[:, 0], 100 * np.log(2), rtol=0.02)
    assert costs[circles.SHOWN, -1] < costs[circles.SHOWN, 0] / 10
    assert by_quantity(circles_result)["Gradient check, central differences, float64"].ok
    assert by_quantity(circles_result)["By a plane in the hidden space, seed 1"].ok
    assert by_quantity(circles_result)["By a line in the inputs, seed 1"].ok


@pytest.mark.slow
def test_the_last_cost_is_that_of_the_last_parameters(circles_result):
    costs, params = (circles_result.numbers[name] for name in ("costs", "params"))
    x, t = circles.data(circles.SHOWN)
    (w, b), (v, c) = ((params[i]["w"][circles.SHOWN], params[i]["b"][circles.SHOWN]) for i in (0, 2))
    z = 1 / (1 + np.exp(-(x @ w + b))) @ v + c
    y = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    np.testing.assert_allclose(costs[circles.SHOWN, -1], -(t * np.log(y)).sum(), rtol=1e-4)


def test_momentum_is_that_of_the_document():
    """`V ← λV - μ∂ξ/∂θ`, `θ ← θ + V` in a plain loop over D2's table gives the same costs."""
    x, t = circles.data(3)
    with jax.enable_x64(True):
        runs = circles.train(x[None].astype(float), t[None].astype(float), 0, 0.9)
        expected = circles.train(x[None].astype(float), t[None].astype(float), 40, 0.9)
    theta = jax.tree.map(lambda leaf: leaf[0], runs.params)
    v = jax.tree.map(np.zeros_like, theta)
    for _ in range(40):
        gradient = circles.table_of_d2(x.astype(float), t.astype(float), theta)
        v = jax.tree.map(lambda v, g: 0.9 * v - 0.02 * g, v, gradient)
        theta = jax.tree.map(np.add, theta, v)
    assert theta[0]["w"].dtype == np.float64
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[0], rtol=1e-9), theta, expected.params)


def test_data_are_those_of_the_document():
    x, t = circles.data(0)
    assert (x.shape, t.shape) == ((100, 2), (100, 2))
    outer = np.linalg.norm(x[:50], axis=1).mean()
    assert 0.9 < outer < 1.1
    assert np.linalg.norm(x[50:], axis=1).mean() < 0.5
    np.testing.assert_array_equal(t[:50], [[1, 0]] * 50)
    np.testing.assert_array_equal(t[50:], [[0, 1]] * 50)


def test_separable_knows_a_line_from_none():
    points, cross = np.array([[0.0, 0], [1, 1], [0, 1], [1, 0]]), np.eye(2)[[0, 0, 1, 1]]
    assert not circles.separable(points, cross)
    assert circles.separable(points, np.eye(2)[[0, 1, 0, 1]])


def test_a_wrong_derivative_is_found(monkeypatch):
    right = circles.table_of_d2
    monkeypatch.setattr(
        circles, "table_of_d2", lambda x, t, params: jax.tree.map(lambda g: 1.001 * g, right(x, t, params))
    )
    error, accepted, parameters = circles.check_derivatives(*circles.data(1))
    assert error > 1e-4
    rows = circles.derivative_rows(error, accepted - 1, parameters)
    assert [row.ok for row in rows] == [False, False]
    assert rows[0].reproduced == "1 gradient errors found"


@pytest.mark.slow
def test_circles_has_the_documents_pictures(circles_result):
    names = [figure.name for figure in circles_result.figures]
    assert names[:4] == [
        "The two classes",
        "Decrease of the cost",
        "Decision boundary",
        "Projection onto the hidden layer",
    ]
    cost = circles_result.figures[1].picture.axes[0]
    momentum, plain = (line.get_ydata() for line in cost.get_lines())
    np.testing.assert_array_equal(momentum, circles_result.numbers["costs"][circles.SHOWN])
    assert len(plain) == 301
    assert plain[-1] > momentum[-1]


# ---- word pairs


@pytest.mark.slow
def test_l1_leaves_few_pairs_that_tell_the_topic():
    found = text_selection.main(text_selection.Settings(pairs=300, alphas=5, epochs=40, modules=3))
    points = found.numbers["points"]
    assert [p.kept for p in points] == sorted(p.kept for p in points) and points[0].kept == 0 < points[1].kept
    assert max(p.held for p in points) > points[0].held + 5 and points[-1].kept < 300
    assert {row.quantity for row in found.rows if not row.ok} <= {"Pairs left at the best α, %"}


# ---- tables


@pytest.mark.slow
def test_tables_are_judged_with_one_head_and_with_two():
    found = tables.main(tables.Settings(seeds=2, epochs=15, rows=500))
    scores = {key: np.mean(values) for key, values in found.numbers["scores"].items()}
    assert len(scores) == 10 and {key[1] for key in scores} == {"by_table", "by_scikit_learn"}
    classes = [score for (name, _), score in scores.items() if name in ("Cars", "Visits", "Passengers")]
    assert min(classes) > 60 and min(scores.values()) > 0
    right, error, guess = np.mean(found.numbers["heads"], 0)
    assert right > 60 and error < guess and len(found.rows) == 7
    worse = tables.no_worse(tables.cars(), [50.0, 51.0, 50.0], [60.0, 62.0, 61.0])
    assert not worse.ok and worse.reproduced == "-10.67"


# ---- digits


def test_digits_reads_what_it_has_not_seen(digits_result):
    assert digits_result.numbers["accuracies"][0] > 95
    (losses,) = digits_result.numbers["losses"]
    assert losses.shape == (20,)
    assert losses[-1] < losses[0] / 10


def test_digits_judges_the_last_parameters_not_the_best_by_held_out_cost(monkeypatch):
    judged = []
    predict = digits.fnn.predict
    monkeypatch.setattr(digits.fnn, "predict", lambda net, run, x: judged.append(run) or predict(net, run, x))
    digits.main(digits.Settings(seeds=1, epochs=2))
    assert isinstance(judged[0], digits.fnn.TrainState)


# ---- rows and the page


def test_rows_hold_within_their_criterion_and_no_further():
    assert report.close("w", 1.0, 1.0 + 1e-7).ok
    assert not report.close("w", 1.0, 1.0 + 3e-7).ok
    assert report.close("w", -100.0, -100.1, tolerance=0.01).ok
    assert report.at_least("n", 180, 180).ok and not report.at_least("n", 180, 179).ok
    assert report.at_most("n", 0.1, 0.1).ok and not report.at_most("n", 0.1, 0.11).ok
    assert not report.close("w", 1.0, float("nan")).ok
    assert not report.at_least("n", 1, float("nan")).ok and not report.at_most("n", 1, float("nan")).ok


def small(ok: bool) -> report.Result:
    picture = Picture(figsize=(2, 2))
    picture.add_subplot().plot([1, 2])
    rows = [report.holds("a < b & c", "yes", "yes" if ok else "no", "equal", ok), report.at_least("n", 1, 2)]
    figure = report.Figure("Line", "rises", picture)
    return report.Result("Title", "Is it?", rows, [figure], ["a note"], {})


def test_the_page_is_complete_and_self_contained():
    done = [report.Done("one", "Lab book.", small(True), 1.25), report.Done("two", "", small(False), 2.0)]
    page = report.page([*map(report.section, done)])
    assert not re.search(r"(src|href)=[\"']?(http|//|\.|/)|url\(|@import|<script|<link", page)
    assert page.count('src="data:image/svg+xml;base64,') == 2
    for name in ("one", "two"):
        assert f'href="#{name}"' in page and f'id="{name}"' in page
    assert "3 of 4 rows hold." in page and "1.2 s" in page and "Lab book." in page and "a note" in page
    assert "a &lt; b &amp; c" in page and "a < b" not in page
    assert page.count("✓ holds") == 3 and page.count("✗ fails") == 1


def test_the_terminal_table_names_what_fails():
    lines = report.table(small(False).rows).splitlines()
    assert lines[2].endswith("NOT OK") and lines[3].endswith("ok")
    assert "+1" in lines[3]


# ---- the runner


def run_with(monkeypatch, result, tmp_path):
    module = type(sys)("experiments.stub")
    module.__doc__, module.Settings, module.main = "Lab book.", tuple, lambda settings: result
    monkeypatch.setitem(sys.modules, "experiments.stub", module)
    monkeypatch.setattr(runner, "EXPERIMENTS", (runner.Experiment("stub", "a stub", 1), LONG))
    return runner.main(["--page", str(tmp_path / "new" / "page.html")])


LONG = runner.Experiment("absent", "would fail to import", 999, long=True)


@pytest.mark.parametrize("ok", [True, False])
def test_the_runner_exits_1_where_a_row_fails_and_leaves_out_the_long_ones(monkeypatch, tmp_path, capsys, ok):
    assert run_with(monkeypatch, small(ok), tmp_path) == (0 if ok else 1)
    page = tmp_path / "new" / "page.html"
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    out = capsys.readouterr().out
    assert str(page) in out and "stub" in out and ("NOT OK" in out) is not ok


@pytest.mark.parametrize("arguments", [["absent"], ["--all"]])
def test_a_long_one_runs_by_its_name_or_with_all(monkeypatch, tmp_path, arguments):
    monkeypatch.setattr(runner, "EXPERIMENTS", (LONG,))
    with pytest.raises(ModuleNotFoundError, match=r"experiments\.absent"):
        runner.main([*arguments, "--page", str(tmp_path / "page.html")])


def test_every_experiment_is_in_the_runners_list():
    files = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    others = {"__init__", "__main__", "report", "nist", "regression_sets"}
    assert {e.name for e in runner.EXPERIMENTS} == files - others


def test_what_is_not_installed_is_named_with_the_command(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert runner.main([]) == 2
    assert 'sklearn is not installed. Run: pip install "fnn[experiments]"' in capsys.readouterr().err


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "experiments", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_list_and_unknown_names_on_the_command_line():
    listed = command("--list")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [e.name for e in runner.EXPERIMENTS]
    assert re.search(r"circles +\d+ s", listed.stdout)
    unknown = command("circle")
    assert unknown.returncode == 2
    assert "circles, digits" in unknown.stderr and "got circle." in unknown.stderr
