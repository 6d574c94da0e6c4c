"""Flax NNX: a step under `nnx.jit`, called from a Python loop."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bench.peers.task import Task
from bench.timing import Work


def make(task: Task, steps: int) -> Work:
    """So many steps a call."""
    from flax import nnx

    rngs, layers = nnx.Rngs(0), []
    for m, n in pairwise(task.sizes):
        layers += [nnx.Linear(m, n, rngs=rngs), getattr(jax.nn, task.hidden)]
    net = nnx.Sequential(*layers[:-1])
    optimizer = nnx.Optimizer(net, optax.sgd(task.learning_rate, momentum=0.9), wrt=nnx.Param)
    reduce, x, t = getattr(jnp, task.reduction), jnp.asarray(task.x), jnp.asarray(task.t)

    def cost(net: Any, x: Any, t: Any) -> Any:
        return reduce(optax.softmax_cross_entropy_with_integer_labels(net(x), t))

    @nnx.jit
    def step(net: Any, optimizer: Any, x: Any, t: Any, rows: Any) -> Any:
        x, t = (x, t) if task.full else (x[rows], t[rows])
        value, grads = nnx.value_and_grad(cost)(net, x, t)
        optimizer.update(net, grads)
        return value

    def work() -> Any:
        value = None
        for rows in task.batches(steps):
            value = step(net, optimizer, x, t, rows)
        return value, nnx.state(net)

    return work
