"""`python -m bench` measures everything, `python -m bench step` one question. It prints a table and writes JSON."""

import argparse
import importlib

from bench.timing import device

QUESTIONS = ("step",)


def main() -> None:
    """Read the command line, run what it names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast fnn is on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(QUESTIONS)}; all by default")
    parser.add_argument("--rounds", type=int, default=15, help="how often each candidate is timed (default 15)")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(QUESTIONS)
    if unknown:
        parser.error(f"expected any of {', '.join(QUESTIONS)}, got {', '.join(sorted(unknown))}.")
    where = device()
    print(
        f"{where['device']} ({where['platform']}, {where['machine']}), JAX {where['jax']}, Python {where['python']}\n"
    )
    for name in arguments.names or QUESTIONS:
        print(importlib.import_module(f"bench.{name}").main(arguments.rounds), "\n")


if __name__ == "__main__":
    main()
