"""Rows of a table that a batch does not have: what dense optimizers do to them, and `only_seen_rows`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.optimizers import only_seen_rows

OPTIMIZERS = {
    "momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "adam": lambda: optax.adam(0.1),
    "adamw": lambda: optax.adamw(0.1, weight_decay=0.1),
    "rmsprop": lambda: optax.rmsprop(0.1),
    "partition": lambda: optax.partition({"all": optax.adamw(0.1)}, lambda p: jax.tree.map(lambda a: "all", p)),
    "chain": lambda: optax.chain(optax.clip(1.0), optax.add_decayed_weights(0.1), optax.adam(0.1)),
}
PARAMS = ({"table": jnp.ones((4, 2))}, {"w": jnp.ones((4, 2)), "b": jnp.ones(2)})
FIRST = ({"table": jnp.ones((4, 2))}, {"w": jnp.ones((4, 2)), "b": jnp.ones(2)})
SECOND = (
    {"table": jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [3.0, 4.0]])},
    jax.tree.map(jnp.zeros_like, PARAMS[1]),
)


def two_steps(optimizer):
    """Parameters and state after a step that has all rows, and after one that has rows 1 and 3."""
    params, state, seen = PARAMS, optimizer.init(PARAMS), []
    with jax.numpy_dtype_promotion("standard"):  # which optax needs
        for gradient in (FIRST, SECOND):
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            seen.append((params, state))
    return seen


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rows_that_are_not_seen_stay_and_all_else_is_as_before(name):
    (before, state), (after, last) = two_steps(only_seen_rows(OPTIMIZERS[name]()))
    (plain_before, _), (plain, plain_last) = two_steps(OPTIMIZERS[name]())
    table, unseen = after[0]["table"], [0, 2]
    np.testing.assert_array_equal(table[jnp.array(unseen)], before[0]["table"][jnp.array(unseen)])
    np.testing.assert_array_equal(table[1], plain[0]["table"][1])
    np.testing.assert_array_equal(table[3], plain[0]["table"][3])
    np.testing.assert_array_equal(after[1]["w"], plain[1]["w"])
    assert (plain[0]["table"][0] != plain_before[0]["table"][0]).any() or name == "rmsprop"  # dense ones move it
    kept = moved = 0
    for path, new in jax.tree.leaves_with_path(last):
        old, dense = (dict(jax.tree.leaves_with_path(tree))[path] for tree in (state, plain_last))
        if "'table'" in jax.tree_util.keystr(path):
            np.testing.assert_array_equal(new[jnp.array(unseen)], old[jnp.array(unseen)])
            np.testing.assert_array_equal(new[1], dense[1])
            kept += 1
        else:
            np.testing.assert_array_equal(new, dense)
            moved += 1
    assert kept > 0 or name == "sgd"


def test_in_a_run_rare_categories_are_not_pulled_to_0():
    """Category 3 is in no row: with weight decay it would vanish."""
    x, t = np.arange(60)[:, None] % 3, (np.arange(60) % 3 == 1).astype("int32")
    net = fnn.serial(fnn.embedding(4, 2), fnn.flatten(), fnn.dense(2))
    decayed = optax.adamw(0.05, weight_decay=1.0)
    start = net.init(jax.random.key(0), (1,))[0]
    tables = [
        fnn.fit(
            net, fnn.losses.sparse_softmax_cross_entropy, by, (x, t), epochs=20, batch_size=20, params=start,
            state=((), (), ()), progress=False,
        ).params[0]["table"]
        for by in (decayed, only_seen_rows(decayed))
    ]  # fmt: skip
    np.testing.assert_array_equal(tables[1][3], start[0]["table"][3])
    assert np.abs(tables[0][3]).max() < 0.1 * np.abs(start[0]["table"][3]).max()
    assert (tables[1][:3] != start[0]["table"][:3]).all()


def test_each_table_goes_by_its_own_rows():
    """Both paths end with `0/table`."""
    params = ({"table": jnp.ones((3, 2))}, ({"table": jnp.ones((3, 2))},))
    rows = jnp.eye(3)[:, :, None] * jnp.ones(2)
    optimizer = only_seen_rows(optax.sgd(0.1, momentum=0.9))
    updates, state = optimizer.update(({"table": rows[0]}, ({"table": rows[2]},)), optimizer.init(params), params)
    for table, seen in zip(jax.tree.leaves(updates), (0, 2), strict=True):
        np.testing.assert_array_equal(table.any(1), np.arange(3) == seen)
    for trace, seen in zip(jax.tree.leaves(state), (0, 2), strict=True):
        np.testing.assert_array_equal(trace.any(1), np.arange(3) == seen)


def test_without_a_table_it_is_the_optimizer_itself():
    params = {"w": jnp.ones((3, 2))}
    for plain in (optax.adam(0.1), optax.sgd(0.1)):
        wrapped, state = only_seen_rows(plain), plain.init(params)
        with jax.numpy_dtype_promotion("standard"):
            both = [jax.tree.leaves(by.update(params, state, params)) for by in (wrapped, plain)]
        for a, b in zip(*both, strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_optimizer_that_asks_for_the_cost_gets_it():
    net = fnn.serial(fnn.embedding(3, 1), fnn.flatten())
    x = np.arange(30)[:, None] % 3
    optimizer = only_seen_rows(optax.chain(optax.sgd(0.5), optax.contrib.reduce_on_plateau()))
    run = fnn.fit(net, fnn.losses.squared_error, optimizer, (x, x.astype("float32")), epochs=100, progress=False)
    np.testing.assert_allclose(run.params[0]["table"].ravel(), [0, 1, 2], atol=1e-3)


def test_what_is_no_optimizer_is_named():
    with pytest.raises(TypeError, match=r"only_seen_rows: expected an optimizer of optax, got .*Write optax.adam"):
        only_seen_rows(optax.sgd)
