"""Equinox: a step under `filter_jit`, called from a Python loop."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from bench.peers.task import Task
from bench.timing import Work


def make(task: Task, steps: int) -> Work:
    """So many steps a call."""
    import equinox as eqx

    inputs, *hidden, outputs = task.sizes
    if len(set(hidden)) > 1:
        raise ValueError(f"equinox: expected hidden layers of one width, got {hidden}. Measure another network.")
    key, activation = jax.random.key(0), getattr(jax.nn, task.hidden)
    net = eqx.nn.MLP(inputs, outputs, hidden[0], len(hidden), activation, key=key)
    optimizer = optax.sgd(task.learning_rate, momentum=0.9)
    reduce, x, t = getattr(jnp, task.reduction), jnp.asarray(task.x), jnp.asarray(task.t)

    @eqx.filter_value_and_grad
    def cost(net: Any, x: Any, t: Any) -> Any:
        return reduce(optax.softmax_cross_entropy_with_integer_labels(jax.vmap(net)(x), t))

    @eqx.filter_jit
    def step(net: Any, state: Any, x: Any, t: Any, rows: Any) -> Any:
        x, t = (x, t) if task.full else (x[rows], t[rows])
        value, grads = cost(net, x, t)
        updates, state = optimizer.update(grads, state, eqx.filter(net, eqx.is_array))
        return eqx.apply_updates(net, updates), state, value

    start = net, optimizer.init(eqx.filter(net, eqx.is_array))

    def work() -> Any:
        (net, state), value = start, None
        for rows in task.batches(steps):
            net, state, value = step(net, state, x, t, rows)
        return eqx.filter(net, eqx.is_array), value

    return work
