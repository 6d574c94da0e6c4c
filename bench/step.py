"""How long is a training step of the documents' 2-3-2 network: fused into one program, or called from a Python loop?

100 rows, full batch, momentum, no validation on either side. The fused run is what `fnn.trainer` gives, with the guard
against non-finite values at every step; the Python loop calls a jitted step of the same network, loss and optimizer
without a guard, which is how JAX programs are usually written.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from bench.timing import in_turn, report, save

FUSED_STEPS, LOOP_STEPS = 3_000, 300
NET = fnn.serial(
    fnn.dense(3, weight_init=0.1, bias_init=0.1), fnn.sigmoid, fnn.dense(2, weight_init=0.1, bias_init=0.1)
)
LOSS = fnn.losses.softmax_cross_entropy


def rows() -> fnn.Data:
    """Two rings of 50 rows each, as in the documents' data."""
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    x = np.concatenate([ring, 0.3 * ring]) + rng.normal(0, 0.1, (100, 2))
    return fnn.Data(fnn.Part(jnp.asarray(x, jnp.float32), jnp.repeat(jnp.eye(2), 50, axis=0)))


def fused(data: fnn.Data, gradient: Any) -> Any:
    """The whole run as one program."""
    training = fnn.trainer(NET, LOSS, optax.sgd(0.02, momentum=0.9), reduction="sum", gradient=gradient)
    start = jax.jit(training.init)(jax.random.key(0), data)
    run = jax.jit(training.run)
    return lambda: run(start, data, FUSED_STEPS)


def python_loop(data: fnn.Data) -> Any:
    """A jitted step, called again and again."""
    optimizer = optax.sgd(0.02, momentum=0.9)
    x, t = data.train.x, data.train.t

    @jax.jit
    def step(params: Any, state: Any, x: Any, t: Any) -> Any:
        def cost(params: Any) -> Any:
            hidden = jax.nn.sigmoid(x @ params[0]["w"] + params[0]["b"])
            logits = hidden @ params[2]["w"] + params[2]["b"]
            return -(t * jax.nn.log_softmax(logits)).sum()

        value, grads = jax.value_and_grad(cost)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    params = NET.init(jax.random.key(0), (2,))[0]

    def work() -> Any:
        p, s = params, optimizer.init(params)
        for _ in range(LOOP_STEPS):
            p, s, value = step(p, s, x, t)
        return p, value

    return work


def pytorch(data: fnn.Data) -> tuple[Any, int]:
    """A step as PyTorch's own examples write it, on one thread, which is the fastest for so little; how many a call."""
    import torch

    torch.set_num_threads(1)
    nn = torch.nn
    net = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 2))
    optimizer, loss = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9), nn.CrossEntropyLoss(reduction="sum")
    x, t = (torch.tensor(np.asarray(a)) for a in data.train[:2])

    def work() -> None:
        for _ in range(LOOP_STEPS):
            optimizer.zero_grad()
            loss(net(x), t).backward()
            optimizer.step()

    return work, LOOP_STEPS


PEERS = {"torch": ("PyTorch eager", pytorch)}


def main(rounds: int = 15) -> str:
    """Measure, write the JSON, return the table."""
    data = rows()
    question = "A training step of the 2-3-2 network, 100 rows, full batch, momentum"
    fused_run, by_hand, loop = in_turn(
        {
            "fused": (fused(data, fnn.autodiff), FUSED_STEPS),
            "fused, by hand": (fused(data, fnn.backprop), FUSED_STEPS),
            "jitted step, Python loop": (python_loop(data), LOOP_STEPS),
        },
        rounds,
    )
    ratio = loop.middle / fused_run.middle
    timings = [fused_run, by_hand, loop]
    path = save("step", question, timings, loop_over_fused=ratio)
    table = report(question, timings, "step")
    return f"{table}\nThe fused step is {ratio:.1f} times as fast as the loop's. Written to {path.name}."
