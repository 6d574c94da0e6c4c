"""Tables: what frames become, fitted on the training rows alone; any order of columns; what is wrong is named."""

import datetime
import errno
import re

import numpy as np
import pytest

import fnn
from fnn.data.tables.table import Table
from fnn.devices import atomic
from tests.helpers.faults import Faults

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
    t = both.target_of(F)
    assert t["kind"].tolist() == [0, 1] * 6 and t["new"].tolist() == [1, 0] * 6 and t["price"].shape == (12, 1)
    assert [target.outputs for target in both.targets] == [1, 2, 2]
    decoded = both.decode({"price": t["price"], "kind": np.eye(2)[t["kind"]], "new": np.eye(2)[t["new"]]})
    assert decoded["kind"].tolist() == F.kind.tolist() and decoded["new"].tolist() == F.new.tolist()
    assert Table.fit(F, target="kind").loss == fnn.losses.sparse_softmax_cross_entropy


def test_a_file_has_all_of_it(tmp_path):
    TABLE.save(tmp_path / "table.json")
    assert Table.load(tmp_path / "table.json") == TABLE
    (tmp_path / "other.json").write_text('{"format": "x"}')
    with pytest.raises(ValueError, match=r"other\.json: expected a file that Table\.save wrote"):
        Table.load(tmp_path / "other.json")


def test_a_file_is_whole_or_absent_and_no_digit_of_it_may_change(tmp_path, monkeypatch):
    path = tmp_path / "table.json"
    TABLE.save(path)
    before = path.read_bytes()
    at = before.index(b'"deviation": [') + 15
    for changed in (before[:-9], before[:at] + b"9" + before[at + 1 :], b"", b"[" * 9999, b'{"table": 3}', b"\xff"):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"table\.json: expected a file that Table\.save wrote, as it was written"):
            Table.load(path)
    path.write_bytes(before)
    Faults(monkeypatch, atomic).fail("fsync", 0, errno.ENOSPC)
    with pytest.raises(OSError, match="what was there before is as it was"):
        Table.fit(F, target="kind").save(path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["table.json"]


def test_columns_that_never_change_become_0():
    same = F.assign(area=0.1, new=True, code=7)  # the mean of twelve 0.1 is not 0.1
    table = Table.fit(same, target="price")
    assert not table.inputs(same)["numbers"][:, :2].any() and not table.inputs(same)["numbers"][:, -1].any()
    assert table.inputs(F.assign(code=8))["numbers"][0, -1] == 1
    constant = Table.fit(F.assign(price=0.1), target="price")
    assert not constant.target_of(F.assign(price=0.1)).any() and constant.decode(np.zeros((1, 1))) == 0.1


def test_codes_are_told_apart_to_the_last_digit():
    codes = F.assign(code=1_234_567 + np.arange(12))
    table = Table.fit(codes, target="price", categories="code")
    assert table.inputs(codes)["categories"]["code"].ravel().tolist() == list(range(1, 13))
    categories = F.assign(code=F.code.astype("category"))  # numbers, but pandas says that they are categories
    assert Table.fit(categories, target="price") == TABLE


def test_classes_that_are_numbers_come_back_as_numbers():
    codes = F.assign(code=np.arange(12) % 3 + 9)
    table = Table.fit(codes, target="code", categories="code")
    assert table.targets[0].classes == ("9", "10", "11")
    decoded = table.decode(np.eye(3)[table.target_of(codes)])
    assert decoded.dtype == int and decoded.tolist() == codes.code.tolist()
    objects = Table.fit(F.assign(new=F.new.astype(object)), target="new")  # booleans all the same
    assert objects.decode(np.eye(2)).tolist() == [False, True]
    halves = Table.fit(codes.assign(code=codes.code / 2), target="code", categories="code")
    assert halves.decode(np.eye(3)).tolist() == [4.5, 5, 5.5]


def test_booleans_with_gaps_and_dates_of_a_time_zone():
    gaps = F.assign(new=[None, True, False] * 4)
    x = Table.fit(gaps, target="price").inputs(gaps)["numbers"]
    np.testing.assert_allclose(x[:6, 2:4], [[0, 1], [1, 0], [-1, 0]] * 2)
    assert Table.fit(gaps.assign(new=gaps.new.astype("boolean")), target="price") == Table.fit(gaps, target="price")
    berlin = F.assign(sold=F.sold.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin"))
    zoned = Table.fit(berlin, target="price", categories="code")
    np.testing.assert_array_equal(zoned.inputs(berlin)["numbers"], X["numbers"])  # as in UTC
    for table, frame, got in ((TABLE, berlin, "zoned dates"), (zoned, F, "dates")):
        with pytest.raises(TypeError, match=f"column 'sold': expected .*dates, as in the training, got {got}. Convert"):
            table.inputs(frame)
    objects = berlin.assign(sold=berlin.sold.astype(object))
    assert Table.fit(objects, target="price", categories="code") == zoned
    mixed = F.assign(sold=[*objects.sold[:6], *F.sold[6:].astype(object)])
    with pytest.raises(
        TypeError,
        match=r"column 'sold': expected .*all of one kind, got dates with and without a time zone; look at row 6",
    ):
        Table.fit(mixed, target="price")


def test_polars_gives_the_same():
    polars = pytest.importorskip("polars")
    columns = {name: F[name].tolist() for name in F.columns}
    columns["area"] = [None if np.isnan(v) else v for v in F.area]
    columns["sold"] = [v.to_pydatetime() for v in F.sold]
    columns["town"] = [("Ulm", "Bonn", None)[i % 3] for i in range(12)]
    made = polars.DataFrame(columns)
    assert Table.fit(made, target="price", categories="code") == TABLE
    np.testing.assert_array_equal(TABLE.inputs(made)["numbers"], X["numbers"])


def test_columns_of_polars_with_several_values_per_row_and_lazy_frames_are_named():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"s": [{"u": 1.0}, {"u": 2.0}], "list": [[1.0], [2.0]], "price": [1.0, 3.0]})
    without = frame.drop("list")
    table = lambda frame: Table.fit(frame, target="price")  # noqa: E731
    for call in (table, fnn.standardiser):
        with pytest.raises(TypeError, match=r"expected one value per row, got Struct\(.*Pass frame.unnest\('s'\)"):
            call(without)
        with pytest.raises(TypeError, match=r"got List\(Float64\) in column 'list'\. Pass frame.drop\('list'\)"):
            call(frame.unnest("s"))
        call(without.unnest("s"))
        with pytest.raises(TypeError, match=r"frame of pandas or polars, got a LazyFrame\. Pass its \.collect\(\)"):
            call(frame.lazy())


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_numbers_whose_squares_are_no_floats_are_standardised(size):
    frame = F.assign(area=np.arange(12.0))
    table, large = (Table.fit(f, target="price") for f in (frame, frame.assign(area=frame.area * size)))
    expected, made = table.inputs(frame)["numbers"], large.inputs(frame.assign(area=frame.area * size))["numbers"]
    np.testing.assert_allclose(made, expected, 1e-6)


@pytest.mark.parametrize("dtype", ["category", "string", object])
def test_text_of_any_dtype_is_the_same(dtype):
    assert Table.fit(F.assign(town=F.town.astype(dtype)), target="price", categories="code") == TABLE


def test_numbers_that_may_have_gaps_are_numbers():
    assert Table.fit(F.assign(area=F.area.astype("Float64")), target="price", categories="code") == TABLE


BAD = {
    "no frame": (lambda: Table.fit({"a": [1]}, target="a"), TypeError, "Table.fit: expected a frame of pandas or po"),
    "no rows": (lambda: Table.fit(F[:0], target="price"), ValueError, "Table.fit: expected at least one row, got none"),
    "no such target": (lambda: Table.fit(F, target="cost"), ValueError, "Table.fit: expected target among the columns"),
    "a target twice": (
        lambda: Table.fit(F, target=["price", "price"]),
        ValueError,
        r"Table.fit: expected each target once, got \['price', 'price'\]",
    ),
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
    "outputs of another shape": (
        lambda: TABLE.decode(np.ones((3, 2))),
        fnn.ShapeError,
        r"y: expected outputs of shape \(rows, 1\), got \(3, 2\)\. Pass what fnn\.predict returns",
    ),
    "an array for several outputs": (
        lambda: Table.fit(F, target=["price", "kind"]).decode(np.ones((3, 1))),
        TypeError,
        r"y: expected a dict of outputs, \['price', 'kind'\], got ",
    ),
    "outputs of a target too few": (
        lambda: Table.fit(F, target=["price", "kind"]).decode({"price": np.ones((3, 1))}),
        TypeError,
        r"y: expected a dict of outputs, \['price', 'kind'\], got ",
    ),
    "outputs of one target of several": (
        lambda: Table.fit(F, target=["price", "kind"]).decode({"price": np.ones((3, 1)), "kind": np.ones((3, 3))}),
        fnn.ShapeError,
        r'y\["kind"\]: expected outputs of shape \(rows, 2\), got \(3, 3\)',
    ),
    "no metric": (lambda: TABLE.in_units(3), TypeError, "in_units: expected a metric, got int 3"),
    "a date as target": (lambda: Table.fit(F, target="sold"), TypeError, "expected numbers or classes, got dates"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name):
    call, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        call()


def test_a_table_prints_a_line_per_column():
    shown = str(Table.fit(F, target=["price", "kind"], categories="code", leave_out="sold"))
    assert re.sub(" {2,}", " | ", shown).splitlines() == [
        "column | kind | from the training rows",
        f"area | number | mean {F.area.mean():.4g}, deviation {F.area.std(ddof=0):.4g}; gaps",
        "town | category | 2: Bonn, Ulm; gaps",
        "new | number | mean 0.5, deviation 0.5",
        "code | category | 3: 7, 8, 9",
        f"price | target, number | mean {F.price.mean():.4g}, deviation {F.price.std(ddof=0):.4g}",
        "kind | target, class | 2: flat, house",
    ]
    assert TABLE._repr_html_().count("<tr>") == len(F.columns) + 1 and repr(TABLE) == str(TABLE)
