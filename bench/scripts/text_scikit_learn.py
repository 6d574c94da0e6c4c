"""L1 on sparse rows by scikit-learn, float64. Arguments: solver, tolerance, most rounds."""

import sys
import warnings

import numpy as np
from sklearn.linear_model import Lasso, LogisticRegression
from text_problem import PATH, load, solve_all

warnings.simplefilter("ignore")  # rounds that are not enough are seen in the objective
x, t, alphas = load()
solver, tolerance, most = sys.argv[3], float(sys.argv[4]), int(sys.argv[5])
columns = x.tocsc()  # what Lasso would make of it


def solve(alpha: float) -> tuple[np.ndarray, float, int]:
    """One α, from weights 0."""
    if solver == "lasso":
        lasso = Lasso(alpha=alpha, tol=tolerance, max_iter=most).fit(columns, t)
        return lasso.coef_, float(lasso.intercept_), int(lasso.n_iter_)
    # liblinear makes the bias small too, the less the larger this is; the others do not know it
    more = {"intercept_scaling": 10.0} if solver == "liblinear" else {}
    model = LogisticRegression(
        l1_ratio=1.0, C=1 / (alpha * len(t)), solver=solver, tol=tolerance, max_iter=most, random_state=0, **more
    ).fit(x, t)
    return model.coef_[0], float(model.intercept_[0]), int(np.max(model.n_iter_))


most_alphas = 2 if solver == "saga" and "uniform" in PATH else 5  # minutes for each of the others
solve_all(x, t, alphas[:most_alphas], solve)
