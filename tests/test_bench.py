"""What bench/ makes of timings: table, JSON, exponents, bounds, the command line. Nothing is timed here."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from bench import __main__ as command, bounds, devices, exponents, output, timing
from bench.timing import Measured, Timing, in_a_line, in_turn

MEASURED = Measured(
    [
        Timing("fnn, fused", 0.5, (2e-6, 1e-6, 3e-6, 2e-6)),
        Timing("bound: C loop", 0.0, (1e-6, 1e-6, 1e-6, 1e-6)),
        Timing("PyTorch eager", 0.0, (240e-6, 270e-6, 250e-6, 250e-6)),
    ],
    {"Keras fit": "ImportError: no backend"},
)


def test_the_table_has_medians_quartiles_ratios_and_what_was_left_out():
    head, columns, *rows = output.table("A step", MEASURED, "step").splitlines()
    assert head == "A step"
    assert columns.split() == ["compile", "s", "µs", "per", "step", "25", "%", "75", "%", "times", "the", "first"]
    assert rows[0].split()[2:] == ["0.50", "2.00", "1.75", "2.25", "1.00"]
    assert rows[1].split()[3:] == ["0.00", "1.00", "1.00", "1.00", "0.50"]
    assert rows[2].split()[2:] == ["0.00", "250", "248", "255", "125"]
    assert rows[3].split(maxsplit=2)[2] == "left out: ImportError: no backend"
    assert len({len(row) for row in rows[:3]}) == 1


def test_a_table_without_compiling_has_no_column_for_it_and_memory_is_in_megabytes():
    measured = Measured([Timing("fnn", 0.0, (657e6,)), Timing("bound: rows", 0.0, (193e6,))], {})
    text = output.table("Memory", measured, "process", "bytes")
    assert "compile" not in text and "MB per process" in text
    assert text.splitlines()[2].split() == ["fnn", "657", "657", "657", "1.00"]


@pytest.mark.parametrize(
    "low, high, unit",
    [(1.0, 10.0, "s"), (0.9, 11.0, "s"), (0.09, 1.1, "ms"), (2e-3, 50.0, "ms"), (2e-6, 2e-3, "µs"), (1e-9, 1e-8, "ns")],
)
def test_a_unit_in_which_all_are_readable(low, high, unit):
    assert output.scale_of([Timing("a", 0.0, (low,)), Timing("b", 0.0, (high,))], "seconds")[0] == unit


def test_the_json_has_medians_spread_versions_and_device(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "RESULTS", tmp_path)
    text = output.publish("step", "A step", MEASURED, "step", quick=False, figures={"share": 0.5})
    found = json.loads((tmp_path / "step-cpu.json").read_text(encoding="utf-8"))
    assert "step-cpu.json" in text
    assert found["question"] == "A step" and found["share"] == 0.5 and found["platform"] == "cpu"
    assert {"jax", "numpy", "optax"} <= set(found["versions"]) and found["cores"] >= 1 and found["date"]
    row = found["timings"][0]
    assert row["rounds_s"] == [2e-6, 1e-6, 3e-6, 2e-6] and row["compile_s"] == 0.5
    spread = [row[f"{name}_s"] for name in ("min", "lower_quartile", "median", "upper_quartile", "max")]
    np.testing.assert_allclose(spread, [1e-6, 1.75e-6, 2e-6, 2.25e-6, 3e-6], rtol=1e-12)
    assert found["ratios"]["PyTorch eager, over fnn, fused"] == pytest.approx(125)
    assert found["left_out"] == {"Keras fit": "ImportError: no backend"}
    if "drawn in" in text:
        assert (tmp_path / "step-cpu.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_quick_figures_never_take_the_place_of_real_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "RESULTS", tmp_path)
    written = output.write("step", "A step", {}, quick=True)
    assert written == tmp_path / "quick" / "step-cpu.json" and written.exists()
    assert not (tmp_path / "step-cpu.json").exists()


def test_in_turn_times_all_and_leaves_out_a_peer_that_fails_but_not_the_first():
    calls = []

    def failing():
        raise RuntimeError("no\ncompiler")

    candidates = {
        "a": (lambda: lambda: calls.append("a"), 2),
        "b": (failing, 1),
        "c": (lambda: failing, 1),
        "d": (lambda: lambda: calls.append("d"), 1),
    }
    found = in_turn(candidates, 3)
    assert [t.name for t in found.timings] == ["a", "d"] and all(len(t.rounds) == 3 for t in found.timings)
    assert found.left_out == {"b": "RuntimeError: no compiler", "c": "RuntimeError: no compiler"}
    assert calls == ["a", "a", "d", "d"] + ["a", "d"] * 3  # the first two of each: with compiling and without
    with pytest.raises(RuntimeError, match="compiler"):
        in_turn({"b": (failing, 1)}, 1)


def test_a_round_is_divided_by_its_units_and_compiling_is_the_first_call_without_the_second(monkeypatch):
    taken = iter([5.0, 2.0, 6.0, 8.0])
    monkeypatch.setattr(timing, "_seconds", lambda work: next(taken))
    assert in_turn({"a": (lambda: None, 4)}, 2).timings == [Timing("a", 3.0, (1.5, 2.0))]


def test_an_error_is_one_short_line():
    line = in_a_line(ValueError("expected\n  this\n" + "x" * 500))
    assert line.startswith("ValueError: expected this x") and len(line) == 160 and line.endswith("…")


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.7])
def test_the_exponent_of_a_power_law_comes_out(exponent):
    sizes = np.array([1.0, 10, 100, 1000])
    assert exponents.exponent(sizes, 0.3 * sizes**exponent) == pytest.approx(exponent, abs=1e-12)


def test_the_exponent_is_that_of_least_squares_in_logarithms():
    # by hand: x = 0, 1, 2, y = 0, 0, 1 (decades): slope Σ(x - 1) y / Σ(x - 1)² = 1/2
    assert exponents.exponent([1, 10, 100], [1.0, 1.0, 10.0]) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("sizes, costs", [([1], [1.0]), ([1, 1], [1.0, 2.0]), ([1, 2], [0.0, 1.0]), ([1, 2], [1.0])])
def test_an_exponent_needs_two_sizes_and_costs_above_0(sizes, costs):
    with pytest.raises(ValueError, match=r"exponent: expected .* got .* Measure"):
        exponents.exponent(sizes, costs)


def test_the_products_of_a_dense_step_are_counted_as_the_library_counts_them():
    import fnn

    sizes, batch = (7, 5, 4, 3), 8
    net = fnn.serial(*[fnn.dense(n) for n in sizes[1:]])
    shapes = bounds.dense_products(sizes, batch)
    assert bounds.flops(shapes) == batch * fnn.summary(net, (7,)).training_flops
    _, results = bounds.products(shapes, 2)()
    assert [r.shape for r in results] == [(m, n) for m, _, n in shapes]
    np.testing.assert_allclose(results[0], jnp.full((8, 5), 7.0), rtol=1e-6)


def test_an_unknown_question_and_too_few_rounds_are_told(capsys):
    with pytest.raises(SystemExit):
        command.main(["stpe"])
    said = capsys.readouterr().err
    assert "NAME: expected any of step, dense, conv" in said and "got stpe. Correct it." in said
    with pytest.raises(SystemExit):
        command.main(["step", "--rounds", "0"])
    assert "--rounds: expected at least 1, got 0." in capsys.readouterr().err


def test_a_question_that_fails_is_told_and_the_others_go_on(monkeypatch, capsys):
    class Question:
        def __init__(self, name):
            self.name = name

        def main(self, rounds, quick):
            if self.name == "bench.dense":
                raise OSError("no room")
            return f"{self.name} {rounds} {quick}"

    monkeypatch.setattr(command.importlib, "import_module", Question)
    assert command.main(["step", "dense", "conv", "--quick"]) == 1
    out, err = capsys.readouterr()
    assert "bench.step 2 True" in out and "bench.conv 2 True" in out and "dense: OSError: no room" in err


def test_a_step_on_many_devices_is_its_share_and_the_exchange_and_pays_from_the_crossing_point_on():
    link = devices.Link("example", 1e9, 1e-6)
    assert devices.exchange_seconds(2, 1e6, link) == pytest.approx(1e-3 + 2e-6)
    assert devices.predict_step(0.1, 4, 0, devices.Link("none", 1, 0)) == pytest.approx(0.025)
    least = devices.least_step(8, 1e6, link)
    assert devices.predict_step(least, 8, 1e6, link) == pytest.approx(least)
    row = {"width": 64, "devices": 1, "seconds": 1e-5, "collectives": {"all-reduce": 0}, "bytes": 1e6}
    lines = devices.lines_of([row, row | {"devices": 2, "collectives": {"all-reduce": 1}}])
    assert "1 all-reduce" in lines[2] and len(lines) == 6 and all("too small" in line for line in lines[3:])
