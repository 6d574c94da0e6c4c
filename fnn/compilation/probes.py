"""What the parts of a run give for fixed inputs: the same where they compute the same, whatever compiled them.

For comparing functions whose programs cannot be compared: those of another version of JAX, and those that call Python
(on the host), of which a program holds an address alone.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments.leaves import example_shape, row_count, some_rows
from fnn.compilation.frozen import freeze
from fnn.kernels.compiler_options import quick_compile_options
from fnn.losses.reduction import dtype_of_sums
from fnn.optimizers.protocol import init_optimizer, stand_in_cost, update_optimizer
from fnn.training.config import TrainerConfig, bind, cost_gradient, resolve
from fnn.training.state import dtype_of
from fnn.types import Array, DTypeLike, HasShape, Params, Part, Penalty, Tree

ROWS = 3
NUMBERS = 1000  # of an array that are looked at
SETTING = 0.3  # each of the settings: they are compared by themselves


def probe(config: TrainerConfig, names: Iterable[str], rows: Part, params: Params) -> dict[str, list[float]]:
    """Two numbers of each array that a part gives: its size, and its size in a fixed direction.

    Args:
        config: the run.
        names: of its settings.
        rows: data, for their shapes and dtypes.
        params: its parameters, or their shapes and dtypes.

    Returns:
        Numbers by the names of the parts; a part that cannot be run by itself is left out.

    >>> import fnn, jax.numpy as jnp, optax
    >>> from fnn.training.config import TrainerConfig
    >>> from fnn.compilation.probes import probe
    >>> net, loss = fnn.serial(fnn.dense(1)), fnn.losses.squared_error
    >>> config = TrainerConfig(net, loss, optax.sgd(0.5), None, fnn.autodiff, (), None, True, "mean")
    >>> rows = fnn.Part(jnp.ones((4, 2)), jnp.ones((4, 1)))
    >>> params = net.init(fnn.arguments.key(0), (2,))[0]
    >>> one, other = (probe(config._replace(optimizer=optax.sgd(lr)), (), rows, params) for lr in (0.5, 0.25))
    >>> print([name for name in one if one[name] != other[name]])
    ['optimizer']
    """
    x, t = _fix(tuple(some_rows(tree, ROWS) for tree in rows[:2]), 3)
    weights, grads, more = (_fix(params, seed) for seed in range(3))

    def run(weights: Params, grads: Params, more: Params, x: Array, t: Array) -> dict[str, Any]:
        settings = {name: jnp.asarray(SETTING, jnp.result_type(float)) for name in names}
        bound = bind(config, settings)
        state = bound.net.init(jax.random.key(0), example_shape(x))[1]
        outputs = bound.net.forward(weights, state, x, None, False)[0]

        def updates() -> tuple[Params, Params]:
            value = jnp.full((), SETTING, dtype_of_sums(dtype_of(weights)))
            cost, state = (
                functools.partial(stand_in_cost, grads, weights, value),
                init_optimizer(bound.optimizer, weights),
            )
            first, kept = update_optimizer(bound.optimizer, grads, state, weights, cost)
            return first, update_optimizer(bound.optimizer, more, kept, weights, cost)[0]

        def derivative() -> tuple[Array, Array, Params]:
            weight = jnp.ones(row_count(x), dtype_of(weights))
            return cost_gradient(bound)(weights, state, x, t, weight, jax.random.key(0), False)[:3]

        asked: dict[str, Callable[[], Any]] = {
            "net": lambda: outputs,
            "loss": lambda: bound.loss.value(outputs, t),
            "gradient": derivative,
            "optimizer": updates,
        }
        if config.penalty is not None:
            penalty = resolve("penalty", config.penalty, Penalty, settings)
            asked["penalty"] = lambda: (penalty.value(weights), penalty.grad(weights))
        asked |= {f"metrics.{name}": functools.partial(metric, outputs, t) for name, metric in config.metrics}
        return _those_that_run(asked)

    try:
        with jax.numpy_dtype_promotion("standard"):
            values = _run_once(run, weights, grads, more, x, t)
        return {name: _sizes(value) for name, value in values.items()}
    except Exception:  # whatever a user's function does not like: then it is not compared, and `fnn.resume` says so
        return {}


def _run_once(function: Callable[..., Any], *arguments: Tree) -> Any:
    return freeze(function, arguments).jit(compiler_options=quick_compile_options())(*arguments)


def _those_that_run(asked: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    made = {}
    for name, function in asked.items():
        try:
            made[name] = function()
        except Exception:  # as above
            continue
    return made


def _fix(tree: Tree, seed: int) -> Tree:
    """Numbers between -0.5 and 0.5 of these shapes and dtypes; of integers 0 and 1, which are classes too."""

    def numbers(leaf: HasShape) -> np.ndarray:
        some = np.cos(np.arange(seed + 1, seed + 998))
        some = 0.5 * some if jnp.issubdtype(leaf.dtype, jnp.inexact) else some > 0
        return np.resize(some, int(np.prod(leaf.shape))).reshape(leaf.shape).astype(leaf.dtype)

    return jax.tree.map(numbers, tree)


def _sizes(value: Tree) -> list[float]:
    sizes: list[float] = []
    for leaf in jax.tree.leaves(value):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            continue
        numbers = np.asarray(leaf).astype(np.float64).ravel()
        numbers = numbers[:: max(1, numbers.size // NUMBERS)]
        sizes += [float(np.linalg.norm(numbers)), float(numbers @ np.cos(np.arange(1, numbers.size + 1)))]
    return sizes


def alike(one: list[float], other: list[float], dtype: DTypeLike) -> bool:
    """Whether two of these are the same but for rounding."""
    a, b = np.array(one), np.array(other)
    if a.shape != b.shape:
        return False
    size = np.repeat(np.maximum(a[::2], b[::2]), 2)
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= max(1e-3, float(np.sqrt(float(jnp.finfo(dtype).eps)))) * size
    return bool((near | (a == b) | (np.isnan(a) & np.isnan(b))).all())
