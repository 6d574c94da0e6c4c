"""The 2-3-2 network by scikit-learn: 300 steps on 100 rows."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

warnings.simplefilter("ignore", ConvergenceWarning)  # 300 steps are what was asked for

rng = np.random.default_rng(0)
angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
ring = np.stack([np.cos(angle), np.sin(angle)], 1)
x = (np.concatenate([ring, 0.3 * ring]) + rng.normal(0, 0.1, (100, 2))).astype("float32")
t = np.repeat([0, 1], 50)

net = MLPClassifier(
    (3,), activation="logistic", solver="sgd", learning_rate_init=2.0, momentum=0.9, nesterovs_momentum=False,
    alpha=0.0, batch_size=100, max_iter=300, n_iter_no_change=301, random_state=0,
)  # fmt: skip
net.fit(x, t)
assert net.n_iter_ == 300 and net.loss_curve_[-1] < net.loss_curve_[0]
