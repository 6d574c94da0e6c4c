"""Large arrays that a part of a run has captured are handed to its programs, and not written into them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.compilation.frozen import LARGE, freeze
from fnn.kernels.loops import compile_for_size
from tests.helpers.problems import same_bits

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
T = X.sum(1, keepdims=True)
TABLE = np.random.default_rng(1).normal(size=100_000).astype("float32")  # as text 800 kB
ON_DEVICE = jnp.asarray(TABLE)
MOST_TEXT = 400_000  # the longest of these programs without the table has a third of it


def squares(y, t):
    return jnp.square(y - t).sum(-1)


def plus_table(y, t):
    return squares(y, t) + 1e-3 * ON_DEVICE[:1] * y[:, 0]


def plus_numpy(y, t):
    return squares(y, t) + 1e-3 * jnp.asarray(TABLE)[:1] * y[:, 0]


def in_a_loop(y, t):
    add = jax.jit(lambda a: a + 1e-3 * ON_DEVICE[:1] * y[:, 0])
    return jax.lax.fori_loop(0, 2, lambda _, a: jax.lax.cond(a[0] > -1, add, lambda a: a, a), squares(y, t))


def net(*more):
    return fnn.serial(fnn.dense(3), *more, fnn.dense(1))


def scale(x):
    return x * (1 + 1e-3 * ON_DEVICE[0])


def fit(loss=squares, network=None, optimizer=None, data=(X, T), **arguments):
    arguments = {"epochs": 2, "batch_size": 8, "progress": False} | arguments
    return fnn.fit(network or net(), loss, optimizer or optax.sgd(0.01), data, **arguments)


def descent():
    def update(grads, state, params=None):
        return jax.tree.map(lambda g: -0.01 * g * (1 + 1e-3 * ON_DEVICE[0]), grads), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def penalty():
    value = lambda params: 1e-3 * params[0]["w"].sum() * ON_DEVICE[0]  # noqa: E731
    return fnn.Penalty(None, value, jax.grad(value))


def sweep(loss):
    over = {"lr": [0.01, 0.02]}
    more = {"epochs": 1, "batch_size": 8, "progress": False, "width": 2}
    return fnn.sweep(net(), loss, lambda s: optax.sgd(s["lr"]), (X, T), over=over, **more)


CASES = {
    "a loss": lambda: fit(plus_table),
    "an array of NumPy": lambda: fit(plus_numpy),
    "a jitted loss": lambda: fit(jax.jit(plus_table)),
    "a jitted function in a loop": lambda: fit(in_a_loop),
    "a layer": lambda: fnn.predict(net(scale), fit(network=net(scale)), X),
    "a metric": lambda: fnn.evaluate(net(), fit(metrics={"m": plus_table}), (X, T), {"m": plus_table}),
    "a penalty": lambda: fit(penalty=penalty()),
    "an optimizer": lambda: fit(optimizer=descent()),
    "a stream": lambda: fit(plus_table, data=lambda: iter([(X, T)])),
    "a study": lambda: sweep(plus_table),
    "a study with a jitted loss": lambda: sweep(in_a_loop),
    "a run that diverges": lambda: fit(lambda y, t: jnp.where(y[:, 0] > -9, jnp.nan, ON_DEVICE[:1])),
}


@pytest.fixture
def texts(tmp_path):
    """The sizes of the programs that have been compiled, by name."""
    jax.config.update("jax_dump_ir_to", str(tmp_path))
    yield lambda: {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    jax.config.update("jax_dump_ir_to", None)


# a loss, a layer and a study cover most ways that an array comes in
LATER = ["an array of NumPy", "a jitted function in a loop", "a metric", "a penalty", "a study with a jitted loss"]
LATER += ["an optimizer", "a run that diverges", "a jitted loss", "a stream"]
LATER = dict.fromkeys(LATER, pytest.mark.slow)


@pytest.mark.filterwarnings("ignore::fnn.TrainingDiverged")
@pytest.mark.parametrize("name", [pytest.param(name, marks=LATER.get(name, ())) for name in CASES])
def test_no_program_has_a_large_constant(name, texts):
    fnn.clear_caches()
    CASES[name]()
    assert len(texts()) > 1 and max(texts().values()) < MOST_TEXT, texts()


def test_a_large_constant_would_be_seen(texts):
    jax.jit(lambda x: x + ON_DEVICE)(1.0)
    assert max(texts().values()) > MOST_TEXT


def test_a_run_with_a_large_array_is_that_with_a_small_one():
    fnn.clear_caches()
    small = jnp.asarray(TABLE[:2])
    of_small = fit(lambda y, t: squares(y, t) + 1e-3 * small[:1] * y[:, 0])
    for loss in (plus_table, plus_numpy, jax.jit(plus_table)):
        run = fit(loss)
        np.testing.assert_allclose(run.history.loss, of_small.history.loss, rtol=1e-6)
    assert not np.allclose(run.history.loss, fit().history.loss, rtol=1e-6)


def test_an_array_that_changes_or_is_deleted_leaves_its_program_as_it_was():
    fnn.clear_caches()
    mine = np.full(LARGE, 0.5, "float32")
    loss = lambda y, t: squares(y, t) * mine[0] * jnp.asarray(mine)[0]  # noqa: E731
    first = fit(loss)
    mine[:] = 2.0
    assert not same_bits(first.history, fit(loss).history)
    mine[:] = 0.5
    assert same_bits(first.history, fit(loss).history)
    theirs = jnp.asarray(TABLE) * 1.0
    before = fit(lambda y, t: squares(y, t) + theirs[:1])
    theirs.delete()
    other = jnp.asarray(TABLE)
    assert same_bits(before.history, fit(lambda y, t: squares(y, t) + other[:1]).history)


@jax.jit
def jitted(x):
    return x + ON_DEVICE[0]


INSIDE = {  # a jitted function within
    "while": lambda x: jax.lax.while_loop(lambda x: x < 9, jitted, x),
    "the test of a while": lambda x: jax.lax.while_loop(lambda x: jitted(x) < 9, lambda x: x + 1, x),
    "scan": lambda x: jax.lax.fori_loop(0, 3, lambda _, x: jitted(x), x),
    "scan of rows": lambda x: jax.lax.scan(lambda a, b: (jitted(a) + b, b), x, jnp.arange(3.0), reverse=True)[0],
    "cond": lambda x: jax.lax.cond(x > 0, jitted, lambda x: x, x),
    "a jitted function": lambda x: jax.jit(lambda x: 2 * jitted(x))(x),
    "a loop of fnn": lambda x: compile_for_size(lambda x: jax.lax.fori_loop(0, x.astype(int), grow, x), x),
}


def grow(i, x):
    return jnp.where(i > -1, jitted(x), x)


@pytest.mark.parametrize("name", INSIDE)
def test_what_is_captured_within_is_captured_by_the_whole(name):
    frozen = freeze(INSIDE[name], (2.0,))
    assert len(frozen.held) == 1 and frozen.bytes == TABLE.nbytes
    assert len(frozen.jit().lower(2.0).as_text()) < MOST_TEXT
    np.testing.assert_allclose(frozen.jit()(2.0), INSIDE[name](jnp.float32(2.0)), rtol=1e-6)


def test_bytes_and_copies_are_those_of_the_arrays():
    frozen = freeze(jax.jit(lambda x: x + ON_DEVICE[:3].sum() + TABLE.size), (1.0,))
    assert frozen.bytes == TABLE.nbytes and len(frozen.held) == 1 and frozen.held[0] is not ON_DEVICE
    few = jnp.arange(3.0)
    assert freeze(lambda x: x + few, (1.0,)).held == ()


def test_the_state_is_donated_and_the_array_is_not():
    frozen = freeze(lambda state, x: state + x + ON_DEVICE, (ON_DEVICE, 1.0))
    call, state = frozen.jit(donates=True), jnp.zeros_like(ON_DEVICE)
    once = call(state, 1.0)
    assert state.is_deleted() and not frozen.held[0].is_deleted()
    np.testing.assert_array_equal(call(once, 0.0), 1 + ON_DEVICE + ON_DEVICE)
