"""One run in several processes that JAX joins: the program of each of them.

`python -m tests.helpers.joint_processes INDEX COUNT PORT NAME ...` prints a JSON object: case -> digest of all that is
kept of the run, and the arrays that are further from the run on one device than they should be. With INDEX -1 it is one
process with COUNT devices.
"""

import functools
import hashlib
import json
import os
import shutil
import sys
import warnings

if __name__ == "__main__":  # before JAX looks at the devices
    os.environ["JAX_PLATFORMS"] = "cpu"
if __name__ == "__main__" and sys.argv[1] == "-1":
    flags = os.environ.get("XLA_FLAGS", "")  # those of the processes: others round otherwise
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={sys.argv[2]}"

import jax
import numpy as np
from jax.experimental import multihost_utils

import fnn
from tests.helpers.several_devices import (
    ADAM,
    OWN,
    SQUARED,
    WIDE,
    beside_own,
    change_dtype,
    difference,
    mesh_of,
    rows,
    strict,
    train,
    train_own,
)


def digest(run):
    """Of all leaves, bit by bit."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(run)]
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()[:16]


def go_on(count, name):
    """A run whose state is split: in all, and in two parts with a checkpoint between them; or the second part alone.

    `split=FOLDER` leaves the checkpoint of the first part in FOLDER-first, from which `rest=FOLDER-first` goes on.
    """
    kind, folder = name.split("=")
    mesh = mesh_of(count)
    where = {"mesh": mesh, "place": fnn.fully_sharded(mesh, 100)}
    fit = functools.partial(fnn.fit, WIDE, SQUARED, ADAM, change_dtype(rows(30)), batch_size=7, progress=False)
    fit = functools.partial(fit, validation=change_dtype(rows(9)), compile_effort="low")
    alone = fit(epochs=5)
    if kind == "split":
        whole = fit(epochs=5, **where)
        fit(epochs=3, checkpoint=folder, checkpoint_seconds=0.0, **where)
        if jax.process_index() == 0:
            shutil.copytree(folder, f"{folder}-first")
        multihost_utils.sync_global_devices("copied")
    again = fit(epochs=5, checkpoint=folder, **where)
    own = [[np.asarray(shard.data) for shard in leaf.addressable_shards] for leaf in jax.tree.leaves(again.train_state)]
    size = sum(shard.nbytes for leaf in own for shard in leaf if len(leaf) == 1)
    if kind == "split":
        same = [
            np.array_equal(a, np.asarray(b.addressable_shards[n].data))
            for of, b in zip(own, jax.tree.leaves(whole.train_state), strict=True)
            for n, a in enumerate(of)
        ]
        assert all(same)
    x = change_dtype(rows(9))[0]
    outputs = [fnn.predict(WIDE, run, x) for run in (again, alone)]
    histories = [run.history.loss for run in (again, alone)]
    return size, max(float(np.abs(a - b).max()) for a, b in (outputs, histories))


def main(index, count, port, names):
    """Train the named cases."""
    if index >= 0:
        jax.distributed.initialize(f"localhost:{port}", count, index, heartbeat_timeout_seconds=10)
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fnn.TrainingDiverged)
        for name in names:
            if "=" in name:
                found[name] = go_on(count, name)
                continue
            if name == "own rows":
                run, alone = train_own(count, False), train_own(count, True)
                found[name] = digest(run), difference(run, alone)
                continue
            run = train(name, count)
            leaves = beside_own(name, {count: run})[count]
            found[name] = digest(run), {leaf: of for leaf, of in leaves.items() if of[0] >= max(strict(), OWN * of[1])}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4:])
