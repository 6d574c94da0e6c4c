"""Two writers in one folder: the second is refused at its start, by name and process; the first is unharmed; and
nothing stays behind, whatever ends a process."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fnn.storage import locks
from fnn.storage.locks import lock_folder
from tests.helpers.faults import Faults

WRITER = Path(__file__).parent.parent / "helpers" / "writers.py"


class Writer:
    """A process that trains when it is told to."""

    def __init__(self, cache):
        more = {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        more |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
        self.process = subprocess.Popen(
            [sys.executable, str(WRITER)],
            env=os.environ | more,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, kind, folder, wait=0.0, gate=None):
        task = {"kind": kind, "folder": str(folder), "wait": wait, "gate": gate and str(gate)}
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()

    def answer(self):
        """What became of it."""
        while (line := self.process.stdout.readline()) == "in\n":
            pass
        return json.loads(line)

    def wait_until_in(self):
        assert self.process.stdout.readline() == "in\n"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def writers(cache):
    two = [Writer(cache), Writer(cache)]
    yield two
    for writer in two:
        writer.kill()


def is_refusal(said, folder, holder):
    """Whether it was refused in the right words."""
    begin = f"BlockingIOError: checkpoint: expected a folder that nobody else writes to, got {folder}, which process "
    return said["digest"] is None and said["error"].startswith(f"{begin}{holder} on ")


def alone(writer, tmp_path, kind):
    writer.ask(kind, tmp_path / f"alone-{kind}")
    return writer.answer()["digest"]


def test_the_second_is_refused_and_the_first_unharmed_and_after_a_kill_the_folder_is_free(writers, tmp_path):
    one, other = writers
    whole = alone(one, tmp_path, "stream")
    for end in ("leave", "kill"):
        folder, gate = tmp_path / f"folder-{end}", tmp_path / f"gate-{end}"
        one.ask("stream", folder, gate=gate)
        one.wait_until_in()
        for kind in ("stream", "fit", "sweep"):
            other.ask(kind, folder)
            assert is_refusal(other.answer(), folder, one.process.pid)
        if end == "kill":
            one.kill()
        gate.touch()
        if end == "leave":
            assert one.answer()["digest"] == whole
        other.ask("stream", folder, gate=gate)
        assert other.answer()["digest"] == whole
        assert not any(name.startswith(".") for name in os.listdir(folder))


@pytest.mark.slow
@pytest.mark.parametrize("times", [100])
def test_two_processes_in_one_folder_at_random_times(writers, tmp_path, times):
    rng = random.Random(0)
    wholes = {kind: alone(writers[0], tmp_path, kind) for kind in ("fit", "other", "sweep")}
    refused = both = 0
    longest = 0.0
    for number in range(times):
        folder = tmp_path / str(number)
        kinds = [rng.choice(["fit", "sweep"]), rng.choice(["fit", "other", "sweep"])]
        for writer, kind in zip(writers, kinds, strict=True):
            writer.ask(kind, folder, wait=rng.uniform(0.0, 0.3))
        said = [writer.answer() for writer in writers]
        whole = [one["digest"] == wholes[kind] for one, kind in zip(said, kinds, strict=True)]
        assert any(whole), said
        for i in (0, 1):
            if whole[i]:
                continue
            other = said[1 - i]
            overlap = (
                other["begin"] < said[i]["begin"] + said[i]["seconds"]
                and said[i]["begin"] < other["begin"] + other["seconds"]
            )
            if overlap:
                assert is_refusal(said[i], folder, other["pid"]), said
                longest = max(longest, said[i]["seconds"])
            else:
                assert "ValueError: checkpoint: expected the " in said[i]["error"], said
            refused += overlap
        both += all(whole)
        assert not any(name.startswith(".") for _, _, names in os.walk(folder) for name in names)
    print(f"{times} times two processes: {refused} refused while the other trained, {both} one after the other")
    print(f"the longest refusal took {longest:.2f} s")
    assert refused > times / 2, "they hardly met"


# ---- the lock


def test_two_threads_exclude_each_other(tmp_path):
    said = []

    def second():
        try:
            with lock_folder(str(tmp_path)):
                said.append("locked")
        except BlockingIOError as error:
            said.append(str(error))

    with lock_folder(str(tmp_path)):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    second()
    assert f"which process {os.getpid()} (this one, in another call) on " in said[0] and said[1] == "locked"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["", "process 1 on elsewhere has used since long ago"])
def test_a_file_that_a_killed_process_left_is_no_lock(tmp_path, text):
    (tmp_path / ".lock").write_text(text)
    with lock_folder(str(tmp_path)):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert os.listdir(tmp_path) == []


def test_whatever_ends_the_with_the_lock_ends_too(tmp_path):
    for error in (ValueError, KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(error), lock_folder(str(tmp_path)):
            raise error
        with lock_folder(str(tmp_path)):
            pass


def test_a_process_that_ends_by_sigterm_leaves_no_file(tmp_path):
    code = """
import os, signal, sys, time
from fnn.fitting.interrupts import catch_signals
from fnn.storage.folders import open_folder
with open_folder(sys.argv[1], False), catch_signals():
    assert os.listdir(sys.argv[1]) == [".lock"]
    os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_hold_the_lock_of_its_parent_nor_end_it(tmp_path):
    code = """
import os, sys, time
from fnn.storage.locks import lock_folder
folder = sys.argv[1]
try:
    with lock_folder(folder):
        child = os.fork()
        if child == 0:
            raise SystemExit  # through the `with`
        os.waitpid(child, 0)
        assert os.path.exists(os.path.join(folder, ".lock"))
        if os.fork() == 0:
            sys.stdin.read()  # outlives its parent
        os._exit(0)  # as a kill does: the file stays
except SystemExit:
    os._exit(0)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert parent.wait(60) == 0
    assert os.listdir(tmp_path) == [".lock"]
    with lock_folder(str(tmp_path)):  # the child is there, and holds nothing
        pass
    assert parent.communicate()[1] == b""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.ENOLCK])
@pytest.mark.parametrize("call", ["open", "flock"])
def test_where_there_can_be_no_lock_it_is_said_and_the_work_goes_on(tmp_path, monkeypatch, call, number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    if call == "open":
        monkeypatch.setattr(locks, "open", fail, raising=False)
    else:
        monkeypatch.setattr("fcntl.flock", fail)
    match = f"expected to lock {tmp_path}, got '{os.strerror(number)}'. Make sure"
    with pytest.warns(UserWarning, match=match), lock_folder(str(tmp_path)):
        pass
    assert os.listdir(tmp_path) == []


def test_where_nothing_can_be_written_there_is_no_lock_and_no_warning(tmp_path, monkeypatch):
    Faults(monkeypatch, locks).fail("open", 0, errno.EROFS)
    with lock_folder(str(tmp_path)):
        assert os.listdir(tmp_path) == []


def test_a_lock_that_is_removed_while_it_is_waited_for_is_taken_anew(tmp_path, monkeypatch):
    """Between the opening of the file and its lock the holder has removed it."""
    plain, path = locks._try_lock, tmp_path / ".lock"
    path.write_text("")

    def removed(file):
        if not done:
            done.append(path.unlink())
        return plain(file)

    done = []
    monkeypatch.setattr(locks, "_try_lock", removed)
    with lock_folder(str(tmp_path)):
        assert path.exists()
        monkeypatch.setattr(locks, "_try_lock", plain)
        with pytest.raises(BlockingIOError), lock_folder(str(tmp_path)):
            pass


def test_a_holder_that_has_not_yet_written_its_name_is_waited_for(tmp_path, monkeypatch):
    names = iter(["", "", "process 1 on it has used since now"])
    with lock_folder(str(tmp_path)):
        monkeypatch.setattr(locks.time, "sleep", lambda seconds: (tmp_path / ".lock").write_text(next(names)))
        match = "which process 1 on it has used since now"
        with pytest.raises(BlockingIOError, match=match), lock_folder(str(tmp_path)):
            pass
