"""Every hand-derived rule is right, and an error would have been found. `python -m experiments proof` prints it."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.derivatives.examine import examine
from experiments.derivatives.plant import planted
from experiments.derivatives.registry import ALL

LEAST_PLANTED = 8
NO_COMPLEX_STEP = {"gelu", "ciou_loss"}  # no complex erf in JAX; a weight that is held constant

LONG = ("4,096 rows", "one row", "200 steps")  # each has programs of its own: another second or ten of compiling
# one record a public name; variants of the same, and networks ten layers deep, are among the slow tests
ONCE = {title.split("(")[0].split(" on ")[0]: title for title in reversed(ALL) if not title.startswith("depth 10")}


# others have their terms, or their like
LATER = ["iou_loss", "diou_loss", "giou_loss", "multiclass_hinge", "sparse_multiclass_hinge", "conv_transpose2d"]
LATER += [
    "backprop of softmax_cross_entropy, mean, l2",
    "backprop of squared_error, sum",
    "softmax_focal, per position",
]
LATER += [
    "conv1d",
    "softmax_cross_entropy, per position",
    "2-3-2, sigmoid",
    "of_values",
    "random_shift",
    "repeat",
    "sparse_softmax_focal",
    "sparse_cross_entropy",
]
LATER += [
    "random_crop",
    "random_flip",
    "rrelu",
    "gaussian_noise",
    "elastic_net",
    "residual",
    "softmax_focal",
    "smoothed",
]
LATER += ["class_weighted", "smooth_l1", "mean_squared_error", "half_squared_error", "quantile", "silu", "elu", "selu"]
LATER += ["softsign", "rms_norm", "group_norm", "ciou_loss", "global_avg_pool", "weighted_sum"]
LATER += ["avg_pool", "upsample", "rescale", "prelu", "gelu", "hinge", "sigmoid_focal", "cross_entropy"]
LATER += ["conv2d", "max_pool", "l1", "embedding", "masked", "layer_norm", "flatten", "asymmetric", "leaky_relu"]
LATER += ["binary_cross_entropy", "softplus", "huber", "from_function", "absolute_error", "softmax", "tanh", "joint"]
LATER += ["sparse_softmax_cross_entropy", "sigmoid_cross_entropy", "from_function, by autodiff"]
LATER = dict.fromkeys(LATER, pytest.mark.slow)


@pytest.mark.parametrize("title", [pytest.param(of, marks=LATER.get(n, ()), id=n) for n, of in ONCE.items()])
def test_a_part_is_right_and_every_planted_error_is_found(title, x64):
    part = ALL[title]()
    found = examine(part._replace(regimes={name: point for name, point in part.regimes.items() if name not in LONG}))
    assert found.wrong == []
    assert found.planted >= LEAST_PLANTED
    assert np.isnan(found.seen["random"].complex_step) == (part.name in NO_COMPLEX_STEP)


@pytest.mark.slow
@pytest.mark.parametrize("title", ALL)
def test_a_part_is_right_in_every_regime(title, x64):
    part = ALL[title]()
    found = examine(part)
    assert found.wrong == []
    assert {"random", "4,096 rows"} <= set(found.seen)
    assert "one row" in found.seen or "batch_norm" in title


@pytest.fixture(scope="module")
def records():
    with jax.enable_x64(True):
        return {title: make() for title, make in ALL.items()}


def test_the_kinks_of_the_registry_are_those_of_the_documentation(records):
    text = (Path(__file__).parents[2] / "docs" / "kinks.md").read_text()
    written = {tuple(c.strip() for c in line.split("|")[1:4]) for line in text.splitlines() if line.startswith("| `")}
    recorded = {(f"`{part.name}`", kink.where, kink.taken) for part in records.values() for kink in part.kinks}
    assert recorded == written


def test_planted_errors_have_names_that_say_what_is_wrong(records, x64):
    part = records["dense(4) on (4,)"]
    names = set(planted(part, part.rule, part.regimes["random"]()))
    assert {
        "dx by w, not transposed",
        "dparams.b: left out",
        "dx: sign",
        "dparams.w: transposed",
        "mask ignored",
    } <= names
    assert {f"d{leaf}: factor 1 + 1e-6" for leaf in ("params.w", "params.b", "x")} <= names
    assert all(re.fullmatch(r"[\w .,:+()'|^²-]+", name) for name in names)


def test_a_rule_that_is_wrong_is_reported(records, x64):
    part = records["sigmoid"]
    wrong = part._replace(
        rule=lambda at, given, dy: {"x": 1.0001 * part.rule(at, given, dy)["x"]},
        regimes={name: part.regimes[name] for name in ("random", "masked rows")},
    )
    assert any(line.startswith("random, autodiff: 1.0e-04") for line in examine(wrong).wrong)


def test_a_rule_that_no_error_can_be_told_from_is_reported(records, x64):
    """A reference that is 0 is met by every multiple of itself: nothing planted in `relu` at negative numbers shows."""
    part = records["relu"]
    at_minus = part.regimes["-20"]
    blind = part._replace(regimes={"random": at_minus}, mistakes={"the left side twice": part.rule})
    assert "not found: the left side twice" in examine(blind).wrong


def test_a_kink_on_the_wrong_side_is_reported(records, x64):
    part = records["relu"]
    (kink,) = part.kinks
    other = kink._replace(toward=jax.tree.map(jnp.negative, kink.toward))
    found = examine(part._replace(kinks=(other,), regimes={"random": part.regimes["random"]}))
    assert any(line.startswith("kink at 0") for line in found.wrong)
