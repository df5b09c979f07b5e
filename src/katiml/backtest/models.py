"""Task models: what is trained on the labels that were chosen, by name or as an object."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput, KatiMLError, MissingExtra

__all__ = [
    "MODELS",
    "Codes",
    "Floats",
    "TaskModel",
    "Trained",
    "probabilities_of",
    "task_model",
    "train",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


class TaskModel(Protocol):
    """Anything with scikit-learn's `fit` and `predict`, and `predict_proba` or
    `decision_function` where a strategy asks for probabilities."""

    def fit(self, features: Any, labels: Any) -> Any:
        """Train on (N, D) features and (N,) labels."""

    def predict(self, features: Any) -> Any:
        """(N,) labels of (N, D) features."""


def _logistic_regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10, max_iter=5_000)


def _svm() -> Any:
    from sklearn.svm import SVC

    return SVC()


def _random_forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=100)


def _nearest_neighbors() -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=1)


def _mlp() -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(hidden_layer_sizes=(128,), early_stopping=False, max_iter=1_000)


MODELS: dict[str, Callable[[], Any]] = {
    "logistic-regression": _logistic_regression,
    "svm": _svm,
    "random-forest": _random_forest,
    "nearest-neighbors": _nearest_neighbors,
    "mlp": _mlp,
}


def task_model(model: Any) -> Any:
    """A fresh model by its name in MODELS, or the object itself.

    Raises InvalidInput for another name or an object without fit and predict, MissingExtra without
    scikit-learn.

    >>> task_model("svm")
    SVC()
    """
    if isinstance(model, str):
        make = MODELS.get(model.strip().lower().replace("_", "-"))
        if make is None:
            raise InvalidInput(
                f"no task model is called {model!r:.100}",
                hint=f"one of {', '.join(MODELS)}, or an object with fit and predict",
            )
        try:
            return make()
        except ImportError as error:
            raise MissingExtra(
                "task models by name need scikit-learn", hint="pip install 'katiml[backtest]'"
            ) from error
    if not all(callable(getattr(model, name, None)) for name in ("fit", "predict")):
        raise InvalidInput(
            f"a task model is {type(model).__name__}",
            hint=f"one of {', '.join(MODELS)}, or an object with fit and predict",
        )
    return model


class Trained:
    """A model that was fitted to some labels; `classes`, sorted, are the codes it has seen."""

    def __init__(self, model: Any, classes: Codes, count: int) -> None:
        self._model = model
        self._classes = classes
        self._count = count

    def predict(self, features: Floats) -> Codes:
        """(N,) codes of classes."""
        return np.asarray(self._model.predict(features)).astype(np.intp)

    def probabilities(self, features: Floats) -> Floats:
        """(N, classes); 0 for classes that it has not seen."""
        own = probabilities_of(self._model, features)
        if own.shape[1] != len(self._classes):
            raise InvalidInput(
                f"the task model gives {own.shape[1]} probabilities for {len(self._classes)}"
                " classes"
            )
        every = np.zeros((len(features), self._count))
        every[:, self._classes] = own
        return every


def train(model: Any, features: Floats, labels: Codes, count: int, seed: int) -> Trained:
    """A copy of `model`, fitted; random where the model is, by `seed`.

    `count` is how many classes there are in all. Raises InvalidInput where fitting fails.
    """
    fresh = copy.deepcopy(model)
    for step, value in getattr(fresh, "get_params", dict)().items():
        if step.rpartition("__")[2] == "random_state" and value is None:
            fresh.set_params(**{step: seed})
    try:
        fresh.fit(features, labels)
    except KatiMLError:
        raise
    except Exception as error:
        raise InvalidInput(
            f"the task model could not be fitted to {len(labels):,} labels:"
            f" {type(error).__name__}: {error}",
            hint="more initial labels, or another model",
        ) from error
    return Trained(fresh, np.unique(labels), count)


def probabilities_of(model: Any, features: Floats) -> Floats:
    """(N, C) probabilities of a fitted model.

    From `predict_proba`; otherwise of decision values d the softmax, of two classes the sigmoid:
    they order as the distances to the boundary do.

    >>> class Line:
    ...     def decision_function(self, features):
    ...         return features[:, 0]
    >>> probabilities_of(Line(), np.array([[0.0], [9.0]])).round(2).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(features), np.float64)
    if not hasattr(model, "decision_function"):
        raise InvalidInput(
            f"{type(model).__name__} gives no probabilities",
            hint="strategies that need them want predict_proba or decision_function",
        )
    values = np.asarray(model.decision_function(features), np.float64)
    if values.ndim == 1:
        values = np.stack([-values / 2, values / 2], axis=1)
    values = np.exp(values - values.max(axis=1, keepdims=True))
    found: Floats = values / values.sum(axis=1, keepdims=True)
    return found
