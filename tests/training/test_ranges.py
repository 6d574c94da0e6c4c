"""A swept number out of its range is refused before anything compiles, as the single call refuses it."""

import numpy as np
import optax
import pytest

import fnn
from fnn.training.ranges import EVERY, check_ranges, check_settings
from tests.helpers.problems import LABELS, LOSS, X
from tests.helpers.studies import has_compiled

LAST, SGD = fnn.dense(2), optax.sgd(0.1)


def after(make):
    """A network with the layer that is made of the value."""
    return lambda s: {"net": fnn.serial(make(s["value"]), LAST)}


OUT_OF_RANGE = {  # the parts as functions of a setting; a number in its range; numbers that are not
    "dropout": (after(fnn.dropout), 0.5, (1.0, 1.5, -0.1)),
    "gaussian_noise": (after(fnn.gaussian_noise), 0.5, (-0.1,)),
    "batch_norm": (after(fnn.batch_norm), 0.5, (1.5, -0.1)),
    "layer_norm": (after(fnn.layer_norm), 1e-5, (0.0, -1.0)),
    "rrelu": (after(lambda low: fnn.rrelu(low, 0.5)), 0.1, (0.9,)),
    "l1": (lambda s: {"penalty": fnn.penalties.l1(s["value"])}, 0.1, (-0.1,)),
    "l2": (lambda s: {"penalty": fnn.penalties.l2(s["value"])}, 0.1, (-0.1,)),
    "smoothed": (lambda s: {"loss": fnn.losses.smoothed(LOSS, s["value"])}, 0.1, (1.5, -0.1)),
    "class_weighted": (lambda s: {"loss": fnn.losses.class_weighted(LOSS, (1.0, s["value"]))}, 2.0, (-1.0,)),
    "focal": (lambda s: {"loss": fnn.losses.sparse_softmax_focal(s["value"])}, 2.0, (-1.0,)),
    "optax": (lambda s: {"optimizer": _checked(s["value"])}, 0.1, (-0.1,)),
}


def _checked(rate):
    """An optimizer of one's own that looks at its numbers, where they can be looked at."""
    if isinstance(rate, float) and rate < 0:
        raise ValueError(f"rate: expected at least 0, got {rate}")
    return optax.sgd(rate)


def parts_of(make):
    plain = {"net": fnn.serial(LAST), "loss": LOSS, "optimizer": SGD, "penalty": None}
    name = next(iter(make({"value": 0.4})))
    return plain | {name: lambda s: make(s)[name]}


@pytest.mark.parametrize("case", OUT_OF_RANGE)
def test_a_number_out_of_its_range_is_named_with_its_point(case):
    make, right, wrong = OUT_OF_RANGE[case]
    parts = list(parts_of(make).values())
    check_ranges(parts, [{"value": right}], {})
    for value in wrong:
        with pytest.raises(ValueError, match=rf"over\[1\], {{'value': {value}}}: .*expected .* got") as raised:
            check_ranges(parts, [{"value": right}, {"value": value}], {})
        with pytest.raises(ValueError) as alone:
            make({"value": value})
        assert str(raised.value).endswith(str(alone.value))


@pytest.mark.parametrize("case", ["dropout", "l2", "smoothed"])
@pytest.mark.parametrize("study", [fnn.sweep, fnn.cross_validate])
def test_studies_raise_before_anything_compiles(study, case, compiled):
    make, right, wrong = OUT_OF_RANGE[case]
    parts = parts_of(make)
    with pytest.raises(ValueError, match=f"{case}: expected .* got {wrong[0]}"):
        study(parts["net"], parts["loss"], parts["optimizer"], (X, LABELS), over={"value": [right, wrong[0]]},
              penalty=parts["penalty"], epochs=1, progress=False)  # fmt: skip
    assert has_compiled(compiled) == (0, 0)


@pytest.mark.parametrize("case", ["dropout", "l2", "smoothed", "optax"])
def test_so_does_fit(case, compiled):
    make, _, wrong = OUT_OF_RANGE[case]
    parts = parts_of(make)
    with pytest.raises(ValueError, match=f"expected .* got {wrong[0]}"):
        fnn.fit(parts["net"], parts["loss"], parts["optimizer"], (X, LABELS), penalty=parts["penalty"], epochs=1,
                settings={"value": wrong[0]}, progress=False)  # fmt: skip
    assert has_compiled(compiled) == (0, 0)


def test_of_many_points_the_extremes_are_tried_and_not_all():
    tried = []

    def penalty(s):
        tried.append(s["l2"])
        return fnn.penalties.l2(s["l2"])

    values = np.linspace(0, 1, 5000).tolist()
    check_ranges([None, None, None, penalty], [{"l2": v} for v in values], {})
    assert len(tried) <= EVERY + 4 and min(tried) == 0 and max(tried) == 1
    values[3217] = -1e-9  # one of 5,000, wherever it stands
    with pytest.raises(ValueError, match=r"over\[3217\], "):
        check_ranges([None, None, None, penalty], [{"l2": v} for v in values], {})


def test_what_only_traced_numbers_can_do_is_no_mistake():
    def penalty(s):
        return fnn.penalties.l2(s["l2"].astype("float32"))  # Python's numbers have no such method

    check_settings([None, None, None, penalty, lambda s: s["missing"]], {"l2": 0.1})
    found = fnn.sweep(fnn.serial(LAST), LOSS, SGD, (X, LABELS), over={"l2": [0.0, 0.1]}, penalty=penalty, epochs=1,
                      width=2, progress=False)  # fmt: skip
    assert np.isfinite(found.table["loss"]).all()
