"""How fast fnn is on this machine. One file, one question; `python -m bench` answers all, `python -m bench step` one."""
