"""A run in several processes that is disturbed: the program of each, and the one that starts and disturbs them.

`python -m tests.helpers.joint_faults run INDEX COUNT PORT FOLDER EPOCHS [CHANGE]` is one process; CHANGE makes it
differ. It prints the digest of what it has trained, once a line "begun".
`python -m tests.helpers.joint_faults disturb COUNT EPOCHS SEED ...` prints what each disturbance led to.
`python -m tests.helpers.joint_faults meet COUNT EPOCHS SEED ...` prints what became of two runs in one folder.
"""

import hashlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
HEARTBEAT = int(os.environ.get("HEARTBEAT", "10"))  # more on a machine that is busy
BEGUN = 5  # the segment at which a process says that it trains


def run(index, count, port, folder, epochs, change=""):
    import jax

    jax.distributed.initialize(f"localhost:{port}", count, index, heartbeat_timeout_seconds=HEARTBEAT)
    import numpy as np
    import optax

    import fnn

    draw = np.random.default_rng(0)
    x = draw.normal(size=(64, 6)).astype("float32")
    t = np.tanh(x[:, :2]) + (change == "data") + (np.nan if change == "bad" else 0)
    mesh = jax.make_mesh((count,), ("data",))
    place = fnn.fully_sharded(mesh, 8) if change == "split" else None
    net = fnn.serial(fnn.dense(8 + (change == "network")), fnn.dropout(0.2), fnn.dense(2))
    data = (x, t)
    hold = os.environ.get("HOLD")
    if change == "slow" or hold:

        def data(epoch):
            time.sleep(6 if change == "slow" and epoch == 1 else 0)
            time.sleep(1 if hold and not os.path.exists(hold) else 0)
            yield x, t

    if change.startswith("stream"):
        cuts = [0, 32, 50] if change == "stream of fewer rows" else [0, 32, 64]
        t = t + (change == "stream of others")

        def data(epoch):
            for a, b in itertools.pairwise(cuts):
                yield x[a:b], t[a:b]

    if change == "late":
        time.sleep(600)
    if change == "early":
        print("waits", flush=True)
    if change == "version":
        jax.__version__ = "0.0"
    segments = itertools.count()

    def say(progress):
        if next(segments) == BEGUN:
            print("begun", flush=True)

    found = fnn.fit(
        net, fnn.losses.squared_error, optax.adam(1e-3 + 1e-4 * (change == "settings")), data, epochs=epochs,
        batch_size=16, mesh=mesh, place=place, checkpoint=folder or None, checkpoint_seconds=0.2,
        progress=False, on_segment=say, compile_effort="low" if change in ("", "split") else "auto",
    )  # fmt: skip
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found.history)]
    print(hashlib.sha256(b"".join(leaves)).hexdigest()[:16], flush=True)


def start(count, folder, epochs, changes=None):
    """So many processes; `changes`: what makes one of them differ, by its number."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.helpers.joint_faults", "run"]
    words = [[str(word) for word in (i, count, port, folder, epochs, (changes or {}).get(i, ""))] for i in range(count)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen([*command, *of], **options) for of in words]


def ends(processes, seconds=1200):
    """(status, last line of stdout, stderr) of each."""
    found = []
    for process in processes:
        try:
            out, error = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, error = process.communicate()
            error = f"TIMED OUT\n{error}"
        found.append((process.returncode, (out.splitlines() or [""])[-1], error))
    return found


def disturb(count, epochs, seed, whole):
    """One disturbance: who, how, when; how the others ended, after how long; and whether a restart gave the bits."""
    draw = random.Random(seed)
    number, victim = SIGNALS[seed % 3], draw.randrange(count)
    with tempfile.TemporaryDirectory() as folder:
        processes = start(count, folder, epochs)
        processes[0].stdout.readline()
        time.sleep(draw.uniform(0, 3))
        processes[victim].send_signal(number)
        begin = time.monotonic()
        others = ends([p for i, p in enumerate(processes) if i != victim], 60)
        seconds = time.monotonic() - begin
        processes[victim].kill()
        processes[victim].communicate()
        again = ends(start(count, folder, epochs))
        lines = [error.splitlines() for _, _, error in others]
        said = [next((line for line in of if line.startswith(("fit:", "training:"))), "") for of in lines]
        return {
            "signal": number.name,
            "victim": victim,
            "status": [status for status, _, _ in others],
            "seconds": round(seconds, 1),
            "said": said,
            "same": [digest for _, digest, _ in again] == [whole] * count,
            "again": [] if all(status == 0 for status, _, _ in again) else again,
        }


def meet(count, epochs, seed, wholes):
    """Two runs of so many processes that begin in one folder at random times: who was refused, and what is kept.

    The one that trains takes a second per epoch until the other has ended, so that they meet on any machine.
    """
    from fnn.storage.checkpoints import checkpoint_name, read_checkpoint

    draw, change = random.Random(seed), ("", "split")[seed % 2]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as beside:
        changes, os.environ["HOLD"] = dict.fromkeys(range(count), change), os.path.join(beside, "go")
        first = start(count, folder, epochs, changes)
        time.sleep(draw.uniform(0, 6))
        pair = first, start(count, folder, epochs, changes)
        while all(any(process.poll() is None for process in of) for of in pair):
            time.sleep(0.1)
        open(os.environ["HOLD"], "w").close()
        both = [ends(of) for of in pair]
        kept = read_checkpoint(folder)
        names = {name for name in os.listdir(folder) if not name.startswith("pieces-")}
        return {
            "whole": [all(found[:2] == (0, wholes[change]) for found in of) for of in both],
            "refused": ["expected a folder that nobody else writes to" in of[0][2] for of in both],
            "status": [[status for status, _, _ in of] for of in both],
            "epochs": int(kept.leaves["state/epoch"]),
            "damaged": kept.damaged,
            "others": sorted(names - {checkpoint_name(kept.number), checkpoint_name(kept.number - 1)}),
            "said": [of[1][2].splitlines()[-1:] for of in both],
        }


def undisturbed(count, epochs):
    """The digests of runs as those of `meet`, with whole states and with states in pieces."""
    os.environ["HOLD"] = __file__  # which is there: nothing is waited for
    return {of: ends(start(count, "", epochs, dict.fromkeys(range(count), of)))[0][1] for of in ("", "split")}


def main(kind, *words):
    if kind == "run":
        index, count, port, folder, epochs, change = words
        run(int(index), int(count), int(port), folder, int(epochs), change)
        return
    count, epochs, *seeds = map(int, words)
    if kind == "meet":
        wholes = undisturbed(count, epochs)
        for seed in seeds:
            print(json.dumps(meet(count, epochs, seed, wholes)), flush=True)
        return
    (status, whole, error), *_ = ends(start(count, "", epochs))
    assert status == 0, error
    for seed in seeds:
        print(json.dumps(disturb(count, epochs, seed, whole)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
