"""What a notebook shows of runs, studies and checks: tables that are whole, names that are escaped, curves."""

import xml.etree.ElementTree as xml

import jax
import numpy as np
import optax
import pytest

import fnn
from fnn.runs import markup

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("float32")
C = (X[:, 0] > 0).astype(int)
NET = fnn.serial(fnn.dense(2))
PARTS = NET, fnn.losses.sparse_softmax_cross_entropy, lambda s: optax.sgd(s["lr"]), (X, C)
MORE = {"epochs": 5, "batch_size": 8, "progress": False}
METRICS = {"<b>accuracy": fnn.accuracy}


def made(kind):
    if kind == "run":
        return fnn.fit(*PARTS, settings={"lr": 0.1}, validation=0.25, metrics=METRICS, **MORE)
    if kind == "sweep":
        return fnn.sweep(*PARTS, over={"lr": [0.1, 1.0, 2.0]}, metrics=METRICS, **MORE)
    if kind == "folds":
        return fnn.cross_validate(*PARTS, over={"lr": [0.1, 1.0]}, folds=2, refit=False, **MORE)
    if kind == "ensemble":
        return fnn.ensemble(*PARTS[:2], optax.sgd(0.1), PARTS[3], members=2, **MORE)
    if kind == "summary":
        return fnn.summary(NET, (3,))
    params, state, _ = NET.init(jax.random.key(0), (3,))
    return fnn.check_gradients(NET, PARTS[1], params, state, X, C, show=False)


LATER = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("sweep", "ensemble", "check")]


@pytest.mark.parametrize("kind", ["run", "folds", "summary", *LATER])
def test_a_notebook_shows_the_table_that_a_terminal_prints(kind):
    result = made(kind)
    tree = xml.fromstring(f"<all>{result._repr_html_()}</all>")  # well formed, so that names are escaped
    cells = [cell.text or "" for row in tree.iter("tr") for cell in row]
    printed = repr(result).replace("run:", "run").split()
    if kind == "run":
        assert {"parameters", "8", "inputs", "(3,)", "epochs", "5", "<b>accuracy", "best epoch"} < set(cells)
        curve = [len(line.get("points").split()) for line in tree.iter("{http://www.w3.org/2000/svg}polyline")]
        assert curve == [5, 5]
    elif kind != "check":  # whose last line is below the table
        words = " ".join(cells).split()
        assert sorted(words) == sorted(word for word in printed if set(word) != {"-"})
    else:
        assert "right" in cells and "none of 3 WRONG" in tree.find("p").text


def test_a_long_table_says_how_many_rows_are_left_out():
    found = fnn.sweep(*PARTS, over={"lr": np.linspace(0.1, 1, 25).tolist()}, **MORE)
    assert found._repr_html_().count("<tr>") == 21 and "and 5 more" in found._repr_html_()
    assert repr(found).endswith("and 5 more")


def test_a_curve_is_within_its_picture_and_leaves_out_what_is_not_finite():
    for values in ([3.0, np.nan, 1e-9, np.inf, 5.0], [-1.0, 0.0, 2.0, -np.inf, 1.0], [2.0] * 5, np.arange(1e4)):
        drawn = xml.fromstring(markup.curves({"loss": np.array(values)}))
        points = np.array([point.split(",") for point in drawn[0].get("points").split()], float)
        assert len(points) == min(np.isfinite(values).sum(), 320)
        assert (points >= 0).all() and (points <= [markup.WIDTH, markup.HEIGHT]).all()
        assert points[0, 0] == 1 and points[-1, 0] == markup.WIDTH - 1
    assert markup.curves({"loss": np.array([1.0, np.nan])}) == markup.curves({}) == ""
