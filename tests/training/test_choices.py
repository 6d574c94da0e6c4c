"""`tree_where`: the choice between old and new on every leaf, a few leaves at a time."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.training import state

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere all leaves are chosen at once")


KEY = "1, a key"


def trees():
    """Two trees, old and new, of more leaves than are chosen at once; the next five wait for one that is no number."""
    rng = np.random.default_rng(0)
    new = {"0, whole": jnp.int32(3), KEY: jax.random.key(1), "2, flags": jnp.array([True, False])}
    new |= {"3, empty": jnp.zeros((0, 2)), "4, no number": jnp.array([jnp.nan, jnp.inf]), "5": jnp.ones(3, "bfloat16")}
    new |= {f"w{i}": jnp.asarray(rng.normal(size=(3, i + 1)), "float32") for i in range(2 * state.CHOICES_AT_ONCE)}
    old = {name: jax.random.key(2) if name == KEY else jnp.flip(a) for name, a in new.items()}
    return old | {"w0": jnp.full((3, 1), jnp.nan), "0, whole": jnp.int32(7)}, new


@pytest.mark.parametrize("which", [True, False])
@pytest.mark.parametrize("apart", [True, False])
def test_each_leaf_is_the_chosen_one_to_the_bit(which, apart):
    old, new = trees()
    chosen = jax.jit(state.tree_where, static_argnames="apart")(jnp.asarray(which), new, old, apart=apart)
    for name, wanted in (new if which else old).items():
        made = chosen[name]
        assert made.dtype == wanted.dtype
        made, wanted = map(jax.random.key_data, (made, wanted)) if name == KEY else (made, wanted)
        np.testing.assert_array_equal(made, wanted, err_msg=name)


def test_members_of_a_vmap_choose_by_themselves():
    new = [jnp.arange(6.0).reshape(3, 2) + i for i in range(2 * state.CHOICES_AT_ONCE)]
    old = [-a for a in new]
    which = jnp.array([True, False, True])
    chosen = jax.vmap(state.tree_where)(which, new, old)
    for a, b, c in zip(chosen, new, old, strict=True):
        np.testing.assert_array_equal(a, jnp.where(which[:, None], b, c))


def ready_at_once(function, *arguments):
    """How many operations of the compiled program read nothing but its arguments."""
    lines = jax.jit(function).lower(*arguments).compile().as_text().split("ENTRY")[1].splitlines()
    read = [re.search(r"%\S+ = [^(]*? (fusion|select|and|compare)\((.*?)\)", line) for line in lines]
    made = {line.split(" = ")[0].strip().removeprefix("ROOT ") for line in lines if " = " in line}
    made -= {line.split(" = ")[0].strip() for line in lines if " parameter(" in line}
    return sum(1 for found in read if found and not made & {name.split()[-1] for name in found[2].split(",")})


@on_cpu
def test_few_can_begin_at_once():
    """XLA hands half of more than eight to another thread, which costs more than small arrays take."""
    arrays = [jnp.ones((3, i + 1)) for i in range(20)]
    wait = ready_at_once(state.tree_where, jnp.asarray(True), arrays, arrays)
    assert 0 < wait <= 8
    assert ready_at_once(lambda *trees: state.tree_where(*trees, apart=True), jnp.asarray(True), arrays, arrays) == 20
