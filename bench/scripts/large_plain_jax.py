"""784-512-512-10 by plain JAX and optax: batches of 128, two epochs of shuffled rows by `scan`, the state donated."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from large_rows import rows

SIZES, BATCH = (784, 512, 512, 10), 128
optimizer = optax.sgd(0.1, momentum=0.9)


def cost(params: Any, x: Any, t: Any) -> Any:
    """The mean over the rows."""
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = params[-1]
    return optax.softmax_cross_entropy_with_integer_labels(x @ w + b, t).mean()


@functools.partial(jax.jit, donate_argnums=0)
def epoch(carry: Any, key: Any, x: Any, t: Any) -> Any:
    """Every row once; what is left over by whole batches is dropped."""

    def step(carry: Any, rows: Any) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(cost)(params, x[rows], t[rows])
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    batches = len(x) // BATCH
    order = jax.random.permutation(key, len(x))[: batches * BATCH].reshape(batches, BATCH)
    return jax.lax.scan(step, carry, order)


x, t = map(jnp.asarray, rows())
key, *keys = jax.random.split(jax.random.key(0), 4)
params = [
    (jax.random.normal(key, (m, n)) * m**-0.5, jnp.zeros(n))
    for key, m, n in zip(keys, SIZES[:-1], SIZES[1:], strict=True)
]
carry, history = (params, optimizer.init(params)), []
for own in jax.random.split(key):
    carry, costs = epoch(carry, own, x, t)
    history.append(np.asarray(costs).mean())
assert history[-1] < history[0]
