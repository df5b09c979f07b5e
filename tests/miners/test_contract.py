"""What holds for every strategy, whatever it looks at."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from katiml.errors import InvalidInput
from katiml.miners import STRATEGIES, Inputs, Picks, Strategy, get_strategy, strategy_class
from tests.miners.pools import ROWS, pool, shuffled

ALL = list(STRATEGIES)
# Each pick has a score that no later one beats.
RANKED = [
    name for name in ALL if name not in ("RANDOM", "BADGE", "TYPICLUST", "MIXED", "MISLABELED")
]
# How many are wanted changes which clusters there are, and how many a first stage keeps.
DEPENDS_ON_SIZE = ("TYPICLUST", "MIXED")
ON_VECTORS = [name for name in ALL if {"vectors", "gradients"} & set(strategy_class(name).needs)]


def chosen(inputs: Inputs, picks: Picks) -> list[Any]:
    assert inputs.ids is not None
    return [inputs.ids[position] for position in picks.positions]


def same(first: Picks, second: Picks) -> None:
    np.testing.assert_allclose(first.scores, second.scores, rtol=1e-6, atol=1e-9)


# -- what is said of a strategy --------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_strategy_says_what_it_is(name: str) -> None:
    kind = strategy_class(name)
    assert kind.name == name
    assert kind.summary.endswith(".") and len(kind.summary) < 100
    assert len(kind.paper) > 20 and any(character.isdigit() for character in kind.paper)
    assert kind.__doc__ and kind.__doc__ != Strategy.__doc__
    known = {field.name for field in fields(Inputs)}
    for need in (*kind.needs, *kind.uses):
        assert need in known or need.startswith("metric:")


@pytest.mark.parametrize("name", ALL)
def test_defaults_are_values_that_may_be_told(name: str) -> None:
    kind = strategy_class(name)
    strategy = get_strategy(name)
    for parameter in kind.parameters:
        assert parameter.help and parameter.range()
        assert parameter.checked(name, parameter.default) == parameter.default
        assert strategy.settings[parameter.name] == parameter.default
        assert f"{parameter.name}=" in repr(strategy)


@pytest.mark.parametrize("name", ALL)
def test_unknown_and_wrong_parameters_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="colour"):
        get_strategy(name, colour="red")
    for parameter in strategy_class(name).parameters:
        for wrong in ([], {}, object(), True, float("nan"), -1, "no such choice", 10**30):
            if isinstance(wrong, parameter.type) and wrong == []:
                continue
            with pytest.raises(InvalidInput, match=parameter.name):
                get_strategy(name, **{parameter.name: wrong})


def test_a_name_is_found_in_any_case_and_a_wrong_one_is_guessed() -> None:
    assert strategy_class("query-by-committee") is strategy_class("QUERY_BY_COMMITTEE")
    with pytest.raises(InvalidInput, match="did you mean CORESET"):
        get_strategy("CORSET")
    for wrong in (None, 3, "", "x" * 10_000):
        with pytest.raises(InvalidInput, match="strategies are"):
            get_strategy(wrong)  # type: ignore[arg-type]


# -- picks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_picks_are_different_datapoints_with_scores_and_reasons(name: str) -> None:
    inputs = pool()
    picks = get_strategy(name).pick(inputs, 10, seed=3)
    assert len(picks) == 10 == len(set(picks.positions.tolist()))
    assert picks.positions.min() >= 0 and picks.positions.max() < ROWS
    assert picks.scores.dtype == np.float64 and picks.scores.shape == (10,)
    assert all(len(column) == 10 for column in picks.reasons.values())


@pytest.mark.parametrize("name", RANKED)
def test_the_best_come_first(name: str) -> None:
    picks = get_strategy(name).pick(pool(), ROWS, seed=3)
    scores = picks.scores[~np.isnan(picks.scores)]
    steps = np.diff(scores) if get_strategy(name).highest else -np.diff(scores)
    assert (steps <= 1e-12).all()


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_picks(name: str) -> None:
    inputs = pool()
    first, second = (get_strategy(name).pick(inputs, 15, seed=7) for _ in range(2))
    assert first.positions.tolist() == second.positions.tolist()
    same(first, second)


@pytest.mark.parametrize("name", ["RANDOM", "BADGE", "CORESET"])
def test_another_seed_gives_other_picks(name: str) -> None:
    inputs = pool(reference=None, reference_ids=None)
    picks = {tuple(get_strategy(name).pick(inputs, 15, seed=seed).positions) for seed in range(8)}
    assert len(picks) > 1


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_the_rows_does_not_matter(name: str) -> None:
    inputs = pool()
    other = shuffled(inputs)
    first = get_strategy(name).pick(inputs, 20, seed=5)
    second = get_strategy(name).pick(other, 20, seed=5)
    assert chosen(inputs, first) == chosen(other, second)
    same(first, second)
    for column, values in first.reasons.items():
        np.testing.assert_array_equal(np.asarray(values), np.asarray(second.reasons[column]))


@pytest.mark.parametrize("name", [name for name in ALL if name not in DEPENDS_ON_SIZE])
def test_fewer_picks_are_the_first_of_more(name: str) -> None:
    inputs = pool()
    few, many = (get_strategy(name).pick(inputs, size, seed=5) for size in (6, 30))
    assert few.positions.tolist() == many.positions[:6].tolist()


@pytest.mark.parametrize("name", ALL)
def test_more_than_the_pool_has_is_the_whole_pool(name: str) -> None:
    inputs = pool()
    picks = get_strategy(name).pick(inputs, 10 * ROWS, seed=5)
    assert sorted(picks.positions.tolist()) == list(range(ROWS))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [0, -1, True, 1.5, "3", None, float("nan")])
def test_a_size_that_is_none_is_refused(name: str, size: Any) -> None:
    with pytest.raises(InvalidInput, match="size is"):
        get_strategy(name).pick(pool(), size)


@pytest.mark.parametrize("name", ALL)
def test_an_empty_pool_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="the pool is empty"):
        get_strategy(name).pick(pool().take(np.array([], int)), 3)


@pytest.mark.parametrize("name", ALL)
def test_a_pool_of_one(name: str) -> None:
    picks = get_strategy(name).pick(pool().take(np.array([4])), 3)
    assert picks.positions.tolist() == [0]


@pytest.mark.parametrize("name", [name for name in ALL if strategy_class(name).needs])
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(InvalidInput, match="needs"):
        get_strategy(name).pick(Inputs(ids=["a", "b"]), 1)


@pytest.mark.parametrize("name", ALL)
def test_without_ids_positions_break_ties(name: str) -> None:
    with_ids, without = pool(), pool(ids=None)
    first, second = (get_strategy(name).pick(inputs, 12, seed=2) for inputs in (with_ids, without))
    assert first.positions.tolist() == second.positions.tolist()


@pytest.mark.parametrize("name", ALL)
def test_one_datapoint_twice_in_a_pool_is_refused(name: str) -> None:
    inputs = pool()
    ids = list(inputs.ids)  # type: ignore[arg-type]
    ids[5] = ids[9]
    with pytest.raises(InvalidInput, match="twice"):
        get_strategy(name).pick(replace(inputs, ids=ids), 3)


@pytest.mark.parametrize("name", ALL)
def test_arrays_of_another_pool_are_refused(name: str) -> None:
    inputs = pool()
    with pytest.raises(InvalidInput, match="datapoints, the pool has"):
        get_strategy(name).pick(replace(inputs, labels=np.zeros(ROWS + 1, int)), 3)


# -- values that are no numbers --------------------------------------------------------------


def _looked_at(name: str) -> list[str]:
    strategy = get_strategy(name)
    names = (*strategy.needs, *strategy.uses, *getattr(strategy, "sources", ()))
    arrays = ("vectors", "probabilities", "passes", "committee", "reference")
    if name == "MIXED":
        names = (*names, "probabilities")
    return [field for field in arrays if field in names]


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name in ALL for field in _looked_at(name)]
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_their_datapoint(
    name: str, field: str, value: float
) -> None:
    inputs = pool()
    array = np.array(getattr(inputs, field))
    array[(1, 7) if field == "committee" else 7] = value
    ids = inputs.reference_ids if field == "reference" else inputs.ids
    assert ids is not None
    said = "row 1" if field == "committee" else ids[7]
    with pytest.raises(InvalidInput, match=f"{field} of .*{said} hold NaN"):
        get_strategy(name).pick(replace(inputs, **{field: array}), 3)


# -- the reference ---------------------------------------------------------------------------

WITH_REFERENCE = [
    name for name in ALL if "reference" in (*strategy_class(name).needs, *strategy_class(name).uses)
]


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_what_is_in_the_reference_is_not_picked_again(name: str) -> None:
    inputs = pool()
    assert inputs.ids is not None
    taken = list(inputs.ids[:20])
    overlapping = replace(inputs, reference=inputs.vectors[:20], reference_ids=taken)
    picks = get_strategy(name).pick(overlapping, ROWS, seed=1)
    assert sorted(picks.positions.tolist()) == list(range(20, ROWS))
    with pytest.raises(InvalidInput, match="whole pool is in the reference"):
        get_strategy(name).pick(
            replace(inputs, reference=inputs.vectors, reference_ids=inputs.ids), 3
        )


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_an_empty_reference(name: str) -> None:
    empty = np.zeros((0, 8), np.float32)
    inputs = pool(reference=empty, reference_ids=[])
    if "reference" in strategy_class(name).needs:
        with pytest.raises(InvalidInput, match="reference, which is empty"):
            get_strategy(name).pick(inputs, 3)
    else:
        without = pool(reference=None, reference_ids=None)
        first, second = (get_strategy(name).pick(one, 9, seed=4) for one in (inputs, without))
        assert first.positions.tolist() == second.positions.tolist()


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_a_reference_of_another_width_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="values"):
        get_strategy(name).pick(pool(reference=np.ones((12, 5), np.float32)), 3)


# -- vectors of all kinds --------------------------------------------------------------------


def _settings(name: str) -> list[dict[str, Any]]:
    metrics = [one for one in strategy_class(name).parameters if one.name == "metric"]
    return [{"metric": metric} for one in metrics for metric in one.choices] or [{}]


VECTOR_CASES = [(name, settings) for name in ON_VECTORS for settings in _settings(name)]


@pytest.mark.parametrize(("name", "settings"), VECTOR_CASES)
def test_zero_and_repeated_vectors(name: str, settings: dict[str, Any]) -> None:
    inputs = pool()
    vectors = np.array(inputs.vectors)
    vectors[::3] = 0
    vectors[1::3] = vectors[1]
    for reference in (inputs.reference, np.zeros((3, 8), np.float32)):
        odd = replace(inputs, vectors=vectors, reference=reference, reference_ids=None)
        picks = get_strategy(name, **settings).pick(odd, ROWS, seed=2)
        assert sorted(picks.positions.tolist()) == list(range(ROWS))
        assert not np.isinf(picks.scores).any()


@pytest.mark.parametrize(("name", "settings"), VECTOR_CASES)
def test_where_and_how_vectors_are_stored_does_not_matter(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    inputs = pool()
    vectors = np.array(inputs.vectors, np.float16)
    reference = np.array(inputs.reference, np.float16)
    np.save(tmp_path / "vectors.npy", vectors.astype(np.float32))
    forms = {
        "float16": vectors,
        "float64": vectors.astype(np.float64),
        "columns first": np.asfortranarray(vectors.astype(np.float32)),
        "every second": np.repeat(vectors, 2, axis=0).astype(np.float32)[::2],
        "on disk": np.load(tmp_path / "vectors.npy", mmap_mode="r"),
    }
    found = {
        form: get_strategy(name, **settings)
        .pick(replace(inputs, vectors=array, reference=reference.astype(array.dtype)), 25, seed=3)
        .positions.tolist()
        for form, array in forms.items()
    }
    assert all(picks == found["float64"] for picks in found.values()), found


@pytest.mark.parametrize(("name", "settings"), VECTOR_CASES)
def test_the_size_of_blocks_does_not_matter(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = pool()
    whole = get_strategy(name, **settings).pick(inputs, 25, seed=3)
    for size in (1, 7, 64):
        monkeypatch.setattr("katiml.vectors.distances._BLOCK_ROWS", size)
        monkeypatch.setattr("katiml.vectors.distances._EXACT_VALUES", size * 8)
        monkeypatch.setattr("katiml.vectors.neighbors._QUERIES", size)
        monkeypatch.setattr("katiml.vectors.cover._TOGETHER", size)
        monkeypatch.setattr("katiml.vectors.seeding._VALUES", size * 8)
        monkeypatch.setattr("katiml.miners.density._PRODUCTS", size * size)
        monkeypatch.setattr("katiml.miners.activation._VALUES", size * 8)
        blocks = get_strategy(name, **settings).pick(inputs, 25, seed=3)
        assert blocks.positions.tolist() == whole.positions.tolist()
        same(blocks, whole)


@pytest.mark.parametrize("name", [name for name in ALL if name != "MISLABELED"])
def test_torch_picks_the_same(name: str) -> None:
    torch = pytest.importorskip("torch")
    inputs = pool()
    moved = {
        field.name: torch.from_numpy(np.array(value))
        for field in fields(inputs)
        if isinstance(value := getattr(inputs, field.name), np.ndarray)
        and field.name not in ("labels", "ids")
    }
    settings: list[dict[str, Any]] = _settings(name)
    for told in settings:
        here = get_strategy(name, **told).pick(inputs, 25, seed=3)
        there = get_strategy(name, **told).pick(replace(inputs, **moved), 25, seed=3)
        assert here.positions.tolist() == there.positions.tolist()
        np.testing.assert_allclose(here.scores, there.scores, rtol=1e-5, atol=1e-6)


# -- progress --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CORESET", "BADGE", "TYPICLUST", "NOVELTY", "OUTLIER", "DENSITY"])
def test_long_runs_say_how_far_they_are_and_can_be_stopped(name: str) -> None:
    said: list[tuple[int, int]] = []
    get_strategy(name).pick(pool(), 10, progress=lambda done, total: said.append((done, total)))
    assert said and said[-1][0] == said[-1][1]

    class Stopped(Exception):
        pass

    def stop(_done: int, _total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        get_strategy(name).pick(pool(), 10, progress=stop)
