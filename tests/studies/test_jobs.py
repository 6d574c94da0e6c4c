"""Studies on pools of workers: the same bits as without."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from fnn.storage.locks import lock_folder
from fnn.studies import jobs
from tests.helpers.studies import POINTS, Signals, swept

LOW = {"compile_effort": "low"}


def program(*words, **environment):
    """What the program of pools prints."""
    paths = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "tests.helpers.pooled", *words]
    if words[0] == "mpi":
        command = ["mpiexec", "-n", "3", sys.executable, "-m", "mpi4py.futures", *command[1:]]
        command[command.index("-m", 5) :] = [str(Path(__file__).parent.parent / "helpers" / "pooled.py"), *words]
    environment = {**os.environ, "PYTHONPATH": paths, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def same(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def contents(found):
    return found.table, found.histories, found.runs, found.best


def test_a_study_on_a_pool_has_the_bits_of_one_without(tmp_path):
    """Workers go on from the checkpoints of their chunks, and read the data once."""
    alone = swept(keep="all", **LOW)
    with ThreadPoolExecutor(2) as executor:
        assert same(contents(swept(keep="all", **LOW, executor=executor)), contents(alone))
        first = swept(keep="all", **LOW, executor=executor, checkpoint=tmp_path, epochs=10)
        assert max(first.table["epochs"]) == 10
        resumed = swept(keep="all", **LOW, executor=executor, checkpoint=tmp_path)
    assert same(contents(resumed), contents(alone))
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_ctrl_c_reaches_a_pool_and_what_there_is_comes_back(monkeypatch):
    signals = Signals(monkeypatch)
    signals.send(2, when=lambda count, segment: int(np.max(segment.state.epoch)) == 2)
    with ThreadPoolExecutor(1) as executor, pytest.raises(KeyboardInterrupt) as caught:
        swept(POINTS * 3, executor=executor, **LOW)
    epochs = caught.value.run.table["epochs"]
    assert 0 < max(epochs) < 25 and min(epochs) == 0


def test_an_error_of_a_chunk_is_raised(monkeypatch):
    monkeypatch.setattr(jobs, "run_chunk", lambda *of: 1 / 0)
    with ThreadPoolExecutor(1) as executor, pytest.raises(ZeroDivisionError):
        swept(executor=executor)


@pytest.mark.slow
def test_a_chunk_in_whose_folder_another_works_is_waited_for_and_then_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE", 0.3)
    with ThreadPoolExecutor(1) as executor:
        swept(POINTS[:3], executor=executor, checkpoint=tmp_path, epochs=2, **LOW)
        folder = tmp_path / "0" / "members-0-2-width-3"
        with lock_folder(str(folder)), pytest.raises(BlockingIOError, match="members-0-2-width-3"):
            swept(POINTS[:3], executor=executor, checkpoint=tmp_path, epochs=4, **LOW)
        swept(POINTS[:3], executor=executor, checkpoint=tmp_path, epochs=4, **LOW)


# ---- pools of processes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["process", "loky", "dask", "mpi"])
def test_every_kind_of_pool_gives_the_bits_of_none(kind):
    pytest.importorskip({"process": "cloudpickle", "dask": "distributed", "mpi": "mpi4py"}.get(kind, kind))
    assert program(kind) == {"sweep": True, "cross_validate": True, "ensemble": True}


@pytest.mark.slow
def test_workers_that_are_killed_lose_nothing_and_only_what_was_under_way_runs_twice():
    for found in program("killed", *map(str, range(10))):
        told = found.pop("told")
        assert found == {"missing": 0, "again": found["again"], "kills": 2, "found": True}
        assert found["again"] <= 4 and len(told) == 2 and all("expected workers that stay" in text for text in told)
