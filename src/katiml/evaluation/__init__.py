"""How good a model is: its predictions against ground truths.

`evaluate` and `compare` read a lake; `metrics`, `coco`, `matching` and `regions` are pure
functions on arrays.
"""

from __future__ import annotations

from katiml.evaluation.evaluation import Comparison, Evaluation, compare, evaluate

__all__ = ["Comparison", "Evaluation", "compare", "evaluate"]
