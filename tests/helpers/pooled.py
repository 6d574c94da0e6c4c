"""Studies on pools of workers, compared with those without: a program of its own, since workers import what began them.

`python -m tests.helpers.pooled KIND` prints a JSON object: study -> whether all its bits are the same.
`python -m tests.helpers.pooled killed SEED` kills two workers; prints what was lost, run twice, told.
`python -m tests.helpers.pooled speed [ROUNDS]` prints how many times as fast two workers are as one.
"""

import collections
import contextlib
import json
import multiprocessing
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

import jax
import numpy as np
import optax

import fnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 20)).astype("float32")
T = (X[:, 0] > 0).astype(int)
LOSS = fnn.losses.sparse_softmax_cross_entropy


def net(s):
    return fnn.serial(fnn.dense(int(s["k"])), fnn.tanh, fnn.dropout(0.2), fnn.dense(2))


def optimizer(s):
    return optax.adam(s["lr"])


def studies(**more):
    """A sweep over two shapes, a cross-validation and an ensemble."""
    how = {"epochs": 4, "batch_size": 32, "progress": False, "metrics": {"sure": lambda y, t: abs(y[:, 0])}} | more
    over = {"lr": [0.01, 0.03], "k": [8, 16], "seed": [0, 1, 2]}
    swept = fnn.sweep(net, LOSS, optimizer, (X, T), over=over, validation=0.2, width=2, keep="all", **how)
    judged = fnn.cross_validate(net, LOSS, optimizer, (X, T), over={"lr": [0.01, 0.1], "k": [8]}, folds=3, **how)
    together = fnn.ensemble(net({"k": 8}), LOSS, optax.adam(0.01), (X, T), members=5, **how)
    return {
        "sweep": (swept.table, swept.histories, swept.runs, swept.best),
        "cross_validate": (judged.table, judged.histories, judged.predictions, judged.run, judged.best),
        "ensemble": (together.table, together.histories, together.params),
    }


def same(one, other):
    """Whether two trees have the same bits."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def spawned(workers=2):
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


@contextlib.contextmanager
def pool(kind):
    """A pool of two workers."""
    if kind == "process":
        with spawned() as made:
            yield made
    elif kind == "loky":
        from loky import get_reusable_executor

        yield lambda: get_reusable_executor(2)
    elif kind == "dask":
        from dask.distributed import Client, LocalCluster

        cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
        with cluster, Client(cluster) as client:
            yield client.get_executor()
    else:
        from mpi4py.futures import MPIPoolExecutor

        with MPIPoolExecutor(2) as made:
            yield made


# ---- workers that die


def log_and_call(path, function, *arguments):
    """A task, noted in a file: the number of the task, the process."""
    with open(path, "a") as file:
        file.write(f"{arguments[4]} {os.getpid()}\n")
    return function(*arguments)


class Logged(ProcessPoolExecutor):
    """A pool that notes which tasks begin."""

    def __init__(self, path):
        super().__init__(2, mp_context=multiprocessing.get_context("spawn"))
        self.path = path

    def submit(self, function, *arguments):
        return super().submit(log_and_call, self.path, function, *arguments)


def many(**more):
    """A sweep of 200 members in 50 chunks."""
    over = {"lr": [0.01, 0.02, 0.03, 0.04], "k": [16], "seed": list(range(50))}
    how = {"epochs": 600, "batch_size": 32, "progress": False, "width": 4, "validation": 0.2, "compile_effort": "low"}
    found = fnn.sweep(net, LOSS, optimizer, (X, T), over=over, **how, **more)
    return found.table, found.histories, found.run


def begun(path):
    """Which tasks have begun, and in which processes."""
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        lines = [line.split() for line in file.read().splitlines()]
        return [int(task) for task, _ in lines], [int(process) for _, process in lines]
    return [], []


def killed(seed):
    """Kill two workers at random times; what became of the study."""
    path = os.path.join(tempfile.mkdtemp(), "log")
    draw, kills = random.Random(seed), []

    def kill():
        for _ in range(2):
            while len(set(begun(path)[1])) < 2 * (len(kills) + 1):  # two new workers have begun
                time.sleep(0.05)
            time.sleep(draw.uniform(0, 2))
            kills.append(begun(path)[1][-1])
            with contextlib.suppress(ProcessLookupError):
                os.kill(kills[-1], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = many(executor=lambda: Logged(path))
    tasks = collections.Counter(begun(path)[0])
    return {
        "missing": 50 - len(tasks),
        "again": sum(tasks.values()) - len(tasks),
        "kills": len(kills),
        "told": [str(warning.message) for warning in told],
        "found": found,
    }


# a worker uses one core: NPROC is how many threads XLA has (its flags leave it one per core, whose work they share)
SINGLE = {"NPROC": "1", "OMP_NUM_THREADS": "1"}


def speed(rounds=5):
    """Medians of the seconds of the sweep on one worker and on two, in turn, once they have compiled; and all.

    `bound`: how many times as much two pools of one worker each do side by side, each its own sweep, as one alone: no
    two workers of this machine can do more. `cores`: seconds of the worker's processor per second of the sweep.
    """
    os.environ |= SINGLE  # of the workers: this process has begun
    seconds, used = {"one": [], "two": [], "apart": []}, []

    def measure(kind, *pools):
        threads = [threading.Thread(target=many, kwargs={"executor": made}) for made in pools]
        before, begin = pools[0].submit(time.process_time).result(), time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds[kind].append(time.monotonic() - begin)
        if kind == "one":
            used.append((pools[0].submit(time.process_time).result() - before) / seconds[kind][-1])

    with spawned(1) as one, spawned(1) as other, spawned(2) as two:
        for number in range(rounds + 1):
            for kind, pools in {"one": [one], "two": [two], "apart": [one, other]}.items():
                measure(kind, *pools)
            if number == 0:  # they have compiled
                used.clear()
                for of in seconds.values():
                    of.clear()
    alone, together, apart = (statistics.median(of) for of in seconds.values())
    faster = {"times as fast": alone / together, "bound": 2 * alone / apart, "cores": statistics.median(used)}
    return faster | {"seconds": [alone, together, apart], "all": seconds}


def main(kind, *seeds):
    if kind == "killed":
        alone, found = many(), []
        for seed in seeds:
            of_seed = killed(int(seed))
            found.append(of_seed | {"found": same(of_seed["found"], alone)})
    elif kind == "speed":
        found = speed(*map(int, seeds))
    else:
        alone = studies()
        with pool(kind) as executor:
            on_pool = studies(executor=executor)
        found = {name: same(alone[name], on_pool[name]) for name in alone}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
