"""Runs on 1, 2 and 4 devices in one process, each compared with the run without a mesh: a program of its own.

`python -m tests.helpers.several_devices CASE ...` prints a JSON object, case -> {devices: largest difference}.
"""

import json
import os
import sys

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"

import jax
import numpy as np
import optax

import fnn

RNG = np.random.default_rng(7)
FLAT, IMAGES = RNG.normal(size=(50, 6)), RNG.normal(size=(30, 6, 6, 2))
T = np.tanh(FLAT @ RNG.normal(size=(6, 3)))
LABELS = IMAGES.reshape(30, -1)[:, :3].argmax(1)
WEIGHTS = np.where(np.arange(50) % 7 == 0, 0.0, RNG.uniform(0.5, 2, 50))
DENSE = fnn.serial(fnn.dense(16), fnn.tanh, fnn.dense(3))
NOISY = fnn.serial(fnn.dense(16), fnn.relu, fnn.dropout(0.3), fnn.dense(3))
NORMAL = fnn.serial(fnn.dense(16), fnn.batch_norm(), fnn.tanh, fnn.dense(3))
CONV = fnn.serial(
    fnn.conv2d(4, 3), fnn.batch_norm(), fnn.relu, fnn.max_pool(2), fnn.flatten(), fnn.dropout(0.2), fnn.dense(3)
)
SQUARED, CLASSES = fnn.losses.squared_error, fnn.losses.sparse_softmax_cross_entropy
ADAM = optax.adam(1e-2)
MOMENTUM = optax.sgd(0.05, 0.9)  # a bias before batch norm has derivative 0, of whose rounding Adam makes whole steps


def rows(count):
    """So many rows of the vectors."""
    return FLAT[:count], T[:count]


def stream(epoch):
    """Chunks of uneven sizes."""
    for part in np.split(np.arange(50), [7, 30]):
        yield FLAT[part], T[part], WEIGHTS[part]


CASES = {
    "dense": (DENSE, SQUARED, ADAM, rows(48), {"batch_size": 8}),
    "dense by backprop": (DENSE, SQUARED, ADAM, rows(48), {"batch_size": 8, "gradient": fnn.backprop}),
    "10 rows": (DENSE, SQUARED, ADAM, rows(10), {}),
    "1 row": (NORMAL, SQUARED, MOMENTUM, rows(1), {"gradient": fnn.backprop}),
    "uneven batches": (NORMAL, SQUARED, MOMENTUM, rows(47), {"batch_size": 10, "validation": rows(13)}),
    "uneven by backprop": (NORMAL, SQUARED, MOMENTUM, rows(47), {"batch_size": 10, "gradient": fnn.backprop}),
    "weights": (
        NOISY,
        SQUARED,
        ADAM,
        rows(50),
        {
            "batch_size": 9,
            "weights": WEIGHTS,
            "validation": (*rows(31), WEIGHTS[:31]),
            "metrics": {"m": fnn.losses.absolute_error},
        },
    ),
    "weights by backprop": (
        NOISY,
        SQUARED,
        ADAM,
        rows(50),
        {"batch_size": 9, "weights": WEIGHTS, "validation": 0.3, "gradient": fnn.backprop, "penalty": fnn.penalties.l2(0.1)},
    ),
    "convolution": (CONV, CLASSES, MOMENTUM, (IMAGES, LABELS), {"batch_size": 7, "validation": 0.2}),
    "convolution by backprop": (
        CONV,
        CLASSES,
        MOMENTUM,
        (IMAGES, LABELS),
        {"batch_size": 7, "gradient": fnn.backprop, "metrics": {"accuracy": fnn.accuracy}},
    ),
    "patience": (DENSE, SQUARED, optax.sgd(0.3), rows(40), {"batch_size": 6, "validation": rows(9), "patience": 1}),
    "nan": (DENSE, SQUARED, optax.sgd(1e30), rows(30), {"batch_size": 7}),
    "stream": (NORMAL, SQUARED, MOMENTUM, stream, {"batch_size": 6, "validation": rows(9)}),
}


def mesh_of(count):
    """So many devices; None for no mesh."""
    return None if count is None else jax.make_mesh((count,), ("data",), devices=jax.devices()[:count])


def train(name, devices, place=None):
    """The run of a case."""
    net, loss, optimizer, data, more = CASES[name]
    if not callable(data):
        data = tuple(a.astype(jax.numpy.result_type(float)) if a.dtype.kind == "f" else a for a in data)
    mesh = mesh_of(devices)
    more = more if mesh is None else more | {"mesh": mesh} | ({} if place is None else {"place": place(mesh)})
    return fnn.fit(net, loss, optimizer, data, epochs=6, progress=False, **more)


def difference(run, other):
    """The largest difference over the largest value of each array, of all that is kept of two runs."""
    found = 0.0
    pairs = zip(jax.tree.leaves(run), jax.tree.leaves(other), strict=True)
    for a, b in pairs:
        a, b = (np.asarray(of, np.float64) for of in (a, b))
        assert a.shape == b.shape and np.array_equal(np.isnan(a), np.isnan(b)), (a, b)
        finite = np.isfinite(b)
        assert np.array_equal(a[~finite], b[~finite], equal_nan=True)
        found = max(found, float(np.abs(a - b)[finite].max(initial=0) / max(np.abs(b[finite]).max(initial=0), 1e-3)))
    return found


def main(names):
    """Compare the named cases; all, where none is named."""
    import warnings

    warnings.simplefilter("ignore")
    found = {}
    for name in names or CASES:
        alone = train(name, None)
        print(name, file=sys.stderr)
        found[name] = {count: difference(train(name, count), alone) for count in (1, 2, 4)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
