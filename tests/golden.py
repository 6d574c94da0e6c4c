"""SHA-256 of parameters and histories of small runs of every kind: whether a change of the code changed a single bit.

`python -m tests.golden` compares with the file made before; `python -m tests.golden write` makes it anew. Last bits
belong to a version of JAX and to a kind of processor, so the file has a section for each that it was made on.
"""

import hashlib
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import fnn
from fnn import losses, penalties

FILE = Path(__file__).with_suffix(".json")
NET = fnn.serial(fnn.dense(8), fnn.tanh, fnn.dense(3))


def rows(seed: int = 0, count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds of points, and the number of the cloud."""
    rng = np.random.default_rng(seed)
    t = np.arange(count) % 3
    return rng.normal(0, 0.5, (count, 2)).astype("float32") + t[:, None].astype("float32"), t


def run(net: Any = NET, *, data: Any = None, epochs: int = 12, key: int = 3, **more: Any) -> Any:
    """A run with a validation share, unless told otherwise."""
    arguments = {"batch_size": 16, "validation": 0.2, "progress": False, "compile_effort": "high"} | more
    optimizer = arguments.pop("optimizer", optax.adam(0.02))
    loss = arguments.pop("loss", losses.sparse_softmax_cross_entropy)
    return fnn.fit(net, loss, optimizer, rows() if data is None else data, epochs=epochs, key=key, **arguments)


def stream() -> Any:
    """The rows in chunks, twice: with weights."""
    x, t = rows()
    weight = np.linspace(0, 2, len(x), dtype="float32")

    def chunks(epoch: int) -> Any:
        for part in np.array_split(np.arange(len(x)), 4):
            yield x[part], t[part], weight[part]

    return run(data=chunks, validation=rows(1, 30), epochs=6)


def resumed() -> Any:
    """Four epochs, and the rest after a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        run(epochs=4, checkpoint=folder)
        return run(epochs=12, checkpoint=folder)


def in_float64() -> Any:
    """In double precision."""
    with jax.enable_x64(True):
        x, t = rows()
        return run(data=(x.astype("float64"), t))


def sweep() -> Any:
    """Over a learning rate and a batch size."""
    return fnn.sweep(
        NET,
        losses.sparse_softmax_cross_entropy,
        lambda s: optax.sgd(s["lr"]),
        rows(),
        over={"lr": [0.05, 0.2], "batch_size": [16, 30]},
        width=2,
        keep="all",
        validation=rows(1, 30),
        epochs=5,
        progress=False,
    )


def folds() -> Any:
    """Cross-validation with standardised folds."""
    return fnn.cross_validate(
        NET,
        losses.sparse_softmax_cross_entropy,
        lambda s: optax.sgd(s["lr"]),
        rows(),
        over={"lr": [0.05, 0.2]},
        compile_effort="high",
        width=2,
        folds=3,
        epochs=5,
        batch_size=16,
        progress=False,
        standardise=True,
    )


def together() -> Any:
    """An ensemble of three."""
    return fnn.ensemble(
        NET, losses.sparse_softmax_cross_entropy, optax.sgd(0.1), rows(), members=3, epochs=5, batch_size=16,
        width=2, progress=False,
    )  # fmt: skip


IMAGES = np.random.default_rng(2).normal(size=(48, 6, 6, 1)).astype("float32")
DEEP = fnn.serial(
    fnn.random_flip(), fnn.conv2d(4, 3), fnn.batch_norm(), fnn.relu, fnn.max_pool(2), fnn.flatten(), fnn.dense(3)
)
RUNS = {
    "arrays": run,
    "full batch": lambda: run(batch_size=None, validation=None, optimizer=optax.sgd(0.1, momentum=0.9)),
    "weights": lambda: run(weights=np.linspace(0, 2, 90), gradient=fnn.backprop),
    "stream": stream,
    "batch_norm": lambda: run(fnn.serial(fnn.dense(8), fnn.batch_norm(), fnn.relu, fnn.dense(3))),
    "dropout": lambda: run(fnn.serial(fnn.dense(8), fnn.relu, fnn.dropout(0.3), fnn.dense(3)), epochs=6),
    "dropout, full batch": lambda: run(
        fnn.serial(fnn.dense(8), fnn.relu, fnn.dropout(0.3), fnn.dense(3)), batch_size=None, epochs=6
    ),
    "images": lambda: run(DEEP, data=(IMAGES, np.arange(48) % 3), epochs=4),
    "penalty, metrics, patience": lambda: run(
        penalty=penalties.elastic_net(0.01, 0.02), metrics={"accuracy": fnn.accuracy}, monitor="accuracy", mode="max",
        patience=3, epochs=30,
    ),
    "mixed precision": lambda: run(fnn.mixed_precision(NET), epochs=4),
    "float64": in_float64,
    "resume": resumed,
    "sweep": sweep,
    "folds": folds,
    "ensemble": together,
}  # fmt: skip


def digest(result: Any) -> str:
    """SHA-256 of all numbers of a result: its runs' parameters, states and histories, and its table."""
    found = hashlib.sha256()
    for thing in _numbers(result):
        for leaf in jax.tree.leaves(thing):
            array = np.asarray(leaf)
            found.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def _numbers(result: Any) -> list[Any]:
    if isinstance(result, fnn.Run):
        return [result.params, result.state, result.history]
    own, found = result._asdict(), []
    for name in ("run", "runs", "params", "state", "scores", "predictions", "histories", "table"):
        value = own.get(name)
        if isinstance(value, fnn.Run):
            found += _numbers(value)
        elif name == "runs" and value is not None:
            found += [part for one in value.values() for part in _numbers(one)]
        else:
            found.append(value)
    return found


def section() -> str:
    """What last bits belong to."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"JAX {jax.__version__}, {platform.machine()}, {model[0].split(':')[1].strip() if model else 'unknown'}"


def main(write: bool) -> int:
    """Compare, or write; the number of runs that differ."""
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    now = {}
    differ = 0
    for name, make in RUNS.items():
        now[name] = digest(make())
        before = known.get(section(), {}).get(name)
        differ += before is not None and before != now[name]
        print(f"{name}: {'new' if before is None else 'same' if before == now[name] else 'DIFFERS'}")
    if write:
        FILE.write_text(json.dumps(known | {section(): now}, indent=1) + "\n")
    return differ


if __name__ == "__main__":
    sys.exit(main("write" in sys.argv[1:]))
