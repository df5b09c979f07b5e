/** Everything in the lake, what of it is wanted, and what to do with that. */
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { ArrowDownNarrowWide, ArrowUpNarrowWide, BarChart3, ZoomIn } from "lucide-react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { countQuery, fieldsQuery, pageQuery } from "../api/queries";
import type { Attached, Datapoint, Filter } from "../api/types";
import { FilterBar } from "../filters/FilterBar";
import { toggled } from "../filters/model";
import { classesOf } from "../overlays/shapes";
import { Button, Empty, IconButton, many, Select } from "../ui/kit";
import { Distributions } from "./Distributions";
import { EmptyLake } from "./EmptyLake";
import { Grid } from "./Grid";
import { Layers } from "./Layers";
import { type Search, shownOf, TILE } from "./search";
import { Selection } from "./selection";
import { SelectionBar } from "./SelectionBar";

const NONE: Filter[] = [];
const ORDERS: [string, string][] = [
  ["", "Order of creation"],
  ["timestamp", "Timestamp"],
  ["type", "Type"],
  ["id", "Id"],
  ["RANDOM()", "Shuffled"],
];

export function ExplorePage() {
  const search = useSearch({ from: "/" });
  const navigate = useNavigate({ from: "/" });
  const update = useCallback(
    (change: Partial<Search>, replace = false) =>
      void navigate({ search: (before) => clean({ ...before, ...change }), replace }),
    [navigate],
  );
  const filters = search.filters ?? NONE;
  const ordering = useMemo(() => ({ order: search.order, desc: search.desc }), [search.order, search.desc]);
  const shown = useMemo(
    () => shownOf(search),
    // biome-ignore lint: these are the parts it reads
    [search.truth, search.models, search.without, search.hidden, search.least],
  );
  const count = useQuery(countQuery(filters));
  // The first rows are asked for beside their number, not after it.
  useQuery({ ...pageQuery(filters, ordering, 0), notifyOnChangeProps: [] });
  const everything = useQuery(countQuery(NONE));
  const [selection, setSelection] = useState(Selection.none);
  const [classes, setClasses] = useState<string[]>([]);
  const anchor = useRef<number | null>(null);
  const filterKey = JSON.stringify(filters);
  useEffect(() => {
    setSelection(Selection.none);
    anchor.current = null;
    // biome-ignore lint: another query, another selection
  }, [filterKey]);

  const onFilters = useCallback((now: Filter[]) => update({ filters: now }), [update]);
  const onToggle = useCallback((filter: Filter) => update({ filters: toggled(filters, filter) }), [update, filters]);
  const onClasses = useCallback((attached: Attached[]) => {
    const found = classesOf(attached);
    setClasses((before) => {
      const now = [...new Set([...before, ...found])].sort().slice(0, 300);
      return now.length === before.length ? before : now;
    });
  }, []);
  const onSelect = useCallback(
    (row: Datapoint, index: number, range: boolean, loaded: (index: number) => Datapoint | undefined) => {
      const start = anchor.current;
      anchor.current = index;
      setSelection((before) => {
        if (!range || start === null) return before.with([row.id], !before.has(row.id));
        const ids: string[] = [];
        for (let at = Math.min(start, index); at <= Math.max(start, index); at++) {
          const between = loaded(at);
          if (between) ids.push(between.id);
        }
        return before.with(ids, true);
      });
    },
    [],
  );

  if (everything.data === 0 && filters.length === 0) return <EmptyLake />;
  const total = count.data ?? 0;
  const chosen = selection.size(total);
  const panel = search.panel ?? true;
  return (
    <div className="flex h-full flex-col">
      <h1 className="sr-only">Explore</h1>
      <div className="flex flex-col gap-2 border-b border-line bg-page px-4 pt-3 pb-2">
        <FilterBar filters={filters} onChange={onFilters} error={count.error} />
        <div className="flex min-h-8 flex-wrap items-center gap-x-2 gap-y-1">
          <span role="status" className="tabular mr-1 text-[13px]">
            <b className="font-semibold">{many(total, "datapoint")}</b>
            {filters.length > 0 && everything.data !== undefined && <span className="text-soft"> of {everything.data.toLocaleString("en")}</span>}
          </span>
          {chosen > 0 ? (
            <SelectionBar selection={selection} count={total} filters={filters} onChange={setSelection} />
          ) : (
            <Button small kind="quiet" disabled={total === 0} onClick={() => setSelection(Selection.everything)}>
              Select all
            </Button>
          )}
          <div className="ml-auto flex items-center gap-2">
            <Layers search={search} shown={shown} classes={classes} onChange={update} />
            <Order search={search} onChange={update} />
            <label className="flex items-center gap-1.5 text-soft">
              <ZoomIn size={15} aria-hidden />
              <span className="sr-only">Size of the images</span>
              <input
                type="range"
                min={TILE.least}
                max={TILE.most}
                step={8}
                value={search.tile ?? TILE.usual}
                onChange={(event) => update({ tile: Number(event.target.value) }, true)}
                className="w-24 accent-[var(--accent)]"
              />
            </label>
            <IconButton label={panel ? "Hide distributions" : "Show distributions"} pressed={panel} onClick={() => update({ panel: !panel })}>
              <BarChart3 size={16} />
            </IconButton>
          </div>
        </div>
      </div>
      <div className="flex min-h-0 flex-1">
        <div className="min-w-0 flex-1">
          {count.data === 0 ? (
            <Empty title="Nothing passes these filters">
              <p>Remove one of them, or turn one around.</p>
              <Button className="mt-3" onClick={() => onFilters([])}>
                Clear all filters
              </Button>
            </Empty>
          ) : (
            <Grid
              filters={filters}
              ordering={ordering}
              count={total}
              tile={search.tile ?? TILE.usual}
              shown={shown}
              selection={selection}
              onSelect={onSelect}
              onClasses={onClasses}
            />
          )}
        </div>
        {panel && <Distributions filters={filters} open={search.open} onOpen={(open) => update({ open }, true)} onToggle={onToggle} onFilters={onFilters} />}
      </div>
    </div>
  );
}

/** What is as usual is not in the address. */
function clean(search: Search): Search {
  const empty = (value: unknown) => value === undefined || value === "" || (Array.isArray(value) && value.length === 0);
  const kept = Object.entries(search).filter(([name, value]) => (name === "without" || name === "open" ? value !== undefined : !empty(value)));
  const now = Object.fromEntries(kept) as Search;
  if (now.desc === false) delete now.desc;
  if (now.panel === true) delete now.panel;
  if (now.truth === true) delete now.truth;
  if (now.least === 0) delete now.least;
  if (now.tile === TILE.usual) delete now.tile;
  return now;
}

function Order({ search, onChange }: { search: Search; onChange: (change: Partial<Search>) => void }) {
  const fields = useQuery(fieldsQuery("metadata."));
  const known = (fields.data ?? []).filter((name) => name.startsWith("metadata.") && !/normalized_roi$/.test(name));
  const order = search.order ?? "";
  const listed = ORDERS.some(([value]) => value === order) || known.includes(order);
  return (
    <div className="flex items-center gap-1">
      <Select aria-label="Sort by" value={order} onChange={(event) => onChange({ order: event.target.value })} className="max-w-44">
        {ORDERS.map(([value, label]) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
        {!listed && <option value={order}>{order}</option>}
        {known.length > 0 && (
          <optgroup label="Metadata">
            {known.map((name) => (
              <option key={name} value={name}>
                {name.slice("metadata.".length)}
              </option>
            ))}
          </optgroup>
        )}
      </Select>
      <IconButton label={search.desc ? "Largest first" : "Smallest first"} onClick={() => onChange({ desc: !search.desc })}>
        {search.desc ? <ArrowDownNarrowWide size={16} /> : <ArrowUpNarrowWide size={16} />}
      </IconButton>
    </div>
  );
}
