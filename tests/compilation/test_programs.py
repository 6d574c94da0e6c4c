"""No surprise compiles: what computes the same is the same program, however it was made; and nothing grows."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.compilation.fingerprints import fingerprint
from fnn.compilation.programs import identify
from fnn.training.config import TrainerConfig
from tests.helpers.problems import LABELS, LOSS, X, fit, same_bits

PARAMS = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
BARE = {  # made anew with another number
    "sgd": optax.sgd,
    "momentum": lambda r: optax.sgd(r, momentum=0.9 - r),
    "adam": optax.adam,
    "adamw with a schedule": lambda r: optax.adamw(fnn.schedules.cosine_decay(r, 50), weight_decay=r),
    "clipped": lambda r: optax.chain(optax.clip_by_global_norm(10 * r), optax.sgd(r)),
}


ROWS = fnn.Part(jnp.asarray(X), jnp.asarray(LABELS))


def recipe_of(optimizer=None, network=None, loss=LOSS, penalty=None, metrics=(), settings=()):
    """What is compiled for it: nothing is, if it has been before. And the optimizer's numbers."""
    network = network or fnn.serial(fnn.dense(8), fnn.tanh, fnn.dense(2))
    asked = TrainerConfig(
        network, loss, optimizer or optax.sgd(0.1), penalty, fnn.autodiff, tuple(metrics), 32, True, "mean"
    )
    recipe, settings = identify(asked, dict(settings), ROWS)
    return recipe, settings.get("optimizer")


@pytest.mark.parametrize("name", BARE)
def test_a_bare_optimizer_of_another_number_is_the_same_program(name):
    recipes, numbers = zip(*(recipe_of(BARE[name](rate)) for rate in (0.05, 0.03)), strict=True)
    assert recipes[0] == recipes[1] and recipes[0] != recipe_of(optax.lion(0.05))[0]
    assert numbers[0].shape == numbers[1].shape and not np.array_equal(*numbers)


def test_five_calls_with_other_numbers_seeds_and_data_compile_once(compiled):
    def once(rate, l2, key, x):
        penalty = lambda s: fnn.penalties.l2(s["l2"])  # noqa: E731  made anew each time, on purpose
        return fit(x, optimizer=optax.adam(rate), penalty=penalty, settings={"l2": l2}, key=key)

    first = once(0.05, 1e-3, 0, X)
    assert sum("run" in name for name in compiled) == 1, compiled
    compiled.clear()
    others = [once(0.03, 1e-3, 0, X), once(0.05, 1e-2, 0, X), once(0.05, 1e-3, 1, X), once(0.05, 1e-3, 0, X[::-1])]
    assert compiled == []
    assert all(not same_bits(first.params, other.params) for other in others)
    assert same_bits(first, once(0.05, 1e-3, 0, X))


def test_the_optimizer_of_the_second_call_is_the_one_that_was_asked_for():
    fit(optimizer=optax.adam(0.05))
    run = fit(optimizer=optax.adam(0.03, b1=0.8))
    network = fnn.serial(fnn.dense(8), fnn.tanh, fnn.dense(2))
    training = fnn.trainer(network, LOSS, optax.adam(0.03, b1=0.8), batch_size=32)
    rows = fnn.Data(ROWS)
    direct, _ = jax.jit(training.run)(training.init(jax.random.key(0), rows), rows, 5)
    pairs = zip(jax.tree.leaves(direct.params), jax.tree.leaves(run.params), strict=True)
    assert all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)


def test_functions_made_anew_are_the_same_program():
    def once():
        return recipe_of(
            network=lambda s: fnn.serial(fnn.dense(8), fnn.leaky_relu(s["slope"]), fnn.dense(2)),
            loss=lambda s: lambda y, t: s["factor"] * LOSS(y, t),
            penalty=lambda s: fnn.penalties.l2(s["l2"]),
            metrics=[("square", lambda y, t: (y**2).sum(-1))],
            settings={"slope": 0.1, "factor": 1.0, "l2": 0.01},
        )

    assert once()[0] == once()[0]


def test_what_computes_something_else_is_not_mistaken_for_it():
    def once(slope=0.1, factor=1.0, l2=0.01, power=2, clip=None):
        return recipe_of(
            optax.adam(0.1) if clip is None else optax.chain(optax.clip(clip), optax.adam(0.1)),
            network=lambda s: fnn.serial(fnn.dense(8), fnn.leaky_relu(slope), fnn.dense(2)),
            loss=lambda y, t: factor * LOSS(y, t),
            penalty=lambda s: fnn.penalties.l2(l2),
            metrics=[("power", lambda y, t: (y**power).sum(-1))],
        )[0]

    first = once()
    assert first == once()
    others = {"net": {"slope": 0.2}, "loss": {"factor": 2.0}, "penalty": {"l2": 0.1}, "metrics": {"power": 3}}
    for part, change in (others | {"optimizer": {"clip": 1.0}}).items():
        differs = [a[0] for a, b in zip(first.identity, once(**change).identity, strict=True) if a != b]
        assert differs == [{"metrics": "metrics.power"}.get(part, part)]


def test_another_schedule_is_not_mistaken_for_it():
    steps = [recipe_of(optax.sgd(optax.piecewise_constant_schedule(0.1, {n: 0.5})))[0] for n in (7, 8)]
    assert steps[0] != steps[1]


def digest(function, *arguments):
    found = fingerprint(function, *(arguments or (jnp.ones(3),)))
    return found.digest if found.exact else None


def test_programs_differ_by_every_constant_however_deep():
    table = jnp.arange(3.0)
    functions = [
        lambda x: x + 1.5,
        lambda x: x + 2.5,
        lambda x: x - 1.5,
        lambda x: x + table,
        lambda x: x + 2 * table,
        lambda x: jax.lax.scan(lambda c, _: (c * 1.5, None), x, None, 3)[0],
        lambda x: jax.lax.scan(lambda c, _: (c * 2.5, None), x, None, 3)[0],
        lambda x: jax.lax.scan(lambda c, _: (c * 1.5, None), x, None, 4)[0],
        lambda x: jax.lax.scan(lambda c, _: (c + table, None), x, None, 3)[0],
        lambda x: jax.lax.scan(lambda c, _: (c + 2 * table, None), x, None, 3)[0],
        lambda x: jax.jit(lambda y: y * table)(x),
        lambda x: jax.jit(lambda y: y * 2 * table)(x),
        lambda x: x + np.arange(2000.0, dtype="float32")[-3:].sum() * 0 + jnp.asarray(np.arange(2000.0, dtype="f"))[:3],
        lambda x: (x + 1.5,),
    ]
    digests = [digest(function) for function in functions]
    assert None not in digests and len(set(digests)) == len(functions)
    assert digests == [digest(function) for function in functions]
    assert digest(functions[0], jnp.ones(4)) != digests[0]


def test_a_program_with_something_that_has_no_description_proves_nothing():
    def calls_back(x):
        return jax.pure_callback(lambda y: np.asarray(y), jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    assert digest(calls_back) is None


@pytest.mark.parametrize("make", [optax.sgd, optax.adam, lambda r: optax.chain(optax.clip(r), optax.rmsprop(r))])
def test_lifted_numbers_put_back_give_the_same(make):
    def update(grads, state, params):
        with jax.numpy_dtype_promotion("standard"):
            return make(0.3).update(grads, state, params)

    grads = jax.tree.map(lambda a: 0.3 * a + 0.7, PARAMS)
    state = make(0.3).init(PARAMS)
    found = fingerprint(update, grads, state, PARAMS, lift=True)
    assert found.exact and len(found.numbers) == len({float(n) for n in found.numbers}) > 0
    # a constant that is an argument now is not folded by XLA: the last bit may differ
    pairs = zip(
        *map(jax.tree.leaves, (found.call(found.numbers, grads, state, PARAMS), update(grads, state, PARAMS))),
        strict=True,
    )
    assert all(np.allclose(a, b, rtol=1e-6) for a, b in pairs)
    doubled = found.call([2 * n for n in found.numbers], grads, state, PARAMS)
    assert not same_bits(doubled[0], update(grads, state, PARAMS)[0])


def anonymous_memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


@pytest.mark.slow
def test_a_thousand_further_calls_compile_nothing_and_grow_memory_by_less_than_5_mib(compiled):
    def once(i):
        settings = {"l2": 1e-3 * i}
        penalty = lambda s: fnn.penalties.l2(s["l2"])  # noqa: E731  made anew each time, on purpose
        return fit(X + i, optimizer=optax.adam(1e-3 * (1 + i)), settings=settings, penalty=penalty, key=i, epochs=2)

    for i in range(100):  # what Python and XLA keep for themselves has come to rest by then
        once(i)
    gc.collect()
    before = anonymous_memory()
    compiled.clear()
    for i in range(1000):
        once(100 + i)
    gc.collect()
    grown = anonymous_memory() - before
    print(f"grown by {grown:.2f} MiB")
    assert compiled == []
    assert grown < 5
