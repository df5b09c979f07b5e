"""Undoing what changes did to records.

What a change wrote is taken away and what it took away is put back, but for what later changes have
touched: the same datapoint's own fields, the same tag, the ground truth or prediction with the same
key. Whatever is left alone is counted, with the reason.

A row knows the changes that wrote it: `since`, and of a restored row also `origins`. So a row that
came back is still the work of those who made it, and changes can be undone one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from katiml.history.outcome import Outcome
from katiml.history.undoing import Target
from katiml.schema import RECORD_TABLES, REMOVED, TABLES
from katiml.store.views import bind, inside

if TYPE_CHECKING:
    from katiml.store import ScopedTransaction

__all__ = ["touch", "undo_records"]

_CHANGED = "changed since"
_DELETED = "deleted since"
_USED = "others have added to them since"
_NO_DATAPOINT = "their datapoint is not there"
_NO_OWNER = "what they belong to is not there"
_OWNER_CHANGED = "what they belong to was changed since"
_PATCHED = "patched, and what they were before is not kept"
_REPLACED = "replaced, which is not kept"

# What makes two rows the same thing, so that one stands in for the other.
_KEYS = {
    "datapoints": ("id",),
    "tags": ("datapoint", "name"),
    "groundtruths": ("datapoint", "task_type"),
    "predictions": ("datapoint", "task_type", "model_name"),
}
_CHILDREN = tuple(table for table in RECORD_TABLES if table not in _KEYS)
_ATTACHED = tuple(table for table in RECORD_TABLES if table != "datapoints")
_NONE = pa.table({"id": pa.array([], pa.string())})


def undo_records(transaction: ScopedTransaction, target: Target) -> Outcome:
    """Undo what changes did to records; returns what was done and what was left alone."""
    work = _Undoing(transaction, target)
    # Tables that the changes have not written are left unread.
    written = {table for change in target.changes for table in change.rows}
    if not written & set(RECORD_TABLES):
        return work.outcome
    work.stage("undo_kept", _NONE)
    if "datapoints" in written:
        work.datapoints()
    for table in ("tags", "groundtruths", "predictions"):
        if table in written:
            work.attachments(table)
    left = pa.concat_tables(work.left)
    work.stage("undo_alone", pa.concat_tables(work.alone))
    work.stage("undo_left", left)
    for table in _CHILDREN:
        if table in written or left.num_rows:
            work.children(table)
    work.sweep()
    if not work.outcome.is_empty:
        touch(transaction)
    return work.outcome


def touch(transaction: ScopedTransaction) -> None:
    """Mark the datapoints of what this transaction put back or took away as changed.

    Ingest does so too: on DuckLake two writers of one datapoint conflict by it, and one waits.
    """
    parts = [
        f"SELECT datapoint FROM {{{prefix}{table}}} WHERE {column} = $this"
        for table in _ATTACHED
        for prefix, column in (("", "since"), (REMOVED, "until"))
    ]
    transaction.update(
        "datapoints",
        "updated_at = now()",
        f"id IN ({' UNION ALL '.join(parts)})",
        {"this": transaction.change},
    )


class _Undoing:
    """The undoing of some changes, table after table, parents first."""

    def __init__(self, transaction: ScopedTransaction, target: Target) -> None:
        self.transaction = transaction
        self.target = target
        self.outcome = Outcome()
        # Parents that were left alone, and parents that left without another in their place.
        self.alone = [_NONE]
        self.left = [_NONE]
        self.gone = _NONE
        wrote, numbers = inside("since", target.numbers, "undo_numbers")
        self.took = inside("until", target.numbers, "undo_numbers")[0]
        # Whether the content of a row is older than the changes.
        self.old, earlier = inside("coalesce(origins[1], since)", target.earlier, "undo_earlier")
        # Whether a row is the work of the changes.
        self.mine = f"({wrote} OR coalesce(list_has_any(origins, $undo_list), FALSE))"
        self.parameters = {
            **numbers,
            **earlier,
            "undo_list": sorted(target.numbers),
            "undo_began": target.began,
        }

    def query(self, sql: str) -> pa.Table:
        return self.transaction.query(sql, bind(sql, {}, self.parameters))

    def stage(self, name: str, ids: pa.Table) -> None:
        self.transaction.stage(name, ids.select([0]).cast(_NONE.schema).combine_chunks())

    def datapoints(self) -> None:
        """Datapoints that the changes made, unless others have added to them; changed fields."""
        found = self.compared("datapoints", "TRUE", "TRUE")
        written, taken = found["written"], found["taken"]
        made = written.filter(pc.invert(pc.is_in(written["id"], taken["id"])))
        used = self.used(made)
        self.outcome.skip("datapoints", used.num_rows, _USED)
        # Of a new datapoint whose fields were changed since, the rest is left alone as well.
        self.stage("undo_changed", found["blocked"])
        changed = self.query(
            "SELECT id FROM undo_changed WHERE CAST(id AS UUID) NOT IN "
            f"(SELECT id FROM {{{REMOVED}datapoints}} WHERE {self.took} AND NOT {self.mine})"
        )
        self.stage("undo_kept", pa.concat_tables([used, changed]))
        left = written.filter(pc.invert(pc.is_in(written["id"], used["id"])))
        self.apply("datapoints", left, taken)
        self.gone = left.filter(pc.invert(pc.is_in(left["id"], taken["id"])))

    def used(self, made: pa.Table) -> pa.Table:
        """Of new datapoints those that have rows of others, and what these were made from."""
        if not made.num_rows:
            return _NONE
        self.stage("undo_made", made)
        chosen = "IN (SELECT CAST(id AS UUID) FROM undo_made)"
        parts = [
            f"SELECT datapoint AS id FROM {{{table}}} WHERE datapoint {chosen} AND NOT {self.mine}"
            for table in _ATTACHED
        ]
        parts.append(
            "SELECT parent_datapoint AS id FROM {datapoints} "
            f"WHERE parent_datapoint {chosen} AND NOT {self.mine}"
        )
        used = self.query(
            f"SELECT DISTINCT CAST(id AS VARCHAR) AS id FROM ({' UNION ALL '.join(parts)})"
        )
        while True:
            self.stage("undo_used", used)
            parents = self.query(
                "SELECT DISTINCT CAST(parent_datapoint AS VARCHAR) AS id FROM {datapoints} "
                f"WHERE parent_datapoint {chosen} "
                "AND id IN (SELECT CAST(id AS UUID) FROM undo_used) "
                "AND parent_datapoint NOT IN (SELECT CAST(id AS UUID) FROM undo_used)"
            )
            if not parents.num_rows:
                return used
            used = pa.concat_tables([used, parents])

    def attachments(self, table: str) -> None:
        """Tags, ground truths or predictions."""
        kept = "datapoint IN (SELECT CAST(id AS UUID) FROM undo_kept)"
        found = self.compared(table, f"NOT {kept}", f"NOT {kept}")
        written, taken = found["written"], found["taken"]
        if table == "predictions" and self.target.changes[0].kind == "ingest":
            written = self.unpatched(written)
        if taken.num_rows:
            taken = self.at_home(table, taken)
        self.apply(table, written, taken)
        if table != "tags":
            self.alone.append(found["blocked"].select(["id"]))
            again = pc.is_in(written["id"], taken["id"])
            self.left.append(written.filter(pc.invert(again)).select(["id"]))

    def at_home(self, table: str, taken: pa.Table) -> pa.Table:
        """Rows to be put back, without those whose datapoint is not there."""
        self.stage("undo_taken", taken)
        # An anti join, unlike NOT IN, makes its hash table of the few rows rather than of the many.
        homeless = self.query(
            f"SELECT DISTINCT CAST(gone.id AS VARCHAR) AS id FROM {{{REMOVED}{table}}} AS gone "
            "ANTI JOIN {datapoints} AS there ON there.id = gone.datapoint "
            "WHERE gone.id IN (SELECT CAST(id AS UUID) FROM undo_taken)"
        )
        self.outcome.skip(table, homeless.num_rows, _NO_DATAPOINT)
        return taken.filter(pc.invert(pc.is_in(taken["id"], homeless["id"])))

    def unpatched(self, written: pa.Table) -> pa.Table:
        """Predictions that the changes made, without those that they only patched."""
        self.stage("undo_written", written)
        patched = self.query(
            "SELECT CAST(id AS VARCHAR) AS id FROM {predictions} WHERE created_at < $undo_began "
            "AND id IN (SELECT CAST(id AS UUID) FROM undo_written)"
        )
        self.alone.append(patched)
        self.outcome.skip("predictions", patched.num_rows, _PATCHED)
        replaced = sum(
            change.rows.get("predictions", {}).get("removed", 0) for change in self.target.changes
        )
        self.outcome.skip("predictions", max(replaced - patched.num_rows, 0), _REPLACED)
        return written.filter(pc.invert(pc.is_in(written["id"], patched["id"])))

    def compared(self, table: str, of_written: str, of_taken: str) -> dict[str, pa.Table]:
        """The rows that the changes wrote and took away, and those whose key others have touched.

        "written", "taken" (both without the others') and "blocked" (what has the key now).
        """
        key = _KEYS[table]
        names = ", ".join(key)
        # Columns of a key compare like values; a model without a name is a model.
        own = ", ".join(f"coalesce({n}, '') AS {n}" if n == "model_name" else n for n in key)
        by_id = "" if key == ("id",) else "id, "
        back = " UNION ALL ".join(
            f"SELECT id, origins[-1] AS since FROM {{{name}}} WHERE origins IS NOT NULL"
            for name in (table, f"{REMOVED}{table}")
        )
        found = self.query(
            f"WITH written AS (SELECT {by_id}{own} FROM {{{table}}} "
            f"WHERE {self.mine} AND {of_written}), "
            f"taken AS (SELECT {by_id}{own}, until FROM {{{REMOVED}{table}}} "
            f"WHERE {self.took} AND NOT {self.mine} AND {of_taken} "
            f"QUALIFY row_number() OVER (PARTITION BY {names} ORDER BY until DESC) = 1), "
            f"back AS ({back}), "
            # What the changes wrote and others took away, but for what came back.
            f"touched AS (SELECT {own} FROM (FROM {{{REMOVED}{table}}} ANTI JOIN back "
            f"USING (id, since)) WHERE {self.mine} AND NOT {self.took} AND {of_taken} "
            f"UNION SELECT {names} FROM (SELECT {own} FROM {{{table}}} WHERE NOT {self.mine}) "
            f"SEMI JOIN taken USING ({names})) "
            "SELECT 'written' AS what, CAST(id AS VARCHAR) AS id, NULL AS until "
            f"FROM written ANTI JOIN touched USING ({names}) UNION ALL "
            f"SELECT 'taken', CAST(id AS VARCHAR), until FROM taken ANTI JOIN touched "
            f"USING ({names}) UNION ALL "
            "SELECT 'blocked', CAST(now_there.id AS VARCHAR), NULL FROM touched "
            f"LEFT JOIN (SELECT {by_id}{own} FROM {{{table}}}) AS now_there USING ({names})"
        )
        parts = {
            what: found.filter(pc.equal(found["what"], what)).select(["id", "until"])
            for what in ("written", "taken", "blocked")
        }
        there = parts["blocked"]["id"].is_valid()
        blocked = parts["blocked"].filter(there)
        self.outcome.skip(table, blocked.num_rows, _CHANGED)
        self.outcome.skip(table, parts["blocked"].num_rows - blocked.num_rows, _DELETED)
        return {**parts, "blocked": blocked}

    def children(self, table: str) -> None:
        """Boxes, lanes, completions or vectors: they follow what they belong to."""
        parents = [name for name in ("groundtruths", "predictions") if name in _parents(table)]
        owner = f"coalesce({', '.join(name.removesuffix('s') for name in parents)})"
        there = " UNION ALL ".join(f"SELECT id FROM {{{name}}}" for name in parents)
        later = " UNION ALL ".join(
            f"SELECT id FROM {{{name}}} WHERE NOT {self.mine} AND NOT {self.old}"
            for name in parents
        )
        alone = (
            f"({owner} IN (SELECT CAST(id AS UUID) FROM undo_alone) "
            "OR datapoint IN (SELECT CAST(id AS UUID) FROM undo_kept))"
        )
        found = self.query(
            f"SELECT CASE WHEN {owner} IN (SELECT CAST(id AS UUID) FROM undo_left) THEN 'written' "
            f"WHEN {owner} IN ({later}) THEN 'changed' ELSE 'written' END AS what, "
            f"CAST(id AS VARCHAR) AS id, NULL AS until FROM {{{table}}} "
            f"WHERE ({self.mine} OR {owner} IN (SELECT CAST(id AS UUID) FROM undo_left)) "
            f"AND NOT {alone} UNION ALL "
            f"SELECT CASE WHEN {owner} NOT IN ({there}) THEN 'homeless' "
            f"WHEN {owner} IN ({later}) THEN 'changed' ELSE 'taken' END, "
            f"CAST(id AS VARCHAR), until FROM {{{REMOVED}{table}}} "
            f"WHERE {self.took} AND NOT {self.mine} AND NOT {alone} "
            f"AND id NOT IN (SELECT id FROM {{{table}}} WHERE NOT {self.mine}) "
            "QUALIFY row_number() OVER (PARTITION BY id ORDER BY until DESC) = 1"
        )
        parts = {
            what: found.filter(pc.equal(found["what"], what)).select(["id", "until"])
            for what in ("written", "taken", "changed", "homeless")
        }
        self.outcome.skip(table, parts["changed"].num_rows, _OWNER_CHANGED)
        self.outcome.skip(table, parts["homeless"].num_rows, _NO_OWNER)
        self.apply(table, parts["written"], parts["taken"])

    def sweep(self) -> None:
        """What is left of datapoints that went: nothing stays behind without its datapoint."""
        if not self.gone.num_rows:
            return
        self.stage("undo_gone", self.gone)
        for table in reversed(_ATTACHED):
            removed = self.transaction.remove(
                table, "datapoint IN (SELECT CAST(id AS UUID) FROM undo_gone)"
            )
            self.outcome.add({}, {table: removed})

    def apply(self, table: str, written: pa.Table, taken: pa.Table) -> None:
        """Take rows away, and put others back."""
        removed = restored = 0
        if written.num_rows:
            self.transaction.stage("undo_rows", written.select(["id"]).combine_chunks())
            removed = self.transaction.remove(
                table, "id IN (SELECT CAST(id AS UUID) FROM undo_rows)"
            )
        if taken.num_rows:
            self.transaction.stage("undo_rows", taken.combine_chunks())
            restored = self.transaction.restore(
                table, "(id, until) IN (SELECT (CAST(id AS UUID), until) FROM undo_rows)"
            )
        self.outcome.add({table: restored}, {table: removed})


def _parents(table: str) -> Mapping[str, Any]:
    return TABLES[table].parents
