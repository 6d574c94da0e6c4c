"""`FnnSearchCV`: each fit is the estimator's own, whatever is searched for, and judged by scikit-learn."""

import jax
import numpy as np
import pytest

pytest.importorskip("sklearn")

import optax
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, GroupKFold, RandomizedSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fnn
from fnn.sklearn import FnnClassifier, FnnRegressor, FnnSearchCV, estimators

RNG = np.random.default_rng(0)
X = RNG.normal(size=(230, 3)) * [1.0, 10.0, 0.1] + 5.0
Y = np.where(X[:, 0] + 0.1 * X[:, 1] > 6, "yes", "no")
WEIGHTS = RNG.integers(0, 3, len(X)).astype(float)
SMALL = {"hidden_layer_sizes": (4,), "learning_rate_init": 0.02, "max_iter": 8, "random_state": 3}
MODEL, REGRESSOR = FnnClassifier(**SMALL), FnnRegressor(**SMALL)


@pytest.fixture
def trained(monkeypatch):
    """How many networks were trained one at a time."""
    counts = []
    monkeypatch.setattr(estimators, "fit", lambda *a, **more: counts.append(1) or fnn.fit(*a, **more))
    return counts


# the last number: how many fits are no members of the study
CASES = {
    "numbers and shapes": (MODEL, {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(4,), (3, 2)]}, Y, {}, 1),
    "balanced classes": (MODEL, {"class_weight": [None, "balanced"]}, Y, {}, 1),
    "epochs, scale, batches": (MODEL, {"max_iter": [3, 8], "standardise": [False, True], "batch_size": [32]}, Y, {}, 1),
    "a regressor": (REGRESSOR, {"learning_rate_init": [1e-3, 0.05]}, 1e3 + 10 * X[:, :2], {}, 1),
    "weights": (REGRESSOR, {"alpha": [1e-4, 1.0]}, X[:, 0] ** 2, {"sample_weight": WEIGHTS}, 1),
    "networks and optimizers": (
        MODEL,
        {"network": [fnn.serial(fnn.dense(2)), None], "optimizer": [optax.sgd(0.1), optax.adam(0.1)]},
        Y,
        {},
        1,
    ),
    "early stopping": (MODEL, {"early_stopping": [False, True], "alpha": [1e-4, 100.0]}, Y, {}, 1 + 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_fits_are_those_of_grid_search(name, trained):
    model, grid, y, more, alone = CASES[name]
    mine = FnnSearchCV(model, grid, cv=2, return_train_score=True).fit(X, y, **more)
    assert len(trained) == alone, f"{len(trained)} fits were not members of the study"
    theirs = GridSearchCV(model, grid, cv=2, return_train_score=True).fit(X, y, **more)
    assert set(mine.cv_results_) == set(theirs.cv_results_)
    for column in mine.cv_results_:
        if column.endswith("_score") and not column.startswith("rank"):
            assert np.allclose(mine.cv_results_[column], theirs.cv_results_[column], atol=0.01), column
    assert mine.cv_results_["mean_test_score"].std() > 1e-4, "all candidates are the same: the test shows nothing"
    assert mine.best_params_ == theirs.best_params_
    assert np.array_equal(mine.predict(X), theirs.predict(X))


@pytest.mark.slow
def test_random_candidates_scorers_and_groups():
    ranges, groups = {"learning_rate_init": loguniform(1e-4, 0.1)}, np.arange(len(X)) % 5
    more = {"n_iter": 3, "scoring": ["roc_auc", "neg_log_loss"], "refit": "neg_log_loss", "random_state": 1}
    mine = FnnSearchCV(MODEL, ranges, cv=GroupKFold(2), **more).fit(X, Y, groups=groups)
    theirs = RandomizedSearchCV(MODEL, ranges, cv=GroupKFold(2), **more).fit(X, Y, groups=groups)
    assert mine.best_params_ == theirs.best_params_
    for scorer in ("roc_auc", "neg_log_loss"):
        columns = [search.cv_results_[f"mean_test_{scorer}"] for search in (mine, theirs)]
        assert np.allclose(*columns, atol=1e-4), scorer


@pytest.mark.slow
def test_a_split_that_is_drawn_anew_is_drawn_once():
    splits = StratifiedKFold(2, shuffle=True)
    search = FnnSearchCV(MODEL, {"alpha": [1e-4]}, cv=splits).fit(X, Y)
    assert search.best_score_ > 0.6 and search.n_splits_ == 2


@pytest.mark.slow
def test_a_fold_without_a_class_and_a_wrong_candidate_are_scikit_learns(trained):
    sorted_classes = np.sort(np.digitize(X[:, 0], [4.5, 5.5]))
    halves = [(np.arange(0, 150), np.arange(150, 230)), (np.arange(0, 230, 2), np.arange(1, 230, 2))]
    search = FnnSearchCV(MODEL, {"alpha": [1e-4]}, cv=halves, refit=False).fit(X, sorted_classes)
    assert len(trained) == 1 and np.isfinite(search.cv_results_["mean_test_score"]).all()
    with pytest.warns((FitFailedWarning, UserWarning)) as told:
        grid = [{"alpha": [-1.0]}, {"activation": ["relu", "tanh"]}]  # the first takes the place of no other
        search = FnnSearchCV(MODEL, grid, cv=2, refit=False).fit(X, Y)
    assert "alpha: expected" in str(told[0].message) and len(trained) == 1
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [True, False, False]


def test_one_that_diverges_is_told_of():
    with pytest.warns(fnn.TrainingDiverged, match="others in 2 of 4 fits"), jax.debug_nans(False):
        FnnSearchCV(MODEL, {"learning_rate_init": [0.01, 1e38]}, cv=2, refit=False).fit(X, Y)


def test_others_are_refused_with_the_way_that_works():
    with pytest.raises(TypeError, match=r"estimator: expected an FnnClassifier .* got Pipeline\. Use GridSearchCV"):
        FnnSearchCV(make_pipeline(StandardScaler(), MODEL), {"alpha": [1.0]}).fit(X, Y)
    search = FnnSearchCV(MODEL, {"alpha": [1e-4]}, cv=2)
    assert make_pipeline(StandardScaler(), clone(search)).fit(X, Y).score(X, Y) > 0.6
    with pytest.raises(ValueError, match="requires y"):
        search.fit(X)


@pytest.mark.slow
def test_fits_that_a_signal_kept_from_beginning_are_done_alone(monkeypatch):
    monkeypatch.setattr("fnn.sklearn.study.run_groups", lambda *of: [])  # nothing has begun
    x = np.random.default_rng(0).normal(size=(30, 2))
    search = FnnSearchCV(FnnClassifier((4,), max_iter=2, random_state=0), {"alpha": [1e-4, 1e-2]}, cv=2)
    assert np.isfinite(search.fit(x, x[:, 0] > 0).cv_results_["mean_test_score"]).all()
