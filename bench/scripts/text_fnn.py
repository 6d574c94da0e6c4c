"""L1 on sparse rows by fnn, float32. Third argument: the tolerance."""

import sys

import numpy as np
from text_problem import KIND, load, solve_all

import fnn

x, t, alphas = load()
rows, targets = x.astype(np.float32), t[:, None].astype(np.float32)
net = fnn.sparse_dense(x.shape[1], 1, weight_init=0.0)
loss = fnn.losses.sigmoid_cross_entropy if KIND == "logistic" else fnn.losses.half_squared_error
tolerance = float(sys.argv[3])


def solve(alpha: float) -> tuple[np.ndarray, float, int]:
    """One α, from weights 0."""
    run = fnn.fit(
        net,
        loss,
        lambda s: fnn.optimizers.fista(s["alpha"], tolerance=tolerance),
        (rows, targets),
        epochs=5000,
        settings={"alpha": alpha},
        progress=False,
    )
    return np.asarray(run.params["w"]), float(run.params["b"][0]), len(run.history.loss)


solve_all(x, t, alphas, solve)
