"""Runs on several devices in one process, each compared with the run without a mesh: a program of its own.

`python -m tests.helpers.several_devices 1,2,4 NAME ...` prints a JSON object: case -> {devices: largest difference},
and what the checks at its end find. With NAME=own it is {devices: {leaf: its difference, and that of the run on one
device from itself, where the data have other last bits}}.
"""

import functools
import json
import os
import re
import sys
import tempfile
import warnings

if __name__ == "__main__":  # before JAX looks at the devices
    os.environ["JAX_PLATFORMS"] = "cpu"  # of which there are as many as one likes, also beside a GPU
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"

import jax
import numpy as np
import optax

import fnn
from fnn.data.loading import load_arrays
from fnn.fitting.setup import trace_run
from fnn.training.config import loop_settings, trainer_config
from fnn.training.layout import make_layout
from fnn.training.state import Start

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
        {
            "batch_size": 9,
            "weights": WEIGHTS,
            "validation": 0.3,
            "gradient": fnn.backprop,
            "penalty": fnn.penalties.l2(0.1),
        },
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
WIDE = fnn.serial(fnn.dense(256), fnn.tanh, fnn.dense(3))


def change_dtype(arrays):
    """Numbers of the dtype that JAX is set to."""
    return tuple(a.astype(jax.numpy.result_type(float)) if a.dtype.kind == "f" else a for a in arrays)


LENGTHS = ((11, 8, 5), (7, 8, 9), (9, 2, 16), (3, 8, 8))  # rows of each process in three epochs


def own_rows(index, epoch):
    """Rows of a process, in two chunks."""
    n = LENGTHS[index][epoch]
    at = (np.arange(n) + 7 * epoch + 13 * index) % 50
    x, t, weight = change_dtype((FLAT[at], T[at], WEIGHTS[at] + 0.5))
    return [(x[:3], t[:3], weight[:3]), (x[3:], t[3:], weight[3:])]


def train_own(count, alone):
    """A run of so many processes, each of which reads its own rows; or one of all rows, in the same batches.

    There a place that is empty has a row of weight 0, so no layer here may look at several rows.
    """
    places = 8 // count

    def of_all(epoch):
        parts = [[np.concatenate(of) for of in zip(*own_rows(i, epoch), strict=True)] for i in range(count)]
        batches = -(-max(len(part[0]) for part in parts) // places)
        for j in range(batches):
            at = slice(j * places, (j + 1) * places)
            for x, t, weight in parts:
                x, t, weight = x[at], t[at], weight[at]
                left = places - len(x)
                filling = [np.repeat(a[:1], left, 0) for a in change_dtype((FLAT, T))]
                yield np.concatenate([x, filling[0]]), np.concatenate([t, filling[1]]), np.pad(weight, (0, left))

    source = of_all if alone else fnn.own_rows(lambda epoch: iter(own_rows(jax.process_index(), epoch)))
    more = {} if alone else {"mesh": mesh_of(count)}
    return fnn.fit(NOISY, SQUARED, ADAM, source, epochs=3, batch_size=8, shuffle=False, progress=False, **more)


def mesh_of(count):
    """So many devices; None for no mesh."""
    return None if count is None else jax.make_mesh((count,), ("data",), devices=jax.devices()[:count])


def train(name, devices, place=None, seed=None):
    """The run of a case; with a seed, on data that differ in last bits."""
    net, loss, optimizer, data, more = CASES[name]
    if callable(data):
        chunks = [change_dtype(chunk) for chunk in data(0)]
        chunks = chunks if seed is None else [(*nudge(of[:2], seed + n), *of[2:]) for n, of in enumerate(chunks)]
        data = functools.partial(iter, chunks)
    else:
        data = change_dtype(data)
        data = data if seed is None else nudge(data, seed)
    more = {name: change_dtype(of) if isinstance(of, tuple) else of for name, of in more.items()}
    mesh = mesh_of(devices)
    more = more if mesh is None else more | {"mesh": mesh} | ({} if place is None else {"place": place(mesh)})
    return fnn.fit(net, loss, optimizer, data, epochs=6, progress=False, **more)


def difference(run, other):
    """The largest difference of all that is kept of two runs, over the largest value of each array or over 1e-3."""
    return max(differences(run, other).values(), default=0.0)


def differences(run, other):
    """That of each array, by its name."""
    found = {}
    for (path, a), (_, b) in zip(*map(jax.tree_util.tree_leaves_with_path, (run, other)), strict=True):
        a, b = (np.asarray(of, np.float64) for of in (a, b))
        assert a.shape == b.shape and np.array_equal(np.isnan(a), np.isnan(b)), (a, b)
        finite = np.isfinite(b)
        assert np.array_equal(a[~finite], b[~finite], equal_nan=True)
        a, b = a[finite], b[finite]
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found[name] = float(np.abs(a - b).max(initial=0) / max(np.abs(b).max(initial=0), 1e-3))
    return found


def beside_own(name, runs):
    """The differences of each array; and how far a change of last bits in the data takes the run on one device."""
    alone = train(name, None)
    own = [differences(train(name, None, seed=seed), alone) for seed in range(4)]
    found = {number: differences(run, alone) for number, run in runs.items()}
    return {n: {leaf: (d, max(of[leaf] for of in own)) for leaf, d in of_n.items()} for n, of_n in found.items()}


OWN = 4  # times as far as other last bits of the data move a run on one device, several devices may


def strict():
    """What all else must hold."""
    return 1e-12 if jax.config.jax_enable_x64 else 1e-6


def nudge(data, seed):
    """The data, each number of floats as it is, or the next larger or smaller one."""
    draw = np.random.default_rng(seed)

    def change(a):
        if a.dtype.kind != "f":
            return a
        towards = draw.choice([-np.inf, np.nan, np.inf], a.shape).astype(a.dtype)
        return np.where(np.isnan(towards), a, np.nextafter(a, towards))

    return tuple(map(change, data))


def collectives():
    """How many of each there are in the compiled run of a dense network: in the step, since nothing else has any."""
    net = fnn.serial(fnn.dense(16), fnn.relu, fnn.dense(16), fnn.relu, fnn.dense(3))
    config = trainer_config(net, SQUARED, ADAM, batch_size=8, layout=make_layout(mesh_of(4)))
    data = load_arrays(rows(42), None, None, jax.random.key(0), None)[0]
    _, start, program = trace_run(config, Start(jax.random.key(0), data, loop_settings(None, 0.0)))
    none = np.int32(0)
    text = program.run("high").lower(program.state, start.data, none, none).compile().as_text()
    kinds = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
    found = {kind: len(re.findall(rf" {kind}(?:-start)?\(", text)) for kind in kinds}
    return {kind: count for kind, count in found.items() if count}


def sharded():
    """Bytes of state on the fullest device, and those of one device alone; and the difference of the two runs."""
    net = fnn.serial(fnn.dense(256), fnn.tanh, fnn.dense(3))
    CASES["sharded"] = (net, SQUARED, ADAM, rows(30), {"batch_size": 7, "validation": rows(9)})
    split, alone = (train("sharded", n, functools.partial(fnn.fully_sharded, large=100)) for n in (4, None))
    shards = [shard for leaf in jax.tree.leaves(split.train_state) for shard in leaf.addressable_shards]
    of_each = [sum(s.data.nbytes for s in shards if s.device == device) for device in jax.devices()]
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(alone.train_state))
    return {"most": max(of_each), "one": whole, "difference": difference(split, alone)}


def inference():
    """Differences of outputs and means with a mesh from those without."""
    run, mesh, (x, t) = train("sharded", None), mesh_of(4), rows(50)
    net, found = CASES["sharded"][0], {}
    for count in (1, 10, 50):
        found[f"predict {count}"] = difference(
            fnn.predict(net, run, x[:count], mesh=mesh), fnn.predict(net, run, x[:count])
        )
    found["predictor"] = difference(fnn.predictor(net, run, mesh=mesh)(x), fnn.predict(net, run, x))
    by = {"reduce": jax.numpy.abs, "combine": jax.numpy.add}
    found["combine"] = difference(fnn.predict(net, run, x, mesh=mesh, **by), fnn.predict(net, run, x, **by))
    means = [fnn.evaluate(net, run, (x, t, WEIGHTS), {"loss": SQUARED}, 16, **more) for more in ({"mesh": mesh}, {})]
    return found | {"evaluate": abs(means[0]["loss"] - means[1]["loss"])}


def resume():
    """How far a run that went on, on 2 and on 4 devices, differs from one without a stop; and what is said of that."""

    def fit(devices, epochs, **more):
        net, loss, optimizer, data, arguments = CASES["sharded"]
        arguments = arguments | {"mesh": mesh_of(devices), "compile_effort": "low"} | more
        return fnn.fit(net, loss, optimizer, data, epochs=epochs, progress=False, **arguments)

    whole, found = fit(2, 5), []
    for devices in (2, 4):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            fit(2, 3, checkpoint=folder)
            found.append(difference(fit(devices, 5, checkpoint=folder), whole))
    return [*found, *(str(warning.message) for warning in said)]


def compiled():
    """How many programs two equal calls compile; rule and mesh are made anew for each."""
    names, counts = [], []

    def listen(event, duration, **more):
        if "backend_compile" in event:
            names.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    for _ in range(2):
        train("10 rows", 4, lambda mesh: lambda path, array: jax.sharding.PartitionSpec())
        counts.append(len(names))
        names.clear()
    return counts


CHECKS = {function.__name__: function for function in (collectives, sharded, inference, resume, compiled)}


def main(counts, names):
    """Compare the named cases on so many devices, and make the named checks."""
    found = {}
    for name in names:
        if name in CHECKS:
            found[name] = CHECKS[name]()
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fnn.TrainingDiverged)
            if name.endswith("=own"):
                case = name.removesuffix("=own")
                found[name] = beside_own(case, {count: train(case, count) for count in counts})
                continue
            alone = train(name, None)
            found[name] = {count: difference(train(name, count), alone) for count in counts}
    print(json.dumps(found))


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1].split(",")], sys.argv[2:])
