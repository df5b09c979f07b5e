/** The whole result as a grid: only what is seen is there, pages come as they are needed. */
import { useQueries, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type KeyboardEvent, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import { attachmentsQuery, type Ordering, PAGE, pageQuery } from "../api/queries";
import type { Attached, Datapoint, Filter } from "../api/types";
import { Fault } from "../ui/kit";
import type { Shown } from "./search";
import type { Selection } from "./selection";
import { CAPTION, Tile } from "./Tile";
import { useWindow } from "./useWindow";

interface Props {
  filters: Filter[];
  ordering: Ordering;
  count: number;
  tile: number;
  shown: Shown;
  selection: Selection;
  onSelect: (row: Datapoint, index: number, range: boolean, loaded: (index: number) => Datapoint | undefined) => void;
  onClasses: (attached: Attached[]) => void;
}

// Where each result was left, so that coming back from a datapoint shows the same rows.
const left = new Map<string, { offset: number; focus: number }>();

export function Grid({ filters, ordering, count, tile, shown, selection, onSelect, onClasses }: Props) {
  const key = JSON.stringify([filters, ordering]);
  return <Result key={key} id={key} {...{ filters, ordering, count, tile, shown, selection, onSelect, onClasses }} />;
}

function Result({ id, filters, ordering, count, tile, shown, selection, onSelect, onClasses }: Props & { id: string }) {
  const scroller = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const kept = left.get(id);
  const [focus, setFocus] = useState(kept?.focus ?? 0);
  useLayoutEffect(() => {
    const place = scroller.current;
    if (!place) return;
    setWidth(place.clientWidth);
    const sized = new ResizeObserver(() => setWidth(place.clientWidth));
    sized.observe(place);
    return () => sized.disconnect();
  }, []);
  const inner = Math.max(0, width - 26);
  const columns = Math.max(1, Math.round(inner / tile));
  const tileWidth = Math.floor(inner / columns);
  const tileHeight = Math.round((tileWidth - 8) * 0.72) + 8 + CAPTION;
  const rows = width ? Math.ceil(count / columns) : 0;
  const view = useWindow(scroller, rows, tileHeight, kept?.offset ?? 0);

  const firstPage = Math.floor((view.first * columns) / PAGE);
  const lastPage = Math.max(firstPage, Math.floor((Math.min(count, (view.last + 1) * columns) - 1) / PAGE));
  // While the scroll bar is dragged past thousands of pages, none is asked for.
  const settled = useSettled(`${firstPage} ${lastPage}`, lastPage - firstPage > 8 ? 200 : 60, width > 0);
  const [from = 0, to = -1] = settled ? settled.split(" ").map(Number) : [];
  const pages = width && count ? Array.from({ length: to - from + 1 }, (_, index) => from + index) : [];
  const loaded = useQueries({ queries: pages.map((page) => pageQuery(filters, ordering, page)) });
  const attached = useQueries({
    queries: loaded.map((page) => attachmentsQuery(page.data?.map((row) => row.id) ?? [])),
  });
  const failed = loaded.find((page) => page.error)?.error;

  const more = to + 1 < Math.ceil(count / PAGE) ? to + 1 : -1;
  const ready = loaded.length > 0 && loaded.every((page) => page.data);
  useEffect(() => {
    if (ready && more > 0) void queries.prefetchQuery(pageQuery(filters, ordering, more));
  }, [ready, more, queries, filters, ordering]);

  const rowAt = (index: number): Datapoint | undefined => {
    const page = Math.floor(index / PAGE) - from;
    return loaded[page]?.data?.[index % PAGE];
  };
  const attachedAt = (index: number): Attached | undefined => {
    const row = rowAt(index);
    return row && attached[Math.floor(index / PAGE) - from]?.data?.get(row.id);
  };
  const stamp = attached.map((page) => page.dataUpdatedAt).join();
  useEffect(() => {
    onClasses(attached.flatMap((page) => (page.data ? [...page.data.values()] : [])));
    // biome-ignore lint: `stamp` says when the pages are others
  }, [stamp]);
  useEffect(() => () => void left.set(id, { offset: view.offset(), focus }), [id, focus, view.offset]);

  const focusOn = (index: number) => {
    const next = Math.max(0, Math.min(count - 1, index));
    setFocus(next);
    view.scrollToRow(Math.floor(next / columns));
    requestAnimationFrame(() =>
      scroller.current?.querySelector<HTMLElement>(`[data-index="${next}"]`)?.focus({ preventScroll: true }),
    );
  };
  const onKey = (event: KeyboardEvent) => {
    const inGrid = (event.target as HTMLElement).dataset.index !== undefined;
    if (!inGrid) return;
    const page = Math.max(1, view.last - view.first - 4) * columns;
    const steps: Record<string, number> = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: page, PageUp: -page,
      Home: -count, End: count,
    }; // prettier-ignore
    const step = steps[event.key];
    if (step !== undefined) {
      event.preventDefault();
      focusOn(focus + step);
    } else if (event.key === " ") {
      event.preventDefault();
      const row = rowAt(focus);
      if (row) onSelect(row, focus, event.shiftKey, rowAt);
    } else if (event.key === "Enter") {
      const row = rowAt(focus);
      if (row) void navigate({ to: "/datapoints/$id", params: { id: row.id }, search: (before) => before });
      event.preventDefault();
    }
  };

  const lines = Array.from({ length: Math.max(0, view.last - view.first + 1) }, (_, index) => view.first + index);
  // Tiles keep one function, so that they are drawn again only for what they show.
  const latest = useRef(rowAt);
  latest.current = rowAt;
  const select = useCallback(
    (index: number, range: boolean) => {
      const row = latest.current(index);
      setFocus(index);
      if (row) onSelect(row, index, range, latest.current);
    },
    [onSelect],
  );
  return (
    <div className="relative h-full">
      {failed && !loaded.some((page) => page.data) && (
        <div className="absolute inset-x-5 top-4 z-10">
          <Fault error={failed} />
        </div>
      )}
      <div ref={scroller} className="h-full overflow-y-scroll px-[13px] py-1" onKeyDown={onKey}>
        <div role="grid" aria-label="Datapoints" aria-rowcount={rows} aria-multiselectable className="relative" style={{ height: view.height }}>
          {lines.map((line) => (
            <div
              key={line}
              role="row"
              aria-rowindex={line + 1}
              className="absolute left-0 flex"
              style={{ transform: `translateY(${view.top + (line - view.first) * tileHeight}px)` }}
            >
              {Array.from({ length: Math.min(columns, count - line * columns) }, (_, column) => {
                const index = line * columns + column;
                const row = rowAt(index);
                return (
                  <Tile
                    key={row?.id ?? `empty ${index}`}
                    row={row}
                    attached={attachedAt(index)}
                    index={index}
                    width={tileWidth}
                    height={tileHeight}
                    shown={shown}
                    selected={row !== undefined && selection.has(row.id)}
                    focused={index === focus}
                    value={row ? valueOf(row, ordering.order) : ""}
                    onSelect={select}
                  />
                );
              })}
            </div>
          ))}
        </div>
      </div>
    </div>
  );
}

/** The value that the rows are sorted by. */
function valueOf(row: Datapoint, order: string | undefined): string {
  if (!order || order.startsWith("RANDOM")) return "";
  let found: unknown = row;
  for (const part of order.split(".")) found = (found as Record<string, unknown> | null | undefined)?.[part];
  if (found === undefined || found === null || typeof found === "object") return "";
  if (typeof found === "number") return Number.isInteger(found) ? String(found) : found.toPrecision(4);
  const text = String(found);
  return /^\d{4}-\d\d-\d\dT/.test(text) ? text.slice(0, 16).replace("T", " ") : text;
}

/** A value once it has stayed for a moment; the first comes at once. */
function useSettled(value: string, milliseconds: number, ready: boolean): string | null {
  const [settled, setSettled] = useState<string | null>(null);
  const first = settled === null;
  useLayoutEffect(() => {
    if (!ready) return;
    if (first) {
      setSettled(value);
      return;
    }
    const timer = setTimeout(() => setSettled(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value, milliseconds, ready, first]);
  return settled;
}
