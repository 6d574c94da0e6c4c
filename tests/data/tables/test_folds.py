"""A table in each fold: fitted to its training rows, in arrays of one shape for all folds."""

import pickle

import jax
import numpy as np
import pytest

import fnn
from fnn.data.tables.folds import fit_tables, loss_of_targets, metric_of_targets
from tests.helpers.compare import has_hint

pandas = pytest.importorskip("pandas")
ROWS = 12
TRAIN, TEST = np.arange(8), np.arange(8, ROWS)


def frame(**more):
    """The last four rows differ: a town, a gap, a scale of their own."""
    rng = np.random.default_rng(0)
    area, price = rng.uniform(20, 200, ROWS), 1000 * rng.uniform(20, 200, ROWS)
    columns = {
        "area": np.where(np.arange(ROWS) == 9, np.nan, area),
        "town": ["Ulm", "Bonn"] * 4 + ["Rome", "Ulm", None, "Aix"],
        "sold": pandas.Timestamp("2020-01-01") + pandas.to_timedelta(rng.integers(0, 900, ROWS), unit="D"),
        "rooms": np.where(np.arange(ROWS) == 3, np.nan, rng.integers(1, 6, ROWS)),
        "price": np.where(np.arange(ROWS) == 11, 100, 1) * price,
        "kind": ["flat", "hut"] * 5 + ["flat", "yurt"],
    }
    return pandas.DataFrame(columns | more)


F = frame()
WHOLE = fnn.Table.fit(F, target=["price", "kind"])
FOUND = fit_tables(WHOLE, F, [(TRAIN, TEST), (TEST, TRAIN)])
PRICES = fnn.Table.fit(F, target="price", leave_out="kind")


def rows_of(tree, fold):
    return jax.tree.map(lambda a: a[fold * ROWS : (fold + 1) * ROWS], tree)


def test_a_fold_has_the_arrays_of_its_own_table_and_zeros_where_it_shows_no_gaps():
    own = fnn.Table.fit(F.iloc[TRAIN], target=["price", "kind"])
    wanted, got = own.inputs(F), rows_of(FOUND.x, 0)
    assert [column.width for column in own.columns[:1]] == [1] and WHOLE.columns[0].width == 2
    np.testing.assert_array_equal(got["numbers"], np.insert(wanted["numbers"], 1, 0.0, axis=1))
    np.testing.assert_array_equal(got["categories"]["town"], wanted["categories"]["town"])
    assert got["categories"]["town"].ravel().tolist() == [2, 1] * 4 + [0, 2, 0, 0]  # Rome, Aix, gaps were not there
    t = rows_of(FOUND.t, 0)
    np.testing.assert_array_equal(t["targets"]["price"][:8], own.target_of(F.iloc[TRAIN])["price"])
    assert t["targets"]["kind"].tolist() == [0, 1] * 5 + [0, 2]  # the names of classes are those of all rows
    assert [column.size for column in FOUND.tables[1].columns[1:2]] == [5]  # Aix, Rome, Ulm, a gap


def test_each_fold_decides_by_its_rows_whether_a_target_is_a_logarithm():
    targets = [table.targets[0] for table in FOUND.tables]
    assert WHOLE.targets[0].log and [target.log for target in targets] == [False, False]
    skewed = frame(price=np.r_[np.exp(2 * np.arange(8.0)), 1.0, 2.0, 3.0, 4.0])
    table = fnn.Table.fit(skewed, target="price")
    found = fit_tables(table, skewed, [(TRAIN, TEST), (TEST, TRAIN)])
    assert [own.targets[0].log for own in found.tables] == [True, False]
    for fold in (0, 1):  # outputs that are the targets are decoded as the prices
        t = rows_of(found.t, fold)["targets"]
        np.testing.assert_allclose(found.decode(fold, t), skewed.price, 1e-5)


def test_what_the_given_table_has_no_room_for_is_as_if_it_was_not_there():
    small = fnn.Table.fit(F.iloc[[0, 1, 2, 4]].assign(town="Ulm"), target="price", leave_out="kind")
    x = fit_tables(small, F, [(np.arange(ROWS), [])]).x
    assert x["categories"]["town"].ravel().tolist() == [1, 0] * 4 + [0, 1, 0, 0] and x["numbers"].shape == (ROWS, 6)


def test_held_out_rows_have_no_say():
    poisoned = F.copy()
    poisoned.loc[TEST, ["area", "price"]] = 1e9
    poisoned.loc[TEST, "town"] = ["Bonn", "Oslo", "Ulm", "Nice"]
    poisoned.loc[TEST, "sold"] = pandas.Timestamp("1970-01-01")
    other = fit_tables(WHOLE, poisoned, [(TRAIN, TEST)])
    assert other.tables[0] == FOUND.tables[0]
    for mine, theirs in zip(*(jax.tree.leaves((found.x, found.t)) for found in (FOUND, other)), strict=True):
        np.testing.assert_array_equal(mine[:8], theirs[:8])
    assert fit_tables(WHOLE, poisoned, [(TEST, TRAIN)]).tables[0] != FOUND.tables[1]


def worst(kept, weight):
    return abs(kept[0] - kept[1])[:, 0].max()


@pytest.mark.parametrize(
    "metric",
    [fnn.losses.absolute_error, fnn.metrics.rmse(), fnn.metrics.from_rows(worst), lambda y, t: (y * t)[:, 0]],
    ids=["loss", "sums", "rows", "product"],
)
def test_metrics_in_units_are_in_those_of_the_fold(metric):
    y = np.linspace(-1, 1, ROWS, dtype="float32")[:, None]
    found = fit_tables(PRICES, F, [(TRAIN, TEST)])
    plain, units = metric_of_targets(metric), metric_of_targets(PRICES.in_units(metric))
    t = found.t["targets"]
    np.testing.assert_allclose(plain(y, found.t), metric(y, t), 1e-6)
    np.testing.assert_allclose(units(y, found.t), found.tables[0].in_units(metric)(y, t), 1e-5)
    assert not np.allclose(units(y, found.t), PRICES.in_units(metric)(y, t), 0.1)
    assert str(units) == f"{metric} in units"


@pytest.mark.parametrize("metric", [fnn.losses.absolute_error, fnn.metrics.rmse()], ids=str)
def test_what_a_study_sends_to_its_workers_can_be_pickled(metric):
    y, t = np.ones((ROWS, 1), "float32"), fit_tables(PRICES, F, [(TRAIN, TEST)]).t
    units = PRICES.in_units(metric)
    for made in (metric_of_targets(metric), metric_of_targets(units), loss_of_targets(fnn.losses.squared_error)):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(made))(y, t), made(y, t))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(units))(y, t["targets"]), units(y, t["targets"]))


def test_classes_stay_in_metrics_in_units():
    logits = np.eye(3, dtype="float32")[FOUND.t["targets"]["kind"]]
    y = {"price": FOUND.t["targets"]["price"], "kind": logits}
    right = WHOLE.in_units(lambda y, t: fnn.accuracy(y["kind"], t["kind"]) + abs(y["price"] - t["price"])[:, 0])
    assert metric_of_targets(right)(y, FOUND.t).tolist() == [1.0] * 2 * ROWS
    kinds = fnn.Table.fit(F, target="kind", leave_out="price")
    found = fit_tables(kinds, F, [(TRAIN, TEST)])
    assert metric_of_targets(kinds.in_units(fnn.accuracy))(logits[:ROWS], found.t).all()
    np.testing.assert_array_equal(found.decode(0, logits), logits)


def test_a_loss_takes_targets_with_units():
    y, t = np.ones((2 * ROWS, 1), "float32"), {**FOUND.t, "targets": FOUND.t["targets"]["price"]}
    loss = fnn.losses.squared_error
    got = loss_of_targets(loss)
    for name in ("value", "grad", "residuals"):
        np.testing.assert_array_equal(getattr(got, name)(y, t), getattr(loss, name)(y, t["targets"]))
    with pytest.raises(ValueError, match=r"softmax.*expected"):
        loss_of_targets(fnn.losses.sparse_softmax_cross_entropy).check(np.zeros((ROWS * 2, 2)), {"targets": y * 7})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"price": np.r_[np.exp(2 * np.arange(8.0)), 1, 2, -3, 4]},
            r"table, fold 0, column 'price': expected numbers of at least 0, as in the training, got -3 in row 10",
        ),
        ({"area": np.r_[np.arange(11.0), 1e300]}, r"table, fold 0: expected numbers that fit float32 .* in row 11"),
        ({"price": np.r_[np.arange(11.0), 1e300]}, r"table, fold 0: expected numbers that fit float32 .* in row 11"),
    ],
    ids=["negative", "an input too large", "a target too large"],
)
def test_rows_that_a_fold_cannot_judge_by_are_named(more, message):
    with pytest.raises(ValueError, match=message) as raised:
        fit_tables(PRICES, frame(**more), [(TRAIN, TEST)])
    assert has_hint(str(raised.value))


def test_dates_that_are_all_gaps_are_their_mean():
    for gaps in ([pandas.NaT] * ROWS, [None] * ROWS):
        assert not WHOLE.inputs(F.assign(sold=pandas.Series(gaps, dtype=object)))["numbers"][:, 2:6].any()
