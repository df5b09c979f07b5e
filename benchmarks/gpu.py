"""Miners on a GPU: `python -m benchmarks.gpu`. Needs torch with CUDA and says so where it is not.

1,000,000 x 512 vectors: a pick of CORESET and 1,000 queries for their 10 nearest in float32 and
float16, and a pick of BADGE; each beside the same matrix products by torch alone, and with the ids
that NumPy picks on a part that the CPU can do.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.__main__ import show
from benchmarks.common import Measure, Topic, seconds
from benchmarks.vectors import clustered
from katiml._arrays import on_device
from katiml.miners import Inputs, get_strategy
from katiml.miners.coreset import k_center
from katiml.vectors import nearest
from katiml.vectors.distances import Points

__all__ = ["main", "run"]

_PICKS = 200


def run(count: int, width: int, device: str) -> Topic:
    """The table; `device` may be "cpu" to try the script where there is no GPU."""
    import torch

    name = torch.cuda.get_device_name(device) if device != "cpu" else "CPU"
    topic = Topic(f"{count:,} x {width} on {name}", "torch alone")
    random = np.random.default_rng(0)
    host = clustered(random, count, width)
    for kind in ("float32", "float16"):
        matrix = torch.empty(host.shape, dtype=getattr(torch, kind), device=device)
        matrix[:] = torch.from_numpy(host)
        topic.measures += _measured(matrix, kind, device)
        del matrix
    topic.measures.append(_badge(random, count // 10, device))
    topic.measures.append(_same_ids(random, min(count, 20_000), width, device))
    return topic


def _measured(matrix: Any, kind: str, device: str) -> list[Measure]:
    import torch

    points = Points(matrix)
    queries = matrix[:: max(1, len(matrix) // 1000)][:1000]
    aims = {"float32": ("0.79 ms x 1.3", ""), "float16": ("", "9 ms")}[kind]

    def step() -> None:
        for row in range(_PICKS):
            torch.matmul(matrix, matrix[row])

    def products() -> None:
        for start in range(0, len(matrix), 2**17):
            torch.matmul(matrix[start : start + 2**17], queries.T)

    centres = _time(lambda: k_center(points, _PICKS), device) / _PICKS
    floor = _time(step, device) / _PICKS
    found = _time(lambda: nearest(queries, points, 10), device)
    gemm = _time(products, device)
    return [
        Measure(
            f"CORESET, a pick, {kind}", seconds(centres), seconds(floor), centres / floor, aims[0]
        ),
        Measure(f"10 nearest, 1,000, {kind}", seconds(found), seconds(gemm), found / gemm, aims[1]),
    ]


def _badge(random: np.random.Generator, count: int, device: str) -> Measure:
    import torch

    vectors = _moved(clustered(random, count), device)
    said = _moved(random.dirichlet(np.full(100, 0.1), count).astype(np.float32), device)
    inputs = Inputs(probabilities=said, vectors=vectors)

    def products() -> None:
        for row in range(_PICKS):
            torch.matmul(vectors, vectors[row])
            torch.matmul(said, said[row])

    here = _time(lambda: get_strategy("BADGE").pick(inputs, _PICKS), device) / _PICKS
    floor = _time(products, device) / _PICKS
    what = f"BADGE, a pick, {count:,} x 100 classes"
    return Measure(what, seconds(here), seconds(floor), here / floor)


def _same_ids(random: np.random.Generator, count: int, width: int, device: str) -> Measure:
    """Whether the device picks and finds what NumPy does."""
    host = clustered(random, count, width)
    there = _moved(host, device)
    said = random.dirichlet(np.ones(20), count).astype(np.float32)
    pairs = [
        (k_center(host, 100)[0], k_center(there, 100)[0]),
        (nearest(host[:50], host, 10)[1], nearest(there[:50], there, 10)[1]),
        tuple(
            get_strategy("BADGE").pick(Inputs(probabilities=p, vectors=v), 50).positions
            for p, v in ((said, host), (_moved(said, device), there))
        ),
    ]
    same = [bool(np.array_equal(here, other)) for here, other in pairs]
    told = ", ".join(
        f"{name} {'the same' if equal else 'DIFFERENT'}"
        for name, equal in zip(("CORESET", "neighbours", "BADGE"), same, strict=True)
    )
    return Measure(f"ids beside NumPy's, {count:,}", told)


def _moved(array: Any, device: str) -> Any:
    import torch

    return torch.from_numpy(array) if device == "cpu" else on_device(array, device)


def _time(work: Callable[[], object], device: str) -> float:
    import torch

    def finished() -> None:
        work()
        if device != "cpu":
            torch.cuda.synchronize(device)

    finished()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        finished()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--device", default="cuda", help="cpu tries the script without a GPU")
    options = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("no GPU benchmark: torch is not installed")
    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit(
            "no GPU benchmark: torch finds no CUDA device here (--device cpu tries the script)"
        )
    start = time.perf_counter()
    topic = run(options.count, options.width, options.device)
    show(Console(width=120), topic, time.perf_counter() - start)


if __name__ == "__main__":
    main()
