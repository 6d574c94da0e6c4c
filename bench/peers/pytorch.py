"""PyTorch: eager, compiled (on a GPU with CUDA graphs), and on a GPU the whole step as one CUDA graph.

On a GPU float32 products may be rounded to TF32, as JAX rounds them there.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from bench.peers.task import Task, on_a_gpu
from bench.timing import Work


def device(threads: int) -> Any:
    """The GPU where JAX has one too, else the CPU with so many threads."""
    import torch

    torch.set_num_threads(threads)
    if not on_a_gpu():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch: expected a GPU, as JAX has one, got a PyTorch without. Install it with CUDA.")
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda")


def finished() -> None:
    """Wait until the GPU is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _parts(task: Task) -> tuple[Any, Any, Any]:
    """The network's cost of a batch, its optimizer, and all rows with their classes."""
    import torch

    nn, where = torch.nn, device(task.threads)
    activation = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}[task.hidden]
    layers: list[Any] = []
    for m, n in pairwise(task.sizes):
        layers += [nn.Linear(m, n), activation()]
    net, loss = nn.Sequential(*layers[:-1]).to(where), nn.CrossEntropyLoss(reduction=task.reduction)
    optimizer = torch.optim.SGD(net.parameters(), lr=task.learning_rate, momentum=0.9)
    x, t = torch.tensor(task.x, device=where), torch.tensor(task.t, dtype=torch.int64, device=where)

    def cost(x: Any, t: Any) -> Any:
        with torch.autocast(where.type, torch.bfloat16, enabled=task.narrow):
            return loss(net(x), t)

    return cost, optimizer, (x, t)


def make(task: Task, steps: int) -> Work:
    """A step as PyTorch's own examples write it."""
    cost, optimizer, rows = _parts(task)

    def step(x: Any, t: Any) -> None:
        optimizer.zero_grad()
        cost(x, t).backward()
        optimizer.step()

    return _repeated(step, task, rows, steps)


def make_compiled(task: Task, steps: int) -> Work:
    """The cost with its derivatives, and the update of the weights: two compiled functions."""
    import torch

    cost, optimizer, rows = _parts(task)
    mode = "reduce-overhead" if on_a_gpu() else "default"
    compiled_cost, compiled_update = torch.compile(cost, mode=mode), torch.compile(optimizer.step)

    def step(x: Any, t: Any) -> None:
        optimizer.zero_grad()
        compiled_cost(x, t).backward()
        compiled_update()

    return _repeated(step, task, rows, steps)


def make_graph(task: Task, steps: int) -> Work:
    """The whole step recorded as a CUDA graph, and replayed."""
    import torch

    cost, optimizer, rows = _parts(task)
    x, t = (a[: task.batch].clone() for a in rows)  # where the graph reads a batch
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # a few steps before, so that nothing is set up while it is recorded
        for _ in range(3):
            optimizer.zero_grad()
            cost(x, t).backward()
            optimizer.step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad()
    with torch.cuda.graph(graph):
        cost(x, t).backward()
        optimizer.step()

    def step(batch: Any, classes: Any) -> None:
        x.copy_(batch)
        t.copy_(classes)
        graph.replay()

    return _repeated(step, task, rows, steps)


def _repeated(step: Callable[[Any, Any], None], task: Task, rows: tuple[Any, Any], steps: int) -> Work:
    import torch

    x, t = rows

    def work() -> None:
        for numbers in task.batches(steps):
            at = torch.from_numpy(numbers).to(x.device)
            step(*((x, t) if task.full else (x[at], t[at])))
        finished()

    return work
