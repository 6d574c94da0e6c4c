"""Networks of Flax, Equinox and Haiku, and the loop that a user of each would write for them."""

import functools

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import fnn
from fnn.kernels.random import permutation

CLASSES = 3
LABELS = np.arange(32) % CLASSES
IMAGES = (np.random.default_rng(0).normal(size=(32, 6, 6, 1)) + LABELS[:, None, None, None]).astype("float32")
SERIES = IMAGES[..., 0]  # six steps of six numbers
LOSS = fnn.losses.sparse_softmax_cross_entropy


# ---- Linen


class LinenMLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(CLASSES)(nn.tanh(nn.Dense(8)(x.reshape(len(x), -1))))


class LinenCNN(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.Dropout(0.3, deterministic=not train)(x.reshape(len(x), -1))
        return nn.Dense(CLASSES)(x)


class LinenAttention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8)(x)
        return nn.Dense(CLASSES)(nn.LayerNorm()(x).mean(1))


class LinenRNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(CLASSES)(nn.RNN(nn.GRUCell(8))(x)[:, -1])


LINEN = {"MLP": LinenMLP(), "CNN": LinenCNN(), "attention": LinenAttention(), "RNN": LinenRNN()}

# ---- NNX


class NnxMLP(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(36, 8, rngs=rngs), nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.first(x.reshape(len(x), -1))))


class NnxCNN(nnx.Module):
    def __init__(self, rngs, rate=0.0):
        self.conv, self.norm = nnx.Conv(1, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.dropout, self.last = nnx.Dropout(rate, rngs=rngs), nnx.Linear(144, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        return self.last(self.dropout(x.reshape(len(x), -1)))


class NnxAttention(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(2, 6, 8, decode=False, rngs=rngs)
        self.norm, self.last = nnx.LayerNorm(6, rngs=rngs), nnx.Linear(6, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.last(self.norm(x + self.attention(x)).mean(1))


class NnxRNN(nnx.Module):
    def __init__(self, rngs):
        self.rnn, self.last = nnx.RNN(nnx.GRUCell(6, 8, rngs=rngs), rngs=rngs), nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.last(self.rnn(x)[:, -1])


NNX = {"MLP": NnxMLP, "CNN": NnxCNN, "attention": NnxAttention, "RNN": NnxRNN}

# ---- Equinox


class EqxMLP(eqx.Module):
    mlp: eqx.nn.MLP

    def __init__(self, key):
        self.mlp = eqx.nn.MLP(36, CLASSES, 8, 1, key=key)

    def __call__(self, x):
        return self.mlp(x.ravel())


class EqxCNN(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, key):
        first, last = jax.random.split(key)
        self.conv, self.norm = eqx.nn.Conv2d(1, 4, 3, padding=1, key=first), eqx.nn.BatchNorm(4, "batch", mode="batch")
        self.dropout, self.last = eqx.nn.Dropout(0.3), eqx.nn.Linear(144, CLASSES, key=last)

    def __call__(self, x, state, *, key=None):
        x, state = self.norm(self.conv(x.transpose(2, 0, 1)), state)
        return self.last(self.dropout(jax.nn.relu(x).ravel(), key=key)), state


class EqxAttention(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    last: eqx.nn.Linear

    def __init__(self, key):
        first, last = jax.random.split(key)
        self.attention = eqx.nn.MultiheadAttention(2, 6, key=first)
        self.last = eqx.nn.Linear(6, CLASSES, key=last)

    def __call__(self, x):
        return self.last((x + self.attention(x, x, x)).mean(0))


class EqxRNN(eqx.Module):
    cell: eqx.nn.GRUCell
    last: eqx.nn.Linear

    def __init__(self, key):
        first, last = jax.random.split(key)
        self.cell, self.last = eqx.nn.GRUCell(6, 8, key=first), eqx.nn.Linear(8, CLASSES, key=last)

    def __call__(self, x):
        return self.last(jax.lax.scan(lambda h, x: (self.cell(x, h), None), jnp.zeros(8), x)[0])


EQUINOX = {"MLP": EqxMLP, "CNN": eqx.nn.make_with_state(EqxCNN), "attention": EqxAttention, "RNN": EqxRNN}

# ---- Haiku


def haiku_mlp(x):
    return hk.nets.MLP([8, CLASSES], activation=jnp.tanh)(x.reshape(len(x), -1))


def haiku_cnn(x, is_training):
    x = jax.nn.relu(hk.BatchNorm(True, True, 0.9)(hk.Conv2D(4, 3)(x), is_training)).reshape(len(x), -1)
    return hk.Linear(CLASSES)(hk.dropout(hk.next_rng_key(), 0.3, x) if is_training else x)


def haiku_attention(x):
    x = x + hk.MultiHeadAttention(2, 4, model_size=6, w_init=hk.initializers.VarianceScaling(1.0))(x, x, x)
    return hk.Linear(CLASSES)(x.mean(1))


def haiku_rnn(x):
    core = hk.GRU(8)
    outputs, _ = hk.dynamic_unroll(core, x.swapaxes(0, 1), core.initial_state(len(x)))
    return hk.Linear(CLASSES)(outputs[-1])


HAIKU = {"MLP": haiku_mlp, "CNN": haiku_cnn, "attention": haiku_attention, "RNN": haiku_rnn}
LIBRARIES = ("linen", "nnx", "equinox", "haiku")
KINDS = ("MLP", "CNN", "attention", "RNN")


def data(kind):
    """What a network of this kind is trained on."""
    return (SERIES if kind in ("attention", "RNN") else IMAGES), LABELS


def layer(library, kind, seed=0):
    """The network as a layer of fnn."""
    if library == "linen":
        return fnn.from_flax_linen(LINEN[kind])
    if library == "nnx":
        return fnn.from_flax_nnx(NNX[kind](nnx.Rngs(seed)))
    if library == "equinox":
        return fnn.from_equinox(EQUINOX[kind](jax.random.key(seed)))
    return fnn.from_haiku(hk.transform_with_state(HAIKU[kind]), train="is_training" if kind == "CNN" else None)


def own_apply(library, kind, start):
    """Parameters, state, and `(params, state, x, key) -> (y, state)` of a step, in the library's own words."""
    if library == "linen":
        module, flag = LINEN[kind], {"train": True} if kind == "CNN" else {}

        def apply(p, s, x, key):
            rngs = {"dropout": jax.random.fold_in(key, 0)}
            return module.apply({"params": p, **s}, x, rngs=rngs, mutable=["batch_stats"], **flag)

        return start.params, start.state, apply
    if library == "haiku":
        whole, flag = hk.transform_with_state(HAIKU[kind]), {"is_training": True} if kind == "CNN" else {}
        return start.params, start.state, lambda p, s, x, key: whole.apply(p, s, key, x, **flag)
    if library == "nnx":
        graph, params, state = nnx.split(NNX[kind](nnx.Rngs(0)), nnx.Param, ...)

        def apply(p, s, x, key):
            model = nnx.merge(graph, p, jax.tree.map(lambda a: a, s))  # variables of this trace
            model.train()
            y = model(x)
            return y, nnx.split(model, nnx.Param, ...)[2]

        return params, state, apply
    made = EQUINOX[kind](jax.random.key(0))
    model, state = made if kind == "CNN" else (made, None)
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def apply(p, s, x, key):
        model = eqx.combine(p, static)
        if s is None:
            return jax.vmap(model)(x), s
        keys = jax.random.split(key, len(x))
        mapped = jax.vmap(lambda x, k: model(x, s, key=k), out_axes=(0, None), axis_name="batch")
        return mapped(x, keys)

    return params, state, apply


def own_loop(library, kind, start, key, optimizer, epochs, size):
    """The loss of each epoch in a loop of the user's own, over the same batches, with the same keys."""
    params, state, apply = own_apply(library, kind, start)
    x, t = data(kind)
    opt_state = optimizer.init(params)

    @functools.partial(jax.jit)
    def step(params, state, opt_state, x, t, key):
        def cost(params):
            y, new = apply(params, state, x, key)
            return optax.softmax_cross_entropy_with_integer_labels(y, t).mean(), new

        (loss, new), grads = jax.value_and_grad(cost, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return loss, optax.apply_updates(params, updates), new, opt_state

    losses = []
    for epoch in range(epochs):
        of_epoch = []
        order = np.asarray(permutation(jax.random.key_data(key), jnp.int32(epoch), len(x), len(x)))
        for j in range(len(x) // size):
            rows = order[j * size : (j + 1) * size]
            step_key = jax.random.fold_in(jax.random.fold_in(key, epoch), j)
            loss, params, state, opt_state = step(params, state, opt_state, x[rows], t[rows], step_key)
            of_epoch.append(float(loss))
        losses.append(np.mean(of_epoch))
    return np.asarray(losses)
