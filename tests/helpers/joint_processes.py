"""One run in several processes that JAX joins: the program of each of them.

`python -m tests.helpers.joint_processes INDEX COUNT PORT NAME ...` prints a JSON object: case -> digest of all that is
kept of the run, difference from the run on one device. With INDEX -1 it is one process with COUNT devices.
"""

import hashlib
import json
import os
import sys
import warnings

if __name__ == "__main__" and sys.argv[1] == "-1":  # before JAX looks at the devices
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={sys.argv[2]}"

import jax
import numpy as np

import fnn
from tests.helpers.several_devices import difference, train, train_own


def digest(run):
    """Of all leaves, bit by bit."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(run)]
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()[:16]


def main(index, count, port, names):
    """Train the named cases."""
    if index >= 0:
        jax.distributed.initialize(f"localhost:{port}", count, index, heartbeat_timeout_seconds=10)
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fnn.TrainingDiverged)
        for name in names:
            if name == "own rows":
                run, alone = train_own(count, False), train_own(count, True)
                found[name] = digest(run), difference(run, alone)
                continue
            run = train(name, count)
            found[name] = digest(run), difference(run, train(name, None))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4:])
