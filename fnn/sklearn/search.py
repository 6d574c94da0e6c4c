"""`FnnSearchCV`."""

import time
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.model_selection import GridSearchCV, ParameterGrid, ParameterSampler, check_cv
from sklearn.utils import Tags, get_tags, indexable

from fnn import arguments
from fnn.sklearn.estimators import FnnEstimator
from fnn.sklearn.fits import use_fits
from fnn.sklearn.study import SearchRows, run_study


class FnnSearchCV(GridSearchCV):
    """`GridSearchCV` and `RandomizedSearchCV` of scikit-learn for networks, as one compiled study.

    The fits of all candidates on all folds are members of a study: what differs in numbers (`alpha`,
    `learning_rate_init`, `random_state`, the fold) is trained by one program, many at a time. Other layer sizes,
    activations, networks, losses, optimizers, batch sizes compile a program each. Each fit is the one that the
    estimator would do alone, to rounding. Every scorer works, since it judges fitted estimators.

    Fitted one after another, as `GridSearchCV` does it: candidates with `early_stopping=True`, and folds whose training
    rows lack a class.

    Args:
        estimator: an `FnnClassifier` or an `FnnRegressor`. For a Pipeline, put the search in its last step.
        param_grid: parameter -> values to try, or a list of such dicts; with `n_iter` a value may be a distribution,
            such as `scipy.stats.loguniform(1e-4, 1)`.
        n_iter: None tries the whole grid; else so many candidates, drawn at random by `random_state`.
        scoring, refit, cv, error_score, return_train_score: as of `GridSearchCV`.
        verbose: show a bar.

    Attributes:
        best_estimator_, best_params_, best_score_, best_index_, cv_results_, scorer_, n_splits_, refit_time_: as of
            `GridSearchCV`. A fit's share of the study is its `fit_time`.

    >>> import numpy as np
    >>> from fnn.sklearn import FnnClassifier, FnnSearchCV
    >>> x = np.random.default_rng(0).normal(size=(60, 2))
    >>> search = FnnSearchCV(FnnClassifier((8,), max_iter=30, random_state=0), {"learning_rate_init": [1e-6, 0.1]})
    >>> print(search.fit(x, x[:, 0] > 0).best_params_, len(search.cv_results_["params"]))
    {'learning_rate_init': 0.1} 2
    """

    def __init__(
        self,
        estimator: FnnEstimator,
        param_grid: Any,
        *,
        n_iter: int | None = None,
        scoring: Any = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
    ) -> None:
        super().__init__(
            estimator=estimator,
            param_grid=param_grid,
            scoring=scoring,
            n_jobs=1,  # the study has all cores
            refit=refit,
            cv=cv,
            verbose=verbose,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.n_iter = n_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit all candidates on all folds, then the best on all rows.

        Args:
            X, y: as for the estimator.
            params: `sample_weight`, of the rows, for fits and scorers; `groups`, for `cv`.
        """
        if not isinstance(self.estimator, FnnEstimator):
            got = arguments.describe_thing(self.estimator)
            hint = "Use GridSearchCV for others; put FnnSearchCV last in a Pipeline."
            raise TypeError(f"estimator: expected an FnnClassifier or an FnnRegressor, got {got}. {hint}")
        if y is None:
            raise ValueError("FnnSearchCV: requires y to be passed, but the target y is None. Pass fit(X, y).")
        X, y = indexable(X, y)
        weights = params.get("sample_weight")
        self._searched = SearchRows(X, y, None if weights is None else np.asarray(weights)), params.get("groups")
        try:
            super().fit(X, y, **params)
        finally:
            del self._searched
        return self

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags = get_tags(self.estimator).target_tags
        return tags

    def _run_search(self, evaluate_candidates: Callable[..., Any]) -> None:
        """Train the candidates in a study; then let scikit-learn judge them."""
        if self.n_iter is None:
            candidates = list(ParameterGrid(self.param_grid))
        else:
            candidates = list(ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state))
        rows, groups = self._searched
        splits = list(
            self._checked_cv_orig.split(rows.x, rows.y, groups)
        )  # once: a shuffled split is another each time
        begin = time.perf_counter()
        fits = run_study(self.estimator, candidates, splits, rows, bool(self.verbose))
        seconds = (time.perf_counter() - begin) / max(1, sum(fit is not None for fit in fits))
        with use_fits(iter(fits)):
            results = evaluate_candidates(candidates, cv=check_cv(splits))
        counts = np.array([fit is not None for fit in fits]).reshape(len(candidates), -1).mean(1)
        results["mean_fit_time"] += seconds * counts
