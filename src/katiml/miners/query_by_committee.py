"""QUERY_BY_COMMITTEE: what several models disagree on."""

from __future__ import annotations

import numpy as np

from katiml._arrays import to_numpy
from katiml.errors import InvalidInput
from katiml.miners import scores
from katiml.miners.measured import top
from katiml.miners.strategy import Inputs, Parameter, Picks, Run, Strategy, names_of

__all__ = ["QueryByCommittee"]

_MEASURES = {"kl": scores.consensus_divergence, "vote_entropy": scores.vote_entropy}


class QueryByCommittee(Strategy):
    """The most disagreement among two or more models, such as ones trained on different folds.

    "kl" is the mean Kullback-Leibler divergence from the models' mean, "vote_entropy" the entropy
    of the classes that they vote for.
    """

    name = "QUERY_BY_COMMITTEE"
    summary = "What several models disagree on most."
    paper = "Seung, Opper and Sompolinsky, Query by Committee, COLT 1992"
    needs = ("committee",)
    uses = ("models", "class_names")
    parameters = (
        Parameter("measure", str, "kl", "how disagreement is measured", choices=tuple(_MEASURES)),
    )

    def _require(self, inputs: Inputs) -> None:
        super()._require(inputs)
        if inputs.committee.shape[0] < 2:
            raise InvalidInput(
                f"{self.name} wants two models or more", hint="give model_name a list of them"
            )

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:  # noqa: ARG002
        values = to_numpy(_MEASURES[self.settings["measure"]](inputs.committee))
        positions = top(values, size)
        votes = to_numpy(inputs.committee).argmax(axis=-1)[:, positions]
        classes = np.array(names_of(inputs.class_names, inputs.committee.shape[-1]), dtype=object)
        models = names_of(inputs.models, len(votes))
        said = {
            f"vote of {model}": classes[own].tolist()
            for model, own in zip(models, votes, strict=True)
        }
        return Picks(positions, values[positions].astype(np.float64), said)
