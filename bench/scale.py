"""How does the cost of a run grow with rows, steps, width, depth and members; and how does the time to compile?

Dense networks, relu, softmax cross-entropy, momentum, batches of 128; what is not varied is 64 inputs, one hidden
layer of 64, 10 classes, 1,280 rows. Run time: medians of whole compiled runs, what calling one costs included. Each
line is a power law by least squares of the logarithms: an exponent of 1 is in proportion, 0 is not at all. Expected:
1 for rows, steps and depth; up to 2 for width (the products; what is done to each number grows by 1) and up to 1 for
members. Compile time: tracing and compiling, of programs for fixed shapes and a fixed number of epochs.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from bench import pictures, step
from bench.exponents import exponent
from bench.jitted import jit_as_fit
from bench.output import write
from bench.pictures import Line
from bench.timing import Make, Timing, Work, in_turn

BATCH, ROWS, EPOCHS, WIDTH, INPUTS, CLASSES, SMALL_STEPS = 128, 1_280, 10, 64, 64, 10, 100


class Question(NamedTuple):
    """What is varied: the name of the line, of the sizes, what makes the work of a size, and the sizes."""

    name: str
    sizes_are: str
    expected: str
    make: Callable[[int], Work]
    sizes: Sequence[int]


# ---- what is run


def data(rows: int = ROWS) -> fnn.Data:
    """Noise: no step is faster for what it sees."""
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((rows, INPUTS), np.float32), rng.integers(0, CLASSES, rows, np.int32)
    return fnn.Data(fnn.Part(jnp.asarray(x), jnp.asarray(t)))


def network(width: int = WIDTH, depth: int = 1, repeated: bool = False) -> fnn.Layer:
    """`depth` layers of `width`, between a first layer and the classes."""
    between: list[Any] = []
    if repeated:
        between = [fnn.repeat(fnn.serial(fnn.dense(width), fnn.relu), depth)]
    else:
        between = [part for _ in range(depth) for part in (fnn.dense(width), fnn.relu)]
    return fnn.serial(fnn.dense(width), fnn.relu, *between, fnn.dense(CLASSES))


def training_of(net: fnn.Layer) -> fnn.Trainer:
    """Its run."""
    return fnn.trainer(net, fnn.losses.sparse_softmax_cross_entropy, optax.sgd(0.01, momentum=0.9), batch_size=BATCH)


@functools.cache
def jitted(net: fnn.Layer) -> tuple[Any, Any]:
    """The first state, and the run: compiled once for a shape of the data, whatever the epochs."""
    training, given = training_of(net), data()
    start = jax.eval_shape(training.init, jax.random.key(0), given)
    return jax.jit(training.init), jit_as_fit(training.run, start, given, EPOCHS)


def run_of(net: fnn.Layer, rows: int = ROWS, epochs: int = EPOCHS) -> Work:
    """The compiled run."""
    given, (init, run) = data(rows), jitted(net)
    start = init(jax.random.key(0), given)
    return lambda: run(start, given, epochs)


def run_of_members(members: int) -> Work:
    """So many 2-3-2 networks at once."""
    (training, _), given = step.training_and_start(), step.rows()
    start = jax.jit(jax.vmap(lambda key: training.init(key, given)))(jax.random.split(jax.random.key(0), members))
    run = jit_as_fit(jax.vmap(lambda state: training.run(state, given, SMALL_STEPS)), start)
    return lambda: run(start)


def compiling(net: fnn.Layer, rows: int = ROWS, epochs: int = EPOCHS) -> Work:
    """Tracing and compiling, without running."""
    given, training = data(rows), training_of(net)
    start = jax.eval_shape(training.init, jax.random.key(0), given)

    def work() -> None:
        jax.clear_caches()  # type: ignore[no-untyped-call]  # else what was traced before is found again
        jax.jit(lambda state, given: training.run(state, given, epochs)).lower(start, given).compile()

    return work


RUNNING = [
    Question("rows", "rows", "1", lambda n: run_of(network(), n), [ROWS * 10**i for i in range(4)]),
    Question(
        "steps", "steps", "1", lambda n: run_of(network(), epochs=n * BATCH // ROWS), [10**i for i in (2, 3, 4, 5)]
    ),
    Question("width", "width", "up to 2", lambda n: run_of(network(n)), [64, 128, 256, 512, 1024]),
    Question("depth", "layers", "1", lambda n: run_of(network(depth=n)), [8, 16, 32, 64]),
    Question("depth, repeat", "layers", "1", lambda n: run_of(network(depth=n, repeated=True)), [8, 16, 32, 64]),
    Question("members", "members", "up to 1", run_of_members, [16, 64, 256, 1024]),
]
COMPILING = [
    Question("depth, repeat", "layers", "0", lambda n: compiling(network(depth=n, repeated=True)), [4, 8, 16, 32]),
    Question("rows", "rows", "0", lambda n: compiling(network(), n), [ROWS * 10**i for i in range(4)]),
    Question("epochs", "epochs", "0", lambda n: compiling(network(), epochs=n), [10, 100, 1_000, 10_000]),
    Question("depth", "layers", "not asked", lambda n: compiling(network(depth=n)), [4, 8, 16, 32]),
]


def asked(questions: list[Question], quick: bool) -> list[Question]:
    """All, or with `--quick` the first one, at two sizes."""
    return [questions[0]._replace(sizes=questions[0].sizes[:2])] if quick else questions


# ---- measured


def line_of(question: Question, rounds: int) -> Line:
    """Medians at its sizes, in turn, and the exponent."""
    candidates: dict[str, tuple[Make, int]] = {str(n): (functools.partial(question.make, n), 1) for n in question.sizes}
    measured = in_turn(candidates, rounds)
    if measured.left_out:
        raise RuntimeError(f"scale: expected every size of {question.name} to run, got {measured.left_out}.")
    return _line(question, measured.timings)


def compile_line_of(question: Question, rounds: int) -> Line:
    """Seconds to compile at its sizes, in turn; no warm-up is needed, since nothing is kept."""
    works = [question.make(n) for n in question.sizes]
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, found in zip(works, seconds, strict=True):
            begun = time.perf_counter()
            work()
            found.append(time.perf_counter() - begun)
    return _line(question, [Timing("", 0.0, tuple(found)) for found in seconds])


def _line(question: Question, timings: list[Timing]) -> Line:
    middles = tuple(t.middle for t in timings)
    sizes = tuple(map(float, question.sizes))
    return Line(question.name, sizes, middles, tuple(t.quartiles for t in timings), exponent(sizes, middles))


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure, write JSON and picture, return the table."""
    fewer = 2 if quick else max(3, rounds // 3)
    runs, compiles = asked(RUNNING, quick), asked(COMPILING, quick)
    # compiling first: it forgets what was compiled
    compile_lines = [compile_line_of(question, 1 if quick else fewer) for question in compiles]
    run_lines = [line_of(question, fewer) for question in runs]
    title = "How run time and compile time grow with rows, steps, width, depth, members"
    found = {"run": [_row(line) for line in run_lines], "compile": [_row(line) for line in compile_lines]}
    path = write("scale", title, found, quick)
    words = pictures.drawn(lambda: pictures.panels(title, groups(runs, run_lines, compiles, compile_lines)), path)
    return f"{title}\n{table('run', runs, run_lines)}\n{table('compile', compiles, compile_lines)}\n{words}"


def _row(line: Line) -> dict[str, Any]:
    return {
        "name": line.name,
        "sizes": line.sizes,
        "median_s": line.middles,
        "quartiles_s": line.quartiles,
        "exponent": line.exponent,
        "largest_over_smallest": max(line.middles) / min(line.middles),
    }


def table(what: str, questions: Sequence[Question], lines: Sequence[Line]) -> str:
    """A line each: from which size to which, seconds at both, the exponent."""
    head = f"{f'{what} time against':22}  {'sizes':>20}  {'s at the first':>14}  {'s at the last':>13}"
    rows = [f"{head}  max/min  exponent  expected"]
    for question, line in zip(questions, lines, strict=True):
        sizes = f"{line.sizes[0]:,.0f} to {line.sizes[-1]:,.0f}"
        rows.append(
            f"{line.name:22}  {sizes:>20}  {line.middles[0]:14.4f}  {line.middles[-1]:13.4f}"
            f"  {max(line.middles) / min(line.middles):7.2f}  {line.exponent:8.2f}  {question.expected}"
        )
    return "\n".join(rows)


def groups(
    runs: Sequence[Question], run_lines: Sequence[Line], compiles: Sequence[Question], compile_lines: Sequence[Line]
) -> dict[str, tuple[str, str, list[Line]]]:
    """One picture a kind of size, the two depths together."""
    found: dict[str, tuple[str, str, list[Line]]] = {}
    for what, questions, lines in (("run", runs, run_lines), ("compile", compiles, compile_lines)):
        for question, line in zip(questions, lines, strict=True):
            name = f"{what} time against {question.sizes_are}"
            found.setdefault(name, (question.sizes_are, f"seconds to {what}", []))[2].append(line)
    return found
