"""`fit`: one run, from the host."""
