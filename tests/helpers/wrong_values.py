"""Values that are wrong somewhere, by name; and which of them are right for each kind of argument."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn


class Flax:
    """What a module of Flax looks like."""

    def init(self, rngs, x):
        """Begin."""

    def apply(self, variables, x):
        """Compute."""


class Torch:
    """What a module of PyTorch looks like."""

    def parameters(self):
        """None."""
        return iter(())

    def forward(self, x):
        """Compute."""
        return x

    def __call__(self, x):
        return x


class RefusesArray:
    """What cannot become an array."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array for you")


class RefusesRepr:
    """What cannot be shown."""

    def __repr__(self):
        raise RuntimeError("no text for you")


def _delete():
    array = jnp.arange(15.0).reshape(5, 3)
    array.delete()
    return array


def _fail(*args):
    raise RuntimeError("of mine")


NET = fnn.serial(fnn.dense(4), fnn.tanh, fnn.dense(2))
PARAMS, STATE, _ = NET.init(jax.random.key(0), (3,))
RUN = fnn.Run(PARAMS, STATE, None, None, (3,))
NUMBER, TABLE = "a traced number", "a traced table"  # what is traced is made by the caller

SINGLE = {
    "none": lambda: None,
    "true": lambda: True,
    "text": lambda: "text",
    "empty text": lambda: "",
    "bytes": lambda: b"bytes",
    "object": object,
    "no repr": RefusesRepr,
    "class": lambda: fnn.Layer,
    "module": lambda: types,
    "complex": lambda: 1j,
    "date": lambda: np.datetime64("2020-01-01"),
}
NUMBERS = {
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-1": lambda: -1,
    "0": lambda: 0,
    "3": lambda: 3,
    "0.5": lambda: 0.5,
    "10^400": lambda: 10**400,
    "1e300": lambda: 1e300,
    "numpy 2.0": lambda: np.float64(2.0),
    "jax 2.0": lambda: jnp.float32(2.0),
    NUMBER: None,
}
CONTAINERS = {
    "dict": lambda: {"a": 1.0},
    "empty dict": dict,
    "empty list": list,
    "nones": lambda: [None, None],
    "texts": lambda: ["a", "b"],
    "set": lambda: {1, 2},
    "generator": lambda: (i for i in range(3)),
    "ragged": lambda: [[1.0], [2.0, 3.0]],
}
ARRAYS = {
    "no rows": lambda: np.zeros((0, 3), "float32"),
    "column": lambda: np.ones((7, 1), "float32"),
    "row": lambda: np.ones(7, "float32"),
    "table": lambda: np.ones((7, 3), "float32"),
    "cube": lambda: np.ones((2, 3, 4, 5, 6), "float32"),
    "nan array": lambda: np.full((5, 3), np.nan, "float32"),
    "inf array": lambda: np.full(5, np.inf, "float32"),
    "complex array": lambda: np.ones((5, 3), complex),
    "text array": lambda: np.array(["a", "b"]),
    "object array": lambda: np.array([{}, None], object),
    "masked": lambda: np.ma.masked_less(np.arange(6.0).reshape(2, 3), 2),
    "deleted": _delete,
    "refuses": RefusesArray,
    "key": lambda: jax.random.key(1),
    TABLE: None,
}
FUNCTIONS = {
    "no argument": lambda: lambda: None,
    "three arguments": lambda: lambda a, b, c: a,
    "returns none": lambda: lambda *a: None,
    "returns text": lambda: lambda *a: "text",
    "returns complex": lambda: lambda a, *b: a * 1j,
    "returns int": lambda: lambda *a: 3,
    "returns numpy": lambda: lambda a, *b: np.tanh(np.asarray(a)),
    "returns zeros of numpy": lambda: lambda a, *b: np.zeros(np.shape(a)[:1]),
    "fails": lambda: _fail,
    "partial": lambda: functools.partial(lambda a, b, c, d: a, 1),
    "builtin": lambda: len,
    "ufunc": lambda: np.sin,
}
THINGS = {
    "layer": lambda: fnn.dense(2),
    "network": lambda: NET,
    "activation": lambda: fnn.tanh,
    "loss": lambda: fnn.losses.squared_error,
    "optimizer": lambda: optax.sgd(0.1),
    "penalty": lambda: fnn.penalties.l2(0.1),
    "factory": lambda: fnn.dense,
    "flax": Flax,
    "torch": Torch,
    "run": lambda: RUN,
}
VALUES = SINGLE | NUMBERS | CONTAINERS | ARRAYS | FUNCTIONS | THINGS

POSITIVE = {"3", "0.5", "numpy 2.0", "jax 2.0", "1e300", NUMBER}
SCALED = POSITIVE | {"0"}
REAL = SCALED | {"-1"}
TABLES = {"table", "column", "row", TABLE}
NUMERIC = TABLES | {"cube", "nan array", "inf array"}  # of functions that take any floats
SEQUENCES = {"nones", "texts", "ragged", "nan array", "inf array", "complex array", "text array"}
SEQUENCES |= {"object array", "masked"}  # of which the length is asked
CALLABLE = {"returns int", "returns numpy", "returns zeros of numpy", "fails", "three arguments", "no argument"}
LAYERS = {"layer", "network", "activation"}
# what is right, by kind of argument; what is not in it must raise
FINE = {
    "any": set(VALUES),
    "name": {"text", "none", "layer", "activation"},
    "text": {"text"},
    "label": {"text", "empty text"},
    "flag": {"true"},
    "count": {"3"},
    "count or none": {"3", "none"},
    "count or 0": {"3", "0"},
    "seed": {"3", "0"},
    "key": {"3", "0", "key"},
    "positive": POSITIVE,
    "number": SCALED,
    "host number": SCALED - {NUMBER},
    "real": REAL,
    "host real": REAL - {NUMBER},
    "slope": REAL | {"row"},
    "share": {"0.5", "0", "3", NUMBER},  # 3 where it is no share
    "rate": {"0.5", "0", NUMBER},
    "unit": {"0.5", "0", NUMBER},
    "open share": {"0.5", NUMBER},
    "choice": set(),
    "path": {"text", "bytes"},
    "folder": {"text", "none", "bytes"},
    "dtype": set(),
    "shape": set(),
    "window": {"3"},
    "padding": set(),
    "layer like": LAYERS | {"ufunc"},
    "layer": LAYERS - {"activation"},
    "net": {"network", "layer"},
    "net of this": {"network"},
    "loss like": {"loss"},
    "loss of classes": set(),
    "optimizer": {"optimizer"},
    "executor": {"none"},
    "penalty": {"penalty", "none"},
    "gradient": set(),
    "on_segment": {"none", "returns none"},
    "metrics": {"none", "empty dict"},
    "metric": {"loss"},
    "settings": {"none", "empty dict", "dict"},
    "setting": REAL - {NUMBER} | {"true"},
    "choices": {"table", "row"},
    "over": set(),
    "ranges": {"row"},
    "inputs": set(TABLES) - {TABLE, "row", "column"},
    "sparse": set(),
    "targets": set(),
    "labels": {"row"},
    "classes of points": {"row", "column"},
    "stream or pair": set(),
    "stream": CALLABLE - {"three arguments"}
    | {"set", "returns none", "returns text", "returns complex", "ufunc"}
    | {"builtin", "partial"},
    "weights": {"none", "row"},
    "validation": {"none", "0.5"},
    "tree": {"none"},
    "params": {"none"},
    "run": {"run"},
    "rows": {"3", "table", "row", "column", "cube"} | SEQUENCES,
    "groups": {"none", "row", "column"},
    "numbers": REAL | NUMERIC | {"true", "nan", "inf", "empty list", "no rows"},
    "floats": {"jax 2.0", "numpy 2.0", "0.5", "1e300", "no rows"} | NUMERIC,
    "tree of numbers": {"ragged"}
    | REAL
    | NUMERIC
    | {"true", "nan", "inf", "dict", "empty dict", "empty list", "no rows"},
    "function": set(),
    "mask": {"none"},
    "devices": {"none"},
    "mesh": set(),
    "mesh or none": {"none"},
    "table or none": {"none"},
    "place": {"none"},
    "axes": {"none"},
    "names": {"none", "texts"},
    "schedule": SCALED | {"returns int", "returns numpy", "returns zeros of numpy", "ufunc"},
    "class weights": set(),
    "class weights or none": {"none"},
    "steps": POSITIVE,
    "list of numbers": set(),
    "schedules": set(),
    "histories": set(),
    "found": set(),
    "plane": {"none"},
    "span": set(),
    "points": set(),
    "make": set(),
    "initial": SCALED,
    "initial or none": SCALED | {"none"},
    "number or none": SCALED | {"none"},
    "step or none": POSITIVE - {NUMBER} | {"none"},
    "optimizer state": set(),
    "pair of functions": set(),
    "train": {"true"},
    "step of a schedule": SCALED | NUMERIC | {"true", "nan", "inf", "empty list", "no rows"},
    "member": {"0", "-1"},
}
