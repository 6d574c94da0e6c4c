"""What the documents claim, tried: one file, one question. `python -m experiments --list` says what there is."""
