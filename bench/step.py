"""How long is a training step of the documents' 2-3-2 network: fused into one program, called from Python, elsewhere?

100 rows, full batch, momentum, no validation anywhere. The fused run is what `fnn.trainer` gives, with the guard
against non-finite values at every step; no other has one. PyTorch has one thread, which is the fastest for so little.
The bound is a vectorised loop in C, written by hand for this network, which ends at the same parameters.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import fnn
from bench import peers
from bench.c_loop import loop
from bench.jitted import jit_as_fit
from bench.output import publish
from bench.peers.task import Task
from bench.timing import Make, Work, in_turn

FUSED_STEPS, LOOP_STEPS, RATE = 3_000, 300, 0.02
NET = fnn.serial(
    fnn.dense(3, weight_init=0.1, bias_init=0.1), fnn.sigmoid, fnn.dense(2, weight_init=0.1, bias_init=0.1)
)
LOSS = fnn.losses.softmax_cross_entropy
SAME = 1e-3  # how far the C loop may end from fnn, over the size of the parameters


def rows() -> fnn.Data:
    """Two rings of 50 rows each, as in the documents' data."""
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    x = np.concatenate([ring, 0.3 * ring]) + rng.normal(0, 0.1, (100, 2))
    return fnn.Data(fnn.Part(jnp.asarray(x, jnp.float32), jnp.repeat(jnp.eye(2), 50, axis=0)))


def task() -> Task:
    """The same for the peers."""
    part = rows().train
    classes = np.asarray(part.t).argmax(1).astype(np.int32)
    return Task((2, 3, 2), "sigmoid", "sum", RATE, np.asarray(part.x), classes, len(part.x), threads=1)


def training_and_start(gradient: Any = fnn.autodiff) -> tuple[fnn.Trainer, fnn.TrainState]:
    """fnn's run, and its first state."""
    training = fnn.trainer(NET, LOSS, optax.sgd(RATE, momentum=0.9), reduction="sum", gradient=gradient)
    return training, jax.jit(training.init)(jax.random.key(0), rows())


@functools.cache
def fused(gradient: Any = fnn.autodiff) -> Work:
    """The whole run as one program."""
    (training, start), data = training_and_start(gradient), rows()
    run = jit_as_fit(training.run, start, data, FUSED_STEPS)
    return lambda: run(start, data, FUSED_STEPS)


def by_hand_in_c() -> Work:
    """The C loop from fnn's first parameters, once seen to end at fnn's last ones."""
    given, start = task(), training_and_start()[1]
    work = loop(_numbers(start), given.x, given.t, RATE, FUSED_STEPS)
    with jax.default_matmul_precision("highest"):  # a GPU rounds float32 products to TF32 otherwise
        ours, theirs = _numbers(fused.__wrapped__()()[0]), work()
    far = float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours))
    if not far < SAME:
        raise ValueError(f"C loop: expected to end at fnn's parameters, got {far:.1e} of their size away.")
    return work


def _numbers(state: fnn.TrainState) -> np.ndarray:
    return np.asarray(ravel_pytree(state.params)[0])


C_LOOP: dict[str, tuple[Make, int]] = {"bound: C loop by hand, one core": (by_hand_in_c, FUSED_STEPS)}


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure, write JSON and picture, return the table."""
    candidates: dict[str, tuple[Make, int]] = {
        "fnn, fused": (fused, FUSED_STEPS),
        **C_LOOP,
        **peers.installed(task(), LOOP_STEPS, quick),
    }
    if not quick:
        candidates["fnn, fused, derivatives by hand"] = (lambda: fused(fnn.backprop), FUSED_STEPS)
    question = "A training step of the 2-3-2 network, 100 rows, full batch, momentum"
    return publish("step", question, in_turn(candidates, rounds), "step", quick=quick)
