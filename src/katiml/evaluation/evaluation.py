"""`evaluate` and `compare`: models' predictions against ground truths, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput
from katiml.evaluation import classification, detection, segmentation
from katiml.evaluation.metrics import Confusion, averages, by_class, wilson_interval
from katiml.evaluation.selection import BOXED, Selected, coverage_of, select_truths
from katiml.query.fields import shown
from katiml.query.ordering import whole_number

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from katiml.store import Scope

__all__ = ["NOTHING_NAME", "Comparison", "Evaluation", "compare", "evaluate"]

# How tables name the class of what is not there.
NOTHING_NAME = "(none)"
OnProgress = Callable[[float], None]


@dataclass(frozen=True)
class _Options:
    iou_threshold: float = 0.5
    min_confidence: float = 0.5
    ignore_classes: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Evaluation:
    """How one model did. `overall` maps names of metrics to numbers.

    CLASSIFICATION: accuracy with its 95 % interval `accuracy_low`, `accuracy_high` (Wilson), and
    precision, recall, f1 and iou (the Jaccard index), each `_macro`, `_micro` and `_weighted`.
    SEGMENTATION the same in pixels, without the interval; `mean_iou` is `iou_macro`. Boxes and
    instances: the same but for accuracy, at one IoU and confidence, and COCO's map, map_50,
    map_75, mar_100 and others.
    """

    model_name: str
    task_type: str
    overall: dict[str, float]
    # Datapoints compared, and those with ground truths that the model did not predict.
    datapoints: int
    without_prediction: int
    confusion: Confusion
    class_columns: dict[str, NDArray[Any]]
    # What was left out of a segmentation.
    ignored_pixels: int = 0
    _options: _Options = _Options()
    _selected: Selected | None = field(default=None, repr=False, compare=False)

    @property
    def per_class(self) -> pd.DataFrame:
        """One row a class: class_name, support, predicted, correct, precision, recall, f1, iou.

        Of boxes and instances also ap, ap_50, ap_75 and ar_100 (NaN without a true object).
        """
        import pandas as pd

        return pd.DataFrame({"class_name": self.confusion.names, **self.class_columns})

    @property
    def confusion_matrix(self) -> pd.DataFrame:
        """Counts by truth (rows) and prediction (columns); `(none)` where anything is without.

        Raises TooLarge for more than 5,000 classes.
        """
        import pandas as pd

        names = [*self.confusion.names, NOTHING_NAME]
        matrix = self.confusion.matrix()
        frame = pd.DataFrame(
            matrix,
            index=pd.Index(names, name="truth"),
            columns=pd.Index(names, name="predicted"),
        )
        rows, columns = matrix[-1].any(), matrix[:, -1].any()
        end = len(names) - 1
        return frame.iloc[: end + bool(rows), : end + bool(columns)]

    @property
    def confusions(self) -> pd.DataFrame:
        """The cells that are not empty: truth, predicted, count; the most frequent first."""
        import pandas as pd

        names = np.array([*self.confusion.names, NOTHING_NAME], dtype=object)
        frame = pd.DataFrame(
            {
                "truth": names[self.confusion.truth],
                "predicted": names[self.confusion.predicted],
                "count": self.confusion.count,
            }
        )
        return frame.sort_values(
            ["count", "truth", "predicted"], ascending=[False, True, True], ignore_index=True
        )

    def mistakes(
        self, truth: str | None = None, predicted: str | None = None, *, limit: int = 50
    ) -> pd.DataFrame:
        """What stands behind a cell of the confusion matrix, the worst first.

        Without `truth` or `predicted`, whatever was mistaken; `(none)` names what is not there.
        Columns: datapoint, truth, predicted, and confidence and prediction of CLASSIFICATION;
        confidence, bbox, top, left, height, width of boxes; pixels and share of SEGMENTATION.
        Read from the lake as it is now. Raises InvalidInput for a class that does not occur.
        """
        import pandas as pd

        size = whole_number("limit", limit) or 0
        for name in (truth, predicted):
            if name is not None and name not in (*self.confusion.names, NOTHING_NAME):
                listed = ", ".join(map(repr, self.confusion.names[:20]))
                raise InvalidInput(f"no class {shown(name)} here", hint=f"classes: {listed}")
        if self._selected is None:
            raise InvalidInput("this evaluation was not read from a lake")
        if self.task_type in BOXED:
            rows: Any = detection.list_mistakes(
                self._selected,
                truth,
                predicted,
                size,
                self._options.iou_threshold,
                self._options.min_confidence,
                NOTHING_NAME,
            )
            columns = [
                "datapoint", "truth", "predicted", "confidence", "bbox", "top", "left", "height",
                "width",
            ]  # fmt: skip
            return pd.DataFrame(rows, columns=columns)
        if self.task_type == "SEGMENTATION":
            rows = segmentation.list_mistakes(
                self._selected, truth, predicted, size, self._options.ignore_classes
            )
            frame = pd.DataFrame(
                rows, columns=["datapoint", "truth", "predicted", "pixels", "share"]
            )
        else:
            frame = classification.list_mistakes(
                self._selected, truth, predicted, size, NOTHING_NAME
            ).to_pandas()
        frame["predicted"] = frame["predicted"].fillna(NOTHING_NAME)
        return frame

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values: what the HTTP API answers; NaN becomes None."""
        columns = self.class_columns
        names = [*self.confusion.names, NOTHING_NAME]
        return {
            "model_name": self.model_name,
            "task_type": self.task_type,
            "datapoints": self.datapoints,
            "without_prediction": self.without_prediction,
            "overall": {name: _plain(value) for name, value in self.overall.items()},
            "per_class": [
                {"class_name": name, **{key: _plain(columns[key][row]) for key in columns}}
                for row, name in enumerate(self.confusion.names)
            ],
            "confusions": [
                {"truth": names[a], "predicted": names[b], "count": count}
                for a, b, count in zip(
                    self.confusion.truth.tolist(),
                    self.confusion.predicted.tolist(),
                    self.confusion.count.tolist(),
                    strict=True,
                )
            ],
        }

    def __repr__(self) -> str:
        headline = {"CLASSIFICATION": "accuracy", "SEGMENTATION": "mean_iou"}
        name = headline.get(self.task_type, "map")
        return (
            f"<Evaluation of {self.model_name!r}, {self.task_type}: {name} "
            f"{self.overall[name]:.4f} on {self.datapoints:,} datapoints>"
        )

    def __str__(self) -> str:
        from katiml.evaluation.tables import as_text

        return as_text(self.__rich__())

    def __rich__(self) -> RenderableType:
        from katiml.evaluation.tables import evaluation_table

        return evaluation_table(self)


class Comparison(Mapping[str, Evaluation]):
    """Several models on the same datapoints: an Evaluation by model name.

    `overall` is a DataFrame with one row a model and one column a metric.
    """

    def __init__(self, evaluations: Sequence[Evaluation]) -> None:
        self._evaluations = {one.model_name: one for one in evaluations}

    def __getitem__(self, model_name: str) -> Evaluation:
        return self._evaluations[model_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._evaluations)

    def __len__(self) -> int:
        return len(self._evaluations)

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(map(repr, self))}>"

    @property
    def overall(self) -> pd.DataFrame:
        """The metrics of each model: a row a model."""
        import pandas as pd

        return pd.DataFrame(
            {name: one.overall for name, one in self._evaluations.items()}
        ).T.rename_axis("model_name")

    def per_class(self, metric: str = "f1") -> pd.DataFrame:
        """One metric by class (rows) and model (columns); NaN for a class that a model lacks.

        Raises InvalidInput for a metric that there is none of.
        """
        import pandas as pd

        for one in self._evaluations.values():
            if metric not in one.class_columns:
                raise InvalidInput(
                    f"no metric {shown(metric)} by class",
                    hint=f"metrics are: {', '.join(one.class_columns)}",
                )
        return pd.DataFrame(
            {
                name: pd.Series(one.class_columns[metric], index=one.confusion.names)
                for name, one in self._evaluations.items()
            }
        ).rename_axis("class_name")

    def to_dict(self) -> dict[str, Any]:
        """The `to_dict` of each model, by name."""
        return {name: one.to_dict() for name, one in self._evaluations.items()}

    def __str__(self) -> str:
        from katiml.evaluation.tables import as_text

        return as_text(self.__rich__())

    def __rich__(self) -> RenderableType:
        from katiml.evaluation.tables import comparison_table

        return comparison_table(self)


def evaluate(
    scope: Scope,
    model_name: str,
    filters: Any = None,
    *,
    task_type: str | None = None,
    iou_threshold: float = 0.5,
    min_confidence: float = 0.5,
    ignore_classes: Sequence[str] = (),
    count_missing: bool = False,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Compare predictions with the ground truths of the datapoints that pass `filters`.

    `task_type` is needed where the model has predictions of several. Datapoints without a
    prediction are counted but left out, unless `count_missing` has them count as wrong.
    `iou_threshold` and `min_confidence` say which boxes count in the confusions, and which are
    taken to be the same; average precision needs neither. Pixels whose true class is in
    `ignore_classes` are left out. `on_progress` is called with the share done, 0 to 1.

    Raises NotFound for a model without predictions, InvalidInput where nothing can be compared.

    >>> import katiml
    >>> cat = {"task_type": "CLASSIFICATION", "class_name": "cat"}
    >>> with katiml.connect(getfixture("tmp_path")) as lake:
    ...     _ = lake.ingest([{"type": "IMAGE", "groundtruths": [cat], "predictions": [
    ...         {**cat, "model_name": "small"}]}])
    ...     evaluate(lake.scope, "small")
    <Evaluation of 'small', CLASSIFICATION: accuracy 1.0000 on 1 datapoints>
    """
    options = _options(iou_threshold, min_confidence, ignore_classes)
    selected = select_truths(scope, model_name, filters, task_type, count_missing=count_missing)
    return _evaluate(selected, options, on_progress)


def compare(
    scope: Scope,
    model_names: Sequence[str],
    filters: Any = None,
    *,
    task_type: str | None = None,
    iou_threshold: float = 0.5,
    min_confidence: float = 0.5,
    ignore_classes: Sequence[str] = (),
    count_missing: bool = False,
    on_progress: OnProgress | None = None,
) -> Comparison:
    """`evaluate` for several models, on the datapoints that all of them have predicted.

    With `count_missing` on all datapoints with ground truths instead.

    >>> import katiml
    >>> cat = {"task_type": "CLASSIFICATION", "class_name": "cat"}
    >>> with katiml.connect(getfixture("tmp_path")) as lake:
    ...     _ = lake.ingest([{"type": "IMAGE", "groundtruths": [cat], "predictions": [
    ...         {**cat, "model_name": name} for name in ("small", "large")]}])
    ...     compare(lake.scope, ["small", "large"]).overall["accuracy"].tolist()
    [1.0, 1.0]
    """
    options = _options(iou_threshold, min_confidence, ignore_classes)
    names = list(dict.fromkeys(_names("model_name", model_names)))
    if not names:
        raise InvalidInput("no model is named", hint="give one model_name, or several")
    found: list[Evaluation] = []
    for name in names:
        selected = select_truths(
            scope,
            name,
            filters,
            task_type or (found[0].task_type if found else None),
            count_missing=count_missing,
            also_predicted_by=() if count_missing else names,
        )
        found.append(_evaluate(selected, options, _part(on_progress, len(found), len(names))))
    return Comparison(found)


def _part(on_progress: OnProgress | None, index: int, count: int) -> OnProgress | None:
    """Progress of the index-th of some equal parts."""
    if on_progress is None:
        return None
    return lambda share: on_progress((index + share) / count)


def _evaluate(selected: Selected, options: _Options, on_progress: OnProgress | None) -> Evaluation:
    ignored = 0
    scores: dict[str, float] = {}
    more: dict[str, NDArray[Any]] = {}
    if selected.task_type == "CLASSIFICATION":
        confusion, covered = classification.count_confusions(selected)
    else:
        covered = coverage_of(selected)
        reached = _counted(on_progress, covered.datapoints)
        if selected.task_type in BOXED:
            boxes = detection.evaluate_detections(
                selected, options.iou_threshold, options.min_confidence, reached
            )
            confusion, scores, more = boxes.confusion, boxes.overall, boxes.by_class
        else:
            pixels = segmentation.count_pixels(selected, options.ignore_classes, reached)
            confusion, ignored = pixels.confusion, pixels.ignored
    if on_progress:
        on_progress(1.0)
    return Evaluation(
        selected.model_name,
        selected.task_type,
        _overall(selected.task_type, confusion, scores),
        covered.datapoints,
        covered.without_prediction,
        confusion,
        {**by_class(confusion), **more},
        ignored,
        options,
        selected,
    )


def _counted(on_progress: OnProgress | None, total: int) -> Callable[[int], None] | None:
    """Progress told as a number of images."""
    if on_progress is None:
        return None
    return lambda images: on_progress(min(1.0, images / max(1, total)))


def _overall(task_type: str, confusion: Confusion, scores: Mapping[str, float]) -> dict[str, float]:
    pooled = averages(confusion)
    if task_type in BOXED:
        return {**scores, **pooled}
    accuracy = confusion.correct / confusion.total if confusion.total else 0.0
    if task_type == "SEGMENTATION":
        return {"mean_iou": pooled["iou_macro"], "accuracy": accuracy, **pooled}
    low, high = wilson_interval(confusion.correct, confusion.total)
    return {"accuracy": accuracy, "accuracy_low": low, "accuracy_high": high, **pooled}


def _options(iou_threshold: Any, min_confidence: Any, ignore_classes: Any) -> _Options:
    return _Options(
        _share("iou_threshold", iou_threshold),
        _share("min_confidence", min_confidence),
        _names("ignore_classes", ignore_classes),
    )


def _share(name: str, value: Any) -> float:
    try:
        number = float(value) if not isinstance(value, bool | str) else float("nan")
    except (TypeError, ValueError):
        number = float("nan")
    if not 0.0 <= number <= 1.0:
        raise InvalidInput(f"{name} is {shown(value)}", hint="a number from 0 to 1")
    return number


def _names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence | set | frozenset):
        raise InvalidInput(f"{name} is {shown(value)}", hint="give a list of texts")
    if not all(isinstance(item, str) for item in value):
        raise InvalidInput(f"{name} is {shown(value)}", hint="give a list of texts")
    return tuple(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
