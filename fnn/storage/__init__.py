"""Files that are whole or absent: networks, runs, checkpoints."""
