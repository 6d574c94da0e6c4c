"""A user's program whose types `test_types` checks; nothing of it is run."""

from collections.abc import Iterator

import numpy as np
import optax
import pandas as pd

import fnn


def program() -> None:
    """The program."""
    rng = np.random.default_rng(0)
    a, c = rng.normal(size=(20, 2)), rng.integers(0, 3, (20, 1))
    t = rng.normal(size=(20, 1))
    net, loss, adam = fnn.dense(1), fnn.losses.squared_error, optax.adam(0.1)
    x = {"a": a, "c": c}
    deep = {"numbers": a, "categories": {"c": c}}
    pair = (a, {"c": c})

    fnn.fit(net, loss, adam, (a, t), epochs=1)
    fnn.fit(net, loss, adam, [a, t], epochs=1)
    fnn.fit(net, loss, adam, ([[1.0]], [1.0]), epochs=1)
    fnn.fit(net, loss, adam, (x, t), epochs=1, validation=(x, t))
    fnn.fit(
        net, loss, adam, (deep, t), epochs=1, validation=0.2, metrics={"r2": fnn.metrics.r2(), "right": fnn.accuracy}
    )
    fnn.fit(net, loss, adam, (pair, {"y": t, "k": c[:, 0]}), epochs=1)
    fnn.fit(net, loss, adam, ((a, c), (t, t)), epochs=1)
    fnn.sweep(net, loss, lambda s: optax.sgd(s["lr"]), (deep, t), over={"lr": [0.1]}, epochs=1, validation=(deep, t))
    fnn.ensemble(net, loss, adam, (x, t), members=2, epochs=1, validation=(x, {"y": t}))
    fnn.cross_validate(net, loss, adam, (pair, t), epochs=1)
    run = fnn.fit(net, loss, adam, (x, t), epochs=1)
    fnn.predict(net, run, x)
    fnn.predict(net, run, deep)
    fnn.predict(net, run, pair)
    fnn.evaluate(net, run, (deep, t), {"e": loss, "r2": fnn.metrics.r2()})
    fnn.predictor(net, run)(deep)

    def chunks() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        yield x, t

    fnn.fit(net, loss, adam, chunks, epochs=1, batch_size=5)
    fnn.predict(net, run, (part for part, _ in chunks()))
    fnn.hold_out(x, t)
    fnn.standardise(x, x)
    fnn.standardiser(deep)(deep)
    frame = pd.DataFrame({"a": a[:, 0], "y": t[:, 0]})
    table = fnn.Table.fit(frame, target="y")
    fnn.fit(net, table.loss, adam, table(frame), epochs=1, metrics={"e": table.in_units(loss)})
    fnn.cross_validate(net, table.loss, adam, frame, table=table, epochs=1)
