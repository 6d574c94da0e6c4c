"""A network with two inputs (image and table), a shared trunk and two heads; and rows for it."""

import numpy as np

import fnn
from fnn import losses

LOSS = losses.joint(price=(1.0, losses.squared_error), kind=(0.5, losses.sparse_softmax_cross_entropy))
METRICS = {"accuracy": lambda y, t: fnn.accuracy(y["kind"], t["kind"])}
SHAPES = {"image": (6, 6, 1), "table": (4,)}


def network(features=8):
    """The network; `features` of its trunk."""
    return fnn.serial(
        fnn.parallel(image=fnn.serial(fnn.conv2d(2, (3, 3)), fnn.tanh, fnn.flatten()), table=fnn.dense(5)),
        fnn.concatenate(),
        fnn.dense(features),
        fnn.tanh,
        fnn.parallel(price=fnn.dense(1), kind=fnn.dense(3)),
    )


def rows(count=48, dtype="float32"):
    """Inputs and targets."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, count)
    image = (rng.normal(size=(count, 6, 6, 1)) + kind[:, None, None, None]).astype(dtype)
    table = rng.normal(size=(count, 4)).astype(dtype)
    return {"image": image, "table": table}, {"price": 0.5 * table[:, :1] - table[:, 1:2], "kind": kind}
