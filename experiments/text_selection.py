"""Word pairs: L1 chooses among twenty thousand of them.

Question: does L1 find the few word pairs that tell what a text is about, and is the rest superfluous?
Source:   D0: "L1 yields sparse weights, so it selects features", with the example of text, whose word n-grams are
          counted by the ten thousand. Data: docstrings of Python's standard library, each a text; some are of modules
          for the network and mail, the others of modules for numbers, windows, tests and the language itself.
Command:  python -m experiments text_selection
Time:     about 20 seconds on two CPU cores.
Expected: at the largest α no pair is left; at the best α, chosen on rows of its own, fewer than a tenth of the pairs
          are left (about 3 %), and of the held-out texts about 82 % are right, with all pairs 84 %. α falls
          along a path on which each run begins where the one before ended, as scikit-learn's `lasso_path` does.
"""

import ast
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure as Picture
from sklearn.feature_extraction.text import CountVectorizer

import fnn
from experiments.report import Figure, Result, at_least, at_most, holds

NETWORK = "asyncio email ftplib http imaplib mailbox poplib smtplib socket socketserver ssl urllib wsgiref xmlrpc"
OTHER = "_pydecimal ast bdb calendar codecs collections datetime difflib dis doctest enum fractions functools importlib"
OTHER += " inspect numbers pdb pickletools pydoc random statistics threading tkinter turtle typing unittest"
LEAST = 60  # letters of a text


class Settings(NamedTuple):
    """Sizes."""

    pairs: int = 20_000  # the most frequent ones
    alphas: int = 14  # of the path, over two powers of ten
    epochs: int = 300  # at most, for each
    modules: int | None = None  # of each topic; None: all


class Texts(NamedTuple):
    """Counts of word pairs, sparse, and whether each text is about the network; split once."""

    train: tuple[Any, np.ndarray]
    choice: tuple[Any, np.ndarray]  # that choose α
    held: tuple[Any, np.ndarray]
    names: np.ndarray


class Point(NamedTuple):
    """What one α gives: pairs that are left, and the share of texts that are right, in %."""

    alpha: float
    kept: int
    choice: float
    held: float


def main(settings: Settings) -> Result:
    """Follow the path, and look at the best α."""
    texts = load(settings)
    points, weights = follow_path(texts, settings)
    best = int(np.argmax([point.choice for point in points]))
    everything = Point(0.0, *judge(texts, fit(texts, 0.0, None, settings.epochs)[0]))
    chosen, count = points[best], len(texts.names)
    return Result(
        title="Word pairs",
        question="Does L1 find the few word pairs that tell what a text is about, and is the rest superfluous?",
        rows=[
            holds("Pairs left at the largest α", "none", str(points[0].kept), "exactly 0", points[0].kept == 0),
            at_most("Pairs left at the best α, %", 10, round(100 * chosen.kept / count, 2)),
            at_least("Held-out texts that are right with these, less those with all pairs, %", -3,
                     round(chosen.held - everything.held, 2)),
            holds("Pairs left along the path", "more, the smaller α is", " ".join(str(p.kept) for p in points),
                  "the rank correlation with α is below -0.95", rank_correlation(points) < -0.95),
        ],
        figures=[Figure("Accuracy against pairs left",
                        f"Each point is an α. The line is what all {count:,} pairs give without L1.",
                        picture(points, everything))],
        notes=notes(texts, points[best], everything, weights[best]),
        numbers={"points": points, "everything": everything, "best": best},
    )  # fmt: skip


# ---- the texts


def docstrings(module: str) -> list[str]:
    """Those of a module of the standard library, or of all modules of a package, read without importing anything."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [root / f"{module}.py"] if (root / f"{module}.py").exists() else sorted((root / module).rglob("*.py"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
    found = []
    for file in files:
        if "test" not in file.parent.relative_to(root).parts[1:]:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found += [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text for text in found if len(text) >= LEAST]


def load(settings: Settings) -> Texts:
    """Texts of both topics, each once; half to train, a quarter to choose α, a quarter held out."""
    modules = [topic.split()[: settings.modules] for topic in (OTHER, NETWORK)]
    each = [sorted({text for module in topic for text in docstrings(module)}) for topic in modules]
    texts, label = each[0] + each[1], np.repeat([0.0, 1.0], [len(each[0]), len(each[1])]).astype("float32")
    order = np.random.default_rng(0).permutation(len(texts))
    train, choice, held = np.split(order, [len(order) // 2, 3 * len(order) // 4])
    count = CountVectorizer(ngram_range=(2, 2), max_features=settings.pairs, binary=True, dtype=np.float32)
    count.fit([texts[i] for i in order])  # the pairs, not the labels; some are in held-out texts alone
    first, second, third = (
        (count.transform([texts[i] for i in rows]), label[rows, None]) for rows in (train, choice, held)
    )
    return Texts(first, second, third, count.get_feature_names_out())


# ---- training


def fit(texts: Texts, alpha: float, params: Any, epochs: int) -> tuple[Any, Any]:
    """A logistic regression with L1, from given parameters; its run, and its sparse parameters."""
    net = fnn.sparse_dense(len(texts.names), 1, weight_init=0.0)
    run = fnn.fit(
        net,
        fnn.losses.sigmoid_cross_entropy,
        lambda s: fnn.optimizers.fista(s["alpha"], tolerance=1e-4),
        texts.train,
        epochs=epochs,
        settings={"alpha": alpha},
        params=params,
        progress=False,
    )
    return (net, run), run.params


def judge(texts: Texts, trained: Any) -> tuple[int, float, float]:
    """Pairs that are left, and the share of texts that are right, in %: of those that choose, of those held out."""
    net, run = trained
    right = [100 * float(((fnn.predict(net, run, x) > 0) == (t > 0.5)).mean()) for x, t in (texts.choice, texts.held)]
    return int(np.count_nonzero(run.params["w"])), right[0], right[1]


def follow_path(texts: Texts, settings: Settings) -> tuple[list[Point], list[np.ndarray]]:
    """From the α that leaves nothing to a hundredth of it; the weights at each."""
    x, t = texts.train
    most = 1.001 * float(np.abs(x.T @ (t - t.mean())).max()) / x.shape[0]  # the slope at weights 0 and the best bias
    points, weights, params = [], [], None
    for alpha in most * np.geomspace(1, 0.01, settings.alphas):
        trained, params = fit(texts, float(alpha), params, settings.epochs)
        points.append(Point(float(alpha), *judge(texts, trained)))
        weights.append(np.asarray(params["w"])[:, 0])
    return points, weights


def rank_correlation(points: list[Point]) -> float:
    """Spearman's, of α and the pairs that are left."""
    both = np.array([(p.alpha, float(p.kept)) for p in points]).T
    table: Any = np.corrcoef(np.argsort(np.argsort(both)))
    return float(table[0, 1])


# ---- what is to be seen


def picture(points: list[Point], everything: Point) -> Picture:
    """Accuracy on held-out texts against pairs left."""
    made = Picture(figsize=(5.6, 4.0), layout="constrained")
    ax = made.add_subplot()
    ax.plot([max(p.kept, 0.5) for p in points], [p.held for p in points], "o-", label="with L1")
    ax.axhline(everything.held, color="grey", linestyle="--", label="all pairs")
    ax.set_xscale("log")
    ax.set_xlabel("pairs left (none: at 0.5)")
    ax.set_ylabel("held-out texts that are right (%)")
    ax.legend()
    return made


def notes(texts: Texts, chosen: Point, everything: Point, w: np.ndarray) -> list[str]:
    """What the data are, and what is left."""
    order = np.argsort(w)
    of = ", ".join(f"“{texts.names[i]}”" for i in order[::-1][:8] if w[i] > 0)
    not_of = ", ".join(f"“{texts.names[i]}”" for i in order[:8] if w[i] < 0)
    counts = [x.shape[0] for x, _ in texts[:3]]
    return [
        f"{sum(counts):,} docstrings, {counts[0]:,} to train, {counts[1]:,} to choose α, {counts[2]:,} held out; "
        f"{len(texts.names):,} word pairs, of which a text has {texts.train[0].nnz / counts[0]:.0f} on average.",
        f"At the best α, {chosen.alpha:.2g}, {chosen.kept} pairs are left, and {chosen.held:.1f} % of the held-out "
        f"texts are right; with all pairs {everything.held:.1f} %.",
        f"For the network: {of}. Against: {not_of}.",
        "The counts are a sparse matrix all the way: nothing of the size texts × pairs is made.",
    ]
