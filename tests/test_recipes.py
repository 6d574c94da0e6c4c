"""The programs of `docs/recipes.md` do what it says."""

import importlib
import json
import re
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import fnn

TEXT = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text()
SECTIONS = {head.strip(): body for head, body in re.findall(r"^## (.*)\n((?:(?!^## ).*\n?)*)", TEXT, re.M)}
PRELUDE = re.search(r"```python\n(.*?)```", TEXT, re.S)[1]


def names(section):
    """What the program of a section leaves behind."""
    space = {}
    for program in (PRELUDE, *re.findall(r"```python\n(.*?)```", SECTIONS[section], re.S)):
        exec(program, space)
    return space


def fitted(space, optimizer, **arguments):
    return fnn.fit(space["net"], space["loss"], optimizer, (space["x"], space["t"]), progress=False, **arguments)


def length(tree):
    return float(np.sqrt(sum((np.asarray(a, float) ** 2).sum() for a in jax.tree.leaves(tree))))


def close(a, b, atol=1e-6):
    for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(p, q, atol=atol)


def test_every_recipe_is_tested():
    source = Path(__file__).read_text()
    assert [head for head in SECTIONS if f'names("{head}")' not in source] == [] and len(SECTIONS) == 13


def test_gradient_clipping():
    space = names("Gradient clipping")
    start = fitted(space, optax.sgd(0.1), epochs=0).params
    step = jax.tree.map(np.subtract, space["run"].params, start)
    assert length(step) == pytest.approx(0.1, rel=1e-5)  # learning rate times length 1
    free = fnn.fit(space["net"], space["loss"], optax.sgd(0.1), (space["x"], 1000 * space["t"]), epochs=1)
    free = jax.tree.map(np.subtract, free.params, start)
    assert length(free) > 10
    close(step, jax.tree.map(lambda a: a * 0.1 / length(free), free), atol=1e-5)  # the same direction


def test_accumulation_over_4_batches_of_8_equals_one_batch_of_32():
    space = names("Accumulation over several batches")
    close(space["run"].params, fitted(space, optax.sgd(0.1), epochs=3).params)
    assert int(space["run"].train_state.optimizer.gradient_step) == 3


def test_a_moving_average_of_the_parameters():
    space = names("A moving average of the parameters")
    trail = [fitted(space, optax.adam(0.01), epochs=k).params for k in range(1, 5)]
    weights = [0.9**3, 0.9**2, 0.9, 1.0]
    average = jax.tree.map(lambda *all_: sum(w * a for w, a in zip(weights, all_, strict=True)) / sum(weights), *trail)
    close(space["run"].params, average)
    close(space["run"].train_state.params, trail[-1])
    expected = space["net"].forward(average, space["run"].state, space["x"], None, False)[0]
    np.testing.assert_allclose(space["y"], expected, atol=1e-5)


def test_frozen_parameters():
    space = names("Frozen parameters, and groups with an optimizer each")
    start = fitted(space, optax.adam(0.01), epochs=0).params
    assert np.array_equal(space["run"].params[0]["w"], start[0]["w"])
    assert not np.array_equal(space["run"].params[2]["w"], start[2]["w"])


@pytest.mark.slow
def test_second_order():
    space = names("Second order, and how sure a small network is")
    assert space["mean"].shape == space["deviation"].shape == (32, 1) and (space["deviation"] > 0).all()
    assert space["best"] in space["found"] and len(space["run"].history.loss) <= 100


def test_mixed_precision():
    space = names("Mixed precision")
    run = space["run"]
    assert {a.dtype for a in jax.tree.leaves(run.params)} == {np.dtype("float32")}
    wide = fitted(space, optax.sgd(0.1), epochs=4)
    np.testing.assert_allclose(run.history.loss, wide.history.loss, rtol=0.02)
    assert not np.array_equal(run.history.loss, wide.history.loss)  # but it was computed in another precision


def test_learning_rate_schedules():
    space = names("Learning-rate schedules")
    params = fitted(space, optax.sgd(0.1), epochs=0).params
    for step in range(4):  # one step at a time, each with the rate that the schedule has there
        rate = float(space["rate"](step))
        assert rate == pytest.approx(0.1 * 0.5 ** (step / 2))
        params = fitted(space, optax.sgd(rate), epochs=1, params=params).params
    close(space["run"].params, params)


def test_early_stopping():
    space = names("Early stopping")
    run, losses = space["run"], space["run"].history.validation_loss
    best = int(np.argmin(losses))
    assert len(losses) == best + 21 < 2000
    score = fnn.evaluate(space["net"], run, space["held"], {"loss": space["loss"]})["loss"]
    assert score == pytest.approx(losses[best], rel=1e-5)


def test_a_server_answers_requests_of_several_clients_with_the_outputs():
    space = names("Serving over HTTP")
    server, x = space["server"], space["x"]
    address = f"http://localhost:{server.server_address[1]}"

    def ask(rows):
        request = urllib.request.Request(address, json.dumps(rows).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda rows: ask(x[:rows].tolist()), [1, 5, 32, 9, 1]))
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            ask([[1, 2]])
        with refused.value:
            assert "expected rows of shape (3,)" in json.loads(refused.value.read())
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    scale, scale_t = space["scale"], space["scale_t"]
    whole = fnn.predict(space["net"], space["run"], scale(x)) * scale_t.deviation + scale_t.mean
    for rows, answer in zip([1, 5, 32, 9, 1], answers, strict=True):
        np.testing.assert_allclose(answer, whole[:rows], atol=1e-6)


def test_exported_files_say_what_predict_says(tmp_path, monkeypatch, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    space = names("A network for programs without fnn")
    printed = capsys.readouterr().out
    assert "input x: float32 (batch, 3) as measured" in printed and "True True" in printed
    expected = fnn.predict(space["net"], space["run"], space["scale"](space["x"]))
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": space["x"]})[0], expected, atol=1e-6)
    program = jax.export.deserialize(bytearray((tmp_path / "net.stablehlo").read_bytes()))
    np.testing.assert_allclose(program.call(space["x"]), expected, atol=1e-6)
    assert "void fnn_predict(const float *x, float *y)" in (tmp_path / "net.c").read_text()


def test_a_network_of_another_library():
    pytest.importorskip("equinox")
    space = names("A network of Flax, Equinox or Haiku")
    losses = space["run"].history.loss
    assert losses[-1] < losses[0]
    one, other = (jax.tree.leaves(space["members"].member(i).params)[0] for i in (0, 1))
    assert not np.allclose(one, other)


@pytest.mark.slow
def test_a_run_is_looked_at_while_it_goes_on(tmp_path, monkeypatch):
    event_files = pytest.importorskip("tensorboardX").__name__
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fnn.fitting.segments.SEGMENT_SECONDS", 1e-9)  # a segment per step
    space = names("Looking at a run while it goes on")
    losses = space["run"].history.loss
    rows = [line.split(",") for line in (tmp_path / "run.csv").read_text().splitlines()]
    np.testing.assert_array_equal(np.float32([row[1] for row in rows]), losses)
    assert [int(row[0]) for row in rows] == list(range(50))
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    np.testing.assert_array_equal(scalars_of(next((tmp_path / "runs" / "first").iterdir()), event_files), losses)

    np.testing.assert_array_equal([space["lowest"][i] for i in range(3)], space["found"].histories["loss"].min(1))


@pytest.mark.filterwarnings("ignore")  # of MLflow
def test_a_run_is_in_mlflow_to_the_digit(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.chdir(tmp_path)
    losses = names("A run in MLflow")["run"].history.loss
    client = mlflow.MlflowClient()
    (kept,) = client.search_runs(["0"])
    metrics = sorted(client.get_metric_history(kept.info.run_id, "loss"), key=lambda metric: metric.step)
    assert [metric.step for metric in metrics] == list(range(20))
    np.testing.assert_array_equal(np.float32([metric.value for metric in metrics]), losses)


def scalars_of(path, package):
    """The numbers of a file of TensorBoard, in order."""
    events = importlib.import_module(f"{package}.proto.event_pb2")
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):  # length, check sum, event, check sum
        length = int.from_bytes(data[at : at + 8], "little")
        event = events.Event.FromString(data[at + 12 : at + 12 + length])
        found += [value.simple_value for value in event.summary.value]
        at += 16 + length
    return np.float32(found)
