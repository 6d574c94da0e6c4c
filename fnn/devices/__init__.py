"""The machine: its memory, and threads.

- `memory`: How much memory there is to take
- `placement`: Arrays put on every device of a mesh
- `threads`: Threads that a signal does not wait for, and that end quietly with the program
"""
