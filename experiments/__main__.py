"""The runner: `python -m experiments` runs the experiments of the documents and writes one page about them."""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parent / "results" / "index.html"


class Experiment(NamedTuple):
    """A module of this package, and what `--list` says of it before anything is imported."""

    name: str
    about: str
    seconds: int  # on two CPU cores, compiling included
    long: bool = False  # only run by its name or with --all


EXPERIMENTS = (
    Experiment("two_layer", "the two-layer network from scratch (D0)", 3),
    Experiment("linear_regression", "one weight, against the closed form (D2's series, part 1)", 1),
    Experiment("logistic_regression", "one neuron, against the highest likelihood (D2's series, parts 1b and 2)", 4),
    Experiment("hidden_layer", "what one neuron cannot separate; softmax (D2's series, parts 3 and 3b)", 8),
    Experiment("circles", "back-propagation by hand, gradient checking, momentum (D2)", 12),
    Experiment("digits", "a multi-layer network on real handwritten digits (D2's series, part 5)", 4),
    Experiment("model_choice", "settings by cross-validation, an ensemble of the chosen ones (D4)", 20),
    Experiment("mnist", "a convolutional network on real images, as they are and moved (D0, D4)", 120, long=True),
    Experiment("losses", "every number that the documents print for a loss (D1, D3)", 5),
    Experiment("activations", "ten activations and their derivatives (D3)", 4),
    Experiment("learning_rates", "exponential, piecewise constant and linear decay (D3, D2)", 1),
    Experiment("yoghurt", "a loss of one's own, to the last digit (D3)", 3),
    Experiment("regularisation", "L1 and L2: contours, shrinking, paths on real data (D0)", 7),
    Experiment("text_selection", "L1 chooses among 20,000 word pairs of real texts (D0)", 20),
    Experiment("tables", "words, gaps and dates from a frame, against scikit-learn's usual way", 30),
    Experiment("complexity", "layers, parameters, multiply-adds (D3)", 1),
    Experiment("gradient_check", "numerical differences, their step, planted mistakes (D2)", 10),
    Experiment("second_order", "Levenberg-Marquardt, L-BFGS and Adam; NIST's certified digits", 180, long=True),
    Experiment("proof", "every hand-derived rule, four ways, and the errors planted in it", 180, long=True),
)


def main(argv: list[str] | None = None) -> int:
    """Run what was asked for; 0 if every row holds, 1 if one does not, 2 if it could not be run."""
    arguments = _parser().parse_args(argv)
    if arguments.list:
        print("\n".join(f"{e.name:<20}{e.seconds:>4} s{' (long)' if e.long else '':<8}{e.about}" for e in EXPERIMENTS))
        return 0
    known = {e.name: e for e in EXPERIMENTS}
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        message = f"expected names among {', '.join(known)}, got {', '.join(unknown)}"
        print(f"experiments: {message}. Run: python -m experiments --list", file=sys.stderr)
        return 2
    chosen = [known[name] for name in arguments.names] or [e for e in EXPERIMENTS if arguments.all or not e.long]
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        print(f'experiments: {error.name} is not installed. Run: pip install "fnn[experiments]"', file=sys.stderr)
        return 2
    return _run(chosen, arguments.page)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments", description="Try what the documents claim.")
    parser.add_argument("names", nargs="*", metavar="name", help="run only these (default: those of the documents)")
    parser.add_argument("--all", action="store_true", help="run the long ones too")
    parser.add_argument("--list", action="store_true", help="list the experiments with their expected times")
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write the page (default: %(default)s)")
    return parser


def _run(chosen: list[Experiment], page: Path) -> int:
    from experiments import report

    done = []
    for i, experiment in enumerate(chosen, 1):
        print(f"[{i}/{len(chosen)}] {experiment.name}: {experiment.about}, about {experiment.seconds} s", flush=True)
        module = importlib.import_module(f"experiments.{experiment.name}")
        begun = time.perf_counter()
        result = module.main(module.Settings())
        done.append(report.Done(experiment.name, module.__doc__ or "", result, time.perf_counter() - begun))
        print(f"      took {done[-1].seconds:.1f} s", flush=True)
    for one in done:
        print(f"\n{one.name}: {one.result.title}\n{report.table(one.result.rows)}")
    sections = _kept([report.section(one) for one in done], page.parent / "sections")
    page.write_text(report.page(sections), encoding="utf-8")
    wrong = [row for one in done for row in one.result.rows if not row.ok]
    print(f"\n{report.verdict([row for one in done for row in one.result.rows])} Page: {page}")
    return 1 if wrong else 0


def _kept(new: list[Any], folder: Path) -> list[Any]:
    """The new sections and those of earlier runs, in the order of the list; each kept in a file of its own."""
    from experiments.report import Section

    folder.mkdir(parents=True, exist_ok=True)
    for section in new:
        (folder / f"{section.name}.json").write_text(json.dumps(section._asdict()), encoding="utf-8")
    files = [folder / f"{e.name}.json" for e in EXPERIMENTS]
    return [Section(**json.loads(file.read_text(encoding="utf-8"))) for file in files if file.exists()]


if __name__ == "__main__":
    sys.exit(main())
