"""The miners of a lake: `lake.miners`, and mining in one call: `lake.mine`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from katiml.errors import InvalidInput, KatiMLError, NotFound
from katiml.miners.estimate import Estimate, estimate
from katiml.miners.registry import STRATEGIES, strategy_class
from katiml.mining.configuration import Configuration
from katiml.mining.explain import seen_by
from katiml.mining.miner import Miner
from katiml.mining.periods import parse_period
from katiml.mining.picked import Picked
from katiml.mining.rows import Row, insert_row, list_rows, read_row, tasks_of, update_row
from katiml.mining.run import memory_of, request_of, run_configuration
from katiml.mining.task import begin
from katiml.store.scope import Scope, ScopedTransaction
from katiml.store.store import Store
from katiml.tasks.follow import bar
from katiml.tasks.limits import check_memory

if TYPE_CHECKING:
    from katiml.datasets import Dataset, Version

_log = logging.getLogger("katiml.mining")

__all__ = ["Miners", "mine", "told_of", "with_due_miners"]


def told_of(
    strategy: str,
    size: int,
    filters: Any = None,
    *,
    limit: int | None = None,
    order_by: str | None = None,
    desc: bool | None = None,
    dataset: Dataset | str | None = None,
    version: Version | str | None = None,
    exclude_dataset: Dataset | str | None = None,
    reference_filters: Any = None,
    reference_limit: int | None = None,
    reference_order_by: str | None = None,
    reference_desc: bool | None = None,
    reference_dataset: Dataset | str | None = None,
    reference_version: Version | str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Arguments of Python as the names that HTTP uses.

    >>> told_of("RANDOM", 2, filters=[], seed=3)["select"]
    {'filters': []}
    """
    select = {
        "filters": filters,
        "limit": limit,
        "order_by": order_by,
        "desc": desc,
        "dataset_id": _id_of(dataset),
        "version_id": _id_of(version),
        "exclude_dataset_id": _id_of(exclude_dataset),
    }
    reference = {
        "filters": reference_filters,
        "limit": reference_limit,
        "order_by": reference_order_by,
        "desc": reference_desc,
        "dataset_id": _id_of(reference_dataset),
        "version_id": _id_of(reference_version),
    }
    told: dict[str, Any] = {"strategy": strategy, "size": size, **more}
    for name, chosen in (("select", select), ("select_reference", reference)):
        given = {key: value for key, value in chosen.items() if value is not None}
        if "filters" in given and not isinstance(given["filters"], list | tuple):
            given["filters"] = [given["filters"]]
        if given:
            told[name] = given
    return told


def _id_of(named: Dataset | Version | str | None) -> Any:
    return getattr(named, "id", named)


class Miners:
    """The miners of one organization."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    @property
    def strategies(self) -> dict[str, str]:
        """The names of the strategies, and a sentence on each."""
        return {name: strategy_class(name).summary for name in STRATEGIES}

    def create(
        self,
        strategy: str,
        size: int,
        filters: Any = None,
        *,
        display_name: str | None = None,
        limit: int | None = None,
        order_by: str | None = None,
        desc: bool | None = None,
        dataset: Dataset | str | None = None,
        version: Version | str | None = None,
        exclude_dataset: Dataset | str | None = None,
        reference_filters: Any = None,
        reference_limit: int | None = None,
        reference_order_by: str | None = None,
        reference_desc: bool | None = None,
        reference_dataset: Dataset | str | None = None,
        reference_version: Version | str | None = None,
        model_name: str | list[str] | None = None,
        embeddings_field: str | None = None,
        seed: int = 0,
        evaluation_period: str | None = None,
        **settings: Any,
    ) -> Miner:
        """Keep a miner in the lake; `run` it afterwards.

        `strategy` is one of `strategies`; `filters`, `limit`, `order_by` and `desc` select what it
        picks from, as in `lake.datapoints.select`, and those with `reference_` what it compares
        with. With a `dataset` (or a `version`) these are about its members, found at each run; none
        of `exclude_dataset` is picked. `model_name` is `model`, or `model:layer` for embeddings;
        `embeddings_field` is embeddings, grad_embeddings or logits. `settings` are parameters of
        the strategy, such as `metric`. With an `evaluation_period` (ISO 8601) it runs by itself
        where `katiml serve` runs. Raises InvalidInput and InvalidFilter.
        """
        told = told_of(
            strategy,
            size,
            filters=filters,
            limit=limit,
            order_by=order_by,
            desc=desc,
            dataset=dataset,
            version=version,
            exclude_dataset=exclude_dataset,
            reference_filters=reference_filters,
            reference_limit=reference_limit,
            reference_order_by=reference_order_by,
            reference_desc=reference_desc,
            reference_dataset=reference_dataset,
            reference_version=reference_version,
            display_name=display_name,
            model_name=model_name,
            embeddings_field=embeddings_field,
            seed=seed,
            evaluation_period=evaluation_period,
            **settings,
        )
        return self.create_as_told(told)

    def create_as_told(self, told: Mapping[str, Any]) -> Miner:
        """The same from the names that HTTP and `Miner.configuration` use."""
        configuration = Configuration.of(told)
        row = Row(configuration.told())
        row.configure(configuration)
        self._scope.transact(lambda transaction: insert_row(transaction, row))
        return Miner(self._scope, row)

    def get(self, miner_id: str) -> Miner:
        """The miner of that id; raises NotFound."""
        return Miner(self._scope, read_row(self._scope, miner_id))

    def list(self, limit: int | None = None) -> list[Miner]:
        """The miners, the newest first."""
        rows = list_rows(self._scope, limit)
        tasks = tasks_of(self._scope, rows)
        return [Miner(self._scope, row, tasks.get(row.task or "")) for row in rows]

    def estimate(self, strategy: str, size: int, filters: Any = None, **told: Any) -> Estimate:
        """What a run would take, with the arguments of `create`: how many vectors, how many are
        missing and why, how much memory. Raises InvalidInput where it would come to nothing."""
        return self.estimate_as_told(told_of(strategy, size, filters, **told))

    def estimate_as_told(self, told: Mapping[str, Any]) -> Estimate:
        """The same from the names that HTTP uses."""
        return estimate(self._scope, request_of(self._scope, Configuration.of(told)))

    def repeat(self, explanation: Mapping[str, Any]) -> Picked:
        """Run again what an explanation tells of, on the lake as it was then.

        The same ids come out unless predictions were replaced meanwhile: the lake keeps no older
        ones.
        """
        told = explanation.get("configuration") if isinstance(explanation, Mapping) else None
        if not isinstance(told, Mapping) or "lake_state" not in explanation:
            raise InvalidInput(
                "this is no explanation of a run", hint="give picked.explanation of an earlier one"
            )
        past = seen_by(self._scope, explanation["lake_state"])
        mined, explained = run_configuration(past, Configuration.of(told), again=explanation)
        return Picked(self._scope, mined, explained)

    def run_due(self) -> int:
        """Begin the runs whose time has come, by the miners' schedules; returns how many."""
        found = self._scope.query(
            "SELECT CAST(id AS VARCHAR) AS id FROM {miners} WHERE next_run_at <= now()"
        )
        return sum(self._run_due(miner_id) for miner_id in found.column("id").to_pylist())

    def _run_due(self, miner_id: str) -> bool:
        """Whoever moves the next run on is the one that begins this run."""

        def move(transaction: ScopedTransaction) -> Row | None:
            row = read_row(transaction, miner_id)
            period, now = row.configuration.evaluation_period, datetime.now(UTC)
            if row.next_run_at is None or period is None or row.next_run_at > now:
                return None
            row.next_run_at = parse_period(period).next(row.next_run_at, now)
            update_row(transaction, row)
            return row

        try:
            row = self._scope.transact(move)
            if row is None:
                return False
            begin(self._scope, miner_id)
        except NotFound:
            return False  # deleted meanwhile
        except KatiMLError as error:
            _log.warning("miner %s could not be run on schedule: %s", miner_id, error)
            return False
        return True


def mine(scope: Scope, told: Mapping[str, Any]) -> Picked:
    """Pick at once, in this thread, without keeping a miner; see `Miners.create` for the names."""
    configuration = Configuration.of(told)
    check_memory(memory_of(scope, configuration), f"this {configuration.request.strategy}")
    with bar(configuration.display_name) as reached:

        def progress(done: int, total: int) -> None:
            reached(done / total if total else None, f"{done:,} of {total:,}")

        return Picked(scope, *run_configuration(scope, configuration, progress=progress))


def with_due_miners(store: Store) -> list[str]:
    """The organizations of a lake with miners whose time has come."""
    found = store.query(
        "SELECT DISTINCT organization_id FROM lake.miners WHERE next_run_at <= now() "
        "ORDER BY organization_id"
    )
    names: list[str] = found.column("organization_id").to_pylist()
    return names
