"""Many generated cases against the library: broken inputs, hostile files, kills, properties.

`python -m tests.campaign` runs the quick part, `--long` the long one; it prints the cases tried and held, and the
faults. Every case follows from its area, its number and the seed: `--only datasets:17 --seed 3` runs one again.

A case is held when the library does what it should, or refuses by a sentence of its own: one line, a ValueError
(DataError) or TypeError that is raised in the library's code. A fault is anything else: another error, a process that
dies or hangs, a file that was changed or made outside the case's folder, or numbers that are not what they should be.
"""
