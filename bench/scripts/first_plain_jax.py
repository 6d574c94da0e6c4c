"""The seconds of a first fit written by hand in JAX and optax: what no library that compiles such a run can undercut.

One program, as a careful user would write it: a scan over epochs of a scan over batches in a new order each epoch,
Adam, then loss and accuracy of the validation rows. `python first_plain_jax.py quick` asks XLA to compile plainly.
"""

import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

digits = load_digits()
x, t = (digits.data / 16).astype("float32"), digits.target.astype("int32")
ROWS, BATCH, EPOCHS = 1437, 64, 20
OPTIONS = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}  # of JAX 0.10
options = OPTIONS if "quick" in sys.argv and jax.__version_info__ < (0, 11) else {}
optimizer = optax.adam(1e-3)
jax.numpy.zeros(1).block_until_ready()  # the backend starts


def outputs(params: Any, x: Any) -> Any:
    """Logits."""
    (w1, b1), (w2, b2) = params
    return jnp.tanh(x @ w1 + b1) @ w2 + b2


def cost(params: Any, x: Any, t: Any) -> Any:
    """The mean over the rows."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs(params, x), t).mean()


def train(key: Any, x: Any, t: Any, x_test: Any, t_test: Any) -> Any:
    """All epochs: parameters, and per epoch the losses and the accuracy."""
    keys = jax.random.split(key, 3)
    params = [
        (jax.random.normal(keys[0], (64, 100)) / 8, jnp.zeros(100)),
        (jax.random.normal(keys[1], (100, 10)) / 10, jnp.zeros(10)),
    ]

    def step(carry: Any, rows: Any) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(cost)(params, x[rows], t[rows])
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    def epoch(carry: Any, key: Any) -> Any:
        order = jax.random.permutation(key, ROWS)[: ROWS // BATCH * BATCH].reshape(-1, BATCH)
        carry, values = jax.lax.scan(step, carry, order)
        y = outputs(carry[0], x_test)
        right = (y.argmax(-1) == t_test).mean()
        return carry, (values.mean(), cost(carry[0], x_test, t_test), right)

    return jax.lax.scan(epoch, (params, optimizer.init(params)), jax.random.split(keys[2], EPOCHS))


begin = time.perf_counter()
_, history = jax.jit(train, compiler_options=options or None)(jax.random.key(0), x[:ROWS], t[:ROWS], x[ROWS:], t[ROWS:])
assert np.asarray(history[2])[-1] > 0.8
print(time.perf_counter() - begin)
