"""Miners beside the least that the same answer costs, and beside other libraries.

Floors are the same products by NumPy's BLAS, the same SQL by hand, the same bytes read by DuckDB.
Other libraries are compared with where they are installed: faiss, scikit-activeml, LanceDB.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import katiml
from benchmarks.common import Measure, Sizes, Topic, seconds
from benchmarks.queries import build_lake
from benchmarks.vectors import WIDTH, build_vector_lake, clustered, matrix_file
from katiml.miners import Inputs, get_strategy
from katiml.miners.coreset import k_center
from katiml.miners.mine import Request, mine
from katiml.vectors import load_vectors, nearest
from katiml.vectors.distances import Points

__all__ = ["run"]

_CENTRES = 50
_ENTROPY = """
    SELECT CAST(datapoint AS VARCHAR) AS id, CAST(metrics ->> 'entropy' AS DOUBLE) AS score
    FROM lake.predictions WHERE organization_id = 'default' AND model_name = 'resnet'
    ORDER BY score DESC NULLS LAST, datapoint LIMIT 1000
"""
_PEAK = """
import resource, sys
import numpy as np
from katiml.miners.coreset import k_center
from katiml.vectors import nearest

matrix = np.load(sys.argv[1], mmap_mode="r")
k_center(matrix, 20)
nearest(np.array(matrix[:100]), matrix, 10)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.platform == "linux":  # where ru_maxrss counts what started this process, too
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)
"""


def run(sizes: Sizes, folder: Path) -> Topic:
    """Loading, neighbours, k-center, entropy and BADGE."""
    count = sizes.of(1_000_000)
    topic = Topic(f"Miners on {count:,} x {WIDTH} float32", "NumPy, SQL, or as named")
    topic.measures += _loading(sizes, folder, count)
    matrix = np.load(matrix_file(folder, count), mmap_mode="r")
    points = Points(matrix)
    topic.measures += _neighbours(sizes, matrix, points)
    topic.measures += _k_center(sizes, matrix, points)
    topic.measures.append(_memory(folder, count))
    topic.measures.append(_entropy(sizes, folder, count))
    topic.measures += _badge(sizes)
    topic.measures += _peers(sizes, matrix, points)
    return topic


def _pair(
    here: Callable[[], object], floor: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """The medians of both, taken in turns: what else the machine does hits both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    here(), floor()
    for _ in range(repeats):
        for own, work in zip(times, (here, floor), strict=True):
            start = time.perf_counter()
            work()
            own.append(time.perf_counter() - start)
    return float(np.median(times[0])), float(np.median(times[1]))


def _loading(sizes: Sizes, folder: Path, count: int) -> list[Measure]:
    with katiml.connect(build_vector_lake(folder, count)) as lake:
        scope = lake.scope
        sql = "SELECT datapoint, data FROM {feature_vectors} WHERE model_name = 'resnet:layer4'"

        def read() -> None:
            for _ in scope.stream(sql):
                pass

        cold, floor = _pair(
            lambda: load_vectors(scope, model_name="resnet", skip_caching=True), read, sizes.repeats
        )
        load_vectors(scope, model_name="resnet")
        kept = matrix_file(folder, count)
        cached, mapped = _pair(
            lambda: load_vectors(scope, model_name="resnet"),
            lambda: np.load(kept, mmap_mode="r"),
            sizes.repeats + 2,
        )
    return [
        Measure(
            "load, cold (beside: DuckDB reads them)", seconds(cold), seconds(floor), cold / floor
        ),
        Measure("load, cached (beside: map the file)", seconds(cached), seconds(mapped)),
    ]


def _neighbours(sizes: Sizes, matrix: Any, points: Points) -> list[Measure]:
    queries = np.array(matrix[::997][:100]) + np.float32(0.01)
    measures = []
    for number in (1, 100):
        own = queries[:number]
        columns = np.ascontiguousarray(own.T) if number > 1 else own[0]
        step = 2**16 if number == 1 else 2**12

        def products(columns: Any = columns, step: int = step) -> None:
            # As in nearest, block by block: a whole product would need as much memory again.
            for start in range(0, len(matrix), step):
                np.matmul(matrix[start : start + step], columns)

        here, floor = _pair(lambda own=own: nearest(own, points, 10), products, sizes.repeats + 2)
        what = f"10 nearest, {number} quer{'y' if number == 1 else 'ies'}"
        measures.append(Measure(what, seconds(here), seconds(floor), here / floor, "1.2"))
    return measures


def _k_center(sizes: Sizes, matrix: Any, points: Points) -> list[Measure]:
    out = np.empty(len(matrix), np.float32)

    def products() -> None:
        for row in range(_CENTRES):
            np.matmul(matrix, matrix[row], out=out)

    here, floor = _pair(lambda: k_center(points, _CENTRES), products, max(1, sizes.repeats - 1))
    start = time.perf_counter()
    Points(matrix)
    norms = time.perf_counter() - start
    return [
        Measure(
            "CORESET, a pick",
            seconds(here / _CENTRES),
            seconds(floor / _CENTRES),
            here / floor,
            "1.2",
        ),
        Measure("CORESET, the norms, once", seconds(norms)),
    ]


def _memory(folder: Path, count: int) -> Measure:
    path = matrix_file(folder, count)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(path)], check=True, capture_output=True, text=True
    )
    peak, size = float(done.stdout), path.stat().st_size / 2**20
    what = "CORESET and neighbours, peak memory (beside: the matrix)"
    return Measure(what, f"{peak:.0f} MB", f"{size:.0f} MB", peak / size, "1.3")


def _entropy(sizes: Sizes, folder: Path, count: int) -> Measure:
    with katiml.connect(build_lake(folder, count)) as lake:
        store = lake.scope.store
        request = Request("ENTROPY", 1000, model_name="resnet")
        ids = [str(name, "ascii") for name in mine(lake.scope, request).ids]
        if ids != store.query(_ENTROPY)["id"].to_pylist():
            raise RuntimeError("KatiML and the SQL by hand disagree on ENTROPY")
        here, floor = _pair(
            lambda: mine(lake.scope, request), lambda: store.query(_ENTROPY), sizes.repeats + 2
        )
    return Measure("ENTROPY, top 1,000", seconds(here), seconds(floor), here / floor, "3")


def _badge(sizes: Sizes) -> list[Measure]:
    count, classes = sizes.of(100_000), 100
    random = np.random.default_rng(0)
    vectors = clustered(random, count)
    probabilities = random.dirichlet(np.full(classes, 0.1), count).astype(np.float32)
    inputs = Inputs(probabilities=probabilities, vectors=vectors)

    def products() -> None:
        for row in range(_CENTRES):
            np.matmul(vectors, vectors[row])
            np.matmul(probabilities, probabilities[row])

    here, floor = _pair(
        lambda: get_strategy("BADGE").pick(inputs, _CENTRES), products, max(1, sizes.repeats - 1)
    )
    what = f"BADGE, a pick, {count:,} x {classes} classes"
    return [
        Measure(what, seconds(here / _CENTRES), seconds(floor / _CENTRES), here / floor),
        Measure(
            "BADGE, memory (beside: gradients written out)",
            f"{(vectors.nbytes + 2 * probabilities.nbytes) / 1e9:.3g} GB",
            f"{4 * count * classes * WIDTH / 1e9:.3g} GB",
        ),
    ]


# -- other libraries -------------------------------------------------------------------------


def _peers(sizes: Sizes, matrix: Any, points: Points) -> list[Measure]:
    peers: dict[str, Callable[[Sizes, Any, Points], list[Measure]]] = {
        "faiss": _faiss,
        "lancedb": _lancedb,
        "skactiveml": _scikit_activeml,
    }
    return [
        measure
        for package, compare in peers.items()
        if find_spec(package)
        for measure in compare(sizes, matrix, points)
    ]


def _against(what: str, here: float, there: float) -> Measure:
    return Measure(what, seconds(here), seconds(there), here / there)


def _faiss(sizes: Sizes, matrix: Any, points: Points) -> list[Measure]:
    import faiss

    index = faiss.IndexFlatL2(matrix.shape[1])
    index.add(np.asarray(matrix))
    measures = []
    for number in (1, 100):
        queries = np.array(matrix[::997][:number])
        here, there = _pair(
            lambda queries=queries: nearest(queries, points, 10),
            lambda queries=queries: index.search(queries, 10),
            sizes.repeats,
        )
        measures.append(_against(f"10 nearest, {number}, beside faiss IndexFlatL2", here, there))
    return measures


def _lancedb(sizes: Sizes, matrix: Any, points: Points) -> list[Measure]:
    import lancedb
    import pyarrow as pa

    query = np.array(matrix[997])
    with tempfile.TemporaryDirectory(prefix="katiml-bench-") as home:
        flat = pa.array(np.asarray(matrix).reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])
        table = lancedb.connect(home).create_table("vectors", pa.table({"vector": vectors}))
        here, there = _pair(
            lambda: nearest(query[None], points, 10),
            lambda: table.search(query).limit(10).to_arrow(),
            sizes.repeats,
        )
    return [_against("10 nearest, 1, beside LanceDB without index", here, there)]


def _scikit_activeml(_sizes: Sizes, matrix: Any, _points: Points) -> list[Measure]:
    from skactiveml.pool import CoreSet

    # Its CoreSet keeps all distances of a step several times over: less of the matrix.
    part = np.array(matrix[: max(100, len(matrix) // 10)])
    labels = np.full(len(part), np.nan)
    labels[0] = 0
    here, there = _pair(
        lambda: k_center(part, 5, part[:1]),
        lambda: CoreSet(random_state=0).query(part, labels, batch_size=5),
        1,
    )
    what = f"CORESET, 5 of {len(part):,}, beside scikit-activeml"
    return [_against(what, here, there)]
