"""`python -m bench` measures everything, `python -m bench step` one question. It prints a table and writes JSON."""

import argparse
import importlib
import inspect

from bench.timing import device

QUESTIONS = ("step", "segments", "conv", "study", "stream")


def main() -> None:
    """Read the command line, run what it names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast fnn is on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(QUESTIONS)}; all by default")
    parser.add_argument("--rounds", type=int, default=15, help="how often each candidate is timed (default 15)")
    parser.add_argument("--quick", action="store_true", help="less data, where a question is about much (stream)")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(QUESTIONS)
    if unknown:
        parser.error(f"expected any of {', '.join(QUESTIONS)}, got {', '.join(sorted(unknown))}.")
    where = device()
    print(
        f"{where['device']} ({where['platform']}, {where['machine']}), JAX {where['jax']}, Python {where['python']}\n"
    )
    for name in arguments.names or QUESTIONS:
        main_of = importlib.import_module(f"bench.{name}").main
        quick = {"quick": arguments.quick} if "quick" in inspect.signature(main_of).parameters else {}
        print(main_of(arguments.rounds, **quick), "\n")


if __name__ == "__main__":
    main()
