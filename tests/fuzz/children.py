"""Runs programs of the fuzzer in child processes, so that one that ends its process is a result like the others.

`python -m tests.fuzz.children FIRST COUNT CHILDREN` prints what is wrong as it comes, and figures now and then.

A child runs some dozens of programs, one after another. When it dies the program under way is written down, and a
fresh child goes on with the next one.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
A_CHILD = 50  # programs; each leaves some hundred memory mappings behind
A_PROGRAM = 300.0  # seconds after which a program is held to hang
FAILURES = ("dies", "hangs", "raises", "differs")


def outcomes(
    first: int, count: int, children: int = 1, show: Callable[[list[dict[str, Any]]], None] = lambda ended: None
) -> list[dict[str, Any]]:
    """How the programs `first`, `first + 1`, … end, a dict each, by seed.

    Args:
        first: the first seed.
        count: how many programs.
        children: how many processes at a time.
        show: called with all that have ended so far, after each.
    """
    todo: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    for start in range(first, first + count, A_CHILD):
        todo.put((start, min(A_CHILD, first + count - start)))
    ended: list[dict[str, Any]] = []

    def work() -> None:
        while not todo.empty():
            try:
                start, number = todo.get_nowait()
            except queue.Empty:
                return
            while number > 0:
                for result in _of_a_child(start, number):
                    ended.append(result)
                    show(list(ended))
                    start, number = result["seed"] + 1, start + number - result["seed"] - 1

    threads = [threading.Thread(target=work) for _ in range(children)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(ended, key=lambda result: result["seed"])


def _of_a_child(first: int, count: int) -> Iterator[dict[str, Any]]:
    """The results of one child, until it has ended; the last may be its death."""
    command = _command("tests.fuzz.child", str(first), str(count))
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=said, text=True) as child,
    ):
        under_way, hangs = first, False

        def give_up() -> None:
            nonlocal hangs
            hangs = True
            child.kill()

        assert child.stdout is not None
        watch = threading.Timer(A_PROGRAM, give_up)
        watch.start()
        for line in child.stdout:
            watch.cancel()
            watch = threading.Timer(A_PROGRAM, give_up)
            watch.start()
            told = json.loads(line)
            if "begins" in told:
                under_way = told["begins"]
            else:
                under_way = told["seed"] + 1
                yield told
        code = child.wait()
        watch.cancel()
        if under_way < first + count:
            said.seek(0)
            lines = said.read().strip().splitlines()
            fatal = [line for line in lines if "Check failed" in line] or lines[-1:]
            yield {"seed": under_way, "outcome": "hangs" if hangs else "dies", "error": f"exit status {code}: {fatal}"}


def _command(module: str, *arguments: str) -> dict[str, Any]:
    """How to start a module in a process with what users have: the tests' own XLA_FLAGS leave out what kills."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_ENABLE_X64")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    return {"args": [sys.executable, "-m", module, *arguments], "cwd": ROOT, "env": environment}


def output_of(module: str, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a module that runs in a child."""
    done = subprocess.run(**_command(module, *arguments), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def failures(ended: list[dict[str, Any]]) -> list[str]:
    """What is wrong, a line each, with the seed to run it again."""
    return [
        f"{result['outcome']}: python -m tests.fuzz.child {result['seed']} 1  ({result.get('about', '')}) "
        f"{result.get('error', '')}{result.get('apart', '')}"
        for result in ended
        if result["outcome"] in FAILURES
    ]


def figures(ended: list[dict[str, Any]]) -> str:
    """How many ended in which way, in one line."""
    counts = Counter(result["outcome"] for result in ended)
    apart = max((result["apart"] for result in ended if result["outcome"] == "same"), default=0.0)
    whole = sum(result.get("one_function", False) for result in ended)
    seconds = sum(result.get("seconds", 0.0) for result in ended)
    return (
        f"{len(ended)} programs: {dict(counts)}; {whole} made one function; furthest apart {apart:.1e}; "
        f"{seconds:.0f} s of CPU"
    )


def _shown(ended: list[dict[str, Any]]) -> None:
    for line in failures(ended[-1:]):
        print(line, flush=True)
    if len(ended) % A_CHILD == 0:
        print(figures(ended), flush=True)


if __name__ == "__main__":
    all_ended = outcomes(*map(int, sys.argv[1:]), show=_shown)
    print(figures(all_ended))
    sys.exit(bool(failures(all_ended)))
