"""Vectors as points of a plane: PCA, t-SNE, UMAP. However many there are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import to_numpy
from katiml.errors import InvalidInput, MissingExtra

__all__ = ["PROJECTIONS", "pca", "project"]

PROJECTIONS = ("pca", "tsne", "umap")

_VALUES = 2**23
# What t-SNE and UMAP look at: more components cost time and hardly change the picture.
_COMPONENTS = 50
_FEW = 2000


def project(matrix: Any, method: str = "pca", *, seed: int = 0) -> NDArray[np.float32]:
    """(N, 2) float32 places of (N, D) vectors in a plane; the same for the same seed.

    `method` is "pca" (exact, linear, about as fast as the vectors can be read), "tsne" (van der
    Maaten and Hinton, JMLR 2008; minutes for 100,000) or "umap" (McInnes, Healy and Melville, arXiv
    1802.03426; minutes for 1,000,000), in any case. The last two need the extra `plots`, and look
    at the first 50 principal components. Raises InvalidInput for another method or NaN,
    MissingExtra.

    >>> project(np.array([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [4.0, 0.0, 1.0]])).round(3).tolist()
    [[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]]
    """
    name = str(method).lower().replace("-", "").replace("_", "")
    if name not in PROJECTIONS:
        raise InvalidInput(
            f"{method!r:.100} is no projection", hint=f"projections: {', '.join(PROJECTIONS)}"
        )
    values = to_numpy(matrix)
    if values.ndim != 2:
        raise InvalidInput(f"vectors have {values.ndim} dimensions, not 2: rows and values")
    if name == "pca" or len(values) < 4:
        return pca(values, 2)
    reduced = pca(values, _COMPONENTS) if values.shape[1] > _COMPONENTS else np.array(values)
    place: Callable[[Any, int], Any] = {"tsne": _tsne, "umap": _umap}[name]
    return np.asarray(place(reduced.astype(np.float32), seed), np.float32)


def pca(matrix: Any, components: int) -> NDArray[np.float32]:
    """(N, components) float32: the directions of the largest variance, by D x D covariances.

    Reads the rows twice, in blocks. A direction points where its largest weight is positive; where
    vectors have fewer values than components, the rest is 0.

    >>> pca([[3.0, 4.0], [9.0, 12.0]], 1).round(3).tolist()
    [[-5.0], [5.0]]
    """
    values = np.asarray(matrix)
    count, width = values.shape
    result = np.zeros((count, components), np.float32)
    if not count:
        return result
    step = max(1, _VALUES // max(1, width))
    total, products = np.zeros(width), np.zeros((width, width))
    # About the first row: sums about 0 would lose what little differs far from it.
    origin = values[0].astype(np.float64)
    for start in range(0, count, step):
        block = values[start : start + step].astype(np.float64) - origin
        total += block.sum(axis=0)
        products += block.T @ block
    mean = total / count
    if not np.isfinite(mean).all():
        raise InvalidInput("vectors hold NaN or infinity", hint="send them again")
    _, directions = np.linalg.eigh(products / count - np.outer(mean, mean))
    chosen = directions[:, ::-1][:, :components]
    signs = np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])])
    chosen = chosen * np.where(signs == 0, 1.0, signs)
    for start in range(0, count, step):
        block = values[start : start + step].astype(np.float64) - (origin + mean)
        result[start : start + step, : chosen.shape[1]] = block @ chosen
    return result


def _tsne(values: NDArray[np.float32], seed: int) -> Any:
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise _missing("t-SNE", "scikit-learn") from None
    perplexity = min(30.0, (len(values) - 1) / 3)
    start = pca(values, 2)
    # As scikit-learn's own "pca": small, so that the first steps are not wasted on distances.
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)
    # Its thousand short steps on few vectors only make threads wait for each other.
    with threadpool_limits(1 if len(values) < _FEW else None):
        return TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(values)


def _umap(values: NDArray[np.float32], seed: int) -> Any:
    with warnings.catch_warnings():
        # Of numba and of SciPy, about UMAP's own use of them.
        warnings.simplefilter("ignore")
        try:
            from umap import UMAP
        except ImportError:
            raise _missing("UMAP", "umap-learn") from None
        neighbors = min(15, len(values) - 1)
        # Spectral starts fail on few vectors; with a seed UMAP works on one thread.
        start = "spectral" if len(values) > 50 else "random"
        model = UMAP(n_neighbors=neighbors, init=start, random_state=seed, n_jobs=1)
        return model.fit_transform(values)


def _missing(what: str, package: str) -> MissingExtra:
    return MissingExtra(
        f"{what} needs {package}, which is not installed", hint="pip install 'katiml[plots]'"
    )
