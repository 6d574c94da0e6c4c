"""Plain JAX with optax: a jitted step, called from a Python loop. The usual program, without a guard."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from bench.peers.task import Task
from bench.timing import Work


def make(task: Task, steps: int) -> Work:
    """So many steps a call."""
    activation, optimizer = getattr(jax.nn, task.hidden), optax.sgd(task.learning_rate, momentum=0.9)
    reduce = getattr(jnp, task.reduction)
    x, t = jnp.asarray(task.x), jnp.asarray(task.t)

    def cost(params: Any, x: Any, t: Any) -> Any:
        if task.narrow:
            params, x = jax.tree.map(lambda a: a.astype("bfloat16"), (params, x))
        for layer in params[:-1]:
            x = activation(x @ layer["w"] + layer["b"])
        logits = x @ params[-1]["w"] + params[-1]["b"]
        return reduce(optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), t))

    @jax.jit
    def step(params: Any, state: Any, x: Any, t: Any, rows: Any) -> Any:
        x, t = (x, t) if task.full else (x[rows], t[rows])
        value, grads = jax.value_and_grad(cost)(params, x, t)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    keys = jax.random.split(jax.random.key(0), len(task.sizes) - 1)
    params = [
        {"w": jax.random.normal(key, (m, n)) * m**-0.5, "b": jnp.zeros(n)}
        for key, m, n in zip(keys, task.sizes[:-1], task.sizes[1:], strict=True)
    ]
    start = params, optimizer.init(params)

    def work() -> Any:
        (params, state), value = start, None
        for rows in task.batches(steps):
            params, state, value = step(params, state, x, t, rows)
        return params, value

    return work
