"""What a question leaves behind: a table on the terminal, a JSON file, and a picture."""

import json
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from bench import pictures
from bench.pictures import digits
from bench.timing import Measured, Timing

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("fnn", "jax", "jaxlib", "optax", "numpy", "torch", "keras", "scikit-learn", "flax", "equinox")
UNITS = {  # of what is measured, from the largest: its name and how much of what is measured it is
    "seconds": (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)),
    "bytes": (("MB", 1e6),),
}
WIDE = 100_000.0  # a number in the table is below this, or the next larger unit is taken


def publish(
    name: str,
    question: str,
    measured: Measured,
    unit: str,
    *,
    quick: bool,
    kind: str = "seconds",
    figures: dict[str, Any] | None = None,
) -> str:
    """Write the JSON and the picture; return the table and where they are.

    Args:
        name: of the question, and so of its files.
        unit: of work, what a row is the cost of: "step", "run".
        quick: small figures go to a folder of their own, so that they never take the place of the real ones.
        kind: what is measured, "seconds" or "bytes".
        figures: other numbers for the JSON, such as what the candidates ended with.
    """
    timings = measured.timings
    ratios = {f"{t.name}, over {timings[0].name}": t.middle / timings[0].middle for t in timings[1:]}
    found = {"ratios": ratios, "left_out": measured.left_out, "timings": [_row(t, kind) for t in timings]}
    written = write(name, question, (figures or {}) | found, quick)
    drawn = pictures.drawn(lambda: pictures.bars(question, timings, unit, *scale_of(timings, kind)), written)
    return f"{table(question, measured, unit, kind)}\n{drawn}"


def write(name: str, question: str, found: dict[str, Any], quick: bool) -> Path:
    """What was measured as JSON, one file a question and platform."""
    where = device()
    folder = RESULTS / "quick" if quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{where['platform']}.json"
    head = {"question": question, **where, "versions": versions()}
    path.write_text(json.dumps({**head, **found}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _row(timing: Timing, kind: str) -> dict[str, Any]:
    end = {"seconds": "s", "bytes": "bytes"}[kind]
    low, high = timing.quartiles
    numbers: dict[str, Any] = {"median": timing.middle, "lower_quartile": low, "upper_quartile": high}
    numbers |= {"min": min(timing.rounds), "max": max(timing.rounds), "rounds": timing.rounds}
    return {"name": timing.name, "compile_s": timing.compile} | {f"{k}_{end}": v for k, v in numbers.items()}


# ---- the table


def table(question: str, measured: Measured, unit: str, kind: str = "seconds") -> str:
    """A line a candidate: seconds to compile, the median, between what half of the rounds was, times the first's."""
    timings = measured.timings
    width = max(map(len, [*(t.name for t in timings), *measured.left_out]))
    short, size = scale_of(timings, kind)
    head = f"{short} per {unit}"
    column, compiles = max(10, len(head)), any(t.compile for t in timings)
    first = "  compile s" if compiles else ""
    lines = [question, f"{'':{width}}{first}  {head:>{column}}  {'25 %':>9}  {'75 %':>9}  times the first"]
    for t in timings:
        middle, low, high = (digits(v / size) for v in (t.middle, *t.quartiles))
        ratio = digits(t.middle / timings[0].middle)
        compile = f"  {t.compile:9.2f}" if compiles else ""
        lines.append(f"{t.name:{width}}{compile}  {middle:>{column}}  {low:>9}  {high:>9}  {ratio:>15}")
    lines += [f"{name:{width}}  left out: {why}" for name, why in measured.left_out.items()]
    return "\n".join(lines)


def scale_of(timings: list[Timing], kind: str) -> tuple[str, float]:
    """The unit in which all of these are readable: its name, and how much it is."""
    low, high = min(t.middle for t in timings), max(t.middle for t in timings)
    fitting = [unit for unit in UNITS[kind] if low >= 0.1 * unit[1] and high / unit[1] < WIDE]
    return (
        fitting[0] if fitting else next(u for u in reversed(UNITS[kind]) if high / u[1] < WIDE or u is UNITS[kind][0])
    )


# ---- where it was measured


def device() -> dict[str, Any]:
    """The device, the processor, when."""
    first = jax.devices()[0]
    return {
        "platform": first.platform,
        "device": first.device_kind,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Of everything that may be measured and is installed, and of the C compiler."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if shutil.which("cc"):
        said = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=False).stdout
        found["cc"] = said.partition("\n")[0]
    return found
