"""What every library is given: one dense network, and the rows that it is trained on."""

from typing import NamedTuple

import jax
import numpy as np


class Task(NamedTuple):
    """Softmax cross-entropy on class numbers, SGD with momentum 0.9, biases in every layer."""

    sizes: tuple[int, ...]  # inputs, hidden, outputs
    hidden: str  # activation: "sigmoid" or "relu"
    reduction: str  # "sum" or "mean" over the rows of a batch
    learning_rate: float
    x: np.ndarray  # the rows of one batch, float32
    t: np.ndarray  # their classes, int32
    threads: int  # of PyTorch
    narrow: bool = False  # compute in bfloat16, keep the parameters in float32

    @property
    def rate_of_the_mean(self) -> float:
        """The learning rate for those who know only the mean over the rows."""
        return self.learning_rate * (len(self.x) if self.reduction == "sum" else 1)


def on_a_gpu() -> bool:
    """Whether JAX has one, and so whether others should take it."""
    return jax.default_backend() == "gpu"
