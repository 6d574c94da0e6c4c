"""The seconds of a first call of scikit-learn: `fit`, `widths`, `shapes`, `predict`."""

import sys
import time
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier

warnings.simplefilter("ignore")  # 20 epochs are what was asked for
digits = load_digits()
x, t = (digits.data / 16).astype("float32"), digits.target
x_train, x_test, t_train, t_test = train_test_split(x, t, test_size=0.2, stratify=t, random_state=0)


def network(width: int = 100) -> MLPClassifier:
    """One hidden layer, 20 epochs of Adam."""
    return MLPClassifier((width,), activation="tanh", alpha=0.0, batch_size=64, max_iter=20, random_state=0)


def fit() -> None:
    """20 epochs, a share to validate on."""
    network().fit(x_train, t_train).score(x_test, t_test)


def widths() -> None:
    """Five of them."""
    for width in (20, 40, 60, 80, 100):
        network(width).fit(x_train, t_train).score(x_test, t_test)


def shapes() -> None:
    """36 of them, 5 folds each, 10 epochs, in two processes."""
    sizes = [(width,) * depth for depth in (1, 2, 3) for width in (16, 32, 48, 64)]
    over = {"hidden_layer_sizes": sizes, "activation": ["relu", "tanh", "logistic"]}
    alike = MLPClassifier(alpha=0.0, batch_size=64, max_iter=10, random_state=0)
    GridSearchCV(alike, over, cv=5, n_jobs=2, refit=False).fit(x, t)


net = network().set_params(max_iter=1).fit(x_train, t_train) if sys.argv[1] == "predict" else network()


def predict() -> None:
    """100 numbers of rows."""
    for rows in np.random.default_rng(0).integers(1, 1001, 100):
        net.predict_proba(x[:rows])


begin = time.perf_counter()
{"fit": fit, "widths": widths, "shapes": shapes, "predict": predict}[sys.argv[1]]()
print(time.perf_counter() - begin)
