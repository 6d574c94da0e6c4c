"""The numbers that the parts are looked at with: random, saturated, zero, one row, padding, equal rows, many rows."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from experiments.derivatives.record import Point

ROWS, K, MANY = 5, 4, 4096
# compiling is what takes the time; from JAX 0.11 on the second is gone
QUICK = {"xla_backend_optimization_level": 0} | (
    {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}
)
MASK = np.array([True, False, True, True, False])
SATURATED = (20.0, -20.0, 50.0, -50.0, 1000.0, -1000.0)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers in float64, none of them nearer to 0 than 1e-3: random is not at a kink."""
    numbers = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return np.where(np.abs(numbers) < 1e-3, 0.1, numbers)


def of_inputs(point: Callable[[Any, Any], Point], features: tuple[int, ...] = (K,), saturated: bool = True) -> Any:
    """The regimes of whatever has inputs `x`: name -> point, made by `point(x, mask)`."""
    everything = np.ones(ROWS, bool)
    random = normal(ROWS, *features)
    tables = {
        "random": (random, everything),
        "masked rows": (np.where(_over(MASK, random), random, 2.5 + random), MASK),
    }
    tables["zero"] = (0.0 * random, everything)
    tables["constant rows"] = (np.broadcast_to(random[:1], random.shape), everything)
    for level in SATURATED if saturated else ():
        tables[f"{level:+g}"] = (level + 0.3 * random, everything)
    tables["one row"] = (random[:1], np.ones(1, bool))
    tables["4,096 rows"] = (normal(MANY, *features, seed=1), np.ones(MANY, bool))
    return {name: lambda x=x, mask=mask: point(jnp.asarray(x), jnp.asarray(mask)) for name, (x, mask) in tables.items()}


def _over(mask: np.ndarray, x: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, *[1] * (x.ndim - 1))


# ---- after 200 steps of real training


@lru_cache
def iris() -> tuple[np.ndarray, np.ndarray]:
    """150 flowers: four standardised measures, and the class as a one-hot row."""
    from sklearn.datasets import load_iris

    table = load_iris()
    x = np.asarray(table.data, np.float64)
    return (x - x.mean(0)) / x.std(0), np.eye(3)[table.target]


def train(net: Any, loss: Any, x: Any, t: Any, penalty: Any = None, steps: int = 200) -> tuple[Any, Any]:
    """Parameters and layer state after so many steps of descent on all rows."""
    params, state, _ = net.init(jax.random.key(3), x.shape[1:])
    gradient = fnn.autodiff(net, loss, penalty)

    @partial(jax.jit, compiler_options=QUICK)
    def step(params: Any, state: Any, i: Any) -> Any:
        g = gradient(params, state, x, t, key=jax.random.fold_in(jax.random.key(4), i))
        return jax.tree.map(lambda p, d: p - 0.1 * d, params, g.grads), g.state

    for i in range(steps):
        params, state = step(params, state, i)
    return params, state


def trained_inputs(part: Any) -> tuple[Any, Any, Any]:
    """Parameters, state and five rows of inputs of a layer in the midst of a network that was trained on iris."""
    x, t = map(jnp.asarray, iris())
    before = fnn.serial(fnn.dense(K))
    net = fnn.serial(before, part, fnn.dense(3))
    params, state = train(net, fnn.losses.softmax_cross_entropy, x, t)
    return params[1], state[1], before.forward(params[0], state[0], x[::30], None, False)[0]
