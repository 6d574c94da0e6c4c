"""The site builds without a warning; its pages are complete, their links lead somewhere, their programs run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
sys.path.append(str(DOCS))
sys.path.append(str(DOCS / "_ext"))

import check  # noqa: E402
import recipes  # noqa: E402

HEAD = "---\nfile_format: mystnb\n"
MARKDOWN = [path for path in sorted(DOCS.rglob("*.md")) if not {"_build", "_ext"} & set(path.parts)]
PEERS = {"keras": "keras", "pytorch": "torch", "scikit_learn": "sklearn", "flax": "flax"}


def pages_in_a_contents(folder):
    """The pages that the contents of a folder's first page name."""
    blocks = re.findall(r"```\{toctree\}\n(.*?)```", (folder / "index.md").read_text(), re.S)
    return [line.strip() for block in blocks for line in block.splitlines() if re.match(r"[\w./-]+$", line.strip())]


@pytest.mark.parametrize("folder", ["learn", "howto", "understand", "coming_from", "reference"])
def test_the_contents_of_a_folder_name_all_of_its_pages(folder, tmp_path):
    (tmp_path / "howto").mkdir()
    (tmp_path / "recipes.md").write_text((DOCS / "recipes.md").read_text())
    made = set(recipes.write_recipes(tmp_path)) if folder == "howto" else set()
    written = {path.stem for kind in ("*.md", "*.rst") for path in (DOCS / folder).glob(kind)}
    named = [name for name in pages_in_a_contents(DOCS / folder) if not name.startswith("..")]
    assert len(named) == len(set(named))
    assert set(named) == (written | made) - {"index"}


def test_every_program_of_a_page_is_run_by_the_build(tmp_path):
    """A fenced block of Python in a page of tasks is a code cell. Those of other libraries have a test here."""
    (tmp_path / "howto").mkdir()
    (tmp_path / "recipes.md").write_text((DOCS / "recipes.md").read_text())
    made = {path.stem: path for path in map((tmp_path / "howto/{}.md").with_stem, recipes.write_recipes(tmp_path))}
    written = [
        path for folder in ("learn", "howto", "understand", "coming_from") for path in (DOCS / folder).glob("*.md")
    ]
    for path in [*made.values(), *(path for path in written if path.stem not in made)]:
        text = path.read_text()
        blocks = len(re.findall(r"^```python", text, re.M))
        assert blocks == (1 if path.stem in ("keras", "pytorch", "recipe-a-run-in-mlflow") else 0), path
        assert ("{code-cell}" in text) == text.startswith(HEAD), path


def test_a_recipe_becomes_a_page_that_runs(tmp_path):
    (tmp_path / "howto").mkdir()
    (tmp_path / "recipes.md").write_text("# R\n```python\nimport a\n```\n## One task\nText.\n```python\nb\n```\n")
    assert recipes.write_recipes(tmp_path) == ["recipe-one-task"]
    page = (tmp_path / "howto" / "recipe-one-task.md").read_text()
    assert page.startswith(HEAD) and "# One task\nText.\n```{code-cell}\nimport a\n\nb\n```" in page


def test_links_to_recipes_name_sections_that_are_there(tmp_path):
    (tmp_path / "howto").mkdir()
    (tmp_path / "recipes.md").write_text((DOCS / "recipes.md").read_text())
    made = {name.removeprefix("recipe-") for name in recipes.write_recipes(tmp_path)}
    named = {slug for path in MARKDOWN for slug in re.findall(r"recipes\.md#([\w-]+)", path.read_text())}
    assert len(named) > 5 and named <= made
    source = ["[a](../recipes.md#b-c) [d](../recipes.md)"]
    recipes.link_pages(None, "learn/e", source)
    assert source == ["[a](../howto/recipe-b-c.md) [d](../howto/index.md)"]


def test_faults_of_a_site_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">x</a><a href="#here">x</a><p id="here"></p><img src="p.png"><a href="https://e.org">'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p><script src="https://cdn.example/x.js"></script>')
    assert check.faults(tmp_path) == ["a.html: p.png is missing", "b.html: loads https://cdn.example/x.js"]
    (tmp_path / "b.html").write_text('<a href="c.html">')
    found = check.faults(tmp_path)
    assert "a.html: b.html#there: there is no such place on that page" in found
    assert "b.html: c.html leads nowhere" in found


@pytest.mark.slow
@pytest.mark.parametrize("library", PEERS)
def test_the_programs_of_other_libraries_run(library, tmp_path):
    pytest.importorskip(PEERS[library])
    text = (DOCS / "coming_from" / f"{library}.md").read_text()
    programs = re.findall(r"^```(?:python|\{code-cell\})\n(?::[^\n]*\n)*(.*?)^```", text, re.S | re.M)
    assert len(programs) == 2
    for program in programs:
        printed = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert 0.8 < float(printed.stdout.split()[0]) <= 1  # the accuracy on rows that were held out


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_its_links_lead_somewhere(tmp_path):
    for package in ("sphinx", "furo", "myst_nb", "sphinx_copybutton", "sphinx_design"):
        pytest.importorskip(package)
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-j", "2", str(DOCS), str(site)]
    built = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert built.returncode == 0, built.stderr[-3000:]
    assert check.faults(site) == []
    for path in (DOCS / "reference").glob("*.rst"):
        page = check.Page((site / "reference" / f"{path.stem}.html").read_text())
        places = page.anchors | {anchor.removeprefix("module-") for anchor in page.anchors}
        assert set(re.findall(r"^ {3}(fnn[\w.]*)$", path.read_text(), re.M)) <= places
    assert "<math" in (site / "reference" / "layers.html").read_text()
