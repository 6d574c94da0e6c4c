"""`python -m bench` measures everything, `python -m bench step` one question: tables, JSON and pictures.

`--quick` takes few rounds and small sizes, and less than a minute: enough to see that it runs, and about how fast.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

QUESTIONS = {
    "step": "a training step of the 2-3-2 network",
    "dense": "a step of 784-512-512-10; on a GPU also of width 8,192 in bfloat16",
    "conv": "a step of a convolutional network",
    "study": "60 fits of a cross-validation; thousands of small networks at once",
    "search": "60 fits of a grid search by FnnSearchCV",
    "start": "whole processes: import, compile, train 300 steps",
    "first": "the first call of fit, of a sweep over widths, of a search over 36 shapes, of predict",
    "memory": "the peak of a fit",
    "scale": "cost against rows, steps, width, depth, members",
    "text": "L1 on 10,000 sparse rows of 20,000 columns",
    "stream": "training on a file larger than memory",
    "segments": "what it costs that the host has a look every half second",
    "devices": "from which size on it pays to split a network over several devices",
}

LONG = ("memory", "text", "stream", "segments")  # say nothing in a few seconds: `--quick` measures them only by name


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line, run what it names; how many questions could not be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="How fast fnn is on this machine.",
        epilog="\n".join(["questions:", *(f"  {name:10}{about}" for name, about in QUESTIONS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="the questions below; all by default")
    parser.add_argument("--rounds", type=int, help="how often each candidate is timed (default 15; --quick: 2)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, without what is slow to start")
    arguments = parser.parse_args(words)
    unknown = sorted(set(arguments.names) - set(QUESTIONS))
    if unknown:
        parser.error(f"NAME: expected any of {', '.join(QUESTIONS)}, got {', '.join(unknown)}. Correct it.")
    rounds = arguments.rounds if arguments.rounds is not None else 2 if arguments.quick else 15
    if rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {rounds}. Leave it out.")
    names = arguments.names or [name for name in QUESTIONS if not (arguments.quick and name in LONG)]
    return measure(names, rounds, arguments.quick)


def measure(names: Sequence[str], rounds: int, quick: bool) -> int:
    """Run these questions; one that fails is told, and the others go on."""
    # other libraries and other processes need memory of the GPU too; before JAX is imported
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from bench.output import device
    from bench.timing import in_a_line

    where, failed = device(), 0
    print(f"{where['device']} ({where['platform']}); {where['processor']}, {where['cores']} cores; JAX {where['jax']}, "
          f"Python {where['python']}\n")  # fmt: skip
    for name in names:
        try:
            print(importlib.import_module(f"bench.{name}").main(rounds, quick), "\n", flush=True)
        except Exception as error:
            failed += 1
            print(f"{name}: {in_a_line(error)}\n", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
