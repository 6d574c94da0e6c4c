"""A training step of a dense network as each library's own examples write it: one library a file.

Every peer shuffles the rows each epoch and fetches a batch of them each step, as fnn does: on a batch that stays the
same a step is faster, since the processor has seen its branches, and its rows are at hand.
"""

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from bench.peers import equinox_loop, flax_nnx, keras_fit, plain_jax, pytorch, scikit_learn
from bench.peers.task import Task, on_a_gpu
from bench.timing import Make, Work


class Peer(NamedTuple):
    """A library: the package it needs, what it is called in a table, and what makes its work."""

    package: str
    label: str
    make: Callable[[Task, int], Work]
    slow: bool = False  # to import, to start or to compile: `--quick` does without


PLAIN = Peer("jax", "plain JAX, jitted step in a Python loop", plain_jax.make)
EAGER = Peer("torch", "PyTorch eager", pytorch.make)
COMPILED = Peer("torch", "PyTorch compiled", pytorch.make_compiled, True)
GRAPH = Peer("torch", "PyTorch, the step as a CUDA graph", pytorch.make_graph)
NNX = Peer("flax", "Flax NNX, jitted step in a Python loop", flax_nnx.make, True)
EQUINOX = Peer("equinox", "Equinox, jitted step in a Python loop", equinox_loop.make, True)
SCIKIT = Peer("sklearn", "scikit-learn fit", scikit_learn.make, True)
KERAS = Peer("keras", "Keras fit, on JAX", keras_fit.make, True)
ALL = (PLAIN, NNX, EQUINOX, EAGER, COMPILED, GRAPH, SCIKIT, KERAS)


def installed(task: Task, steps: int, quick: bool = False, peers: Sequence[Peer] = ALL) -> dict[str, tuple[Make, int]]:
    """Those that are installed, and can do it, as candidates for `in_turn`."""
    found: dict[str, tuple[Make, int]] = {}
    for peer in peers:
        if importlib.util.find_spec(peer.package) and not (quick and peer.slow) and (on_a_gpu() or peer is not GRAPH):
            found[_label(peer, task)] = partial(peer.make, task, steps), steps
    return found


def _label(peer: Peer, task: Task) -> str:
    if peer.package != "torch":
        return peer.label
    if on_a_gpu():
        return f"{peer.label}, CUDA graphs" if peer is COMPILED else peer.label
    return f"{peer.label}, {task.threads} thread{'s' if task.threads > 1 else ''}"
