"""What stands in padding is followed through operations: each rule against the numbers themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from fnn.studies.padding.influence import ANY, NEGATIVE, NONE, POSITIVE, ZERO, InfluenceError, follow

WIDE, NARROW = (jax.ShapeDtypeStruct((n, 2), "float32") for n in (5, 3))
INSIDE = {ZERO: [0.0], POSITIVE: [0.5, 3.0], NEGATIVE: [-0.5, -3.0], ANY: [0.0, 2.0, -2.0]}
KINDS = list(INSIDE)


def holds(kind, numbers):
    """Whether padding of this kind may have these numbers."""
    tests = {ZERO: numbers == 0, POSITIVE: numbers > 0, NEGATIVE: numbers < 0, ANY: np.isfinite(numbers)}
    return bool(np.all(tests[kind]))


OF_ONE = [
    jnp.abs, jnp.sign, jnp.square, jnp.sqrt, jnp.negative, jnp.exp, jnp.tanh, jnp.cbrt, lax.rsqrt, lambda x: x**3,
    lambda x: x**2.5, lambda x: x + 1.0, lambda x: x - 1.0, lambda x: 2.0 * x, lambda x: x / -2.0, lambda x: 1.0 / x,
    lambda x: jnp.maximum(x, -1.0), lambda x: jnp.maximum(x, 1.0), lambda x: jnp.minimum(x, 1.0), lambda x: -x,
    lambda x: jnp.minimum(x, -1.0), lambda x: jnp.clip(x, -0.5, 0.5), lambda x: jnp.where(x > 0, x, 0.0), jax.nn.relu,
    lambda x: jnp.where(x > 0, 1.0 / x, 0.0), lambda x: x.astype("float16").astype("float32"), lambda x: x**-2.0,
    lambda x: jnp.zeros_like(x), lambda x: jnp.full_like(x, 0.1), jnp.log, lambda x: x * jnp.inf,
]  # fmt: skip
OF_TWO = [jnp.add, jnp.subtract, jnp.multiply, jnp.divide, jnp.maximum, jnp.minimum]


@pytest.mark.parametrize("place", range(len(OF_ONE)))
@pytest.mark.parametrize("kind", KINDS)
def test_of_one_array(place, kind):
    try:
        (found,) = follow(OF_ONE[place], (WIDE,), (NARROW,), [kind])
    except InfluenceError:
        return
    assert holds(found, np.asarray(OF_ONE[place](jnp.array(INSIDE[kind]))))


@pytest.mark.parametrize("operation", OF_TWO)
@pytest.mark.parametrize("kind", KINDS)
def test_of_two_arrays(operation, kind):
    for other in KINDS:
        try:
            (found,) = follow(operation, (WIDE, WIDE), (NARROW, NARROW), [kind, other])
        except InfluenceError:
            assert operation is jnp.divide
            continue
        every = np.asarray(operation(jnp.array(INSIDE[kind])[:, None], jnp.array(INSIDE[other])[None]))
        assert holds(found, every), other


KNOWN = {
    "the sum of squares": (lambda x: jnp.square(x).sum(), NONE),
    "a norm of all": (lambda x: optax.tree.norm({"x": x}), NONE),
    "to a norm": (lambda x: x / jnp.maximum(1.0, jnp.sqrt(jnp.square(x).sum())), ZERO),
    "a number of the run": (lambda x: 0.5 * x, ZERO),
    "a function in a function": (jax.jit(lambda x: jnp.clip(x, -1, 1)), ZERO),
    "unpadded beside it": (lambda x: jnp.ones(3).mean(), NONE),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_known(name):
    function, expected = KNOWN[name]
    assert follow(function, (WIDE,), (NARROW,), [ZERO]) == [expected]


UNKNOWN = {
    "a mean": jnp.mean,
    "the number of numbers": lambda x: x * x.size,
    "a sum of what is not 0": lambda x: jnp.exp(x).sum(),
    "a sum along an axis": lambda x: x.sum(1),
    "the largest": jnp.max,
    "a product": lambda x: x.T @ x,
    "the order": lambda x: jnp.sort(x, axis=0),
    "the place": lambda x: x * jnp.arange(len(x), dtype="float32")[:, None],
    "noise": lambda x: x + jax.random.normal(jax.random.key(0), x.shape),
    "another program for large arrays": lambda x: x * 2.0 if len(x) > 4 else x + x,
    "a branch": lambda x: lax.cond(True, lambda x: x, lambda x: -x, x),
    "a loop": lambda x: lax.fori_loop(0, 3, lambda i, x: x + 1.0, x),
    "an array of the width": lambda x: x + np.ones(x.shape, "float32"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_may_count_padding_is_refused(name):
    with pytest.raises(InfluenceError):
        follow(UNKNOWN[name], (WIDE,), (NARROW,), [ZERO])
