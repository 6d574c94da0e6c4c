"""The 2-3-2 network by plain JAX and optax: 300 steps on 100 rows, one program by `scan`. With a folder as argument
compiled programs are kept there."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

if len(sys.argv) > 1:
    jax.config.update("jax_compilation_cache_dir", sys.argv[1])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

rng = np.random.default_rng(0)
angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
ring = np.stack([np.cos(angle), np.sin(angle)], 1)
x = (np.concatenate([ring, 0.3 * ring]) + rng.normal(0, 0.1, (100, 2))).astype("float32")
t = np.repeat([0, 1], 50)
optimizer = optax.sgd(0.02, momentum=0.9)


def cost(params: Any, x: Any, t: Any) -> Any:
    """The sum over the rows."""
    (w1, b1), (w2, b2) = params
    logits = jax.nn.sigmoid(x @ w1 + b1) @ w2 + b2
    return optax.softmax_cross_entropy_with_integer_labels(logits, t).sum()


@jax.jit
def train(key: Any, x: Any, t: Any) -> Any:
    """All steps, and the cost at each."""
    keys = jax.random.split(key)
    params = [
        (jax.random.normal(keys[0], (2, 3)) * 2**-0.5, jnp.zeros(3)),
        (jax.random.normal(keys[1], (3, 2)) * 3**-0.5, jnp.zeros(2)),
    ]

    def step(carry: Any, _: Any) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(cost)(params, x, t)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    return jax.lax.scan(step, (params, optimizer.init(params)), length=300)


(params, _), costs = train(jax.random.key(0), x, t)
costs = np.asarray(costs)
assert costs[-1] < costs[0]
