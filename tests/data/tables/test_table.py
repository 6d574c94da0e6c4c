"""Tables: what frames become, fitted on the training rows alone; any order of columns; what is wrong is named."""

import datetime

import numpy as np
import pytest

import fnn
from fnn.data.tables.table import Table

pandas = pytest.importorskip("pandas")


def frame(rows=12, seed=0):
    rng = np.random.default_rng(seed)
    area = rng.uniform(20, 200, rows)
    return pandas.DataFrame(
        {
            "area": np.where(np.arange(rows) % 4 == 1, np.nan, area),
            "town": [("Ulm", "Bonn", None)[i % 3] for i in range(rows)],
            "new": np.arange(rows) % 2 == 0,
            "sold": [datetime.datetime(2020, 1 + i % 12, 3, 6) for i in range(rows)],
            "code": np.arange(rows) % 3 + 7,
            "price": 1000 * area + 5,
            "kind": [("flat", "house")[i % 2] for i in range(rows)],
        }
    )


F = frame()
TABLE = Table.fit(F, target="price", categories="code")
X, T = TABLE(F)


def test_each_column_becomes_what_it_should():
    area = F.area.to_numpy()
    there = ~np.isnan(area)
    wanted = np.where(there, (area - area[there].mean()) / area[there].std(), 0)
    np.testing.assert_allclose(X["numbers"][:, 0], wanted, 1e-5, 1e-6)
    np.testing.assert_array_equal(X["numbers"][:, 1], ~there)  # the gaps
    np.testing.assert_allclose(X["numbers"][:, 2], np.where(F.new, 1, -1), 1e-6)
    when = F.sold.to_numpy()
    parts = np.stack([when.astype(float), F.sold.dt.month, F.sold.dt.day_of_week, F.sold.dt.hour], 1)
    deviation = np.where(parts.std(0) > 0, parts.std(0), 1)
    np.testing.assert_allclose(X["numbers"][:, 3:], (parts - parts.mean(0)) / deviation, 1e-4, 1e-5)
    assert X["categories"]["town"].ravel().tolist() == [2, 1, 3] * 4  # Bonn 1, Ulm 2, a gap 3, unseen 0
    assert X["categories"]["code"].ravel().tolist() == [1, 2, 3] * 4
    np.testing.assert_allclose([T.mean(), T.std()], [0, 1], atol=1e-5)
    assert {a.dtype.name for a in (X["numbers"], T)} == {"float32"} and X["categories"]["town"].dtype == np.int32


def test_columns_in_any_order_and_others_beside_them():
    other = F[list(F.columns)[::-1]].assign(more=1.0)
    x, t = TABLE(other)
    np.testing.assert_array_equal(x["numbers"], X["numbers"])
    np.testing.assert_array_equal(x["categories"]["town"], X["categories"]["town"])
    np.testing.assert_array_equal(t, T)


def test_what_was_not_there_in_the_training():
    new = F.assign(town="Kiel", new=None, code=99)
    x = TABLE.inputs(new.drop(columns="price"))
    assert not x["categories"]["town"].any() and not x["categories"]["code"].any()
    assert not x["numbers"][:, 2].any()  # no gaps in the training: the mean
    assert TABLE.inputs(F.assign(code=F.code.astype(float)))["categories"]["code"].ravel().tolist() == [1, 2, 3] * 4


def test_only_the_training_rows_are_looked_at():
    train, held = F.iloc[:8], F.iloc[8:].assign(area=1e9, town="Kiel", price=1e12)
    before = Table.fit(train, target="price")
    assert Table.fit(pandas.concat([train, held]).iloc[:8], target="price") == before
    assert Table.fit(pandas.concat([train, held]), target="price") != before
    x, t = before(train)
    assert np.abs(x["numbers"]).max() < 10 and np.abs(t).max() < 10


def test_targets_come_back_in_their_units():
    y = TABLE.decode(T)
    np.testing.assert_allclose(y, F.price, 1e-5)
    error = TABLE.in_units(fnn.losses.absolute_error)
    np.testing.assert_allclose(error(T + 1.0, T), np.full(12, TABLE.targets[0].deviation), 1e-4)
    skewed = F.assign(price=np.exp(np.arange(12.0)))
    table = Table.fit(skewed, target="price")
    assert table.targets[0].log
    np.testing.assert_allclose(table.decode(table.target_of(skewed)), skewed.price, 1e-4)


def test_classes_and_several_targets():
    both = Table.fit(F, target=["price", "kind", "new"])
    x, t = both(F)
    assert t["kind"].tolist() == [0, 1] * 6 and t["new"].tolist() == [1, 0] * 6 and t["price"].shape == (12, 1)
    assert [target.outputs for target in both.targets] == [1, 2, 2]
    decoded = both.decode({"price": t["price"], "kind": np.eye(2)[t["kind"]], "new": np.eye(2)[t["new"]]})
    assert decoded["kind"].tolist() == F.kind.tolist() and decoded["new"].tolist() == ["1", "0"] * 6
    assert Table.fit(F, target="kind").loss == fnn.losses.sparse_softmax_cross_entropy


def test_a_file_has_all_of_it(tmp_path):
    TABLE.save(tmp_path / "table.json")
    assert Table.load(tmp_path / "table.json") == TABLE
    (tmp_path / "other.json").write_text('{"format": "x"}')
    with pytest.raises(ValueError, match=r"path: expected a file that Table\.save wrote"):
        Table.load(tmp_path / "other.json")


def test_polars_gives_the_same():
    polars = pytest.importorskip("polars")
    columns = {name: F[name].tolist() for name in F.columns}
    columns["area"] = [None if np.isnan(v) else v for v in F.area]
    columns["sold"] = [v.to_pydatetime() for v in F.sold]
    columns["town"] = [("Ulm", "Bonn", None)[i % 3] for i in range(12)]
    made = polars.DataFrame(columns)
    assert Table.fit(made, target="price", categories="code") == TABLE
    np.testing.assert_array_equal(TABLE.inputs(made)["numbers"], X["numbers"])


@pytest.mark.parametrize("dtype", ["category", "string", object])
def test_text_of_any_dtype_is_the_same(dtype):
    assert Table.fit(F.assign(town=F.town.astype(dtype)), target="price", categories="code") == TABLE


def test_numbers_that_may_have_gaps_are_numbers():
    assert Table.fit(F.assign(area=F.area.astype("Float64")), target="price", categories="code") == TABLE


BAD = {
    "no frame": (lambda: Table.fit({"a": [1]}, target="a"), TypeError, "Table.fit: expected a frame of pandas or po"),
    "no rows": (lambda: Table.fit(F[:0], target="price"), ValueError, "Table.fit: expected at least one row, got none"),
    "no such target": (lambda: Table.fit(F, target="cost"), ValueError, "Table.fit: expected target among the columns"),
    "a target of another type": (
        lambda: Table.fit(F, target=3),
        TypeError,
        "Table.fit: expected names of columns as t",
    ),
    "nothing but the target": (lambda: Table.fit(F[["price"]], target="price"), ValueError, "expected columns beside"),
    "a column twice": (lambda: Table.fit(F[["area", "area", "price"]], target="price"), ValueError, "got 'area' twice"),
    "gaps in the target": (
        lambda: Table.fit(F, target="area"),
        ValueError,
        "column 'area': expected a target in each row, got none in row 1",
    ),
    "one class": (lambda: Table.fit(F.assign(kind="a"), target="kind"), ValueError, "expected at least two classes"),
    "infinite": (
        lambda: Table.fit(F.assign(area=np.inf), target="price"),
        ValueError,
        "column 'area': expected finite numbers or gaps, got inf in row 0",
    ),
    "mixed": (
        lambda: Table.fit(F.assign(town=["a", 1] * 6), target="price"),
        TypeError,
        "column 'town': expected numbers, text, dates or booleans, all of one kind, got int and str",
    ),
    "lists": (lambda: Table.fit(F.assign(town=[[1]] * 12), target="price"), TypeError, "column 'town': expected numb"),
    "a missing column": (
        lambda: TABLE.inputs(F.drop(columns=["town", "area"])),
        fnn.ShapeError,
        "table: expected the 6 columns of the training, got a frame without 'area', 'town'. Add them",
    ),
    "text for numbers": (
        lambda: TABLE.inputs(F.assign(area="big")),
        TypeError,
        "column 'area': expected numbers, as in the training, got t",
    ),
    "a class that was not there": (
        lambda: Table.fit(F, target="kind")(F.assign(kind="hut")),
        ValueError,
        "column 'kind': expected classes of the training rows, got 'hut' in row 0",
    ),
    "a date as target": (lambda: Table.fit(F, target="sold"), TypeError, "expected numbers or classes, got dates"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name):
    call, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        call()
