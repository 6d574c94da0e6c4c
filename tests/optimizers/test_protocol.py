"""Every optimizer of optax trains as in a loop by hand, or is refused with what to do instead."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import fnn
from fnn import losses, penalties
from tests.helpers.every_optimizer import CONTRIB, NO_OPTIMIZERS, OPTAX, REFUSED, public

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Specifying a key")  # optax's own

NET = fnn.serial(fnn.dense(4), fnn.tanh, fnn.dense(1))
NAMED = OPTAX | CONTRIB
QUICK = ["polyak_sgd", "reduce_on_plateau", "lookahead", "sam"]
PENALTY = penalties.l2(0.01)


def rows():
    x = np.linspace(-1, 1, 24)[:, None].astype(jnp.result_type(float))
    return x, np.sin(2 * x)


def fitted(optimizer, **more):
    arguments = {"epochs": 5, "batch_size": 6, "shuffle": False, "penalty": PENALTY, "progress": False, "key": 4} | more
    return fnn.fit(NET, losses.squared_error, optimizer, rows(), **arguments)


def by_hand(optimizer, start, look=False):
    """Twenty steps over the same batches, as the documentation of optax has them."""

    def cost(params, x, t):
        y = NET.forward(params, ((), (), ()), x, None, True)[0]
        return jnp.square(y - t).sum() / len(x) + PENALTY.value(params)

    params = optax.LookaheadParams.init_synced(start) if look else start
    state, (x, t) = optimizer.init(params), map(jnp.asarray, rows())
    given = {name: None for name in ("value", "value_fn", "obj_fn", "grad_fn")}

    def step(params, state, x, t):
        fast = params.fast if look else params
        of_batch = lambda params: cost(params, x, t)  # noqa: E731
        value, grads = jax.value_and_grad(of_batch)(fast)
        of = {"value": value, "grad": grads, "value_fn": of_batch, "obj_fn": of_batch}
        of["grad_fn"] = lambda params, i: jax.grad(of_batch)(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(grads, state, params, **{name: of[name] for name in given})
            return optax.apply_updates(params, updates), state

    for names in (("value", "grad", "value_fn"), ("grad_fn",), ("obj_fn",), ()):  # what it takes of these
        given = dict.fromkeys(names)
        try:
            jax.eval_shape(step, params, state, x[:6], t[:6])
            break
        except TypeError:
            continue
        except ValueError:
            continue
    step = jax.jit(step)
    for j in range(20):
        batch = slice(6 * (j % 4), 6 * (j % 4) + 6)
        params, state = step(params, state, x[batch], t[batch])
    return params.fast if look else params


def test_the_table_has_every_optimizer_of_optax():
    table = set(NAMED) | set(REFUSED)
    assert public(optax) | public(contrib) <= table | NO_OPTIMIZERS, "new: say how it trains, or is refused"
    assert len(public(optax)) > 80 and len(public(contrib)) > 30 and "nadam" in public(optax)


def check_as_by_hand(name):
    with jax.enable_x64(True):
        optimizer = NAMED[name]()
        start = NET.init(jax.random.key(4), (1,))[0]
        run = fitted(optimizer, params=start)
        expected = by_hand(optimizer, start, look=name == "lookahead")
        got = run.train_state.params
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", QUICK)
def test_twenty_steps_are_those_of_a_loop_by_hand(name):
    check_as_by_hand(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMED if name not in QUICK])
def test_twenty_steps_of_any_are_those_of_a_loop_by_hand(name):
    check_as_by_hand(name)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_train_is_refused_with_a_remedy(name):
    make, text = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=f"^{text}$"):
        fitted(make())


def recording():
    """An optimizer that does nothing but write down what it is given."""

    def init(params):
        return {"value": 0.0, "again": 0.0, "grad": params, "derived": params, "grad_fn": params}

    def update(grads, state, params=None, *, value, grad, value_fn, grad_fn, **more):
        again, derived = jax.value_and_grad(value_fn)(params)
        state = {"value": value, "again": again, "grad": grad, "derived": derived, "grad_fn": grad_fn(params, 0)}
        return jax.tree.map(jnp.zeros_like, grads), state

    return optax.GradientTransformationExtraArgs(lambda params: jax.tree.map(jnp.asarray, init(params)), update)


@pytest.mark.parametrize("gradient", [pytest.param(fnn.autodiff, marks=pytest.mark.slow), fnn.backprop])
def test_the_cost_is_that_of_the_batch_with_its_mask_weights_penalty_and_key(gradient):
    net = fnn.serial(fnn.dense(4), fnn.dropout(0.5), fnn.dense(1))
    weights = np.linspace(0, 2, 24, dtype="float32")
    x, t = rows()
    of_run = {"penalty": PENALTY, "weights": weights, "reduction": "sum", "shuffle": False, "gradient": gradient}
    run = fnn.fit(net, losses.squared_error, recording(), (x, t), epochs=1, batch_size=7, progress=False, **of_run)
    seen = run.train_state.optimizer
    assert float(seen["value"]) == pytest.approx(float(seen["again"]), rel=1e-6)
    for way in ("derived", "grad_fn"):
        for a, b in zip(jax.tree.leaves(seen["grad"]), jax.tree.leaves(seen[way]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    plain = fnn.serial(fnn.dense(4), fnn.dense(1))
    run = fnn.fit(plain, losses.squared_error, recording(), (x, t), epochs=1, batch_size=7, progress=False, **of_run)
    # the last batch of 24 rows in sevens has three rows, and four of filling
    of_rows = np.square(np.asarray(fnn.predict(plain, run, x[21:])) - t[21:])[:, 0] @ weights[21:]
    expected = float(of_rows + PENALTY.value(run.params))
    assert float(run.train_state.optimizer["value"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_an_optimizer_that_asks_for_nothing_is_called_as_before():
    """Its numbers are settings, and its program has no cost in it: another rate compiles nothing."""
    fnn.clear_caches()
    run = lambda rate: fitted(optax.chain(optax.clip(1.0), optax.adam(rate)), epochs=2)  # noqa: E731
    first = run(0.01)
    compiled = len(fnn.compilation.cache.programs.entries)
    second = run(0.02)
    assert len(fnn.compilation.cache.programs.entries) == compiled and "optimizer" in second.train_state.settings
    assert "optimizer" not in fitted(optax.polyak_sgd(0.1), epochs=2).train_state.settings
    assert first.history.loss[0] != second.history.loss[0]


def test_a_name_that_one_of_a_chain_does_not_know_is_left_out():
    chained = optax.chain(contrib.sam(optax.sgd(0.05), optax.sgd(0.1), opaque_mode=True), optax.clip(1.0))
    assert np.isfinite(fitted(chained, epochs=2).history.loss).all()


def test_the_cost_by_name_without_keywords_of_any_name():
    def update(grads, state, params=None, *, value):
        return jax.tree.map(lambda g: -0.1 * value.astype(g.dtype) * g, grads), state

    own = optax.GradientTransformation(lambda params: (), update)
    plain = optax.GradientTransformation(lambda params: (), lambda g, s, p=None: (jax.tree.map(lambda a: -a, g), s))
    assert fitted(own, epochs=2).history.loss[-1] != fitted(plain, epochs=2).history.loss[-1]


def test_what_needs_more_than_the_cost_is_refused_with_its_name():
    def update(grads, state, params=None, *, hessian):
        return grads, state

    text = "optimizer: expected one that needs the gradient and the cost alone, got one that needs 'hessian'. "
    with pytest.raises(TypeError, match=text + "Use another optimizer; the run passes value, grad, value_fn"):
        fitted(optax.GradientTransformationExtraArgs(lambda params: (), update))
    inside = optax.chain(optax.lookahead(optax.sgd(0.1), 2, 0.5), optax.clip(1.0))
    with pytest.raises(TypeError, match=r"expected optax.lookahead around all others.* Write optax.lookahead\("):
        fitted(inside)
