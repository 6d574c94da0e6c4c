"""How fast fnn is on this machine. One file, one question: `python -m bench` all, `python -m bench step` one."""
