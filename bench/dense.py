"""How near is a training step of a dense network to its own matrix products, and how does it compare?

784-512-512-10, relu, batches of 128, float32, momentum. All shuffle every epoch and fetch the rows of a batch each
step; fnn guards against non-finite values as well. PyTorch has a thread a core. The bounds are the
matrix products of a step and the update of its parameters, each timed alone.

On a GPU a second table: 4 layers of 8,192, batches of 8,192, bfloat16 products with float32 parameters, beside the
rate of one bfloat16 product of 8,192³.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from bench import peers
from bench.bounds import dense_products, flops, momentum, products, weights
from bench.jitted import jit_as_fit
from bench.output import publish
from bench.peers.task import Task, on_a_gpu
from bench.timing import Make, Work, in_turn

RATE, BATCHES = 0.01, 32
LOSS = fnn.losses.sparse_softmax_cross_entropy
SIZES, BATCH = (784, 512, 512, 10), 128
PRODUCTS, UPDATE = "bound: its matrix products alone", "bound: momentum of its parameters alone"
WIDE, WIDE_BATCHES = 8_192, 4  # 268 million parameters: with momentum and derivatives 4 GB, a peer's as much again
PEAK = "one product of 8,192³"


def task(sizes: tuple[int, ...], batch: int, batches: int, narrow: bool = False) -> Task:
    """Noise: no step is faster for what it sees."""
    rng, rows = np.random.default_rng(0), batch * batches
    x, t = rng.standard_normal((rows, sizes[0]), np.float32), rng.integers(0, sizes[-1], rows, np.int32)
    return Task(sizes, "relu", "mean", RATE, x, t, batch, threads=os.cpu_count() or 1, narrow=narrow)


def fused(task: Task) -> Work:
    """An epoch as one program."""
    layers: list[fnn.Layer | fnn.activations.Activation] = []
    for features in task.sizes[1:]:
        layers += [fnn.dense(features), fnn.relu]
    net = fnn.serial(*layers[:-1])
    net = fnn.mixed_precision(net) if task.narrow else net
    data = fnn.Data(fnn.Part(jnp.asarray(task.x), jnp.asarray(task.t)))
    training = fnn.trainer(net, LOSS, optax.sgd(RATE, momentum=0.9), batch_size=task.batch)
    state = [jax.jit(training.init)(jax.random.key(0), data)]
    run = jit_as_fit(training.run, state[0], data, 1, donate_argnums=0)

    def work() -> object:  # goes on from where it was, so that the parameters need no second place
        state[0], history = run(state[0], data, 1)
        return state[0].params, history

    return work


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure, write JSON and picture, return the table."""
    steps = BATCHES // 4 if quick else BATCHES
    given, shapes = task(SIZES, BATCH, steps), dense_products(SIZES, BATCH)
    candidates: dict[str, tuple[Make, int]] = {
        "fnn, fused": (lambda: fused(given), steps),
        PRODUCTS: (lambda: products(shapes, steps), steps),
        UPDATE: (lambda: momentum(weights(SIZES), steps), steps),
        **peers.installed(given, steps, quick),
    }
    question = "A training step of 784-512-512-10, batches of 128, float32, momentum"
    measured = in_turn(candidates, rounds)
    middle = {timing.name: timing.middle for timing in measured.timings}
    share = (middle[PRODUCTS] + middle[UPDATE]) / middle["fnn, fused"]
    figures = {"flops": flops(shapes), "share_of_products_and_update": share}
    text = publish("dense", question, measured, "step", quick=quick, figures=figures)
    text += f"\nProducts and update together take {100 * share:.0f} % of fnn's step."
    return f"{text}\n\n{wide(rounds, quick)}" if on_a_gpu() else text


def wide(rounds: int, quick: bool) -> str:
    """bfloat16, as wide as a GPU is busy with."""
    sizes = (WIDE,) * 5
    given, shapes = task(sizes, WIDE, WIDE_BATCHES, narrow=True), dense_products(sizes, WIDE)
    one = [(WIDE, WIDE, WIDE)]
    candidates: dict[str, tuple[Make, int]] = {
        "fnn, fused": (lambda: fused(given), WIDE_BATCHES),
        "bound: its matrix products alone": (lambda: products(shapes, 4, "bfloat16"), 4),
        # as many of them as have the FLOP of a step, so that the rows can be compared
        f"bound: as many FLOP by {PEAK}": (lambda: products(one, len(shapes), "bfloat16"), 1),
        **peers.installed(given, WIDE_BATCHES, quick, (peers.PLAIN, peers.EAGER, peers.COMPILED)),
    }
    measured = in_turn(candidates, rounds)
    peak = next(t.middle for t in measured.timings if t.name.endswith(PEAK))
    shares = {t.name: peak / t.middle for t in measured.timings if not t.name.endswith(PEAK)}
    question = f"A training step of 4 layers of {WIDE:,}, batches of {WIDE:,}, bfloat16 products, momentum"
    figures = {"flops": flops(shapes), "share_of_peak": shares}
    text = publish("dense_wide", question, measured, "step", quick=quick, figures=figures)
    said = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    return f"{text}\nOf the {flops(shapes) / peak / 1e12:.0f} TFLOP/s of {PEAK}: {said}."
