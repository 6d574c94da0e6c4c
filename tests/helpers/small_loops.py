"""Loops that are made one function, and once ended the process; each with what is right. For a process of its own.

`python -m tests.helpers.small_loops NAME …` runs these, or all, with the XLA flags of a user, and prints the names of
those that came out right.
"""

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import fnn
from fnn.kernels import loops
from fnn.kernels.loops import compile_for_size

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
LABELS = np.arange(40) % 2
LOSS = fnn.losses.sparse_softmax_cross_entropy
NET = fnn.serial(fnn.dense(3), fnn.tanh, fnn.dense(2))


def fit(optimizer=None, net=NET, loss=LOSS, t=LABELS, epochs=4, **more):
    optimizer = optimizer or optax.sgd(0.1)
    return fnn.fit(net, loss, optimizer, (X, t), epochs=epochs, progress=False, **more)


def alike(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.allclose(a, b, atol=1e-6) for a, b in pairs)


def times_8(x, *more):
    """Eight times x, in a loop that carries more and hands it on."""
    return compile_for_size(lambda *all: lax.fori_loop(0, 3, lambda _, c: (2 * c[0], *c[1:]), all), x, *more)


def carried(*more):
    """What is carried along, comes out as it was."""
    x = jnp.arange(3.0)
    out = jax.jit(times_8)(x, *more)
    same = [np.array_equal(plain(a), plain(b)) and a.dtype == b.dtype for a, b in zip(out[1:], more, strict=True)]
    return all([alike(out[0], 8 * x), *same])


def plain(a):
    return jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.extended) else a


def loop(body, *arguments):
    """`body` three times on 1, beside these arguments."""

    def whole(*arguments):
        return lax.fori_loop(0, 3, lambda _, c: body(c, *arguments), 1.0)

    return jax.jit(lambda *arguments: compile_for_size(whole, *arguments))(*arguments)


def is_one(function, *arguments):
    """Whether XLA is told to make one function of it, where it must be."""
    by_itself = jax.__version_info__ >= loops.XLA_FUSES_SINCE
    return by_itself or "xla_cpu_small_call" in jax.jit(function).lower(*arguments).as_text()


# ---- loops alone


def empty_operands():
    kinds = [jnp.float32, jnp.int32, jnp.bool_, jnp.uint8, jnp.bfloat16]
    return carried(*[jnp.zeros(0, kind) for kind in kinds], jnp.zeros((3, 0)), jax.random.split(jax.random.key(0), 0))


def nothing_but_empty():
    return float(loop(lambda c, none: c * 2 + none.sum(), jnp.zeros(0))) == 8


def unused_operands():
    return float(loop(lambda c, x, unused, key: c * x, 2.0, jnp.ones(4), jax.random.key(0))) == 8


def used_times_nothing():
    return float(loop(lambda c, x, y: c * 2 + (y[:0]).sum(), 2.0, jnp.ones(4))) == 8


def no_operands():
    return float(loop(lambda c: 2 * c)) == 8


def operands_twice():
    x = jnp.arange(3.0)
    out = jax.jit(lambda x: times_8(x, x, x))(x)
    return alike(out, (8 * x, x, x))


def results_twice():
    def several(x):
        return (*lax.fori_loop(0, 3, lambda _, c: (2 * c[0], c[1]), (x, x)), x, x)

    x = jnp.arange(3.0)
    return alike(jax.jit(lambda x: compile_for_size(several, x))(x), (8 * x, x, x, x))


def constant_results():
    out = jax.jit(lambda x: times_8(x, jnp.zeros(0), jnp.ones(2), jnp.int32(5)))(jnp.arange(3.0))
    return alike(out, (8 * jnp.arange(3.0), jnp.zeros(0), jnp.ones(2), 5))


def closed_over():
    x, y = jnp.arange(3.0), jnp.full(3, 2.0)
    none = jnp.zeros(0)

    def scaled(factor):
        return lambda x: lax.fori_loop(0, 3, lambda _, c: factor * c + none.sum() + 0 * y, x)

    constant = jax.jit(lambda x: compile_for_size(scaled(y), x))(x)
    traced = jax.jit(lambda x, y: compile_for_size(scaled(y), x))(x, y)
    return alike((constant, traced), (8 * x, 8 * x))


def other_dtypes():
    keys = jax.random.split(jax.random.key(0), 2)
    return carried(jnp.array([True, False]), jnp.int8(3), jnp.arange(2, dtype="uint32"), jnp.ones(2, "bfloat16"), keys)


def every_operation():
    """Beside the same loop compiled as always."""
    bits = lambda x: lax.bitcast_convert_type(x, jnp.uint32)  # noqa: E731
    functions = [
        abs, lax.acos, lax.asin, lax.asinh, lax.atan, lax.atanh, lax.cbrt, lax.ceil, lax.cos, lax.cosh, lax.cummax,
        lax.cummin, lax.cumlogsumexp, lax.cumprod, lax.cumsum, lax.digamma, lax.erf, lax.erf_inv, lax.erfc, lax.exp,
        lax.exp2, lax.expm1, lax.floor, lax.lgamma, lax.log, lax.log1p, lax.logistic, lax.neg, lax.round, lax.rsqrt,
        lax.sign, lax.sin, lax.sinh, lax.sqrt, lax.square, lax.tan, lax.tanh,
        lambda x: lax.acosh(1 + x), lambda x: lax.atan2(x, 1 - x), lambda x: lax.clamp(0.2, x, 0.4),
        lambda x: lax.clz(bits(x)).astype("float32"), lambda x: lax.population_count(bits(x)).astype("float32"),
        lambda x: lax.integer_pow(x, -3), lambda x: lax.nextafter(x, 2 * x), lambda x: lax.pow(x, 1 + x),
        lambda x: lax.reduce_precision(x, 8, 7), lambda x: lax.rem(x, 0 * x + 0.3), lambda x: x[::-1] / (1 + x),
        lambda x: x * jnp.argmax(x) - x * jnp.argmin(x), lambda x: x * x.prod() - x.max() + x.min(),
        lambda x: jnp.where(jnp.isfinite(x) & ~(x < 0.3) | (x != x), x, 0.0),
    ]  # fmt: skip

    def loop(x):
        return lax.fori_loop(0, 3, lambda i, c: c + sum(f(x + 0.01 * i) for f in functions), jnp.zeros_like(x))

    def whole(x):
        return compile_for_size(loop, x)

    x = jnp.array([0.1, 0.25, 0.5, 0.7])
    return is_one(whole, x) and np.allclose(jax.jit(whole)(x), jax.jit(loop)(x))


def mapped():
    x = jnp.arange(6.0).reshape(2, 3)
    out = jax.jit(jax.vmap(times_8))(x, jnp.zeros((2, 0)), jnp.ones(2))
    return alike(out, (8 * x, jnp.zeros((2, 0)), jnp.ones(2)))


def one_after_another():
    x = jnp.arange(3.0)
    return alike(jax.jit(lambda x: times_8(*times_8(x, jnp.zeros(0), x)))(x), (64 * x, jnp.zeros(0), x))


# ---- runs


def gradient_accumulation():
    """Two equal full-batch gradients accumulated are plain SGD with half as many steps."""
    return alike(fit(optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation()).params, fit(epochs=2).params)


def apply_if_finite():
    return alike(fit(optax.apply_if_finite(optax.sgd(0.1), 3)).params, fit().params)


def learning_rate_0():
    run = fit(optax.sgd(0.0), fnn.serial(fnn.dense(2)))
    z = X.astype(float) @ np.asarray(run.params[0]["w"], float) + np.asarray(run.params[0]["b"], float)
    right = (np.log(np.exp(z).sum(1)) - z[np.arange(40), LABELS]).mean()
    return len(run.history.loss) == 4 and np.allclose(run.history.loss, right, atol=1e-5)


def by_cond():
    """A `lax.cond` that takes the whole step is the step."""

    def update(updates, state, params=None):
        return lax.cond(state >= 0, lambda u: jax.tree.map(lambda a: -0.1 * a, u), lambda u: u, updates), state + 1

    return alike(fit(optax.GradientTransformation(lambda params: jnp.int32(0), update)).params, fit().params)


def frozen_parameters():
    """What is set to zero does not move."""
    return alike(fit(optax.chain(optax.sgd(0.1), optax.set_to_zero())).params, fit(epochs=0).params)


def constant_layer():
    """Behind a layer of ones, only the bias and the sum of the weights count; the layer before it has no derivative."""
    start = fit(epochs=0, net=fnn.serial(fnn.dense(2), jnp.ones_like, fnn.dense(2))).params
    run = fit(net=fnn.serial(fnn.dense(2), jnp.ones_like, fnn.dense(2)))
    ones = np.ones((40, 2), "float32")
    alone = fnn.fit(fnn.dense(2), LOSS, optax.sgd(0.1), (ones, LABELS), epochs=4, params=start[2], progress=False)
    return alike(run.params, (start[0], (), alone.params))


def constant_slope():
    """The derivative of the mean output by the bias is 1, by the weights the mean of the inputs."""
    net = fnn.serial(fnn.dense(1))
    start, run = (fit(net=net, loss=lambda y, t: y[:, 0] + 0 * t[:, 0], t=X[:, :1], epochs=e).params[0] for e in (0, 4))
    return alike(run, {"w": start["w"] - 0.4 * X.mean(0)[:, None], "b": start["b"] - 0.4})


def captured_arrays():
    """What a loss adds to its values, or multiplies by 1, changes no step; in `fit`, and in a program of one's own."""
    right, small, large = fit().params, np.ones(3_000, "float32"), jnp.ones(20_000)
    runs = [
        fit(loss=lambda y, t: LOSS(y, t) + small[:1]),
        fit(loss=lambda y, t: LOSS(y, t) * large.max()),
        fit(loss=lambda y, t: LOSS(y, t) + large[t]),
    ]
    return all(alike(run.params, right) for run in runs) and alike(_in_own_program(small), right)


def _in_own_program(array):
    training = fnn.trainer(NET, lambda y, t: LOSS(y, t) + array[:1], optax.sgd(0.1))
    rows = fnn.Data(fnn.Part(jnp.asarray(X), jnp.asarray(LABELS)))
    return jax.jit(training.run)(training.init(jax.random.key(0), rows), rows, 4)[0].params


CASES = (
    empty_operands, nothing_but_empty, unused_operands, used_times_nothing, no_operands, operands_twice, results_twice,
    constant_results, closed_over, other_dtypes, every_operation, mapped, one_after_another, gradient_accumulation,
    apply_if_finite, learning_rate_0, by_cond, frozen_parameters, constant_layer, constant_slope,
    captured_arrays,
)  # fmt: skip


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for case in CASES:
        if case.__name__ in sys.argv[1:] or len(sys.argv) == 1:
            print(case.__name__ if case() else "", flush=True)
