"""Studies over widths and activations: one program, and every member the run of `fit` alone."""

import pickle

import jax
import numpy as np
import optax
import pytest

import fnn
from fnn.studies.groups import Group
from tests.helpers.problems import LABELS, LOSS, X, same_bits
from tests.helpers.studies import HELD, difference

ACTIVATIONS = [fnn.tanh, fnn.sigmoid]
OVER = {"width": [3, 8, 5], "kind": [0, 1], "lr": [0.05, 0.1]}
TRAINING = {"batch_size": 32, "epochs": 6, "metrics": {"accuracy": fnn.accuracy}, "progress": False}


def net(s):
    return fnn.serial(fnn.dense(s["width"]), ACTIVATIONS[s["kind"]], fnn.dense(2))


def optimizer(s):
    return optax.adam(s["lr"])


def swept(net=net, loss=LOSS, optimizer=optimizer, data=(X, LABELS), **more):
    return fnn.sweep(net, loss, optimizer, data, **{"over": OVER, "validation": HELD, **TRAINING, **more})


def alone(point, loss=LOSS, **more):
    made, own = net(point), {"settings": {"lr": point["lr"]}, "validation": HELD}
    return fnn.fit(made, loss, optimizer, (X, LABELS), **{**own, **TRAINING, **more})


def check(found, tolerance, points=(0, 4, 11), **more):
    for place in points:
        run, other = found.runs[place], alone(found.points[place], **more)
        assert difference(run, other) < tolerance
        shapes = [jax.tree.map(np.shape, one.train_state) for one in (run, other)]
        assert shapes[0] == shapes[1]
        made = [fnn.predict(net(found.points[place]), one, X) for one in (run, other)]
        np.testing.assert_allclose(*made, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("points", [(4,), pytest.param((0, 4, 11), marks=pytest.mark.slow)])
def test_a_member_is_the_run_of_fit_alone(points):
    found = swept(keep="all")
    assert len(found.plans) == 1 and found.plans[0].members == 12
    check(found, 1e-4, points)


@pytest.mark.slow
def test_by_hand_with_a_penalty_and_a_norm_of_all_in_float64(x64):
    def clipped(s):
        return optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(s["lr"], momentum=0.9))

    more = {"penalty": fnn.penalties.l2(0.1), "gradient": fnn.backprop}
    found = swept(keep="all", optimizer=clipped, **more)
    assert len(found.plans) == 1
    for place in (1, 10):
        point = found.points[place]
        other = fnn.fit(
            net(point), LOSS, clipped, (X, LABELS), settings={"lr": point["lr"]}, validation=HELD, **TRAINING, **more
        )
        assert difference(found.runs[place], other) < 1e-12


@pytest.mark.slow
def test_the_best_run_and_folds_and_a_refit_are_of_their_own_width():
    over = {"width": [3, 8], "kind": [0, 1], "lr": [0.1]}
    found = fnn.cross_validate(net, LOSS, optimizer, (X, LABELS), over=over, folds=3, **TRAINING)
    each = fnn.cross_validate(net, LOSS, optimizer, (X, LABELS), over=over, folds=3, width=1, **TRAINING)
    assert (len(found.plans), len(each.plans)) == (1, 4) and found.settings == each.settings
    np.testing.assert_allclose(found.scores["validation_loss"], each.scores["validation_loss"], rtol=1e-4)
    np.testing.assert_allclose(found.predictions, each.predictions, rtol=1e-3, atol=1e-4)
    assert found.run.params[0]["w"].shape == (4, found.settings["width"])
    best = swept()
    assert best.run.params[0]["w"].shape == (4, best.settings["width"]) and list(best.runs) == [best.best]


def depth(s):
    layers = [layer for _ in range(s["depth"]) for layer in (fnn.dense(s["width"]), fnn.relu)]
    return fnn.serial(*layers, fnn.dense(2))


def narrow(s, **more):
    return fnn.serial(fnn.dense(s["width"], **more), fnn.dense(2))


APART = {  # a study, and how many programs it has
    "another depth": ({"net": depth, "over": {"depth": [1, 2], "width": [3, 8], "lr": [0.1]}}, 2),
    "another batch_size": ({"over": {"width": [3, 8], "kind": [0], "batch_size": [16, 32], "lr": [0.1]}}, 2),
    "a width of its own": ({"width": 2}, 2),
    "noise": ({"net": lambda s: fnn.serial(narrow(s), fnn.dropout(s["lr"]), fnn.dense(2))}, 2),
    "a setting that is traced": ({"net": lambda s: narrow(s, weight_init=s["lr"])}, 2),
    "a default in its place": ({"net": lambda s: narrow(s, weight_init=s.get("lr", 1))}, 2),
    "an optimizer that asks": ({"optimizer": lambda s: optax.sgd(s["lr"] / s["width"])}, 2),
    "an optimizer that asks or else": ({"optimizer": lambda s: optax.sgd(s["lr"] / s.get("width", 1))}, 2),
    "a loss that asks": ({"loss": lambda s: fnn.losses.smoothed(LOSS, 0.1 / s["width"])}, 2),
    "a penalty that asks": ({"penalty": lambda s: fnn.penalties.l2(1 / s["width"])}, 2),
    "an optimizer of means": ({"optimizer": lambda s: optax.adafactor(s["lr"])}, 2),
    "a gradient of one's own": ({"gradient": lambda *of: fnn.autodiff(*of)}, 2),
    "so much more work": ({"over": {"width": [3, 4000], "kind": [0], "lr": [0.1]}, "epochs": 1000}, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_what_has_programs_of_its_own(name, monkeypatch):
    """They are counted where all groups are made, before anything compiles."""
    counted = []

    def count(title, groups, *rest):
        counted.append(len(groups))
        raise StopIteration

    monkeypatch.setattr("fnn.studies.sweeps.run_groups", count)
    more, programs = APART[name]
    with pytest.raises(StopIteration):
        swept(**{"over": {"width": [3, 8], "kind": [0], "lr": [0.1]}, **more})
    assert counted == [programs]


@pytest.mark.slow
def test_a_checkpoint_keeps_each_shape_apart(tmp_path):
    """What other shapes there are would decide the last bits, and a study may be called again with more of them."""
    first = swept(over={"width": [3], "kind": [0], "lr": [0.1]}, keep="all", checkpoint=tmp_path)
    second = swept(over={"width": [3, 8], "kind": [0], "lr": [0.1]}, keep="all", checkpoint=tmp_path)
    assert same_bits(first.runs[0].params, second.runs[0].params) and len(second.plans) == 2


def test_errors_are_those_of_the_shape():
    with pytest.raises(ValueError, match="dense: expected a whole number of features"):
        swept(over={"width": [3, 0, 8], "kind": [0], "lr": [0.1]})
    with pytest.raises(ValueError, match="settings: expected a number named 'depth'"):
        swept(net=lambda s: fnn.serial(fnn.dense(s["depth"]), fnn.dense(2)))


def test_what_a_network_reads_may_change():
    by, over = [1], {"width": [3, 8], "lr": [0.1]}

    def scaled(s):
        return fnn.serial(fnn.dense(by[0] * s["width"]), fnn.tanh, fnn.dense(2))

    first = swept(net=scaled, over=over, keep="all")
    by[0] = 2
    second = swept(net=scaled, over=over, keep="all")
    widths = [[found.runs[i].params[0]["w"].shape[1] for i in range(2)] for found in (first, second)]
    assert widths == [[3, 8], [6, 16]]


def test_a_later_study_compiles_nothing(compiled):
    swept()
    compiled.clear()
    swept(over={"width": [3, 8, 5], "kind": [0, 1], "lr": [0.02, 0.3]})
    assert not [name for name in compiled if "run" in name or "init" in name]


def test_a_group_comes_back_from_pickle(monkeypatch):
    seen = []
    monkeypatch.setattr("fnn.studies.sweeps.run_groups", lambda title, groups, *rest: seen.extend(groups) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        swept()
    (group,) = seen
    again = pickle.loads(pickle.dumps(group))
    assert isinstance(again, Group) and again.config == group.config and again.family.dense == group.family.dense
    assert same_bits(again.members, group.members)
