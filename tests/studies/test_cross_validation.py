"""Cross-validation: every fold is the run of `fit` on its rows alone, and sees nothing of the others."""

import csv
import os
import signal

import jax
import numpy as np
import optax
import pytest

import fnn
from fnn.data.splits import folds as fold_rows
from fnn.runs import TrainingInterrupted
from fnn.studies.cross_validation import _Best, cross_validate
from fnn.studies.folds import check_scaled, fold_selections, inputs_to_scale
from tests.helpers.compare import has_hint
from tests.helpers.problems import LABELS, LOSS, X, same_bits
from tests.helpers.signals import ending_of, handler
from tests.helpers.studies import (
    EPOCHS,
    ONE,
    PARTS,
    POINTS,
    TOLERANCE,
    TRAINING,
    TWO,
    Signals,
    has_compiled,
    loss,
    net,
    optimizer,
    traced,
)

OVER = [{"lr": 0.02, "l2": 1e-2}, {"lr": 0.1, "l2": 1e-3}]
REST = {name: value for name, value in traced(POINTS[0]).items() if name not in OVER[0]}
WEIGHTS = np.random.default_rng(0).integers(0, 3, 100).astype("float32")
FIGURES = ["loss", "accuracy", "validation_loss", "validation_accuracy"]


def validated(**more):
    """Three folds twice, five runs in a program, of four steps an epoch, unless asked otherwise."""
    arguments = {
        **PARTS, **TRAINING, "over": OVER, "settings": REST, "folds": 3, "repeats": 2, "key": 5, "width": 5,
        "devices": ONE, "standardise": True, "weights": WEIGHTS, "batch_size": 20, "refit": False, **more,
    }  # fmt: skip
    return cross_validate(*[arguments.pop(name) for name in PARTS], **arguments)


@pytest.fixture(scope="module")
def found():
    return validated(refit=True)


@pytest.fixture
def signals(monkeypatch):
    return Signals(monkeypatch)


def fold_alone(fold, point, key, standardise=True, weights=WEIGHTS, **more):
    """One fold by `fit`: its figures, one value per epoch, and the outputs for the rows that judge in the end."""
    train, test = fold
    x = [X[rows].astype(jax.numpy.result_type(float)) for rows in fold]
    x = fnn.standardise(*x) if standardise else x
    own = [None if weights is None else weights[rows] for rows in fold]
    training = {**TRAINING, "batch_size": 20, "settings": REST | point, "key": key, "weights": own[0], **more}
    run = fnn.fit(net, loss, optimizer, (x[0], LABELS[train]), validation=(x[1], LABELS[test], own[1]), **training)
    last = run._replace(params=run.train_state.params, state=run.train_state.state)
    history = run.history
    kinds = [(history.loss, history.metrics), (history.validation_loss, history.validation_metrics)]
    figures = [values for total, metrics in kinds for values in (total, metrics["accuracy"])]
    return dict(zip(FIGURES, figures, strict=True)), fnn.predict(net(REST | point), last, x[1])


def near(got, expected, dtype="float32"):
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


# ---- a fold is the run of `fit` alone


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_a_fold_is_the_run_of_fit_alone_on_its_rows(dtype):
    """Unequal folds, standardised, weighted, with dropout and momentum; repeats have other folds and other seeds."""
    with jax.enable_x64(dtype == "float64"):
        found = validated()
        assert {len(train) for train, _ in found.folds} == {66, 67}
        assert {values.dtype for values in found.histories.values()} == {np.dtype(dtype)}
        for number, fold in enumerate(found.folds):
            for point, settings in enumerate(OVER):
                figures, outputs = fold_alone(fold, settings, 5 + number // 3)
                for name, values in figures.items():
                    near(found.histories[name][point, number], values, dtype)
                if point == found.best:
                    near(found.predictions[number // 3, fold[1]], outputs, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("width, devices, batch_size", [(1, ONE, None), (4, TWO, 66)], ids=["one", "four"])
def test_so_it_is_in_one_batch_and_not_standardised(width, devices, batch_size):
    """Or where one batch holds all rows of one fold, but not those of another."""
    plain = {"standardise": False, "weights": None, "batch_size": batch_size}
    found = validated(width=width, devices=devices, repeats=1, over=OVER[:1], **plain)
    for number, fold in enumerate(found.folds):
        figures, outputs = fold_alone(fold, OVER[0], 5, **plain)
        for name, values in figures.items():
            near(found.histories[name][0, number], values)
        near(found.predictions[fold[1]], outputs)


def test_rows_that_judge_change_no_bit_of_the_training(monkeypatch):
    """They are 1e9, with other labels and weights: what the others are standardised by is the same too."""
    kept, add = [], _Best.add
    monkeypatch.setattr(_Best, "add", lambda best, at, runs: (kept.append((at, runs)), add(best, at, runs)))
    folds = fold_rows(100, 3, key=5, stratify=LABELS)
    x, labels, weights = X.copy(), LABELS.copy(), WEIGHTS.copy()
    test = folds[1][1]
    x[test], labels[test], weights[test] = 1e9, 1 - labels[test], 7.0

    def of_fold_1(**more):
        kept.clear()
        found = validated(folds=folds, repeats=1, **more)
        runs = dict(pair for at, some in kept for pair in zip(at, some, strict=True))
        return found, [(runs[place].train_state.params, runs[place].params) for place in (1, 4)]

    (clean, params), (poisoned, same) = of_fold_1(), of_fold_1(data=(x, labels), weights=weights)
    for name in ("loss", "accuracy"):
        assert same_bits(clean.histories[name][:, 1], poisoned.histories[name][:, 1])
        assert not same_bits(clean.histories[name][:, 0], poisoned.histories[name][:, 0])  # it trains on them
    assert same_bits(params, same)
    assert not same_bits(clean.histories["validation_loss"][:, 1], poisoned.histories["validation_loss"][:, 1])


# ---- what it gives


def test_every_row_judges_once_a_repeat(found):
    expected = fold_rows(100, 3, key=5, stratify=LABELS, repeats=2)
    assert same_bits(found.folds, expected)
    for repeat in (found.folds[:3], found.folds[3:]):
        np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in repeat])), np.arange(100))
    assert found.predictions.shape == (2, 100, 2) and np.isfinite(found.predictions).all()


def test_scores_are_those_after_the_last_epoch_and_the_table_has_their_means(found):
    assert list(found.scores) == list(found.histories) == FIGURES
    for name, values in found.scores.items():
        assert values.shape == (2, 6) and found.histories[name].shape == (2, 6, EPOCHS)
        np.testing.assert_array_equal(values, found.histories[name][..., -1])
        np.testing.assert_allclose(found.table[name], values.mean(1), rtol=1e-12)
        np.testing.assert_allclose(found.table[f"{name}_std"], np.sqrt(((values.T - values.mean(1)) ** 2).mean(0)))
    # what the predictions say is what the table says
    at = found.predictions[np.arange(6) // 3, :, :]
    hits = [(at[k, test].argmax(-1) == LABELS[test]) @ WEIGHTS[test] / WEIGHTS[test].sum()
            for k, (_, test) in enumerate(found.folds)]  # fmt: skip
    np.testing.assert_allclose(found.scores["validation_accuracy"][found.best], hits, rtol=1e-6)


def test_the_best_settings_are_those_of_the_lowest_mean(found):
    assert found.best == found.table["validation_loss"].argmin() == 1 and found.settings == OVER[1]
    assert found.points == OVER and found.table["diverged"].tolist() == [0, 0]


def test_a_table_that_prints_sorts_and_writes_itself(found, tmp_path):
    columns = ["lr", "l2", *[f"{name}{end}" for name in FIGURES for end in ("", "_std")], "diverged"]
    assert list(found.table) == columns
    assert [row["lr"] for row in found.sorted()] == [0.1, 0.02]
    assert [row["lr"] for row in found.sorted("lr")] == [0.02, 0.1]
    assert [row["lr"] for row in found.sorted("lr", largest=True)] == [0.1, 0.02]
    head, *lines = str(found).splitlines()
    assert head.split() == columns and [line.split()[0] for line in lines] == ["0.1", "0.02"]
    found.to_csv(tmp_path / "table.csv")
    names, *rows = csv.reader((tmp_path / "table.csv").read_text().splitlines())
    assert names == columns
    np.testing.assert_array_equal([float(row[2]) for row in rows], found.table["loss"])


def test_settings_that_diverge_in_a_fold_come_last(found):
    diverged = found._replace(table=found.table | {"diverged": np.array([0, 1])})
    assert [row["lr"] for row in diverged.sorted()] == [0.02, 0.1]
    assert str(diverged).splitlines()[1].split()[0] == "0.02"
    other = validated(over=[{"lr": 1e38, "l2": 1e-2}, *OVER])
    assert other.table["diverged"].tolist() == [6, 0, 0] and other.best == 2
    assert other.sorted()[-1]["lr"] == 1e38
    assert same_bits([v[1:] for v in other.histories.values()], [*found.histories.values()])


def test_the_refit_is_the_run_of_fit_on_all_rows(found):
    x = fnn.standardise(X)
    training = {**TRAINING, "batch_size": 20, "settings": REST | found.settings, "key": 5, "weights": WEIGHTS}
    run = fnn.fit(net, loss, optimizer, (x, LABELS), **training)
    assert same_bits(found.run, run)
    np.testing.assert_array_equal(found.standardiser(X), x)


def shaped(s):
    return fnn.serial(fnn.dense(s["features"]), fnn.leaky_relu(s["slope"]), fnn.dense(2))


@pytest.mark.slow
def test_shapes_seeds_and_batch_sizes_may_be_chosen_and_other_numbers_compile_nothing(compiled):
    """With settings that all share, the largest of a metric is the best, and of equal ones the first."""

    def best_of(slope, **more):
        arguments = {
            "net": shaped, "loss": LOSS, "optimizer": lambda s: optax.adam(s["lr"]), "penalty": None,
            "settings": {"slope": slope}, "monitor": "accuracy", "mode": "max", "repeats": 1, "standardise": False,
            "weights": None, "epochs": 20,
        }  # fmt: skip
        sizes = [{"features": 3, "batch_size": 34, "lr": 1e-6}, {"features": 6, "batch_size": 25, "lr": 0.05}]
        points = [{**size, "seed": seed} for size in sizes for seed in (3, 3)]
        return validated(**arguments | more, over=points)

    first = best_of(0.1, refit=True)
    assert has_compiled(compiled) == (3, 3), compiled  # one for each size, and the refit
    assert [plan.members for plan in first.plans] == [6, 6]
    assert (first.monitor, first.mode) == ("validation_accuracy", "max")
    accuracies = first.table["validation_accuracy"]
    assert accuracies[0] == accuracies[1] < accuracies[2] == accuracies[3] and first.best == 2
    assert [row["features"] for row in first.sorted()] == [6, 6, 3, 3]
    run = fnn.fit(shaped({"features": 6, "slope": 0.1}), LOSS, optax.adam(0.05), (X, LABELS), key=3, batch_size=25,
                  epochs=20, metrics=TRAINING["metrics"], progress=False)  # fmt: skip
    np.testing.assert_allclose(first.run.history.loss, run.history.loss, rtol=1e-4)
    compiled.clear()
    second = best_of(0.3)
    assert has_compiled(compiled) == (0, 0), compiled
    assert not same_bits(first.histories, second.histories) and second.run is None


TINY = {
    "net": fnn.serial(fnn.dense(1)), "loss": fnn.losses.squared_error, "optimizer": optax.sgd(0.1), "over": None,
    "data": (X, X[:, :1]), "settings": None, "penalty": None, "metrics": None, "batch_size": None, "repeats": 1,
    "standardise": False, "weights": None, "epochs": 20, "width": 2, "folds": 2,
}  # fmt: skip


def test_folds_of_ones_own_may_leave_rows_out():
    pairs = (([*range(50)], range(60, 80)), (np.arange(50, 100), np.arange(20)))
    found = validated(**TINY | {"folds": iter(pairs)})
    judged = [*range(20), *range(60, 80)]
    assert np.isfinite(found.predictions[judged]).all()
    assert np.isnan(np.delete(found.predictions, judged, 0)).all()
    assert found.points == [{}] and found.settings == {} and next(iter(found.table)) == "loss"
    assert found.run is None and found.standardiser is None
    assert len(str(found).splitlines()) == 2


@pytest.mark.parametrize(
    "metric", ["loss_std", "error_std", "validation_loss", "validation_error", "epochs", "diverged"]
)
def test_a_metric_named_like_a_column_of_the_table_raises(metric, compiled):
    metrics = {"error": fnn.losses.absolute_error, metric: lambda y, t: y[:, 0]}
    with pytest.raises(ValueError, match=f"metrics: expected names of your own, got '{metric}', a column of the res"):
        fnn.cross_validate(fnn.serial(fnn.dense(1)), fnn.losses.squared_error, optax.sgd(0.1), (X, X[:, :1]), epochs=1,
                           folds=2, metrics=metrics, progress=False)  # fmt: skip
    assert has_compiled(compiled) == (0, 0)


def test_a_setting_named_like_a_column_of_the_table_raises():
    with pytest.raises(ValueError, match="over: expected names of your own, got 'loss_std', a column of the result"):
        fnn.cross_validate(fnn.serial(fnn.dense(1)), fnn.losses.squared_error, lambda s: optax.sgd(s["loss_std"]),
                           (X, X[:, :1]), epochs=1, folds=2, over={"loss_std": [0.1]}, progress=False)  # fmt: skip


def test_groups_stay_together_and_any_key_makes_folds():
    groups = np.repeat(np.arange(4), 25)
    found = validated(**TINY, groups=groups)
    for train, test in found.folds:
        assert len(train) == 50 and not set(groups[train]) & set(groups[test])
    by_key = [validated(**TINY, key=key).folds for key in (jax.random.key(5), 5, 6)]
    assert same_bits(by_key[0], by_key[1]) and not same_bits(by_key[0], by_key[2])
    assert same_bits(by_key[1], fold_rows(100, 2, key=5))
    words = (0, 5), (1, 5), (2, 5)  # that differ in the first alone
    keys = [jax.random.wrap_key_data(np.array(pair, np.uint32)) for pair in words]
    assert len({np.concatenate([test for _, test in validated(**TINY, key=key).folds]).tobytes() for key in keys}) == 3


def test_categories_among_several_inputs_are_not_standardised():
    x = {"age": np.array([[1.0], [3.0], [5.0]]), "town": np.array([[0], [7], [8]])}
    (view, _), scalers = fold_selections([(np.array([0, 1]), np.array([2]))], x, inputs_to_scale(x, True)[1])
    assert view.mean["town"] is None and view.mean["age"].tolist() == [[2.0]]
    assert scalers[0](x)["town"].dtype == x["town"].dtype
    check_scaled(fnn.parallel(age=fnn.dense(1), town=fnn.embedding(9, 1)), x, view)


def test_images_of_bytes_are_standardised_without_a_warning():
    images = np.abs(20 * X).astype("uint8").reshape(100, 2, 2)
    flat = fnn.serial(fnn.flatten(), fnn.dense(1))
    found = validated(**TINY | {"data": (images, X[:, :1]), "net": flat, "standardise": True, "refit": True})
    assert {moment.dtype for moment in found.standardiser[:2]} == {np.dtype("float32")}
    floats = fnn.standardise(images.astype("float32"))
    np.testing.assert_allclose(found.standardiser(images), floats, rtol=1e-5, atol=1e-5)
    near(fnn.predict(flat, found.run, found.standardiser(images)), fnn.predict(flat, found.run, floats))
    assert np.isfinite(found.predictions).all()


# ---- interrupted, and gone on with


@pytest.mark.parametrize(
    "width, devices", [(5, ONE), pytest.param(5, TWO, marks=pytest.mark.slow)], ids=["one", "threads"]
)
def test_ctrl_c_ends_it_early_and_the_same_call_goes_on_to_the_same_bits(width, devices, signals, tmp_path):
    whole = validated(refit=True)
    signals.send(signal.SIGINT, when=lambda count, segment: count == 110)
    stop = ending_of(validated, refit=True, devices=devices, checkpoint=tmp_path)
    assert str(stop).startswith("cross_validate: expected 12 members") and "Call cross_validate again" in str(stop)
    part = stop.run
    assert part.predictions is None and part.run is None and np.isnan(part.table["validation_loss"]).any()
    assert part.settings == OVER[0] and len(str(part).splitlines()) == 3
    again = validated(refit=True, devices=devices, checkpoint=tmp_path)
    for name in ("table", "scores", "histories", "predictions", "run", "best"):
        assert same_bits(getattr(again, name), getattr(whole, name)), name
    with pytest.raises(ValueError, match=r"(?s)checkpoint: expected the run .*\n  views: expected "):
        validated(devices=devices, checkpoint=tmp_path, key=6)


def test_a_signal_when_all_folds_are_done_ends_the_program_too(signals):
    signals.send(signal.SIGINT, when=lambda count, segment: segment.state.epoch.max() == EPOCHS)
    stop = ending_of(validated, over=OVER[:1], repeats=1)
    assert "when all was done" in str(stop) and np.isfinite(stop.run.table["validation_loss"]).all()


@pytest.mark.parametrize("returns", [False, True], ids=["Ctrl-C", "a handler that returns"])
def test_a_signal_in_the_fit_on_all_rows_keeps_the_folds(returns, monkeypatch, tmp_path):
    def signalling(*args):
        for segment in fnn.fitting.segments.segments(*args):
            if segment.state.epoch == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield segment

    whole = validated(refit=True)
    monkeypatch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)
    monkeypatch.setattr("fnn.fitting.host_loop.segments", signalling)
    text = "expected the best settings to train on all rows, got SIGTERM before they had; the folds have run, and "
    if returns:
        with (
            handler(signal.SIGTERM, lambda *of: None),
            pytest.warns(TrainingInterrupted, match=text + "are in no file"),
        ):
            found = validated(refit=True)
    else:
        stop = ending_of(validated, refit=True, checkpoint=tmp_path)
        assert text + f"what could be written of them is kept in {tmp_path}. Call again." in str(stop)
        found = stop.run
    assert len(found.run.history.loss) == 3
    assert same_bits([found.predictions, found.table], [whole.predictions, whole.table])


def test_a_signal_in_the_predictions_keeps_the_folds(monkeypatch):
    def signalling(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return fnn.predict(*args)

    monkeypatch.setattr("fnn.studies.folds.predict", signalling)
    found = ending_of(validated, refit=True).run
    assert found.predictions is None and found.run is None and np.isfinite(found.table["validation_loss"]).all()


# ---- what is refused


PAIR = ([0, 1], [2])
BAD = {
    "one fold": (dict(folds=1), ValueError, "folds: expected a whole number, at least 2, got 1. Write folds=2"),
    "more folds than rows": (
        dict(folds=101, stratify=False),
        ValueError,
        "folds: expected at most as many folds as rows, 100, got 101. Write folds=100",
    ),
    "more folds than rows of a class": (
        dict(data=(X, (np.arange(100) < 2).astype(int))),
        ValueError,
        "stratify: expected at least 3 rows per class, got 2 of class 1. Write folds=2, or stratify=False",
    ),
    "half a fold": (dict(folds=2.5), ValueError, "folds: expected a whole number, at least 2, got 2.5"),
    "no folds": (dict(folds=[], repeats=1), ValueError, "folds: expected at least one, got none"),
    "folds of three": (
        dict(folds=[PAIR, (*PAIR, [3])], repeats=1),
        TypeError,
        r"folds\[1\]: expected a pair \(train, test\), got 3 things",
    ),
    "overlapping": (
        dict(folds=[PAIR, ([1, 2, 3], [3, 4])], repeats=1),
        ValueError,
        r"folds\[1\]: expected no row on both sides, got row 3",
    ),
    "a row too many": (
        dict(folds=[PAIR, ([1, 2], [100])], repeats=1),
        ValueError,
        r"folds\[1\]\[1\]: expected rows 0 to 99, got 100 to 100. Count from 0",
    ),
    "a row -1": (
        dict(folds=[([-1, 1], [2])], repeats=1),
        ValueError,
        r"folds\[0\]\[0\]: expected rows 0 to 99, got -1",
    ),
    "a mask": (
        dict(folds=[(X[:, 0] > 0, [2])], repeats=1),
        ValueError,
        r"folds\[0\]\[0\]: expected row numbers, got bo",
    ),
    "an empty side": (dict(folds=[([], [2])], repeats=1), ValueError, r"folds\[0\]\[0\]: expected at least one row"),
    "repeats": (dict(folds=[PAIR]), ValueError, "repeats: expected none with folds of your own, got both"),
    "no repeats": (dict(repeats=0), ValueError, "repeats: expected a whole number, at least 1, got 0"),
    "groups": (
        dict(folds=[PAIR], repeats=1, groups=LABELS),
        ValueError,
        "groups: expected none with folds of your own, got both. Pass it to fnn.folds instead",
    ),
    "groups of another length": (
        dict(groups=LABELS[:9]),
        fnn.ShapeError,
        "groups: expected one for each of 100 rows, got 9",
    ),
    "groups and classes": (
        dict(groups=LABELS, stratify=True),
        ValueError,
        "folds: expected stratify or groups, got bo",
    ),
    "classes of numbers": (
        dict(**TINY, stratify=True),
        ValueError,
        "stratify: expected targets that are classes, got numbers. Pass stratify=False",
    ),
    "classes": (dict(stratify=LABELS), TypeError, "stratify: expected True, False or None, got ndarray"),
    "patience": (dict(patience=3), ValueError, "patience: expected none in a cross-validation, .* got one"),
    "patience to choose": (
        dict(over=[{**point, "patience": 3} for point in OVER]),
        ValueError,
        "patience: expected none in a cross-validation, .* got one. Choose the number of epochs by the histories",
    ),
    "validation": (
        dict(validation=(X, LABELS)),
        ValueError,
        "validation: expected none in a cross-validation, .*got o",
    ),
    "weights that judge nothing": (
        dict(folds=[PAIR, ([3, 4], [50, 51])], repeats=1, weights=(np.arange(100) < 50).astype(float)),
        ValueError,
        "weights: expected one above 0 among the rows to judge by in fold 1, got zeros only",
    ),
    "no epochs": (dict(epochs=0), ValueError, "epochs: expected a whole number, at least 1, got 0"),
    "keep": (
        dict(keep="all"),
        TypeError,
        r"cross_validate: expected arguments of its own or of fit, got keep='all'\. Call help",
    ),
    "a missing setting": (dict(settings=None), ValueError, "settings: expected a number named 'scale', got"),
    "a stream": (dict(data=lambda: iter([])), TypeError, r"data: expected a pair \(inputs, targets\), got function"),
    "a seed too large": (dict(key=2**64), ValueError, r"key: expected a seed below 2\^64, got 18446"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_raises_before_anything_compiles(name, compiled):
    arguments, error, message = BAD[name]
    with pytest.raises(error, match=message) as raised:
        validated(**arguments)
    assert type(raised.value) is error
    assert has_hint(str(raised.value))
    assert has_compiled(compiled) == (0, 0)
