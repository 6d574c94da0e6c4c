"""kill -9 at random times, in the midst of a write too; the same command again; the bits of an uninterrupted run.

`pytest tests/fitting/test_kill.py -m "slow or not slow" --kills 40` kills forty times in each of five.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EPOCHS = "12000"  # early stopping ends it at about half of them
KILLS_A_RUN = 5
SECONDS = 2.0  # about what a start takes from "begins" to its end
STUDY_SECONDS = 4.0
STREAM_EPOCHS = "60"
STREAM_CHUNKS = 50  # the most that are read before the next kill, of about 250
STREAM_KILLS_A_RUN = 5  # where there are few, 2, so that buffers of both kinds have some
ROOMS = {"the rows of the first epoch": "64000000", "three batches": "1000"}  # of a buffer, by its bytes


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Compiled programs are kept between the starts, so that these are quick."""
    return tmp_path_factory.mktemp("cache")


def start(script, cache, *arguments):
    more = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    more |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    command = [sys.executable, "-W", "error", str(HERE.parent / "helpers" / script), *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    """The last line that it printed."""
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output.splitlines()[-1]


def kill(process, folder, in_write, ready=lambda: True):
    """Kill it once it is ready, or in its first write after that; whether it was still running."""
    while process.poll() is None:
        writing = in_write and any(name.endswith(".tmp") for name in inside(folder))
        if ready() and (writing or not in_write):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.0002 if in_write else 0.001)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def inside(folder):
    """The names of all files in a folder and below it."""
    return [name for _, _, names in os.walk(folder) for name in names]


def has_checkpoint(folder):
    return any(name.startswith("checkpoint-") for name in inside(folder))


def test_killed_at_random_times_it_ends_with_the_bits_of_a_run_left_alone(tmp_path, cache, kills):
    rng = random.Random(kills)
    alone = ended(start("killed_run.py", cache, "", EPOCHS))
    done = in_writes = on_the_way = runs = 0
    while done < kills:
        folder = tmp_path / f"run-{runs}"
        folder.mkdir()
        runs += 1
        for _ in range(min(KILLS_A_RUN, kills - done)):
            in_write = done % 3 == 0
            process = start("killed_run.py", cache, folder, EPOCHS)
            assert process.stdout.readline() == "begins\n", process.stderr.read()
            deadline = time.monotonic() + rng.uniform(0.0, SECONDS)
            if not kill(process, folder, in_write, lambda deadline=deadline: time.monotonic() > deadline):
                break  # it was done
            done += 1
            in_writes += in_write
            on_the_way += has_checkpoint(folder)
        assert ended(start("killed_run.py", cache, folder, EPOCHS)) == alone, f"after {done} kills"
        assert not any(name.startswith(".") for name in inside(folder)), "a lock or a temporary stays behind"
    print(f"{done} kills, {in_writes} in the midst of a write, {on_the_way} after a checkpoint: {alone}")
    assert in_writes > 0


@pytest.mark.slow
def test_a_stream_killed_at_random_places_ends_with_the_bits_of_one_left_alone(tmp_path, cache, kills):
    """Places are counted in chunks, not in seconds, so that they are the same on a busy machine."""
    rng = random.Random(kills)
    rooms = list(ROOMS.values())
    alone = {room: ended(start("killed_stream.py", cache, "", STREAM_EPOCHS, room)) for room in rooms}
    done = in_writes = on_the_way = runs = 0
    while done < kills:
        folder, room = tmp_path / f"run-{runs}", rooms[runs % len(rooms)]
        folder.mkdir()
        runs += 1
        for _ in range(min(STREAM_KILLS_A_RUN if kills > 9 else 2, kills - done)):
            in_write = done % 3 == 0
            process = start("killed_stream.py", cache, folder, STREAM_EPOCHS, room)
            for _ in range(rng.randint(1, STREAM_CHUNKS)):
                assert process.stdout.readline().startswith("chunk"), process.stderr.read()
            time.sleep(rng.uniform(0, 0.005))
            if not kill(process, folder, in_write):
                break
            done += 1
            in_writes += in_write
            on_the_way += has_checkpoint(folder)
        again = ended(start("killed_stream.py", cache, folder, STREAM_EPOCHS, room))
        assert again == alone[room], f"after {done} kills, buffers of {room} bytes"
    print(f"{done} kills, {in_writes} in the midst of a write, {on_the_way} after a checkpoint: {set(alone.values())}")
    assert in_writes > 0 and on_the_way > kills / 3


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) for kind in ("folds", "sweep", "ensemble")]
)
def test_a_study_killed_at_random_times_ends_with_the_bits_of_one_left_alone(kind, tmp_path, cache, kills):
    """Among the folds is the refit that comes after them."""
    rng = random.Random(kills)
    alone = ended(start("killed_study.py", cache, "", kind))
    done = in_writes = on_the_way = runs = 0
    while done < kills:
        folder = tmp_path / f"study-{runs}"
        folder.mkdir()
        runs += 1
        for _ in range(min(KILLS_A_RUN, kills - done)):
            in_write = done % 3 == 1
            process = start("killed_study.py", cache, folder, kind)
            assert process.stdout.readline() == "begins\n", process.stderr.read()
            deadline = time.monotonic() + rng.uniform(0.0, STUDY_SECONDS)
            if not kill(process, folder, in_write, lambda deadline=deadline: time.monotonic() > deadline):
                break  # it was done
            done += 1
            in_writes += in_write
            on_the_way += has_checkpoint(folder)
        assert ended(start("killed_study.py", cache, folder, kind)) == alone, f"after {done} kills"
        assert not any(name.startswith(".") for name in inside(folder)), "a lock or a temporary stays behind"
    print(f"{kind}: {done} kills, {in_writes} in the midst of a write, {on_the_way} after a checkpoint: {alone}")
