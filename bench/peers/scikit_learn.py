"""scikit-learn: `MLPClassifier.fit`, which is faster than `partial_fit`. On the CPU."""

import warnings

from bench.peers.task import Task
from bench.timing import Work


def make(task: Task, steps: int) -> Work:
    """So many steps a call."""
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier(
        task.sizes[1:-1], activation={"relu": "relu", "sigmoid": "logistic"}[task.hidden], solver="sgd",
        learning_rate_init=task.rate_of_the_mean, momentum=0.9, nesterovs_momentum=False, alpha=0.0,
        batch_size=task.batch, max_iter=task.epochs(steps), n_iter_no_change=steps + 1, shuffle=not task.full,
        random_state=0,
    )  # fmt: skip

    def work() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            net.fit(task.x, task.t)

    return work
