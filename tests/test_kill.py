"""kill -9 at random times, in the midst of a write too; the same command again; the bits of an uninterrupted run.

`pytest tests/test_kill.py --kills 50` kills fifty times.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = str(Path(__file__).with_name("killed_run.py"))
EPOCHS = "12000"  # early stopping ends it at about half of them
KILLS_A_RUN = 5
SECONDS = 2.0  # about what a start takes from "begins" to its end


def start(folder, cache):
    # compiled programs are kept between the starts, so that these are quick
    more = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    more |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    command = [sys.executable, "-W", "error", SCRIPT, str(folder), EPOCHS]
    return subprocess.Popen(command, env=os.environ | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output.split()[1:]  # after "begins"


def kill(process, folder, seconds, in_write):
    """Kill it so long after its beginning, or in its first write after that; whether it was still running."""
    assert process.stdout.readline() == "begins\n", process.stderr.read()
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        writing = in_write and any(name.endswith(".tmp") for name in os.listdir(folder) if name.startswith("."))
        if time.monotonic() > deadline and (writing or not in_write):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.0002 if in_write else 0.001)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def test_killed_at_random_times_it_ends_with_the_bits_of_a_run_left_alone(tmp_path, kills):
    rng = random.Random(kills)
    cache = tmp_path / "cache"
    alone = ended(start("", cache))
    done = in_writes = on_the_way = 0
    while done < kills:
        folder = tmp_path / f"after-{done}"
        folder.mkdir()
        for _ in range(min(KILLS_A_RUN, kills - done)):
            in_write = done % 3 == 0
            if not kill(start(folder, cache), folder, rng.uniform(0.0, SECONDS), in_write):
                break  # it was done
            done += 1
            in_writes += in_write
            on_the_way += any(name.startswith("checkpoint-") for name in os.listdir(folder))
        assert ended(start(folder, cache)) == alone, f"after {done} kills"
    print(f"{done} kills, {in_writes} in the midst of a write, {on_the_way} after a checkpoint: {alone}")
    assert in_writes > 0
