"""How fast KatiML is, always beside a floor measured in the same run on the same machine.

`make bench` or `python -m benchmarks`; `--quick` takes a tenth of the size.
"""
