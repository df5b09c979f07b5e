"""Label-efficiency that others have measured comes out of `backtest`."""

from __future__ import annotations

from sklearn.datasets import load_digits

from katiml.backtest import backtest


def test_digits_with_logistic_regression() -> None:
    """Margin and k-center beat a random choice on the digits; entropy does not at first."""
    data = load_digits()
    found = backtest(
        data.data / 16,
        data.target,
        ["RANDOM", "ENTROPY", "MARGIN", "CORESET"],
        initial=20,
        batch=20,
        budget=300,
        seeds=8,
        standardize=False,
    )
    areas = found.areas.set_index("strategy")
    assert (areas.loc[["MARGIN", "CORESET"], "low"] > 0).all()
    table = found.table()
    assert table.loc[60, "ENTROPY"] < table.loc[60, "RANDOM"]
    assert table.loc[300, "ENTROPY"] > table.loc[300, "RANDOM"]
    # Half the labels: 152 of 300 with 20 seeds, give or take what 8 seeds leave open.
    saved = found.labels_to_reach().set_index("strategy").loc["MARGIN", "saved"]
    assert 0.35 < saved < 0.7
