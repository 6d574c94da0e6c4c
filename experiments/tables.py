"""Tables: words, gaps, dates and booleans, from a frame to predictions.

Question: is a network on frames as they are, by `fnn.Table` and `fnn.network_for`, as good as scikit-learn's usual way?
Source:   ours. scikit-learn's way is `ColumnTransformer` (means for gaps with an indicator, a column of 0 and 1 for
          each word) before `MLPClassifier`, with the same hidden layers, batches, share to stop by and patience.
          Data: 392 cars of mlxtend (UCI's Auto MPG), of which a tenth of the horsepowers is taken away, and 3,000
          visits made here: 60 towns, some of them rare, ages, incomes with gaps, members, days.
Command:  python -m experiments tables
Time:     about 15 seconds on two CPU cores.
Expected: on both sets about as many held-out rows are right as with scikit-learn, 92 % and 85 %. With two heads, for
          whether somebody buys and how much is spent, nothing is lost.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
import optax
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import fnn
from experiments.report import Figure, Result, at_least, at_most

HIDDEN, BATCH, SHARE, PATIENCE, RATE = (64, 32), 64, 0.15, 15, 2e-3


class Settings(NamedTuple):
    """Sizes."""

    seeds: int = 3  # splits of the rows, and beginnings
    epochs: int = 100
    visits: int = 3000


class Task(NamedTuple):
    """A frame, the class to predict, and a number that may be predicted too."""

    name: str
    frame: Any
    target: str
    number: str


def main(settings: Settings) -> Result:
    """Both ways on both sets; two heads on the visits."""
    tasks = (cars(), visits(settings.visits))
    seeds = range(settings.seeds)
    scores = {
        (task.name, way.__name__): [way(task, *split(task, seed), seed, settings.epochs) for seed in seeds]
        for task in tasks
        for way in (by_table, by_scikit_learn)
    }
    mean = {key: float(np.mean(values)) for key, values in scores.items()}
    heads = [two_heads(tasks[1], *split(tasks[1], seed), seed, settings.epochs) for seed in seeds]
    right, error, guess = np.mean(heads, 0)
    rows = [
        at_least(f"{task.name}: held-out rows right, less those of scikit-learn, %", bound,
                 round(mean[task.name, "by_table"] - mean[task.name, "by_scikit_learn"], 2))
        for task, bound in zip(tasks, (-2, -1), strict=True)
    ]  # fmt: skip
    rows += [
        at_least("Visits, two heads: held-out rows right, less those of one head, %", -1,
                 round(float(right) - mean["Visits", "by_table"], 2)),
        at_most("Visits, two heads: error of what is spent, in parts of the error of the training's median", 0.7,
                round(float(error / guess), 3)),
    ]  # fmt: skip
    return Result(
        title="Tables",
        question="Is a network on frames as they are as good as scikit-learn's usual way?",
        rows=rows,
        figures=[Figure("Held-out rows that are right, in %", "Each number is another split.", [printed(scores)])],
        notes=[f"Of {task.name.lower()} there are {len(task.frame):,} rows, a third held out." for task in tasks],
        numbers={"scores": scores, "heads": heads},
    )


def printed(scores: dict[tuple[str, str], list[float]]) -> str:
    """The scores as text."""
    names = {"by_table": "fnn.Table", "by_scikit_learn": "scikit-learn"}
    head = [f"{'data':<8}{'way':<14}{'  '.join(f'{place:5}' for place in range(len(next(iter(scores.values())))))}"]
    return "\n".join(head + [
        f"{task:<8}{names[way]:<14}{'  '.join(f'{score:5.1f}' for score in values)}"
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
    return Task("Cars", frame.assign(thrifty=np.where(mpg > np.median(mpg), "yes", "no"), mpg=mpg), "thrifty", "mpg")


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
    return Task("Visits", frame, "buys", "spent")


def split(task: Task, seed: int) -> tuple[Any, Any]:
    """Two thirds to train, and a third held out."""
    order = np.random.default_rng(seed).permutation(len(task.frame))
    first, second = np.split(order, [2 * len(order) // 3])
    return task.frame.iloc[first], task.frame.iloc[second]


# ---- the ways


def trained(train: Any, target: Any, left: Any, seed: int, epochs: int) -> tuple[fnn.Table, Any, Any]:
    """A table of the training rows, its network, and a run."""
    table = fnn.Table.fit(train, target=target, leave_out=left)
    net = fnn.network_for(table, hidden=HIDDEN)
    run = fnn.fit(net, table.loss, optax.adamw(RATE, weight_decay=0.01), table(train), epochs=epochs, batch_size=BATCH,
                  validation=SHARE, patience=PATIENCE, key=seed, progress=False)  # fmt: skip
    return table, net, run


def by_table(task: Task, train: Any, held: Any, seed: int, epochs: int) -> float:
    """By `fnn.Table`: held-out rows that are right, in %."""
    table, net, run = trained(train, task.target, task.number, seed, epochs)
    classes = table.decode(fnn.predict(net, run, table.inputs(held)))
    return 100 * float(np.mean(classes == held[task.target]))


def two_heads(task: Task, train: Any, held: Any, seed: int, epochs: int) -> tuple[float, float, float]:
    """Class and number at once: rows right in %, mean error of the number, and that of the training's median."""
    table, net, run = trained(train, [task.target, task.number], (), seed, epochs)
    found = table.decode(fnn.predict(net, run, table.inputs(held)))
    right = 100 * float(np.mean(found[task.target] == held[task.target]))
    number = held[task.number].to_numpy()
    guess = np.abs(number - train[task.number].median()).mean()
    return right, float(np.abs(found[task.number] - number).mean()), float(guess)


def by_scikit_learn(task: Task, train: Any, held: Any, seed: int, epochs: int) -> float:
    """By scikit-learn: held-out rows that are right, in %."""

    def inputs(frame: Any) -> Any:
        frame = frame.drop(columns=[task.target, task.number])
        if "day" not in frame:
            return frame
        days = (frame.day - pd.Timestamp("1970-01-01")).dt.days
        return frame.assign(day=days, month=frame.day.dt.month, weekday=frame.day.dt.day_of_week)

    x = inputs(train)
    words = [name for name in x if x[name].dtype.kind not in "fiub"]
    numbers = [name for name in x if name not in words]
    columns = ColumnTransformer([
        ("numbers", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), numbers),
        ("words", OneHotEncoder(handle_unknown="ignore"), words),
    ])  # fmt: skip
    network = MLPClassifier(HIDDEN, early_stopping=True, validation_fraction=SHARE, n_iter_no_change=PATIENCE,
                            max_iter=epochs, batch_size=BATCH, learning_rate_init=RATE, random_state=seed)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs may end first, as those of fnn may
        model = make_pipeline(columns, network).fit(x, train[task.target])
    return 100 * float(np.mean(model.predict(inputs(held)) == held[task.target]))
