"""The machine: its memory, its disk, threads, the processes beside this one, and pools of workers.

- `memory`: How much memory there is to take
- `atomic`: Files and folders that are whole or absent, on the disk as well as in the system's memory of it
- `placement`: Arrays put on every device of a mesh
- `threads`: Threads that a signal does not wait for, and that end quietly with the program
- `peers`: The processes that train one network together: what they agree on, and what becomes of them when one is
  gone
- `pools`: Tasks on a pool of workers, of this machine or of many: on what has the interface of
  `concurrent.futures.Executor`
"""
