"""What every library is given: one dense network, and the rows that it is trained on."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np


class Task(NamedTuple):
    """Softmax cross-entropy on class numbers, SGD with momentum 0.9, biases in every layer."""

    sizes: tuple[int, ...]  # inputs, hidden, outputs
    hidden: str  # activation: "sigmoid" or "relu"
    reduction: str  # "sum" or "mean" over the rows of a batch
    learning_rate: float
    x: np.ndarray  # the rows of an epoch, float32
    t: np.ndarray  # their classes, int32
    batch: int  # rows per step
    threads: int  # of PyTorch
    narrow: bool = False  # compute in bfloat16, keep the parameters in float32

    @property
    def rate_of_the_mean(self) -> float:
        """The learning rate for those who know only the mean over the rows."""
        return self.learning_rate * (self.batch if self.reduction == "sum" else 1)

    @property
    def full(self) -> bool:
        """Whether a batch is all rows: nothing is to be shuffled or fetched."""
        return self.batch == len(self.x)

    def epochs(self, steps: int) -> int:
        """How many epochs so many steps are."""
        return steps * self.batch // len(self.x)

    def batches(self, steps: int) -> Iterator[np.ndarray]:
        """The row numbers of each step, in an order that every epoch draws anew."""
        for _ in range(self.epochs(steps)):
            order = np.arange(len(self.x)) if self.full else np.random.permutation(len(self.x))
            yield from order.astype(np.int32).reshape(-1, self.batch)


def on_a_gpu() -> bool:
    """Whether JAX has one, and so whether others should take it."""
    return jax.default_backend() == "gpu"
