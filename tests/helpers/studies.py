"""What the tests of the studies share: a run of which every number is a setting, its data, and how runs are compared.

Compiling is what costs, so nearly all of them train networks of these shapes for so many epochs.
"""

import functools
import os

import jax
import numpy as np
import optax

import fnn
from fnn.studies.sweeps import sweep
from tests.helpers.compare import normwise
from tests.helpers.problems import LABELS, LOSS, X

EPOCHS = 25  # of four steps each
HELD = (X[:20], LABELS[:20])
NAMES = ("lr", "momentum", "l2", "rate", "smoothing", "scale", "patience", "seed")
POINTS = [
    dict(zip(NAMES, values, strict=True))
    for values in (
        (0.10, 0.9, 1e-3, 0.1, 0.1, 0.5, 50, 0),
        (0.30, 0.5, 0.0, 0.2, 0.0, 1.0, 5, 1),  # stops early
        (0.02, 0.9, 1e-2, 0.0, 0.05, 0.2, 50, 2),
        (0.50, 0.0, 1e-4, 0.3, 0.0, 0.7, 1, 0),  # stops early
    )
]
ONE = jax.devices()[:1]
TWO = ONE * 2  # threads
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def net(s):
    return fnn.serial(fnn.dense(8, weight_init=s["scale"]), fnn.tanh, fnn.dropout(s["rate"]), fnn.dense(2))


def loss(s):
    return fnn.losses.smoothed(LOSS, s["smoothing"])


def optimizer(s):
    return optax.sgd(s["lr"], momentum=s["momentum"])


def penalty(s):
    return fnn.penalties.l2(s["l2"])


PARTS = {"net": net, "loss": loss, "optimizer": optimizer, "data": (X, LABELS)}
TRAINING = {
    "batch_size": 32,
    "penalty": penalty,
    "metrics": {"accuracy": fnn.accuracy},
    "epochs": EPOCHS,
    "progress": False,
}


def swept(points=POINTS, **more):
    """A sweep, three members in a program on one thread, unless asked otherwise."""
    arguments = {**PARTS, "over": points, "validation": HELD, "width": 3, "devices": ONE, **TRAINING, **more}
    return sweep(*[arguments.pop(name) for name in PARTS], **arguments)


def traced(point):
    """The settings of a point that are no arguments of `fit`."""
    return {name: value for name, value in point.items() if name not in ("seed", "patience")}


def alone(point, **more):
    """The same run by `fit`."""
    own = {"key": point["seed"], "patience": point.get("patience"), "validation": HELD}
    arguments = {**PARTS, "settings": traced(point), **own, **TRAINING, **more}
    return fnn.fit(*[arguments.pop(name) for name in PARTS], **arguments)


@functools.cache
def each_alone(dtype="float32"):
    """The runs of all points; in float64 to be asked for where that is on."""
    runs = [alone(point) for point in POINTS]
    assert all(run.history.loss.dtype == dtype for run in runs)
    return runs


def difference(one, other):
    """How far two runs are apart: parameters, layer state, history; the worst of all arrays, normwise."""
    assert one.best_epoch == other.best_epoch
    return normwise(*(jax.tree.map(np.asarray, (run.params, run.state, run.history)) for run in (one, other)))


def has_compiled(names):
    """How many programs that train, and how many that draw first weights."""
    return sum("run" in name for name in names), sum("init" in name for name in names)


class Signals:
    """Studies run in segments of one step, and when the test says so, this process is sent signals."""

    def __init__(self, monkeypatch):
        self.seen, self.when, self.numbers, self.lengths = 0, lambda count, segment: False, (), []
        monkeypatch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)
        monkeypatch.setattr("fnn.studies.jobs.segments", self.segments)

    def send(self, *numbers, when):
        """These, once `when(count, segment)`."""
        self.seen, self.numbers, self.when = 0, numbers, when

    def segments(self, *arguments):
        place = len(self.lengths)
        self.lengths.append(0)  # how many segments each chunk has had
        for segment in fnn.fitting.segments.segments(*arguments):
            self.lengths[place] += 1
            self.seen += 1
            if self.when(self.seen, segment):
                self.when = lambda count, segment: False
                for number in self.numbers:
                    os.kill(os.getpid(), number)
            yield segment
