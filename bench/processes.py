"""Whole processes: how long from their start to their end, and how much memory at the most."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.timing import Measured, Timing, in_a_line

HERE = Path(__file__).parent
OFTEN = 0.005  # seconds between two looks at the memory of a process


def started(script: str, *arguments: str, output: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """A script of `bench/scripts` in a process of its own."""
    roots = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]  # where fnn is, installed or not
    command = [sys.executable, str(HERE / "scripts" / f"{script}.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(roots)}
    # what pip has installed has its byte code on the disk; a checkout keeps its own from the first import on
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.Popen(
        command,
        env=environment,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    )


def seconds(script: str, *arguments: str) -> float:
    """Wall time from the start of a process to its end."""
    begun = time.perf_counter()
    process = started(script, *arguments)
    _, said = process.communicate()
    taken = time.perf_counter() - begun
    _check(script, process, said)
    return taken


def printed(script: str, *arguments: str) -> str:
    """What a script prints."""
    process = started(script, *arguments, output=subprocess.PIPE)
    text, said = process.communicate()
    _check(script, process, said)
    return text


def printed_seconds(script: str, *arguments: str) -> float:
    """What a script has measured itself: the number that it prints."""
    return float(printed(script, *arguments))


def peak_bytes(script: str, *arguments: str) -> float:
    """The largest anonymous memory of a process (`RssAnon`, looked at every 5 ms). Linux only.

    Not the largest resident memory that the system itself keeps (`ru_maxrss`): pages of libraries are in that, some
    hundred megabytes that all candidates share and that would hide the difference.
    """
    status, largest = Path("/proc/self/status"), 0
    if not status.exists() or "RssAnon" not in status.read_text():
        raise OSError("memory: expected a system that tells the anonymous memory (Linux), got another.")
    process = started(script, *arguments)
    while process.poll() is None:
        largest = max(largest, _anonymous(process.pid))
        time.sleep(OFTEN)
    _check(script, process, process.communicate()[1])
    return float(largest)


def _anonymous(process: int) -> int:
    try:
        words = Path(f"/proc/{process}/status").read_text().partition("RssAnon:")[2].split()
    except OSError:
        return 0
    return int(words[0]) * 1024 if words else 0  # it says nothing more once it has ended


def _check(script: str, process: subprocess.Popen[str], said: str) -> None:
    if process.returncode:
        last = said.strip().splitlines()[-1:] or ["nothing said"]
        raise RuntimeError(f"{script}: expected it to end well, got {process.returncode}: {last[0]}")


def processes_in_turn(candidates: dict[str, Callable[[], float]], rounds: int) -> Measured:
    """What each gives, round by round; one that raises is left out, but for the first."""
    found: dict[str, list[float]] = {name: [] for name in candidates}
    left_out: dict[str, str] = {}
    for _ in range(rounds):
        for name, figure in candidates.items():
            if name in left_out:
                continue
            try:
                found[name].append(figure())
            except Exception as error:  # as in `in_turn`
                if name == next(iter(candidates)):
                    raise
                left_out[name] = in_a_line(error)
    timings = [Timing(name, 0.0, tuple(values)) for name, values in found.items() if name not in left_out]
    return Measured(timings, left_out)
