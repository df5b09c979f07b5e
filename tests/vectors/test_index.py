"""Searches one query at a time, exact and by a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from katiml.errors import InvalidInput, MissingExtra
from katiml.vectors import Searcher, index, nearest


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
@pytest.mark.parametrize("exact", [True, False])
def test_neighbours_and_their_distances(metric: str, exact: bool) -> None:
    random = np.random.default_rng(0)
    matrix = random.standard_normal((800, 16)).astype(np.float32)
    queries = random.standard_normal((30, 16)).astype(np.float32)
    searcher = Searcher(matrix, metric, exact=exact)
    distances, positions = searcher.search(queries, 10)
    expected, rows = nearest(queries, matrix, 10, metric)
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(positions, rows, strict=True)])
    assert found == 1 if exact else found > 0.95
    same = positions == rows
    np.testing.assert_allclose(distances[same], expected[same], rtol=1e-6, atol=1e-6)


def test_a_graph_is_kept_and_made_anew_for_other_vectors(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    matrix = random.standard_normal((200, 8)).astype(np.float32)
    path = tmp_path / "graph.usearch"
    first = Searcher(matrix, exact=False, path=path).search(matrix[:5], 3)
    written = path.stat().st_mtime_ns
    again = Searcher(matrix, exact=False, path=path).search(matrix[:5], 3)
    assert path.stat().st_mtime_ns == written
    assert first[1].tolist() == again[1].tolist()
    assert Searcher(matrix[:50], exact=False, path=path).search(matrix[:5], 60)[1].shape == (5, 50)


def test_size_decides_and_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.eye(4, dtype=np.float32)
    assert Searcher(matrix).exact
    monkeypatch.setattr(index, "EXACT_BYTES", 10)
    assert not Searcher(matrix).exact
    monkeypatch.setitem(__import__("sys").modules, "usearch.index", None)
    with pytest.raises(MissingExtra, match="usearch"):
        Searcher(matrix, exact=False)
    monkeypatch.setattr(index, "_installed", lambda: False)
    assert Searcher(matrix).exact
    with pytest.raises(InvalidInput, match="metric"):
        Searcher(matrix, "manhattan")
