"""`check_gradients` on random networks: no right one is called WRONG, and no mistake is passed.

All 2,000 and 500: `pytest -m slow tests/gradients/test_check_random.py`, fewer with `--networks 400`.
"""

import jax
import numpy as np
import pytest

from tests.helpers.random_networks import MISTAKES, checked, right, wrong

SEEDS = 20  # networks of one structure, in one program
JUDGED = 0.95  # of the leaves


def looked_at(make, numbers, seeds, plain=False):
    """(The structures whose checks failed to say what they should, how many leaves were judged, how many there are)."""
    missed, judged, leaves = [], 0, 0
    for number in numbers:
        with jax.enable_x64(number % 2 == 1):
            structure = make(number)
            figures = {k: np.asarray(v) for k, v in checked(structure, seeds, plain).figures.items()}
        said = figures["ok"].all(-1) == (make is right)
        missed += [f"seed {seed} of {structure.text}" for seed in np.flatnonzero(~said)]
        judged += int((figures["judged"] | figures["vanishes"]).sum())
        leaves += figures["ok"].size
    return missed, judged, leaves


def test_right_networks_are_not_called_wrong():
    missed, judged, leaves = looked_at(right, [7], 4)  # two layers and hinge
    assert missed == [] and judged >= JUDGED * leaves


@pytest.mark.slow
def test_wrong_rules_are_caught():
    kinds = list(MISTAKES)
    numbers = [kinds.index(k) for k in ("dw: transposed", "hidden by 0: dw without the bias")]
    missed, _, _ = looked_at(wrong, numbers, 5, plain=True)
    assert missed == []


@pytest.mark.slow
def test_many_right_networks_are_not_called_wrong(networks):
    missed, judged, leaves = looked_at(right, range(100, 100 + -(-networks // SEEDS)), SEEDS)
    print(f"{networks} right networks: {len(missed)} called WRONG, {judged} of {leaves} leaves judged")
    assert missed == [] and judged >= JUDGED * leaves


@pytest.mark.slow
def test_many_wrong_rules_are_caught(networks):
    wanted = -(-networks // 4)
    missed, _, _ = looked_at(wrong, range(-(-wanted // 10)), 10, plain=True)
    print(f"{wanted} wrong rules: {len(missed)} not caught")
    assert missed == []
