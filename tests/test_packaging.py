"""What an installation holds, and that a program finds it wherever the program stands.

Nothing here needs the network: setuptools builds in a copy of the clone, and the environments borrow the packages that
run these tests.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".*cache", ".hypothesis", "__pycache__", "build", "*.egg-info")
PROGRAM = "import fnn; print(fnn.__file__, fnn.serial(fnn.dense(2), fnn.tanh), fnn.__version__ > '0')"


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def call(*command, cwd):
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def copy_of_the_clone(folder):
    """The clone, called `fnn`, as `git clone` calls it."""
    return shutil.copytree(ROOT, folder / "fnn", ignore=LEFT_OUT)


def build(clone, kind, folder):
    """The wheel that setuptools builds of a clone: "wheel", or "editable" for `pip install -e`."""
    folder.mkdir()
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    call(sys.executable, "-c", code, folder, cwd=clone)
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


def environment(folder):
    """An environment whose Python finds what this one has, after what is installed in it."""
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder))
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "zz_borrowed.pth").write_text("\n".join(sorted(paths)))  # zz: read after the file of an editable install
    return python, site


def check_program_beside(clone, python):
    program = clone.parent / "first.py"
    program.write_text(PROGRAM)
    expected = f"{clone / 'fnn' / '__init__.py'} serial(dense(2), tanh) True"
    assert call(python, program, cwd=clone.parent) == expected
    assert call(python, "-c", PROGRAM, cwd=clone.parent) == expected


def test_a_wheel_holds_every_package_of_fnn_and_nothing_else(tmp_path):
    names = set(build(copy_of_the_clone(tmp_path), "wheel", tmp_path / "dist").namelist())
    metadata = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    present = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fnn").rglob("*.py")} | {"fnn/py.typed"}
    assert names - metadata == present
    assert {name.split("/", 1)[1] for name in metadata} >= {"METADATA", "licenses/LICENSE"}


def test_a_program_in_the_parent_folder_of_the_clone_finds_fnn(tmp_path):
    clone = copy_of_the_clone(tmp_path)
    python, site = environment(tmp_path / "venv")
    build(clone, "editable", tmp_path / "dist").extractall(site)
    check_program_beside(clone, python)


def test_the_extra_for_the_experiments_is_enough_for_every_program_of_the_readme():
    extras = PROJECT["optional-dependencies"]
    names = re.search(r"fnn\[(.*)\]", extras["experiments"][0])[1].split(",")
    assert set(names) == {"progress", "plots", "files", "sklearn", "tables"}
    commands = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert '-e ".[experiments]"' in commands[0] and '-e ".[test]"' in commands[1]
    assert "fnn[experiments]" in extras["test"]


def test_all_call_the_same_tools():
    pins = set(PROJECT["optional-dependencies"]["lint"])
    assert all("==" in pin for pin in pins)
    assert set(re.findall(r'"([\w-]+==[\d.]+)"', (ROOT / ".pre-commit-config.yaml").read_text())) == pins
    called = ["ruff check .", "ruff format --check .", "mypy", "codespell", "check-toml pyproject.toml"]
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    assert [f".venv-ci/bin/{tool}" for tool in called] == re.findall(
        r"^\.venv-ci/bin/(?!pip).*$", (ROOT / ".ci" / "run").read_text(), re.M
    )
    assert [tool for tool in called if f"- run: {tool}\n" not in workflow] == []


def test_the_workflow_tests_the_oldest_versions_and_every_python_that_the_project_names():
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    least = dict(re.match(r"([\w]+)>=([\d.]+)$", text).groups() for text in PROJECT["dependencies"])
    oldest = dict(pin.split("==") for pin in re.search(r'OLDEST: "(.*)"', workflow)[1].split())
    for name, version in oldest.items():
        assert version == least[name] or version == least[name] + ".0", name
    assert {"jax", "jaxlib", "optax"} == oldest.keys()
    named = {text.rsplit(" ", 1)[1] for text in PROJECT["classifiers"] if "Python :: 3." in text}
    assert set(re.findall(r"\d\.\d+", re.search(r"python: \[(.*)\]", workflow)[1])) == named


@pytest.mark.slow
def test_a_program_in_the_parent_folder_of_the_clone_finds_what_pip_installed(tmp_path):
    clone = copy_of_the_clone(tmp_path)
    python, _ = environment(tmp_path / "venv")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed"]
    call(python, "-m", "pip", "install", *options, "-e", clone, cwd=tmp_path)
    check_program_beside(clone, python)
