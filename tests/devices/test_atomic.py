"""A file in its place at one stroke: modes, links, devices; what a message says of the contents is true."""

import errno
import os
import socket
import stat
import threading

import pytest

import fnn
from fnn.devices import atomic
from fnn.devices.atomic import make_folder, write_whole
from fnn.storage.saving import save
from tests.helpers.faults import Faults


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "file")


def content(path):
    with open(path, "rb") as file:
        return file.read()


def said(path, *pieces):
    with pytest.raises(OSError) as caught:
        write_whole(path, pieces)
    return caught.value


# ---- what is replaced


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o777, 0o444])
def test_the_mode_of_the_file_that_is_replaced_stays(path, mode):
    write_whole(path, [b"old"])
    os.chmod(path, mode)
    write_whole(path, [b"new"])
    assert content(path) == b"new" and stat.S_IMODE(os.stat(path).st_mode) == mode


def test_a_new_file_has_the_mode_of_any_other(path, tmp_path):
    (tmp_path / "plain").write_text("")
    write_whole(path, [b"new"])
    assert os.stat(path).st_mode == os.stat(tmp_path / "plain").st_mode


def test_nobody_else_can_read_the_new_contents_of_a_private_file_on_the_way(path, monkeypatch):
    write_whole(path, [b"old"])
    os.chmod(path, 0o600)
    modes, plain = [], os.fsync

    def fsync(handle):
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        plain(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(path, [b"new"])
    assert modes[0] == 0o600


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give a file away")
def test_the_owner_of_the_file_that_is_replaced_stays(path):
    write_whole(path, [b"old"])
    os.chown(path, 12345, 54321)
    write_whole(path, [b"new"])
    assert (os.stat(path).st_uid, os.stat(path).st_gid) == (12345, 54321)


@pytest.fixture
def run():
    return fnn.serial(), fnn.Run((), (), None, None)


def test_save_follows_a_link_and_leaves_it(tmp_path, run):
    (tmp_path / "far").mkdir()
    for link, target in (("to a file", "far/a"), ("to nothing", "far/b"), ("to a link", "to a file")):
        (tmp_path / link).symlink_to(target)
    for link, target in (("to a file", "a"), ("to nothing", "b"), ("to a link", "a")):
        save(tmp_path / link, *run)
        assert (tmp_path / link).is_symlink() and not (tmp_path / "far" / target).is_symlink()
        assert fnn.load(tmp_path / link)[1].params == ()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop: expected a file, got a link that leads to itself"):
        save(tmp_path / "loop", *run)
    assert sorted(os.listdir(tmp_path)) == ["far", "loop", "to a file", "to a link", "to nothing"]


def test_a_device_a_pipe_and_a_socket_are_refused_and_stay(tmp_path, run, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(os.devnull)
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        listening.bind("socket")
        for place in (tmp_path / "pipe", tmp_path / "socket", os.devnull, tmp_path / "link"):
            before = os.stat(place)
            with pytest.raises(OSError, match="expected a file to replace, got a device, a pipe or a socket"):
                save(place, *run)
            assert os.path.samestat(before, os.stat(place))
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe", "socket"]


def test_reading_a_pipe_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = []

    def read():
        with pytest.raises(fnn.DamagedFile, match="expected a file written by fnn, got a folder or a device"):
            fnn.load(tmp_path / "pipe")
        done.append(True)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(60)
    assert done


# ---- what a message says is true


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_until_the_rename_what_was_there_is_as_it_was(path, monkeypatch, call, number):
    write_whole(path, [b"old"])
    with monkeypatch.context() as patch:
        Faults(patch, atomic).fail(call, 0, number)
        error = said(path, b"new")
    assert error.errno == number and f"{path}: expected to write the file, got" in str(error)
    assert "what was there before is as it was" in str(error) and content(path) == b"old"
    assert os.listdir(os.path.dirname(path)) == ["file"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_after_the_rename_the_new_contents_are_there_and_the_message_says_so(path, monkeypatch, number):
    write_whole(path, [b"old"])
    with monkeypatch.context() as patch:
        Faults(patch, atomic).fail("fsync", 1, number)  # that of the folder
        error = said(path, b"new")
    assert error.errno == number and "expected to flush the folder to the disk" in str(error)
    assert "the new file is in its place, but a power cut now may bring back what was there before" in str(error)
    assert content(path) == b"new" and os.listdir(os.path.dirname(path)) == ["file"]


def test_a_folder_that_may_not_be_listed_is_written_to(path, monkeypatch):
    with monkeypatch.context() as patch:
        Faults(patch, atomic).fail("os.open", 0, errno.EACCES)
        write_whole(path, [b"new"])
    assert content(path) == b"new"


# ---- folders


def test_new_folders_are_flushed_in_their_parents(tmp_path, monkeypatch):
    flushed, plain = [], atomic.sync_folder
    monkeypatch.setattr(atomic, "sync_folder", lambda folder: (flushed.append(folder), plain(folder)))
    assert make_folder(str(tmp_path / "a" / "b" / "c")) == [str(tmp_path / way) for way in ("a", "a/b", "a/b/c")]
    assert flushed == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    assert make_folder(str(tmp_path / "a")) == []


@pytest.mark.parametrize("call, place", [("mkdir", 0), ("mkdir", 1), ("fsync", 0), ("fsync", 1)])
def test_of_folders_that_cannot_be_made_or_flushed_none_is_left(tmp_path, monkeypatch, call, place):
    with monkeypatch.context() as patch:
        Faults(patch, atomic).fail(call, place, errno.EIO)
        with pytest.raises(OSError, match="expected a folder that can be made, got 'Input/output error'"):
            make_folder(str(tmp_path / "a" / "b"))
    assert os.listdir(tmp_path) == []
