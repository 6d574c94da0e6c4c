"""Signals at random times, to real processes: each ends with them, soon, says what it kept, and leaves nothing behind.

`pytest tests/fitting/test_signals.py -m slow --signals 300 -s` sends three hundred, and prints how long each took.
"""

import collections
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fnn.storage.checkpoints import read_checkpoint
from tests.helpers.signalled import KINDS

HELPERS = Path(__file__).parent.parent / "helpers"
WAYS = {
    "SIGINT": [signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
    "both": [signal.SIGINT, signal.SIGTERM],
    "storm": [signal.SIGINT] * 30,
}
PAUSE = 0.01  # seconds between the signals of a storm
SECONDS = {"compiling": 8.0, "refit": 2.0}  # after the beginning, the most; else
USUAL = 4.0
KEPT = re.compile(
    r"got SIG(INT|TERM) .*(kept in /\S+\. Call|is in no file|nothing has been trained|they had; the folds have run)"
)
LIMIT = 120  # seconds, to end a hang


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Compiled programs are kept between the starts, so that these are quick."""
    return tmp_path_factory.mktemp("cache")


def start(kind, folder, cache):
    more = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(folder / "temporary")}
    if kind != "compiling":
        more |= {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        more |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    (folder / "temporary").mkdir(parents=True)
    command = [sys.executable, "-W", "ignore", str(HELPERS / "signalled.py"), kind, str(folder / "kept")]
    return subprocess.Popen(command, env=os.environ | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def files_below(folder):
    return [name for _, _, names in os.walk(folder) for name in names]


def checkpoints_below(folder):
    """Folders that hold checkpoints, each of which can be read."""
    return [where for where, _, names in os.walk(folder) if any(n.startswith("checkpoint-") for n in names)]


class Outcome:
    """What became of one process."""

    def __init__(self, kind, way, delay, folder, cache):
        process = start(kind, folder, cache)
        assert process.stdout.readline() == "begins\n", process.stderr.read()
        time.sleep(delay)
        sent = time.monotonic()
        for number in WAYS[way]:
            process.send_signal(number)  # to one that has ended it is not sent
            time.sleep(PAUSE if way == "storm" else 0)
            process.poll()
        self.output, self.errors = process.communicate(timeout=LIMIT)
        self.seconds, self.status = time.monotonic() - sent, process.returncode
        self.kind, self.way, self.folder = kind, way, folder
        self.says = bool(KEPT.search(self.errors))

    def check(self):
        about = f"{self.kind}, {self.way}: {self.status}, {self.output}\n{self.errors}"
        expected = {"SIGINT": [-2], "SIGTERM": [-15], "both": [-2, -15], "storm": [-2]}[self.way]
        assert self.status in expected, about  # ended, and by the signal
        assert "goes on" not in self.output, about
        if self.status == -2 and self.output.strip():
            assert json.loads(self.output)["threads"] == [], about
        assert not [name for name in files_below(self.folder) if name.endswith(".tmp")], about
        assert files_below(self.folder / "temporary") == [], about
        for folder in checkpoints_below(self.folder / "kept"):
            assert read_checkpoint(folder).damaged == (), about
        if "kept in" in self.errors:
            assert checkpoints_below(self.folder / "kept"), about


def send(count, seed, tmp_path, cache):
    """The outcomes of so many signals, each of another kind, in another way, at a random time."""
    rng, outcomes = random.Random(seed), []
    kinds, ways = list(KINDS), list(WAYS)
    for number in range(count):
        kind = kinds[(number + seed) % len(kinds)]
        way = ways[(number // len(kinds) + number + seed) % len(ways)]
        delay = rng.uniform(0, SECONDS.get(kind, USUAL))
        outcomes.append(Outcome(kind, way, delay, tmp_path / str(number), cache))
        outcomes[-1].check()
    return outcomes


def show(outcomes):
    slowest, silent = collections.defaultdict(float), collections.Counter()
    for outcome in outcomes:
        slowest[outcome.kind] = max(slowest[outcome.kind], outcome.seconds)
        silent[outcome.kind] += not outcome.says
    times = sorted(outcome.seconds for outcome in outcomes)
    print(f"\n{len(outcomes)} signals: half within {times[len(times) // 2]:.2f} s, all within {times[-1]:.2f} s")
    print(f"{sum(seconds > 5 for seconds in times)} took more than 5 s, on a machine that has other work too")
    for kind, seconds in slowest.items():
        print(f"{kind}: at most {seconds:.2f} s; {silent[kind]} came before there was anything to keep")


def test_a_signal_ends_the_program_that_it_is_sent_to(tmp_path, cache):
    for kind, way, delay in [("blocked stream", "SIGINT", 2.0), ("sweep", "SIGTERM", 1.0), ("fit", "storm", 0.5)]:
        Outcome(kind, way, delay, tmp_path / kind, cache).check()


@pytest.mark.slow
def test_many_signals_at_random_times(tmp_path, cache, signals):
    count, seed = signals
    outcomes = send(count, seed, tmp_path, cache)
    show(outcomes)
    assert sum(outcome.says for outcome in outcomes) > count / 2
