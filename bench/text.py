"""L1 on text: 10,000 rows, 20,000 columns, 100 values per row, beside scikit-learn's solvers of sparse matrices.

Squared errors beside `Lasso`; cross-entropy of two classes beside `LogisticRegression`, by liblinear and by saga. Five
values of α, from half of that at which all weights are 0 to a fiftieth. Columns are uniform, or their frequencies fall
as 1/rank, as those of words do. Each candidate is a process of its own per round, which makes a first call, and then
times one for each α. Processes take turns.

"over the best" is how far the objective, in float64, is above the lowest that any candidate found, as a share of it;
`fnn` with a tolerance of 1e-7 is one of them, and `Lasso` with 1e-12. "off" is how far the pulls of a solution are from
what they are at the least, as `bench.scripts.text_problem.judge` has it. Weights that are 0 in one solution and not in
the other are listed below each table, with the pull that the best solution has there: a weight is 0 where it is below
1. liblinear has an objective of its own: it makes the bias small too. Where columns are uniform saga solves for the two
largest α alone: for the others it takes minutes.
"""

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy import sparse

from bench.output import write
from bench.processes import printed
from bench.timing import in_a_line

ROWS, COLUMNS, VALUES, TOLERANCE = 10_000, 20_000, 100, "1e-6"
MOST_OTHERS = 3  # that the table has, per α and solver; all are in the file
SOLVERS = {  # name -> what its script is called with, and how many rounds at most
    "squared": {
        "fnn": (("text_fnn", TOLERANCE), 99),
        "Lasso": (("text_scikit_learn", "lasso", "1e-6", "100000"), 99),
        "fnn to the end": (("text_fnn", "1e-7"), 1),
        "Lasso to the end": (("text_scikit_learn", "lasso", "1e-12", "100000"), 1),
    },
    "logistic": {
        "fnn": (("text_fnn", TOLERANCE), 99),
        "liblinear": (("text_scikit_learn", "liblinear", "1e-4", "10000"), 99),
        "saga": (("text_scikit_learn", "saga", "1e-6", "3000"), 1),
        "fnn to the end": (("text_fnn", "1e-7"), 1),
    },
}


def make_problem(path: Path, words: bool, rows: int, columns: int) -> None:
    """Write rows of `VALUES` different columns each, and targets of 50 of the columns, with noise.

    A column is taken with the same probability as the others, or, as words are, with one of 1/(10 + its rank).
    """
    rng = np.random.default_rng(0)
    probability = 1 / (np.arange(columns) + 10.0) if words else np.ones(columns)
    edges = np.cumsum(probability / probability.sum())
    at = np.stack([_distinct(np.searchsorted(edges[:-1], rng.random(20 * VALUES))) for _ in range(rows)])
    values = np.abs(rng.normal(size=at.size))
    x = sparse.csr_array(
        (values, at.ravel().astype(np.int32), np.arange(0, at.size + 1, VALUES, dtype=np.int32)), shape=(rows, columns)
    )
    x.sort_indices()
    weights = np.zeros(columns)
    weights[rng.choice(columns // 10 if words else columns, 50, replace=False)] = rng.normal(0, 3, 50)
    t = x @ weights
    sparse.save_npz(path.with_suffix(".npz"), x)
    np.save(path.with_suffix(".npy"), t + 0.3 * t.std() * rng.normal(size=rows))


def _distinct(drawn: np.ndarray) -> np.ndarray:
    """The first `VALUES` different ones: each is drawn as if those before it were not there."""
    return drawn[np.sort(np.unique(drawn, return_index=True)[1])[:VALUES]]


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure, write JSON, return the tables."""
    rounds, rows, columns = (1, 500, 1_000) if quick else (max(1, rounds // 5), ROWS, COLUMNS)
    tables, found = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for frequencies in ("uniform", "words"):
            path = Path(folder) / frequencies
            make_problem(path, frequencies == "words", rows, columns)
            for kind, solvers in SOLVERS.items():
                measured = compare(measure(str(path), kind, solvers, rounds))
                found[f"{kind}, {frequencies}"] = measured
                tables.append(table(f"{kind}, columns: {frequencies}", measured))
    question = f"L1 on {rows:,} sparse rows of {VALUES} values, {columns:,} columns"
    written = write("text", question, {"rows": rows, "columns": columns, "found": found}, quick)
    return "\n\n".join([question, *tables, f"written to {written}"])


def measure(path: str, kind: str, solvers: dict[str, Any], rounds: int) -> dict[str, Any]:
    """What each solver gives for each α: medians of its rounds, which take turns."""
    said: dict[str, list[Any]] = {name: [] for name in solvers}
    left_out: dict[str, str] = {}
    for turn in range(rounds):
        for name, ((script, *words), most) in solvers.items():
            if turn < most and name not in left_out:
                try:
                    said[name].append(json.loads(printed(script, path, kind, *words)))
                except Exception as error:  # a peer that is not installed, or another version of it
                    if name == "fnn":
                        raise
                    left_out[name] = in_a_line(error)
    return {name: _join(all_rounds) for name, all_rounds in said.items() if all_rounds} | {"left_out": left_out}


def _join(rounds: list[Any]) -> dict[str, Any]:
    """Medians of the seconds; the solutions are the same in all rounds."""
    last = rounds[-1]
    found = []
    for i, row in enumerate(last["found"]):
        times = {name: [each["found"][i][name] for each in rounds] for name in ("seconds", "processor")}
        found.append(row | {name: median(s) for name, s in times.items()} | {"rounds_s": times["seconds"]})
    middle = {name: median(each[name] for each in rounds) for name in ("first", "peak_of_one_bytes", "peak_bytes")}
    return middle | {"shares": last["shares"], "found": found}


def compare(measured: dict[str, Any]) -> dict[str, Any]:
    """In place of the weights: how many are not 0, and those that are 0 in this solution or in the best, not in both.

    Each of these has its weight in both, and the pull that the best solution has there (None: below 0.9).
    """
    names = [name for name in measured if name != "left_out"]
    for i in range(len(measured["fnn"]["shares"])):
        rows = {name: measured[name]["found"][i] for name in names if i < len(measured[name]["found"])}
        best = min(rows.values(), key=lambda row: row["objective"])
        lowest, kept, near = best["objective"], best["kept"], best.pop("near")
        for row in rows.values():
            here = row.pop("kept")
            row["over"], row["not_0"] = (row["objective"] - lowest) / lowest, len(here)
            row["other"] = [
                {
                    "column": int(j),
                    "here": here.get(j, 0),
                    "best": kept.get(j, 0),
                    "pull": 1.0 if j in kept else near.get(j),
                }
                for j in sorted(here.keys() ^ kept.keys(), key=int)
            ]
            row.pop("near", None)
    return measured


# ---- the table


def table(title: str, measured: dict[str, Any]) -> str:
    """A line per α and solver: seconds, times the peers' seconds, rounds, objective, weights that are not 0."""
    names = [name for name in measured if name != "left_out"]
    head = f"{'α':>6}  {'':16}  {'s':>8}  {'fnn/this':>8}  {'processor s':>11}  {'fnn/this':>8}  {'rounds':>6}"
    lines, others = [title, f"{head}  {'over the best':>13}  {'off':>7}  {'not 0':>6}  other than the best"], []
    for i, share in enumerate(measured["fnn"]["shares"]):
        rows = {name: measured[name]["found"][i] for name in names if i < len(measured[name]["found"])}
        for name, row in rows.items():
            wide = ("seconds", 8), ("processor", 11)
            times = "  ".join(f"{row[s]:{w}.3f}  {rows['fnn'][s] / row[s]:8.2f}" for s, w in wide)
            end = f"{row['rounds']:6}  {row['over']:13.1e}  {row['off']:7.1e}  {row['not_0']:6}  {len(row['other'])}"
            lines.append(f"{share:6}  {name:16}  {times}  {end}")
            others += [_other(share, name, each) for each in row["other"][:MOST_OTHERS]]
    for name in names:
        first, one, peak = (measured[name][key] for key in ("first", "peak_of_one_bytes", "peak_bytes"))
        lines.append(
            f"{name}: first call {first:.2f} s, the process's peak {one / 1e6:.0f} MB, {peak / 1e6:.0f} MB after all"
        )
    lines += [f"{name}: left out: {why}" for name, why in measured["left_out"].items()]
    return "\n".join(lines + others)


def _other(share: float, name: str, each: dict[str, Any]) -> str:
    here, best, pull = each["here"], each["best"], "below 0.9" if each["pull"] is None else f"of {each['pull']:.5f}"
    return f"α {share}, {name}, column {each['column']}: {here:.1e}; in the best {best:.1e}, with a pull {pull}"
