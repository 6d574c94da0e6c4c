"""How hard to compile a run on a CPU: as hard as its work is worth.

To compile a training run takes about a second, which the first twenty epochs of a small network do not take by far.
XLA compiles in a quarter of that time what then runs several times slower. So the time to compile and the time to run
are estimated for each effort, from what is known before anything compiles, and the effort with the smallest sum is
taken. The estimate is made of counts, not of clocks: the same call has the same effort on every machine.

An effort is part of what decides the last bits of a run: "low" rounds some sums otherwise than "high".
"""

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import jax

from fnn.kernels.compiler_options import FUSION_EMITTERS_STAY, LONGEST_VECTOR, no_emitters, quick_compile_options
from fnn.kernels.loops import FREE, inner_jaxprs
from fnn.types import Equation, Jaxpr

EFFORTS = ("low", "medium", "high")


class Cost(NamedTuple):
    """Of an effort: seconds to compile an operation, and to make a number more than with the highest effort."""

    compile: float
    number: float


# measured on two cores with networks of 2-3-2 to 64-512-512-10, LeNet, and one with batch norm and dropout: seconds to
# compile by operations traced, seconds of a step by numbers that these make
COSTS = {"low": Cost(0.3e-3, 0.8e-9), "medium": Cost(1.0e-3, 0.08e-9), "high": Cost(1.6e-3, 0.0)}
COSTS_WITH_EMITTERS = {"low": Cost(1.1e-3, 0.7e-9), "high": Cost(1.65e-3, 0.0)}


# a lower effort takes at most this share of the time: the same call may be made again, and has the program
WORTH_IT = 0.85


class Work(NamedTuple):
    """What a run has to do: operations traced; numbers that these make outside loops, per epoch, and per step."""

    operations: int
    once: int
    per_epoch: int
    per_step: int
    double: bool = False  # whether any of them has 64 bits


def count_work(jaxpr: Jaxpr) -> Work:
    """Count the operations of a traced run, and the numbers they make, by how deep in loops they stand."""
    numbers, operations, double = [0, 0, 0], 0, False
    for depth, times, equation in _by_depth(jaxpr, 0, 1):
        operations += 1
        numbers[min(depth, 2)] += times * sum(prod(v.aval.shape) for v in equation.outvars)
        double |= any(v.aval.dtype == "float64" for v in equation.outvars)
    once, per_epoch, per_step = numbers
    return Work(operations, once, per_epoch, per_step, double)


def _by_depth(jaxpr: Jaxpr, depth: int, times: int) -> Iterator[tuple[int, int, Equation]]:
    """Each operation: how deep it stands in loops over epochs and steps, and how often loops of known length repeat it.

    Of known length are loops over members and over layers.
    """
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name not in FREE:
            yield depth, times, equation
        more = equation.params["length"] if name == "scan" else 1
        for inner in inner_jaxprs(equation):
            yield from _by_depth(inner, depth + (name == "while"), times * more)


def choose_effort(work: Work, epochs: int, steps: int, at_once: int = 1) -> str:
    """The effort with which so many epochs, of so many steps in all, are done soonest, compiling included.

    XLA compiles one program on about two cores. Of two `at_once` each takes twice as long.

    >>> from fnn.kernels.effort import Work, choose_effort
    >>> digits = Work(600, 10_000, 50_000, 300_000)
    >>> [choose_effort(digits, epochs, 23 * epochs) for epochs in (0, 20, 10**6)]
    ['low', 'low', 'high']
    """
    if jax.default_backend() != "cpu":
        return "high"
    numbers = work.once + epochs * work.per_epoch + steps * work.per_step
    costs = COSTS if jax.__version_info__ < FUSION_EMITTERS_STAY else COSTS_WITH_EMITTERS

    def seconds(effort: str) -> float:
        total = at_once * costs[effort].compile * work.operations + costs[effort].number * numbers
        return total if effort == "high" else total / WORTH_IT

    return min(reversed(costs), key=seconds)


def effort_options(effort: str, work: Work) -> dict[str, Any]:
    """The compiler options of an effort for a run of so much work.

    XLA makes vectors of 256 bits, also where a processor has 512. With 512 a step of a 2-3-2 network takes 0.7 of the
    time, one of 64-100-10 nine tenths. In float64 nothing is gained, and last bits would change.
    """
    if jax.default_backend() != "cpu":
        return {}
    of_effort = {"low": quick_compile_options(), "medium": no_emitters(), "high": {}}[effort] | LONGEST_VECTOR
    return {name: value for name, value in of_effort.items() if not (work.double and name in LONGEST_VECTOR)}
