"""Calls of the operating system that fail: the one that is asked for, where a module makes it."""

import builtins
import os
import types


class File:
    """A file of which every write is counted."""

    def __init__(self, file, count):
        self.file, self.count = file, count

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *error):
        return self.file.__exit__(*error)

    def __iter__(self):
        return iter(self.file)

    def write(self, data):
        self.count("write")
        return self.file.write(data)


class Faults:
    """Counts the calls that some modules make of the operating system; one of them fails, if that is asked for.

    `calls` is the list of their names, in their order: "open" and "write" of a file, "os.open" of a folder, and the
    names of functions of `os`.
    """

    NAMES = ("fsync", "replace", "mkdir", "remove", "listdir", "rmdir", "stat")

    def __init__(self, monkeypatch, *modules):
        self.calls, self.name, self.place, self.error = [], None, None, None
        shim = types.SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
        for name in self.NAMES:
            setattr(shim, name, self.counted(name, getattr(os, name)))
        shim.open = self.counted("os.open", os.open)
        for module in modules:
            monkeypatch.setattr(module, "os", shim)
            monkeypatch.setattr(module, "open", self.open, raising=False)

    def fail(self, name, place, number):
        """Let the call of that name fail that has so many before it; name None: of any name."""
        self.name, self.place, self.error = name, place, OSError(number, os.strerror(number))

    def count(self, name):
        before = len(self.calls) if self.name is None else self.calls.count(name)
        self.calls.append(name)
        if self.error is not None and self.name in (None, name) and before == self.place:
            raise self.error

    def counted(self, name, function):
        def call(*args, **kwargs):
            self.count(name)
            return function(*args, **kwargs)

        return call

    def open(self, *args, **kwargs):
        self.count("open")
        return File(builtins.open(*args, **kwargs), self.count)
