"""`cross_validate` of a frame: a fold is what a loop over folds gives that fits a table, and a network, in each."""

import numpy as np
import optax
import pytest

import fnn
from fnn.studies.cross_validation import _Best, cross_validate
from tests.helpers.compare import has_hint
from tests.helpers.problems import same_bits
from tests.helpers.studies import has_compiled

pandas = pytest.importorskip("pandas")
ROWS, KEY = 48, 3


def frame(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    area, town = rng.uniform(20, 200, rows), rng.choice(["Ulm", "Bonn", "Kiel"], rows)
    dear = np.exp(area / 12 + (town == "Ulm") + 0.1 * rng.normal(size=rows))
    return pandas.DataFrame(
        {
            "area": np.where(np.arange(rows) % 5 == 1, np.nan, area),
            "town": np.where(np.arange(rows) % 7 == 2, None, town),
            "new": rng.random(rows) < 0.5,
            "price": dear,
            "large": area > 100,
        }
    )


def error(y, t):
    return abs(y["price"] - t["price"])[:, 0] if isinstance(y, dict) else abs(y - t)[:, 0]


F = frame()
TABLE = fnn.Table.fit(F, target="price", leave_out="large")
NET = fnn.network_for(TABLE, hidden=())
FOLDS = [(np.arange(24, 48), np.arange(24)), (np.arange(24), np.arange(24, 48))]


def validated(data=F, table=TABLE, **more):
    given = {"epochs": 4, "batch_size": 8, "folds": FOLDS, "key": KEY, "refit": False, "progress": False, "width": 1}
    given |= {"metrics": {"error": table.in_units(error), "rmse": fnn.metrics.rmse()}} | more
    return cross_validate(more.pop("net", NET), table.loss, optax.adam(0.05), data, table=table, **given)


@pytest.fixture(scope="module")
def found():
    return validated()


def alone(fold, data=F, net=NET, key=KEY, weights=None, **how):
    """A fold by hand: history, and what the last parameters say of the rows held out."""
    train, test = fold
    table = fnn.Table.fit(data.iloc[train], **how)
    own = [None if weights is None else weights[rows] for rows in fold]
    run = fnn.fit(
        net, table.loss, optax.adam(0.05), table(data.iloc[train]), epochs=4, batch_size=8, key=key, weights=own[0],
        validation=(*table(data.iloc[test]), own[1]), metrics={"error": table.in_units(error)}, progress=False,
    )  # fmt: skip
    last = run._replace(params=run.train_state.params, state=run.train_state.state)
    return table, run.history, table.decode(fnn.predict(net, last, table.inputs(data.iloc[test])))


def check_fold(found, number, history, at=0):
    for name, wanted in {
        "loss": history.loss,
        "validation_loss": history.validation_loss,
        "error": history.metrics["error"],
        "validation_error": history.validation_metrics["error"],
    }.items():
        np.testing.assert_allclose(found.histories[name][at, number], wanted, 1e-5, err_msg=name)


def test_a_fold_is_that_of_a_loop_which_fits_a_table_in_each(found):
    table, history, y = alone(FOLDS[1], target="price", leave_out="large")
    check_fold(found, 1, history)
    np.testing.assert_allclose(found.predictions[FOLDS[1][1]], y, 1e-5)
    assert found.predictions.shape == (ROWS,) and table != TABLE and table.targets[0].log


def test_held_out_rows_change_no_bit_of_a_fold_and_other_rows_compile_nothing(found, monkeypatch, compiled):
    kept, add = {}, _Best.add
    monkeypatch.setattr(
        _Best, "add", lambda best, at, runs: (kept.update(zip(at, runs, strict=True)), add(best, at, runs))
    )
    poisoned = F.copy()
    poisoned.loc[:23, ["area", "price"]] = poisoned.loc[:23, ["area", "price"]] * 1e9
    poisoned.loc[:23, "town"], poisoned.loc[:23, "new"] = "Oslo", True
    validated()
    params = {number: run.train_state.params for number, run in kept.items()}
    other = validated(poisoned)
    assert has_compiled(compiled) == (0, 0)
    assert same_bits(params[0], kept[0].train_state.params)  # trains on the last rows
    assert not same_bits(params[1], kept[1].train_state.params)
    assert same_bits(found.histories["loss"][:, 0], other.histories["loss"][:, 0])
    assert not same_bits(found.histories["validation_error"][:, 0], other.histories["validation_error"][:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 6])
def test_so_it_is_with_two_heads_weights_repeats_and_settings_to_choose_from(width, tmp_path):
    data, weights = frame(1, 120), np.random.default_rng(0).integers(1, 3, 120).astype("float32")
    how = {"target": ["price", "large"]}
    table = fnn.Table.fit(data, **how)
    net = fnn.network_for(table, hidden=(4,))
    given = {
        "epochs": 4, "batch_size": 8, "folds": 3, "repeats": 2, "stratify": "large", "key": KEY, "weights": weights,
        "over": {"lr": [0.01, 0.05]}, "metrics": {"error": table.in_units(error)}, "progress": False, "width": width,
        "checkpoint": str(tmp_path / "study"),
    }  # fmt: skip
    parts = net, table.loss, lambda s: optax.adam(s["lr"])
    found = cross_validate(*parts, data, table=table, **given)
    for number, fold in enumerate(found.folds):
        _, history, y = alone(fold, data, net, KEY + number // 3, weights, **how)
        check_fold(found, number, history, at=1)
        if found.best == 1:
            np.testing.assert_allclose(found.predictions["price"][number // 3, fold[1]], y["price"], 1e-4)
            classes = found.predictions["large"][number // 3, fold[1]].argmax(1)
            np.testing.assert_array_equal(classes, y["large"])
    assert found.best == 1 and found.predictions["large"].shape == (2, 120, 2)
    refit = fnn.fit(*parts, table(data), epochs=4, batch_size=8, key=KEY, weights=weights, settings={"lr": 0.05})
    assert same_bits(refit.train_state.params, found.run.train_state.params)
    again = cross_validate(*parts, data, table=table, **given)  # from the folder
    assert same_bits(found.histories, again.histories)
    with pytest.raises(ValueError, match="expected"):
        cross_validate(*parts, data.assign(area=data.area * 2 + (data.index == 0)), table=table, **given)


BAD = {
    "arrays": (dict(data=TABLE(F)), TypeError, r"data: expected a frame beside a table, got a tuple\. Pass the frame"),
    "no frame": (dict(data=3), TypeError, r"table: expected a frame of pandas or polars, got int 3"),
    "a network for a table": (dict(table=NET), TypeError, r"table: expected a Table, got .*\. Pass table=fnn"),
    "no table": (
        dict(table=None),
        TypeError,
        r"data: expected a pair \(inputs, targets\), or a frame beside a table, got .*\. Pass table=fnn\.Table\.fit",
    ),
    "standardise": (dict(standardise=True), ValueError, r"standardise: expected False beside a table, .* got True"),
    "a missing column": (dict(data=F.drop(columns="new")), fnn.ShapeError, "got a frame without 'new'"),
    "another metric": (dict(metrics={"r2": fnn.metrics.r2}), TypeError, r"metrics\['r2'\]: expected a function, got"),
    "another network": (
        dict(net=fnn.serial(fnn.select("numbers"), fnn.dense(2))), fnn.ShapeError, "squared_error: expected",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name):
    more, kind, message = BAD[name]
    more = {"metrics": {}, **more}
    with pytest.raises(kind, match=message) as raised:
        cross_validate(
            more.pop("net", NET), TABLE.loss, optax.adam(0.05), more.pop("data", F), table=more.pop("table", TABLE),
            epochs=1, progress=False, **more,
        )  # fmt: skip
    assert has_hint(str(raised.value))
