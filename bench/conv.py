"""How long is a training step of a convolutional network: fused into one program, called from Python, elsewhere?

A LeNet-like network on images of 28 × 28 pixels: 20 and 50 kernels of 5 × 5, each followed by relu and max-pooling by
2, then 500 and 10 units; batches of 64, momentum. The fused run is what `fnn.trainer` gives, with the guard against
non-finite values; the Python loop calls a jitted step of the same network without one. All shuffle every epoch and
fetch the rows of a batch each step. "By the library" is the usual JAX program: `lax.conv_general_dilated` and
`reduce_window`, differentiated by autodiff. PyTorch and Keras are measured where they are installed; PyTorch with as
many threads as there are cores. The matrix products alone, of the very shapes that convolutions and dense layers come
down to, are what no program of products can beat.
"""

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import fnn
from bench.bounds import dense_products, products
from bench.jitted import jit_as_fit
from bench.output import publish
from bench.peers import pytorch as torch_peer
from bench.peers.task import on_a_gpu
from bench.timing import Make, Work, in_turn

BATCH, BATCHES, STEPS, MEMBERS = 64, 16, 16, 16
NET = fnn.serial(
    fnn.conv2d(20, (5, 5), padding="VALID"), fnn.relu, fnn.max_pool(2),
    fnn.conv2d(50, (5, 5), padding="VALID"), fnn.relu, fnn.max_pool(2),
    fnn.flatten(), fnn.dense(500), fnn.relu, fnn.dense(10),
)  # fmt: skip
LOSS = fnn.losses.sparse_softmax_cross_entropy
OPTIMIZER = optax.sgd(0.01, momentum=0.9)


def rows() -> fnn.Data:
    """As many rows as an epoch of `STEPS` steps has; noise: no step is faster for what it sees."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * BATCHES, 28, 28, 1)).astype(np.float32)
    return fnn.Data(fnn.Part(jnp.asarray(x), jnp.asarray(rng.integers(0, 10, len(x)), jnp.int32)))


def batches() -> np.ndarray:
    """The row numbers of each step, in an order drawn anew."""
    return np.random.permutation(BATCH * BATCHES).astype(np.int32).reshape(STEPS, BATCH)


# ---- fnn


def fused(data: fnn.Data, gradient: Any = fnn.autodiff) -> Work:
    """An epoch as one program."""
    training = fnn.trainer(NET, LOSS, OPTIMIZER, batch_size=BATCH, gradient=gradient)
    start, epochs = jax.jit(training.init)(jax.random.key(0), data), STEPS // BATCHES
    run = jit_as_fit(training.run, start, data, epochs)
    return lambda: run(start, data, epochs)


def vmapped(data: fnn.Data) -> Work:
    """An epoch of many networks as one program."""
    training = fnn.trainer(NET, LOSS, OPTIMIZER, batch_size=BATCH)
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    start = jax.jit(jax.vmap(lambda key: training.init(key, data)))(keys)
    run = jit_as_fit(jax.vmap(lambda state: training.run(state, data, STEPS // BATCHES)), start)
    return lambda: run(start)


def forward(params: Any, x: Any) -> Any:
    """fnn's network."""
    return NET.forward(params, [()] * 10, x, None, True)[0]


def by_the_library(params: Any, x: Any) -> Any:
    """The same network as JAX programs have it."""
    for i in (0, 3):
        layout = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, params[i]["w"], (1, 1), "VALID", dimension_numbers=layout) + params[i]["b"]
        x = lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(x.reshape(len(x), -1) @ params[7]["w"] + params[7]["b"])
    return x @ params[9]["w"] + params[9]["b"]


def python_loop(data: fnn.Data, outputs: Callable[[Any, Any], Any]) -> Work:
    """A jitted step, called again and again."""

    @jax.jit
    def step(params: Any, state: Any, rows: Any, data: fnn.Data) -> Any:
        x, t = data.train.x[rows], data.train.t[rows]
        value, grads = jax.value_and_grad(lambda params: LOSS(outputs(params, x), t).mean())(params)
        updates, state = OPTIMIZER.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    params = NET.init(jax.random.key(0), (28, 28, 1))[0]

    def work() -> Any:
        p, s, value = params, OPTIMIZER.init(params), None
        for rows in batches():
            p, s, value = step(p, s, rows, data)
        return p, value

    return work


# ---- others


def pytorch(data: fnn.Data) -> Work:
    """A step as PyTorch's own examples write it."""
    return _pytorch_epoch(data, lambda function, mode: function)


def pytorch_compiled(data: fnn.Data) -> Work:
    """The cost with its derivatives, and the update of the weights: two compiled functions."""
    import torch

    return _pytorch_epoch(data, lambda function, mode: torch.compile(function, mode=mode))


def _pytorch_epoch(data: fnn.Data, finish: Callable[[Any, str], Any]) -> Work:
    import torch

    nn, where = torch.nn, torch_peer.device(os.cpu_count() or 1)
    net = nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    ).to(where)  # fmt: skip
    optimizer, loss = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9), nn.CrossEntropyLoss()
    x = torch.tensor(np.asarray(data.train.x)).permute(0, 3, 1, 2).contiguous().to(where)
    t = torch.tensor(np.asarray(data.train.t), dtype=torch.int64).to(where)
    mode = "reduce-overhead" if on_a_gpu() else "default"  # CUDA graphs, as in the dense table
    cost, update = finish(lambda x, t: loss(net(x), t), mode), finish(optimizer.step, "default")

    def work() -> None:
        for numbers in batches():
            rows = torch.from_numpy(numbers).to(where)
            optimizer.zero_grad()
            cost(x[rows], t[rows]).backward()
            update()
        torch_peer.finished()

    return work


def keras(data: fnn.Data) -> Work:
    """An epoch of Keras' `fit`, JAX beneath."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    layers = keras.layers
    net = keras.Sequential([
        keras.Input((28, 28, 1)), layers.Conv2D(20, 5, activation="relu"), layers.MaxPooling2D(2),
        layers.Conv2D(50, 5, activation="relu"), layers.MaxPooling2D(2), layers.Flatten(),
        layers.Dense(500, activation="relu"), layers.Dense(10),
    ])  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9), loss=loss)
    x, t = np.asarray(data.train.x), np.asarray(data.train.t)
    return lambda: net.fit(x, t, batch_size=BATCH, epochs=STEPS // BATCHES, verbose=0)


PEERS = [  # package, name, what makes the work; `--quick` does without, since dense has them
    ("torch", "PyTorch eager, a thread per core", pytorch),
    ("torch", "PyTorch compiled, a thread per core", pytorch_compiled),
    ("keras", "Keras fit, on JAX", keras),
]

# ---- the products alone

SHAPES = [  # rows, inner, columns: forward, by the weights, by the inputs; the first layer needs none by its inputs
    (BATCH * 24 * 24, 25, 20), (25, BATCH * 24 * 24, 20),
    (BATCH * 8 * 8, 500, 50), (500, BATCH * 8 * 8, 50), (BATCH * 8 * 8, 50, 500),
    (BATCH, 500, 800), *dense_products((800, 500, 10), BATCH),
]  # fmt: skip


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure, write JSON and picture, return the table."""
    data = rows()
    candidates: dict[str, tuple[Make, int]] = {
        "fnn, fused": (lambda: fused(data), STEPS),
        "bound: its matrix products alone": (lambda: products(SHAPES, STEPS), STEPS),
    }
    if not quick:
        candidates |= {
            "fnn, fused, derivatives by hand": (lambda: fused(data, fnn.backprop), STEPS),
            "fnn, jitted step in a Python loop": (lambda: python_loop(data, forward), STEPS),
            f"fnn, {MEMBERS} networks, each": (lambda: vmapped(data), STEPS * MEMBERS),
            "plain JAX, by XLA's convolution": (lambda: python_loop(data, by_the_library), STEPS),
        }
    for package, name, make in PEERS:
        if importlib.util.find_spec(package) and not quick:
            candidates[name] = partial(make, data), STEPS
    question = f"A training step of a LeNet-like network, batches of {BATCH}, momentum"
    return publish("conv", question, in_turn(candidates, rounds), "step", quick=quick)
