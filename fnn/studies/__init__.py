"""Many runs: sweep, cross-validate, ensemble.

- `chunks`: Many runs of one config, its members: what each has of its own, and a chunk of them as one compiled
  program
- `folds`: The folds of a cross-validation: asked for, checked, and as tables of row numbers that all members share
- `search_space`: Which settings a sweep tries: a grid, points drawn at random, or a list; on the host
- `padding`: Shapes that one program trains: narrower networks padded to the widest, with padding that changes nothing
- `groups`: What sweeps, cross-validations and ensembles share: from a list of tasks to members that can run, to
  figures
- `jobs`: A chunk of members, run to its end in segments: in a thread of the caller's, or as a task of a worker
- `scheduler`: The host's loop around many members: chunk after chunk, on one or several devices or threads, to the
  end
- `results`: What each member of a study ended with; and tables of numbers with names, printed, sorted, written to a
  file
- `cross_validation`: `cross_validate`: how well a network does on rows that it has not seen, all folds as members
  of one program; and, with several settings, which of them does best
- `ensembles`: `ensemble`: one network trained from many seeds at once, and what they say together
- `sweeps`: `sweep`: one network trained with many settings, as a map over the same pure run
"""
