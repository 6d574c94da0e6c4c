"""Several inputs and outputs, through everything: a network with an image and a table, a shared trunk and two heads."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import losses
from tests.helpers.branches import LOSS, METRICS, SHAPES, network, rows
from tests.helpers.compare import normwise

NET = network()
TRAINING = {"epochs": 3, "batch_size": 16, "progress": False}


def same(one, other):
    """Whether two trees have the same bits."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def part(tree, at):
    return jax.tree.map(lambda a: a[at], tree)


@pytest.fixture(scope="module")
def run():
    return fnn.fit(NET, LOSS, optax.adam(0.01), rows(), validation=0.25, metrics=METRICS, **TRAINING)


# ---- derivatives


@pytest.mark.slow
def test_by_hand_equals_autodiff_with_weights_and_missing_targets(x64):
    x, t = rows(12, "float64")
    t["price"][::3], t["kind"][::4] = np.nan, -1
    t["trust"] = np.linspace(0, 2, 12)
    loss = losses.joint(
        price=(1.0, losses.masked(losses.squared_error), "trust"),
        kind=(0.5, losses.masked(losses.sparse_softmax_cross_entropy, -1)),
    )
    params, state, _ = NET.init(jax.random.key(0), SHAPES)
    weight = np.arange(12) % 3
    x, t = jax.tree.map(jnp.asarray, (x, t))
    one, other = (make(NET, loss)(params, state, x, t, weight) for make in (fnn.backprop, fnn.autodiff))
    assert normwise(one.grads, other.grads) < 1e-12 and one.total == other.total
    without = part((x, t), np.flatnonzero(weight))
    again = fnn.backprop(NET, loss)(params, state, *without, weight[weight > 0])
    assert normwise(again.grads, one.grads) < 1e-12


@pytest.mark.slow
def test_check_gradients_looks_at_every_leaf(x64):
    x, t = rows(4, "float64")
    x["town"] = np.arange(4)

    def turn(x):
        return {"image": x["image"], "table": x["table"] * jnp.cos(x["town"].astype(x["table"].dtype))[:, None]}

    net = fnn.serial(turn, NET)
    params, state, _ = net.init(jax.random.key(0), SHAPES | {"town": ()})
    found = fnn.check_gradients(net, LOSS, params, state, x, t, show=False)
    assert found.ok and {"x.image", "x.table"} <= {leaf.leaf for leaf in found.leaves}
    assert "x.town" not in {leaf.leaf for leaf in found.leaves}
    right = fnn.parallel(image=fnn.flatten(), table=fnn.dense(5))
    wrong = right._replace(backward=lambda p, c, dy: right.backward(p, c, {**dy, "table": 1.001 * dy["table"]}))
    net = fnn.serial(wrong, *NET.layers[1:])
    params, state, _ = net.init(jax.random.key(0), SHAPES)
    found = fnn.check_gradients(net, LOSS, params, state, *rows(4, "float64"), show=False)
    bad = {leaf.leaf for leaf in found.leaves if "WRONG" in leaf.verdict}
    assert bad == {"0.table.b", "0.table.w", "x.table"}


def test_twenty_steps_are_those_of_pytorch(x64):
    torch = pytest.importorskip("torch")
    x, t = rows(30, "float64")
    run = fnn.fit(NET, LOSS, optax.sgd(0.05, momentum=0.9), (x, t), epochs=20, progress=False)
    params, _, _ = NET.init(jax.random.split(fnn.arguments.key(0))[0], SHAPES)

    def tensor(a):
        return torch.tensor(np.asarray(a), requires_grad=True)

    image, table, trunk, heads = params[0]["image"][0], params[0]["table"], params[2], params[4]
    p = jax.tree.map(tensor, {"image": image, "table": table, "trunk": trunk, **heads})
    pixels, numbers = torch.tensor(x["image"]).permute(0, 3, 1, 2), torch.tensor(x["table"])
    price, kind = torch.tensor(t["price"]), torch.tensor(t["kind"])
    optimizer, history = torch.optim.SGD(jax.tree.leaves(p), lr=0.05, momentum=0.9), []
    for _ in range(20):
        w = p["image"]["w"].permute(3, 2, 0, 1)
        maps = torch.tanh(torch.nn.functional.conv2d(pixels, w, p["image"]["b"], padding="same"))
        flat = maps.permute(0, 2, 3, 1).reshape(30, -1)
        trunk = torch.cat([flat, numbers @ p["table"]["w"] + p["table"]["b"]], 1) @ p["trunk"]["w"] + p["trunk"]["b"]
        z = torch.tanh(trunk)
        of_price, of_kind = (z @ p[name]["w"] + p[name]["b"] for name in ("price", "kind"))
        cost = ((of_price - price) ** 2).sum(1).mean() + 0.5 * torch.nn.functional.cross_entropy(of_kind, kind)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        history.append(cost.item())
    np.testing.assert_allclose(run.history.loss, history, rtol=1e-10)
    ours = {
        "image": run.params[0]["image"][0],
        "table": run.params[0]["table"],
        "trunk": run.params[2],
        **run.params[4],
    }
    theirs = jax.tree.map(lambda a: a.detach().numpy(), p)
    assert normwise(jax.tree.map(np.asarray, ours), theirs) < 1e-10


# ---- one run


def test_outputs_come_back_by_name_whatever_the_batch(run):
    x, t = rows()
    whole = fnn.predict(NET, run, x)
    assert jax.tree.map(np.shape, whole) == {"price": (48, 1), "kind": (48, 3)} and run.in_shape == SHAPES
    serve = fnn.predictor(NET, run)
    for at in (slice(0, 1), slice(5, 48)):
        assert normwise(serve(part(x, at)), part(whole, at)) < 1e-5
    streamed = fnn.predict(NET, run, lambda: (part(x, slice(i, i + 20)) for i in range(0, 48, 20)), batch_size=7)
    assert normwise(streamed, whole) < 1e-5
    figures = {"loss": LOSS, **METRICS}
    one, other = (fnn.evaluate(NET, run, (x, t, np.arange(48.0)), figures, batch_size=size) for size in (7, 48))
    assert one == pytest.approx(other, rel=1e-5)


def test_it_is_saved_and_pickled_with_its_bits(run, tmp_path):
    pytest.importorskip("safetensors")
    x, _ = rows()
    whole = fnn.predict(NET, run, x)
    fnn.save(tmp_path / "net", NET, run)
    net, loaded = fnn.load(tmp_path / "net")
    assert net == NET and loaded.in_shape == SHAPES and same(fnn.predict(net, loaded, x), whole)
    assert pickle.loads(pickle.dumps(NET)) == NET and pickle.loads(pickle.dumps(LOSS)) == LOSS
    pair = fnn.serial(fnn.parallel(fnn.dense(2), fnn.dense(2)), fnn.add())
    params, state, _ = pair.init(jax.random.key(0), ((3,), (1,)))
    fnn.save(tmp_path / "pair", pair, fnn.Run(params, state, None, None, ((3,), (1,))))
    assert fnn.load(tmp_path / "pair")[1].in_shape == ((3,), (1,))


@pytest.mark.slow
def test_a_resumed_run_has_the_bits_of_one_left_alone(tmp_path):
    pytest.importorskip("safetensors")
    training = {**TRAINING, "validation": 0.25, "checkpoint_seconds": 0.0}
    alone = fnn.fit(NET, LOSS, optax.adam(0.01), rows(), checkpoint=tmp_path / "alone", **training)
    folder, ends = tmp_path / "run", iter([False, True])  # within the first epoch
    fnn.fit(NET, LOSS, optax.adam(0.01), rows(), checkpoint=folder, on_segment=lambda p: next(ends), **training)
    again = fnn.fit(NET, LOSS, optax.adam(0.01), rows(), checkpoint=folder, **training)
    assert same((again.params, again.history), (alone.params, alone.history))
    x, t = rows()
    x["table"] = x["table"] + 1
    with pytest.raises(ValueError, match=r'train x\["table"\]: expected'):
        fnn.fit(NET, LOSS, optax.adam(0.01), (x, t), checkpoint=folder, **training)


@pytest.mark.slow
def test_killed_it_ends_with_the_bits_of_a_run_left_alone(tmp_path):
    script = Path(__file__).parent / "helpers" / "killed_branches.py"
    more = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}

    def start(folder):
        command = [sys.executable, "-W", "error", str(script), str(folder), "3000"]
        return subprocess.Popen(command, env=os.environ | more, stdout=subprocess.PIPE, text=True)

    alone, folder, kills = start("").communicate()[0], tmp_path / "run", 0
    for number in range(3):
        process = start(folder)
        while process.poll() is None:
            if len(list(folder.glob("checkpoint-*"))) and number < 2:
                time.sleep(0.2)
                process.send_signal(signal.SIGKILL)
            time.sleep(0.01)
        kills += process.returncode == -signal.SIGKILL
        output = process.communicate()[0]
    assert kills > 0 and output.splitlines()[-1] == alone.splitlines()[-1]


@pytest.mark.slow
def test_a_stream_of_dicts_trains_as_the_rows_do():
    x, t = rows()

    def chunks(epoch):
        for i in range(0, 48, 20):
            yield part(x, slice(i, i + 20)), part(t, slice(i, i + 20))

    training = {**TRAINING, "shuffle": False, "validation": part((x, t), slice(0, 10))}
    one, other = (fnn.fit(NET, LOSS, optax.sgd(0.01), data, **training) for data in ((x, t), chunks))
    np.testing.assert_allclose(one.history.loss, other.history.loss, rtol=1e-5)
    np.testing.assert_allclose(one.history.validation_loss, other.history.validation_loss, rtol=1e-5)


# ---- many runs


@pytest.mark.slow
def test_a_member_of_a_sweep_is_the_run_done_alone():
    rates = [0.1 / 2**i for i in range(8)]
    found = fnn.sweep(NET, LOSS, lambda s: optax.sgd(s["lr"]), rows(), over={"lr": rates}, validation=0.25, **TRAINING)
    assert found.table["lr"].shape == (8,) and not found.table["diverged"].any()
    alone = fnn.fit(NET, LOSS, optax.sgd(rates[3]), rows(), validation=0.25, **TRAINING)
    np.testing.assert_allclose(found.histories["validation_loss"][3], alone.history.validation_loss, rtol=1e-4)


@pytest.mark.slow
def test_each_fold_is_standardised_by_its_own_rows():
    x, t = rows()
    x["table"] = 5 + 3 * x["table"]
    asked = {**TRAINING, "standardise": ["table"], "stratify": "kind", "refit": False}
    found = fnn.cross_validate(NET, LOSS, optax.sgd(0.01), (x, t), folds=5, **asked)
    assert jax.tree.map(np.shape, found.predictions) == {"price": (48, 1), "kind": (48, 3)}
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(found.predictions))
    assert found.standardiser.mean["image"] is None
    train, test = found.folds[2]
    counts = np.bincount(t["kind"][test], minlength=3)
    assert (np.abs(counts - np.bincount(t["kind"]) / 5) < 1).all()
    scale = fnn.standardiser(part(x, train), leaves=["table"])
    alone = fnn.fit(NET, LOSS, optax.sgd(0.01), (scale(part(x, train)), part(t, train)), **TRAINING)
    ours = fnn.predict(NET, alone, scale(part(x, test)))
    assert normwise(part(found.predictions, test), ours) < 1e-3


@pytest.mark.slow
def test_an_ensemble_averages_probabilities_where_a_head_has_logits():
    found = fnn.ensemble(NET, LOSS, optax.sgd(0.01), rows(), members=2, **TRAINING)
    said = found.predict(rows()[0])
    np.testing.assert_allclose(said.mean["kind"].sum(1), 1, rtol=1e-5)
    members = [fnn.predict(NET, found.member(i), rows()[0])["price"] for i in (0, 1)]
    np.testing.assert_allclose(said.mean["price"], np.mean(members, 0), rtol=1e-4, atol=1e-5)


# ---- data


def test_integers_among_several_inputs_stay_categories():
    seen = []

    def look(x):
        seen.append({name: str(leaf.dtype) for name, leaf in x.items()})
        return x["age"] + jnp.eye(3, dtype=x["age"].dtype)[x["town"]]  # floats are no indices

    x = {"age": np.ones((6, 1), "f4"), "town": np.arange(6, dtype=np.int8) % 3, "pixel": np.zeros((6, 1), np.uint8)}
    net = fnn.serial(look, fnn.dense(1))
    fnn.fit(net, losses.squared_error, optax.sgd(0.1), (x, np.ones((6, 1), "f4")), **TRAINING)
    assert {"age": "float32", "town": "int8", "pixel": "uint8"} in seen


def test_frames_in_a_dict_keep_the_names_of_their_columns():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(rows()[0]["table"], columns=list("abcd"))
    x, t = {"image": rows()[0]["image"], "table": frame}, rows()[1]
    run = fnn.fit(NET, LOSS, optax.sgd(0.01), (x, t), **TRAINING)
    assert run.columns.x == (("table", ("a", "b", "c", "d")),)
    scale = fnn.standardiser(x)
    for call in (lambda x: fnn.predict(NET, run, x), lambda x: fnn.evaluate(NET, run, (x, t), METRICS), scale):
        call(x)
        with pytest.raises(fnn.ShapeError, match=r'x\["table"\]: expected the 4 columns'):
            call({**x, "table": frame[list("badc")]})


def test_rows_are_held_out_and_standardised_leaf_by_leaf():
    x, t = rows()
    x["town"] = np.arange(48)
    (x_train, _), (x_held, t_held) = fnn.hold_out(x, t, 0.25, stratify=t["kind"])
    assert len(x_held["town"]) == 12 and set(x_train["town"]) | set(x_held["town"]) == set(range(48))
    np.testing.assert_array_equal(t["kind"][x_held["town"]], t_held["kind"])
    scaled, held = fnn.standardise(x_train, x_held)
    np.testing.assert_allclose(scaled["table"].mean(0), 0, atol=1e-6)
    assert scaled["town"].dtype == x["town"].dtype and (held["town"] == x_held["town"]).all()
    assert [len(test) for _, test in fnn.folds(x, 4)] == [12] * 4


def test_a_head_that_mixes_up_logits_and_probabilities_is_named():
    net = fnn.serial(*NET.layers[:4], fnn.parallel(price=fnn.dense(1), kind=fnn.serial(fnn.dense(3), fnn.softmax)))
    with pytest.warns(UserWarning, match="loss of 'kind': .* expected logits, got softmax"):
        fnn.fit(net, LOSS, optax.sgd(0.01), rows(), **TRAINING)


def test_the_summary_counts_each_branch():
    size = fnn.summary(NET, SHAPES)
    assert [row.name for row in size.rows][:4] == [
        "image: conv2d(2, (3, 3))",
        "image: tanh",
        "image: flatten()",
        "table: dense(5)",
    ]
    params, _, _ = NET.init(jax.random.key(0), SHAPES)
    assert size.parameters == sum(a.size for a in jax.tree.leaves(params))
