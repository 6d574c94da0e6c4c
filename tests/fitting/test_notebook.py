"""Signals to the kernel of a notebook: Ctrl-C interrupts the cell, whose run is kept; SIGTERM ends the kernel."""

import os
import random
import signal
import sys
import time

import pytest

jupyter_client = pytest.importorskip("jupyter_client")
pytest.importorskip("ipykernel")

pytestmark = pytest.mark.filterwarnings("ignore")  # of other libraries
LIMIT = 120  # seconds, to end a hang
BEGIN = """
import sys, threading, warnings
sys.path[:0] = {path!r}
from tests.helpers import signalled
from tests.helpers.signalled import KINDS, progress_of, say
before = threading.active_count()
"""
STREAMS = ["fast stream", "blocked stream"]
QUICK = ["fit", *STREAMS, "sweep"]
ALL = [*QUICK, "slow stream", "folds", "ensemble", "refit", "writing", "compiling"]


class Kernel:
    """A kernel, as a notebook starts it."""

    def __init__(self, cwd):
        self.manager = jupyter_client.KernelManager(kernel_name="python3")  # of this Python
        self.manager.start_kernel(cwd=str(cwd), env=os.environ | {"JAX_PLATFORMS": "cpu"})
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=LIMIT)
        assert self.run(BEGIN.format(path=sys.path))["status"] == "ok"

    def send(self, code):
        return self.client.execute(code, store_history=False, stop_on_error=False)  # else it ends what comes next, too

    def reply(self, request):
        while True:
            message = self.client.get_shell_msg(timeout=LIMIT)
            if message["parent_header"].get("msg_id") == request:
                return message["content"]

    def run(self, code):
        return self.reply(self.send(code))

    def value(self, expression):
        """A number of the kernel's."""
        request = self.client.execute("", user_expressions={"it": expression}, store_history=False)
        return self.reply(request)["user_expressions"]["it"]["data"]["text/plain"]

    def wait_for(self, text):
        """Until the cell prints this."""
        while True:
            message = self.client.get_iopub_msg(timeout=LIMIT)
            if message["msg_type"] == "stream" and text in message["content"]["text"]:
                return

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path):
    made = Kernel(tmp_path)
    yield made
    made.close()


def interrupt(kernel, kind, folder, delay):
    """Ctrl-C so long after a cell began; how long the cell then took, and what it ended with."""
    begin = "" if kind == "refit" else "say('begins'); "
    request = kernel.send(f"{begin}KINDS[{kind!r}]({str(folder)!r})")
    kernel.wait_for("begins")
    time.sleep(delay)
    sent = time.monotonic()
    os.kill(kernel.manager.provisioner.pid, signal.SIGINT)
    reply = kernel.reply(request)
    return time.monotonic() - sent, reply


def check(kernel, kind, folder, delay):
    seconds, reply = interrupt(kernel, kind, folder, delay)
    assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt"), reply
    said = "got SIGINT" in reply["evalue"]
    if said and "nothing has been trained" not in reply["evalue"]:
        assert int(kernel.value("progress_of(sys.last_value.run)")) >= 0
    others = "[t.name for t in threading.enumerate() if t.name[:3] == 'fnn' and t.name != 'fnn compile']"
    assert kernel.value(others) == "[]"
    return seconds, said


@pytest.mark.slow
def test_ctrl_c_interrupts_the_cell_and_sigterm_ends_the_kernel(kernel, tmp_path):
    for number, kind in enumerate(QUICK):
        _, said = check(kernel, kind, tmp_path / str(number), 2.0)
        assert said or kind != "fit"
    kernel.send(f"say('begins'); KINDS['fit']({str(tmp_path / 'ended')!r})")
    kernel.wait_for("begins")
    time.sleep(1.0)
    process = kernel.manager.provisioner.process
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == -signal.SIGTERM


TRAIN = """
import numpy as np, optax, fnn
x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
net, loss, data = fnn.serial(fnn.dense(2)), fnn.losses.sparse_softmax_cross_entropy, (x, (x[:, 0] > 0).astype(int))
run = fnn.fit(net, loss, optax.sgd(0.1), data, epochs=5)
"""
SWEEP = "fnn.sweep(net, loss, lambda s: optax.sgd(s['lr']), data, over={'lr': [0.1, 1.0]}, epochs=5)"


def test_an_executed_notebook_has_the_bar_the_figure_and_the_tables(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    for extra in ("matplotlib", "tqdm"):
        pytest.importorskip(extra)
    sources = [f"import sys; sys.path[:0] = {sys.path!r}", TRAIN, "fnn.plots.curves(run)", "run", SWEEP]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    folder = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(book, timeout=LIMIT, kernel_name="python3", resources=folder)
    client.execute(env=os.environ | {"JAX_PLATFORMS": "cpu"})
    _, training, figure, run, sweep = [cell.outputs for cell in book.cells]
    shown = [str(output) for output in training if output.output_type in ("stream", "display_data")]
    assert any("epoch" in text or "FloatProgress" in text for text in shown), training
    assert "image/png" in figure[-1].data
    for outputs, word in ((run, "parameters"), (sweep[-1:], "<th>lr</th>")):
        (output,) = outputs
        assert output.output_type == "execute_result" and "<table>" in output.data["text/html"], output
        assert word in output.data["text/html"]
    assert "<svg" in run[0].data["text/html"] and "run: parameters 8" in run[0].data["text/plain"]


@pytest.mark.slow
def test_interrupting_the_kernel_ends_a_fit_with_what_there_was(kernel):
    assert kernel.run(TRAIN)["status"] == "ok"
    tell = "on_segment=lambda progress: print('goes on', flush=True)"
    request = kernel.send(f"run = fnn.fit(net, loss, optax.sgd(0.1), data, epochs=10**8, progress=False, {tell})")
    kernel.wait_for("goes on")
    sent = time.monotonic()
    kernel.manager.interrupt_kernel()
    reply = kernel.reply(request)
    print(f"\ninterrupted within {time.monotonic() - sent:.2f} s")  # a second, on a machine that is not busy
    assert reply["ename"] == "KeyboardInterrupt" and "got SIGINT" in reply["evalue"]
    assert int(kernel.value("len(sys.last_value.run.history.loss)")) > 0


@pytest.mark.slow
def test_many_at_random_times(kernel, tmp_path, signals):
    rng, times, silent = random.Random(signals[1]), [], 0
    for number in range(signals[0]):
        kind = ALL[number % len(ALL)]
        seconds, said = check(kernel, kind, tmp_path / str(number), rng.uniform(0, 3))
        times.append((seconds, kind))
        silent += not said
    print(f"\n{len(times)} interrupts of a kernel: all within {max(times)}; {silent} before there was anything to keep")
