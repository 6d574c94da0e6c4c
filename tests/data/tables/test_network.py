"""The usual network of a table, from a frame with all kinds of columns to predictions in its units."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn

pandas = pytest.importorskip("pandas")


def houses(rows=240, seed=0):
    rng = np.random.default_rng(seed)
    area, town, new = rng.uniform(20, 200, rows), rng.choice(["Ulm", "Bonn", "Kiel"], rows), rng.random(rows) < 0.5
    price = 1000 * area + 60_000 * (town == "Ulm") + 40_000 * new + rng.normal(0, 1000, rows)
    return pandas.DataFrame(
        {
            "area": np.where(rng.random(rows) < 0.05, np.nan, area),
            "x/y town": town,
            "layers": rng.choice(["a", "b"], rows),  # a name of an argument of fnn.parallel
            "new": new,
            "sold": pandas.Timestamp("2020-01-01") + pandas.to_timedelta(rng.integers(0, 900, rows), unit="D"),
            "price": price,
            "dear": price > 150_000,
        }
    )


F = houses()
TRAIN, HELD = F.iloc[:200], F.iloc[200:]


def trained(target, left, epochs=60):
    table = fnn.Table.fit(TRAIN, target=target, leave_out=left)
    net = fnn.network_for(table, hidden=(16,))
    run = fnn.fit(net, table.loss, optax.adam(0.01), table(TRAIN), epochs=epochs, batch_size=20, progress=False)
    return table, net, run


PRICE = trained("price", "dear")


def test_prices_come_back_in_their_units():
    table, net, run = PRICE
    y = table.decode(fnn.predict(net, run, table.inputs(HELD)))
    known = ~HELD.area.isna().to_numpy()
    error = np.abs(y - HELD.price)[known].mean()
    assert y.shape == (40,) and error < 0.2 * np.abs(HELD.price - TRAIN.price.mean())[known].mean()


def worst(kept, weight):
    return jnp.where(weight > 0, jnp.abs(kept[0] - kept[1])[:, 0], 0.0).max()


def test_metrics_in_units_are_those_of_the_predictions():
    table, net, run = PRICE
    y = table.decode(fnn.predict(net, run, table.inputs(HELD)))
    metrics = {
        "error": table.in_units(fnn.losses.absolute_error),
        "rmse": table.in_units(fnn.metrics.rmse()),
        "worst": table.in_units(fnn.metrics.from_rows(worst)),
        "own": table.in_units(lambda y, t: abs(y - t)[:, 0]),
        "r2": fnn.metrics.r2(),
    }
    got = fnn.evaluate(net, run, table(HELD), metrics, batch_size=7)
    off = np.abs(y - HELD.price.to_numpy())
    assert got["error"] == pytest.approx(off.mean(), rel=1e-4) == got["own"]
    assert got["rmse"] == pytest.approx(np.sqrt((off**2).mean()), rel=1e-4)
    assert got["worst"] == pytest.approx(off.max(), rel=1e-4)
    assert got["r2"] == pytest.approx(1 - (off**2).sum() / ((HELD.price - HELD.price.mean()) ** 2).sum(), abs=1e-4)
    with pytest.raises(TypeError, match=r"in_units: expected a metric, got the factory rmse\. Call it: rmse\(\)"):
        table.in_units(fnn.metrics.rmse)


def test_columns_in_another_order_give_the_same_bits_and_one_that_is_missing_is_named():
    table, net, run = PRICE
    other = HELD[list(HELD.columns)[::-1]].drop(columns=["price", "dear"]).assign(more=1)
    np.testing.assert_array_equal(fnn.predict(net, run, table.inputs(other)), fnn.predict(net, run, table.inputs(HELD)))
    with pytest.raises(fnn.ShapeError, match="got a frame without 'new'"):
        table.inputs(other.drop(columns="new"))


def test_an_unseen_category_is_predicted_from_the_rest():
    table, net, run = PRICE
    unseen = table.decode(fnn.predict(net, run, table.inputs(HELD.assign(**{"x/y town": "Rome"}))))
    towns = [
        table.decode(fnn.predict(net, run, table.inputs(HELD.assign(**{"x/y town": town}))))
        for town in ("Ulm", "Bonn", "Kiel")
    ]
    vectors = jax.tree.leaves(net.init(jax.random.key(0), run.in_shape)[0][0])
    assert len(vectors) == 2 and max(np.abs(vector).max() for vector in vectors) < 0.1  # so the rest decides
    low, high = np.min(towns, 0), np.max(towns, 0)
    assert np.mean((unseen > low - 10_000) & (unseen < high + 10_000)) > 0.9


def test_table_and_network_from_files_predict_the_same(tmp_path):
    table, net, run = PRICE
    fnn.save(tmp_path / "net.safetensors", net, run)
    table.save(tmp_path / "table.json")
    (net, run), again = fnn.load(tmp_path / "net.safetensors"), fnn.Table.load(tmp_path / "table.json")
    wanted = table.decode(fnn.predict(*PRICE[1:], table.inputs(HELD)))
    np.testing.assert_array_equal(again.decode(fnn.predict(net, run, again.inputs(HELD))), wanted)


@pytest.mark.slow
def test_price_and_class_at_once():
    table, net, run = trained(["price", "dear"], (), 30)
    assert net.init(jax.random.key(0), run.in_shape)[2] == {"price": (1,), "dear": (2,)}
    y = table.decode(fnn.predict(net, run, table.inputs(HELD)))
    assert y["dear"].dtype == bool and (y["dear"] == HELD.dear).mean() > 0.85
    right = {"right": lambda y, t: fnn.accuracy(y["dear"], t["dear"])}
    assert fnn.evaluate(net, run, table(HELD), right)["right"] == pytest.approx((y["dear"] == HELD.dear).mean())


@pytest.mark.slow
def test_folds_and_derivatives():
    table = fnn.Table.fit(TRAIN, target="dear", leave_out="price")
    net = fnn.network_for(table, hidden=(4,), dropout=0.1)
    found = fnn.cross_validate(
        net, table.loss, optax.adam(0.01), table(TRAIN), epochs=20, folds=2, batch_size=20, stratify=True,
        metrics={"right": fnn.accuracy}, refit=False, progress=False,
    )  # fmt: skip
    right = (table.decode(found.predictions) == TRAIN.dear).mean()
    assert right > 0.75 and found.table["validation_right"][0] == pytest.approx(right)
    x, t = table(TRAIN.iloc[:5])
    plain = fnn.network_for(table, hidden=(4,))
    params, state, _ = plain.init(jax.random.key(0), jax.tree.map(lambda a: a.shape[1:], x))
    assert fnn.check_gradients(plain, table.loss, params, state, x, t).ok


@pytest.mark.parametrize(
    ("columns", "rows"), [(["area", "price"], "numbers"), (["layers", "price"], "categories")], ids=["numbers", "words"]
)
def test_columns_of_one_kind(columns, rows):
    table = fnn.Table.fit(TRAIN[columns], target="price")
    x, t = table(TRAIN)
    net = fnn.network_for(table, hidden=())
    assert list(x) == [rows] and net.init(jax.random.key(0), jax.tree.map(lambda a: a.shape[1:], x))[2] == (1,)
    assert fnn.fit(net, table.loss, optax.adam(0.01), (x, t), epochs=1, progress=False).history.loss.shape == (1,)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: fnn.network_for(F), TypeError, r"network_for: expected a Table, got .*\. Pass fnn\.Table\.fit"),
        (lambda: fnn.network_for(PRICE[0], hidden=8), TypeError, r"hidden: expected sizes of layers, got int 8"),
        (lambda: fnn.network_for(PRICE[0], hidden=(0,)), ValueError, r"hidden: expected .* at least 1, got 0"),
        (lambda: fnn.network_for(PRICE[0], dropout=1.0), ValueError, r"dropout: expected .* got 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
