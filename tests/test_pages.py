"""What the pages say of the code is so: files that they name are there, quoted lines stand in them, links lead on."""

import json
import re
import runpy
from pathlib import Path

import pytest

from tests.test_structure import ORDER

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
MADE = ("docs/_build/", "docs/howto/recipe-")  # by the build of the site
DOCUMENTS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))]
PAGES += [name for name in DOCUMENTS if not name.startswith(MADE)]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def files_named(text):
    """Paths of files and folders of the clone that a text names in backticks."""
    named = re.findall(r"`((?:fnn|tests|experiments|bench|docs|\.ci|\.github)/[\w./-]*)`", text)
    return [name for name in named if not name.startswith(("bench/results/", "experiments/results/", *MADE))]


def links(text):
    """Where links lead that stay within the clone."""
    prose = re.sub(r"```.*?```|`[^`\n]+`", "", text, flags=re.S)
    return [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose) if not target.startswith("https://")]


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    text = (ROOT / page).read_text()
    assert [name for name in files_named(text) if not (ROOT / name).exists()] == []
    assert [target for target in links(text) if not ((ROOT / page).parent / target).exists()] == []


def test_the_picture_of_the_architecture_has_all_entries_in_their_order():
    picture = re.search(r"```text\n(.*?)```", ARCHITECTURE, re.S)[1]
    lines = [re.sub(r"^ (host|pure)", "", line).strip() for line in picture.splitlines() if "------" not in line]
    named = [re.split(r" {2,}", line)[0].split(", ") for line in lines]
    assert [name for line in reversed(named) for name in reversed(line)] == ORDER


def test_two_looks_lead_to_a_file():
    rows = re.findall(r"^\| ([^|]+\?) \| (?:`(\w+)`)? *\| `([\w./]+)` \|$", ARCHITECTURE, re.M)
    assert len(rows) > 30
    assert [(package, file) for _, package, file in rows if package and not file.startswith(f"fnn/{package}/")] == []


def test_the_lines_that_the_architecture_quotes_stand_in_their_files():
    block = re.search(r"```python\n(.*?)```", ARCHITECTURE, re.S)[1]
    text, missing = "", []
    for line in block.splitlines():
        if line.startswith("# "):
            text = (ROOT / line.removeprefix("# ")).read_text()
        elif line.strip() not in {present.strip() for present in text.splitlines()}:
            missing.append(line)
    assert missing == []


def measured(question):
    """The description of a committed measurement, and its median and compile times by name."""
    result = json.loads((ROOT / "bench" / "results" / f"{question}-cpu.json").read_text())
    return result, {timing["name"]: (timing["median_s"], timing["compile_s"]) for timing in result["timings"]}


def test_the_speeds_of_the_readme_are_those_of_the_committed_measurements():
    text = " ".join(README.split())
    for question, unit, scale, digits in [("step", "µs", 1e6, [1, 0, 0]), ("dense", "ms", 1e3, [1, 1, 1])]:
        result, times = measured(question)
        torch = min(seconds for name, (seconds, _) in times.items() if name.startswith("PyTorch"))
        numbers = [times["fnn, fused"][0], times["scikit-learn fit"][0], torch]
        fnn, scikit_learn, torch = (f"{scale * s:.{d}f} {unit}" for s, d in zip(numbers, digits, strict=True))
        assert f"takes {fnn}, where scikit-learn takes {scikit_learn} and PyTorch" in text
        assert re.search(rf"scikit-learn takes {scikit_learn} and PyTorch (takes )?{torch}\.", text), torch
        assert result["cores"] == 2 and f"two cores of an {result['processor']}" in text
    compiling = " and ".join(f"{measured(question)[1]['fnn, fused'][1]:.1f} s" for question in ("step", "dense"))
    assert f"It compiles first, once: {compiling}." in text
    times = measured("start")[1]
    assert f"{times['scikit-learn'][0]:.1f} s from start to end, where `fnn` takes {times['fnn'][0]:.1f} s" in text


def test_the_picture_of_the_readme_is_what_its_script_draws(tmp_path):
    (shown,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    runpy.run_path(str((ROOT / shown).with_suffix(".py")))["main"](tmp_path / "drawn.svg")
    pictures = (ROOT / shown, tmp_path / "drawn.svg")
    before, now = (set(re.findall(r">([^<>]+)</text>", path.read_text())) for path in pictures)
    words = {"boundary", "inside", "outside", "training", "validation", "epoch", "cross-entropy (nats per row)"}
    assert words <= before and words <= now
    assert {text for text in before ^ now if not text.startswith("best: ")} == set()
