"""One run in several processes that JAX joins: the program of each of them.

`python -m tests.helpers.joint_processes INDEX COUNT PORT NAME ...` prints a JSON object: case -> digest of all that is
kept of the run. With INDEX -1 it is one process with COUNT devices, and the object has each case's difference from the
run on one device as well.
"""

import hashlib
import json
import os
import sys
import warnings

INDEX, COUNT, PORT = (int(word) for word in sys.argv[1:4])
if INDEX < 0:  # before JAX looks at the devices
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={COUNT}"

import jax
import numpy as np

if INDEX >= 0:
    jax.distributed.initialize(f"localhost:{PORT}", COUNT, INDEX, heartbeat_timeout_seconds=10)

import fnn
from tests.helpers.several_devices import CASES, difference, train


def digest(run):
    """Of all leaves, bit by bit."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(run)]
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()[:16]


def main(names):
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fnn.TrainingDiverged)
        for name in names or CASES:
            run = train(name, COUNT)
            found[name] = digest(run)
            if INDEX < 0:
                found[name] = found[name], difference(run, train(name, None))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[4:])
