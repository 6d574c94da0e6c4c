"""What the pages say of the code is so: files that they name are there, quoted lines stand in them, links lead on."""

import re
from pathlib import Path

import pytest

from tests.test_structure import ORDER

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
PAGES += [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def files_named(text):
    """Paths of files and folders of the clone that a text names in backticks."""
    named = re.findall(r"`((?:fnn|tests|experiments|bench|docs|\.ci|\.github)/[\w./-]*)`", text)
    return [name for name in named if not name.startswith(("bench/results/", "experiments/results/"))]


def links(text):
    """Where links lead that stay within the clone."""
    return [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if not target.startswith("https://")]


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
