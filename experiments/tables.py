"""Tables: words, gaps, dates and booleans, from a frame to predictions.

Question: is a network on frames as they are, by `fnn.Table` and `fnn.network_for`, as good as scikit-learn's usual way?
Source:   ours. scikit-learn's way is `ColumnTransformer` (means for gaps with an indicator, a column of 0 and 1 for
          each word) before `MLPClassifier` or `MLPRegressor`, with the same hidden layers, batches, epochs and Adam.
          Five sets: 392 cars of mlxtend (UCI's Auto MPG) and the 442 patients of scikit-learn's diabetes data, with
          a column cut into words and gaps made here; and three made here, whose formulas are below: visits to a shop
          (60 towns, some of them rare, days), passengers of a ship, and houses with skewed prices.
Command:  python -m experiments tables
Time:     about 30 seconds on two CPU cores.
Expected: over ten splits of each set, each with another beginning, the held-out rows are predicted no worse than by
          scikit-learn: the mean of the differences is above -2 of its standard errors. With two heads, for whether
          somebody buys and how much is spent, nothing is lost.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
import optax
import pandas as pd
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import fnn
from experiments.report import Figure, Result, Row, at_least, at_most

HIDDEN, BATCH, RATE = (64, 32), 64, 1e-3


class Settings(NamedTuple):
    """Sizes."""

    seeds: int = 10  # splits of the rows, and beginnings
    epochs: int = 40
    rows: int = 2000  # of the sets that are made here


class Task(NamedTuple):
    """A frame, what to predict of it, and a column that may be predicted too."""

    name: str
    frame: Any
    target: str
    other: tuple[str, ...] = ()

    @property
    def classes(self) -> bool:
        """Whether the target is a class: then the score is the share of rows that are right, else R², both in %."""
        return self.frame[self.target].dtype.kind not in "fi"


def main(settings: Settings) -> Result:
    """Both ways on all sets; two heads on the visits."""
    rows, seeds, epochs = settings.rows, range(settings.seeds), settings.epochs
    tasks = cars(), visits(rows), patients(), passengers(rows), houses(rows)
    scores = {
        (task.name, way.__name__): [way(task, seed, epochs) for seed in seeds]
        for task in tasks
        for way in (by_table, by_scikit_learn)
    }
    heads = [two_heads(tasks[1], seed, epochs) for seed in seeds]
    right, error, guess = np.mean(heads, 0)
    one_head = float(np.mean(scores["Visits", "by_table"]))
    return Result(
        title="Tables",
        question="Is a network on frames as they are as good as scikit-learn's usual way?",
        rows=[
            *(no_worse(task, *(scores[task.name, way] for way in ("by_table", "by_scikit_learn"))) for task in tasks),
            at_least("Visits, two heads: held-out rows right, less those of one head, %", -1,
                     round(float(right) - one_head, 2)),
            at_most("Visits, two heads: error of what is spent, in parts of the error of the training's median", 0.7,
                    round(float(error / guess), 3)),
        ],
        figures=[Figure("Held-out rows: those right, or R², in %", "Each number is another split, the last their mean.",
                        [printed(scores)])],
        notes=[f"Of {task.name.lower()} there are {len(task.frame):,} rows, a third held out." for task in tasks],
        numbers={"scores": scores, "heads": heads},
    )  # fmt: skip


def no_worse(task: Task, ours: list[float], theirs: list[float]) -> Row:
    """The mean difference over the splits is above -2 standard errors."""
    off = np.subtract(ours, theirs)
    error = float(off.std(ddof=1) / np.sqrt(len(off))) if len(off) > 1 else 0.0
    what = "rows right" if task.classes else "R²"
    name = f"{task.name}: {what} on held-out rows, less that of scikit-learn, %; the bound is -2 standard errors"
    return at_least(name, round(-2 * error, 3), round(float(off.mean()), 3))


def printed(scores: dict[tuple[str, str], list[float]]) -> str:
    """The scores as text."""
    names = {"by_table": "fnn.Table", "by_scikit_learn": "scikit-learn"}
    places = "  ".join(f"{place:5}" for place in range(len(next(iter(scores.values())))))
    return "\n".join([f"{'data':<12}{'way':<14}{places}   mean"] + [
        f"{task:<12}{names[way]:<14}{'  '.join(f'{score:5.1f}' for score in values)}  {np.mean(values):5.1f}"
        for (task, way), values in scores.items()
    ])  # fmt: skip


# ---- the frames


def cars() -> Task:
    """Is a car thriftier than half of them? Cylinders and years are numbers, origins words."""
    from mlxtend.data import autompg_data

    x, mpg = autompg_data()
    names = ["cylinders", "displacement", "horsepower", "weight", "acceleration", "year", "origin"]
    frame = pd.DataFrame(x[:, :7], columns=names)
    frame["origin"] = frame.origin.map({1: "America", 2: "Europe", 3: "Asia"})
    frame.loc[np.random.default_rng(0).random(len(frame)) < 0.1, "horsepower"] = np.nan
    return Task("Cars", frame.assign(thrifty=np.where(mpg > np.median(mpg), "yes", "no")), "thrifty")


def patients() -> Task:
    """How far is diabetes after a year? Sexes and blood pressures are words, a tenth of two columns is missing."""
    bunch = load_diabetes(as_frame=True, scaled=False)
    frame, rng = bunch.data.assign(progress=bunch.target), np.random.default_rng(2)
    frame["sex"] = np.where(frame.sex == 1, "a", "b")
    frame["bp"] = np.array(["low", "middle", "high", "very high"])[np.searchsorted([80, 95, 110], frame.bp)]
    for name in ("bmi", "s5"):
        frame.loc[rng.random(len(frame)) < 0.1, name] = np.nan
    return Task("Patients", frame, "progress")


def visits(rows: int) -> Task:
    """Does a visitor buy, and for how much? It depends on the town, on weekends of the young, on members' incomes."""
    rng = np.random.default_rng(1)
    town, liking = rng.zipf(1.6, rows) % 60, 1.2 * rng.normal(size=60)
    age, income, member = rng.uniform(18, 80, rows), rng.lognormal(10, 0.5, rows), rng.random(rows) < 0.3
    day = pd.Timestamp("2022-01-01") + pd.to_timedelta(rng.integers(0, 730, rows), unit="D")
    score = liking[town] + 1.5 * np.sin(age / 10) + np.where(member, 1.2 * np.log(income / 22_000), -0.5)
    score = score + 1.5 * ((day.day_of_week >= 5) & (age < 40)) - 0.3 + 0.5 * rng.logistic(size=rows)
    frame = pd.DataFrame({
        "town": [f"town {number}" for number in town],
        "age": age,
        "income": np.where(rng.random(rows) < 0.15, np.nan, income),
        "member": member,
        "day": day,
        "buys": np.where(score > 0, "yes", "no"),
        "spent": np.exp(3 + 0.6 * score + 0.3 * rng.normal(size=rows)),
    })  # fmt: skip
    return Task("Visits", frame, "buys", ("spent",))


def passengers(rows: int) -> Task:
    """Does a passenger survive? Women, children and the first class do; a fifth of the ages is missing."""
    rng = np.random.default_rng(3)
    deck, woman = rng.choice(3, rows, p=[0.25, 0.2, 0.55]), rng.random(rows) < 0.37
    age, family = rng.gamma(5, 6, rows), rng.poisson(0.8, rows)
    score = 0.6 + 2.6 * woman - 1.1 * deck - 0.02 * age + 1.5 * (age < 12) - 0.4 * family * (deck == 2)
    frame = pd.DataFrame({
        "class": np.array(["first", "second", "third"])[deck],
        "sex": np.where(woman, "woman", "man"),
        "age": np.where(rng.random(rows) < 0.2, np.nan, age),
        "family": family,
        "fare": rng.lognormal(np.array([4.2, 3.0, 2.3])[deck], 0.5),
        "port": pd.Series(rng.choice(["Cherbourg", "Queenstown", "Southampton"], rows)).mask(rng.random(rows) < 0.03),
        "survives": np.where(score + rng.logistic(size=rows) > 0, "yes", "no"),
    })  # fmt: skip
    return Task("Passengers", frame, "survives")


def houses(rows: int) -> Task:
    """For how much is a house sold? Prices are products, so they are skewed; 40 towns, dates, gaps in areas."""
    rng = np.random.default_rng(4)
    town, area = rng.integers(0, 40, rows), rng.lognormal(4.6, 0.4, rows)
    garden, days = rng.random(rows) < 0.4, rng.integers(0, 3000, rows)
    price = np.exp(7 + np.log(area) + 0.5 * rng.normal(size=40)[town] + 0.2 * garden + days / 6000)
    frame = pd.DataFrame({
        "area": np.where(rng.random(rows) < 0.1, np.nan, area),
        "town": [f"town {number}" for number in town],
        "garden": garden,
        "day": pd.Timestamp("2015-01-01") + pd.to_timedelta(days, unit="D"),
        "price": price * rng.lognormal(0, 0.15, rows),
    })  # fmt: skip
    return Task("Houses", frame, "price")


def split(task: Task, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two thirds to train, and a third held out."""
    first, second = np.split(np.random.default_rng(seed).permutation(len(task.frame)), [2 * len(task.frame) // 3])
    return first, second


# ---- the ways


def predictions(frame: Any, target: Any, seed: int, fold: Any, epochs: int) -> tuple[fnn.Table, Any]:
    """The table of all rows, whose sizes the network has, and what a network says that has a table of its fold."""
    table = fnn.Table.fit(frame, target=target)
    net = fnn.network_for(table, hidden=HIDDEN)
    found = fnn.cross_validate(net, table.loss, optax.adam(RATE), frame, table=table, folds=[fold], key=seed,
                               epochs=epochs, batch_size=BATCH, refit=False, progress=False)  # fmt: skip
    return table, found.predictions


def score(task: Task, held: Any, said: Any) -> float:
    """Rows that are right, or R², in %."""
    return 100 * float((accuracy_score if task.classes else r2_score)(held[task.target], said))


def by_table(task: Task, seed: int, epochs: int) -> float:
    """By `fnn.Table`: the score on held-out rows."""
    frame, fold = task.frame.drop(columns=list(task.other)), split(task, seed)
    table, y = predictions(frame, task.target, seed, fold, epochs)
    return score(task, frame.iloc[fold[1]], table.decode(y[fold[1]]) if task.classes else y[fold[1]])


def two_heads(task: Task, seed: int, epochs: int) -> tuple[float, float, float]:
    """Class and number at once: rows right in %, mean error of the number, and that of the training's median."""
    train, held = split(task, seed)
    table, y = predictions(task.frame, [task.target, *task.other], seed, (train, held), epochs)
    number, column = task.other[0], task.frame[task.other[0]]
    said = table.targets[0].labels[y[task.target][held].argmax(1)]
    error, guess = (float(np.abs(column.iloc[held] - v).mean()) for v in (y[number][held], column.iloc[train].median()))
    return score(task, task.frame.iloc[held], said), error, guess


def by_scikit_learn(task: Task, seed: int, epochs: int) -> float:
    """By scikit-learn: the score on held-out rows."""
    x, t = inputs(task), task.frame[task.target]
    train, held = split(task, seed)
    words = [name for name in x if x[name].dtype.kind not in "fiub"]
    columns = ColumnTransformer([
        ("numbers", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), list(x.columns.drop(words))),
        ("words", OneHotEncoder(handle_unknown="ignore"), words),
    ])  # fmt: skip
    same = {"hidden_layer_sizes": HIDDEN, "batch_size": BATCH, "learning_rate_init": RATE, "random_state": seed}
    same |= {"max_iter": epochs, "n_iter_no_change": epochs}  # no early stopping
    model: Any = MLPClassifier(**same)
    if not task.classes:
        skewed = fnn.Table.fit(task.frame.iloc[train], target=task.target).targets[0].log
        scale = [FunctionTransformer(np.log1p, np.expm1)] * skewed + [StandardScaler()]
        model = TransformedTargetRegressor(MLPRegressor(**same), transformer=make_pipeline(*scale))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs end first, as those of fnn do
        fitted = make_pipeline(columns, model).fit(x.iloc[train], t.iloc[train])
    return score(task, task.frame.iloc[held], fitted.predict(x.iloc[held]))


def inputs(task: Task) -> Any:
    """The inputs of a frame; dates as numbers, of which scikit-learn has no transformer."""
    frame = task.frame.drop(columns=[task.target, *task.other])
    if "day" not in frame:
        return frame
    days = (frame.day - pd.Timestamp("1970-01-01")).dt.days
    return frame.assign(day=days, month=frame.day.dt.month, weekday=frame.day.dt.day_of_week)
