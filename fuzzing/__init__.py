"""Fuzzers: whatever bytes come in, decoders and cores answer with a value or one of their own errors.

`nox -s fuzz -- --minutes N` runs them. `fuzzing.targets` has one module for each decoder or core, with two names:

    seeds()      inputs to begin with, as bytes
    run(data)    hands one input to the code under test; raises only if that is wrong

atheris (https://github.com/google/atheris) chooses inputs by the lines of code that they reach. Where it has no wheel for this
Python, seeds are changed at random. Inputs that reach new lines are kept outside the repository (`--corpus`), for the next run.
An input that raises is written to `fuzzing/regressions/TARGET`, where it is a test (`tests/fuzzing`).
"""
