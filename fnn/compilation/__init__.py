"""One program for all runs that compute the same.

- `cache`: Compiled programs, remembered from call to call: one place for all, bounded by number, bytes and memory
  mappings
- `components`: The parts of a run as functions of arrays alone, to be traced: for telling whether two are the same
- `disk_cache`: Compiled programs kept on the disk, so that the next process need not compile them again
- `fingerprints`: What a function computes, as its traced program: to tell whether two functions are the same, and
  to lift numbers
- `same_bits`: On a GPU: the same bits whenever the same program is compiled
- `frozen`: A function as it was when it was traced, and how it compiles: large arrays that it has captured are
  arguments
- `probes`: What the parts of a run give for fixed inputs: the same where they compute the same, whatever compiled
  them
- `programs`: Compiled programs, remembered: one for every run that computes the same, whatever its numbers, seeds
  and data
"""
