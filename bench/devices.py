"""From which size on does it pay to split a network's batches over several devices?

Measured, on two devices that JAX makes of the CPU: a step of 784-n-n-10 with batches of 256, on one device and on two,
and the collectives in it. Predicted, for 8, 64 and 512 devices: `t(n) = t(1)/n + 2 (n - 1)/n · bytes/bandwidth +
2 log2(n) · latency`, the second and third of a ring that adds up all gradients, with `t(1)` as measured.
"""

import json
import math
import os
import re
import subprocess
import sys
import time
from statistics import median
from typing import Any, NamedTuple

if __name__ == "__main__":  # before JAX looks at the devices
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from bench.output import write

WIDTHS, QUICK_WIDTHS = (64, 256, 1024), (64, 256)
ROWS, SIZE, STEPS = 2048, 256, 8
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")


class Link(NamedTuple):
    """What joins devices, by their vendors' figures: nothing here was measured."""

    name: str
    bytes_per_second: float  # of a device, one way
    latency: float  # seconds of an exchange between two


LINKS = {
    8: Link("NVLink 4, one machine", 450e9, 2e-6),
    64: Link("InfiniBand NDR, 8 machines", 50e9, 5e-6),
    512: Link("InfiniBand NDR, 64 machines", 50e9, 5e-6),
}


def exchange_seconds(devices: int, count: float, link: Link) -> float:
    """Seconds in which a ring adds up so many bytes over so many devices."""
    return 2 * (devices - 1) / devices * count / link.bytes_per_second + 2 * math.log2(devices) * link.latency


def predict_step(alone: float, devices: int, count: float, link: Link) -> float:
    """Seconds of a step on so many devices."""
    return alone / devices + exchange_seconds(devices, count, link)


def least_step(devices: int, count: float, link: Link) -> float:
    """Seconds that a step takes at least on one device, so that more are faster: the crossing point."""
    return exchange_seconds(devices, count, link) * devices / (devices - 1)


def measure(width: int, devices: int, rounds: int) -> dict[str, Any]:
    """Seconds of a step, the collectives in the program, bytes of the gradients."""
    net = fnn.serial(fnn.dense(width), fnn.relu, fnn.dense(width), fnn.relu, fnn.dense(10))
    mesh = jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices]) if devices > 1 else None
    training = fnn.trainer(net, fnn.losses.sparse_softmax_cross_entropy, optax.adam(1e-3), batch_size=SIZE, mesh=mesh)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(ROWS, 784)), jnp.float32)
    data = fnn.Data(fnn.Part(x, jnp.arange(ROWS) % 10))
    start = jax.jit(training.init)(jax.random.key(0), data)
    run: Any = jax.jit(lambda s: training.run(s, data, 1)).lower(start).compile()
    jax.block_until_ready(run(start))
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        jax.block_until_ready(run(start))
        seconds.append((time.perf_counter() - begin) / STEPS)
    text = run.as_text()
    found = {kind: len(re.findall(rf" {kind}(?:-start)?\(", text)) for kind in KINDS}
    count = sum(leaf.nbytes for leaf in jax.tree.leaves(start.params))
    return {"width": width, "devices": devices, "seconds": median(seconds), "collectives": found, "bytes": count}


def lines_of(rows: list[dict[str, Any]]) -> list[str]:
    """What was measured, what follows for more devices, and from which size on it pays."""
    lines = ["width   devices   µs per step   collectives"]
    for row in rows:
        kinds = ", ".join(f"{count} {kind}" for kind, count in row["collectives"].items() if count) or "none"
        lines.append(f"{row['width']:5} {row['devices']:9} {row['seconds'] * 1e6:11.0f}   {kinds}")
    for row in [row for row in rows if row["devices"] == 1]:
        for devices, link in LINKS.items():
            step = predict_step(row["seconds"], devices, row["bytes"], link)
            least = least_step(devices, row["bytes"], link)
            verdict = "pays" if row["seconds"] > least else "too small to be split"
            lines.append(
                f"width {row['width']}, {devices} devices ({link.name}): predicted {step * 1e6:.0f} µs per step of "
                f"{row['seconds'] * 1e6:.0f} µs on one, {row['seconds'] / step:.1f} times as fast; it pays where one "
                f"takes more than {least * 1e6:.0f} µs: {verdict}"
            )
    return lines


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure in a process with two devices; predict here."""
    words = [str(rounds), *map(str, QUICK_WIDTHS if quick else WIDTHS)]
    done = subprocess.run([sys.executable, "-m", "bench.devices", *words], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout.splitlines()[-1])
    links = {str(devices): link._asdict() for devices, link in LINKS.items()}
    path = write("devices", "A step of 784-n-n-10 on several devices", {"measured": rows, "links": links}, quick)
    return "\n".join([*lines_of(rows), str(path)])


if __name__ == "__main__":
    asked = [int(word) for word in sys.argv[1:]]
    print(json.dumps([measure(width, devices, asked[0]) for width in asked[1:] for devices in (1, 2)]))
