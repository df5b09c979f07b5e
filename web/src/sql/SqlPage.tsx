/** Questions in SQL: an editor that knows the tables, the rows, a plot, and both as files. */
import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import clsx from "clsx";
import { Download, LineChart, Play, Table2 } from "lucide-react";
import { lazy, Suspense, useCallback, useRef, useState } from "react";
import { api, data, errorOf, request } from "../api/client";
import { save } from "../explore/SelectionBar";
import { Page } from "../shell/Shell";
import { Button, Empty, Fault, many } from "../ui/kit";
import { Editor } from "./Editor";

const Plot = lazy(() => import("./Plot"));

export type Row = Record<string, unknown>;
const MOST = 10_000;
const FIRST = `SELECT model_name, task_type, count(*) AS predictions, avg(confidence) AS confidence
FROM predictions
GROUP BY ALL
ORDER BY predictions DESC`;

const tablesQuery = {
  queryKey: ["sql-tables"],
  queryFn: () => data(api.GET("/api/sql/tables")),
  staleTime: Number.POSITIVE_INFINITY,
};

/** What can be asked for its first rows only is; DESCRIBE and the like are small anyway. */
function bounded(query: string): string {
  const bare = query.trim().replace(/;\s*$/, "");
  return /^(select|with|from|values|table)\b/i.test(bare) ? `SELECT * FROM (\n${bare}\n) LIMIT ${MOST + 1}` : bare;
}

export function SqlPage() {
  const search = useSearch({ from: "/sql" });
  const navigate = useNavigate({ from: "/sql" });
  const tables = useQuery(tablesQuery);
  const [query, setQuery] = useState(search.query ?? FIRST);
  const [view, setView] = useState<"table" | "plot">("table");
  const run = useMutation({
    mutationFn: async (text: string) => {
      const started = performance.now();
      const rows = (await data(api.POST("/api/sql", { body: { query: bounded(text) } }))) as Row[];
      return { rows: rows.slice(0, MOST), more: rows.length > MOST, seconds: (performance.now() - started) / 1000 };
    },
  });
  const start = useCallback(
    (text: string) => {
      void navigate({ search: { query: text }, replace: true });
      run.mutate(text);
    },
    [navigate, run.mutate],
  );
  const result = run.data;
  return (
    <Page
      title="SQL"
      wide
      actions={
        <Button kind="primary" disabled={run.isPending || !query.trim()} onClick={() => start(query)}>
          <Play size={14} fill="currentColor" aria-hidden /> {run.isPending ? "Running" : "Run"}
          <kbd aria-hidden className="ml-1 font-sans text-[11px]">Ctrl ↵</kbd>
        </Button>
      }
    >
      <p className="-mt-4 mb-4 text-[13px] text-soft">
        One reading statement of DuckDB over the rows of your organization.
      </p>
      <Editor value={query} tables={tables.data ?? {}} onChange={setQuery} onRun={start} />
      {!result && !run.error && <Tables tables={tables.data ?? {}} />}
      <div aria-live="polite" className="mt-5">
        {run.error && <Fault error={run.error} />}
        {result && !run.error && (
          <>
            <div className="mb-2 flex flex-wrap items-center gap-2 text-[13px]">
              <span className="tabular">
                <b className="font-semibold">{many(result.rows.length, "row")}</b>
                <span className="text-soft">
                  {result.more && ", the first of more,"} in {result.seconds.toFixed(2)} s
                </span>
              </span>
              <div className="ml-auto flex gap-1.5">
                <Button small kind={view === "table" ? "plain" : "quiet"} aria-pressed={view === "table"} onClick={() => setView("table")}>
                  <Table2 size={14} aria-hidden /> Table
                </Button>
                <Button small kind={view === "plot" ? "plain" : "quiet"} aria-pressed={view === "plot"} onClick={() => setView("plot")}>
                  <LineChart size={14} aria-hidden /> Plot
                </Button>
                <Button small disabled={!result.rows.length} onClick={() => save(new Blob([csvOf(result.rows)], { type: "text/csv" }), "result.csv")}>
                  <Download size={14} aria-hidden /> CSV
                </Button>
                <Button small onClick={() => void everything(run.variables ?? query)}>
                  <Download size={14} aria-hidden /> All rows as JSON
                </Button>
              </div>
            </div>
            {result.rows.length === 0 ? (
              <Empty title="No rows" />
            ) : view === "table" ? (
              <Rows rows={result.rows} />
            ) : (
              <Suspense fallback={<div className="h-96" />}>
                <Plot rows={result.rows} />
              </Suspense>
            )}
          </>
        )}
      </div>
    </Page>
  );
}

function Tables({ tables }: { tables: Record<string, string[]> }) {
  return (
    <section aria-label="Tables" className="mt-6 grid grid-cols-[repeat(auto-fill,minmax(15rem,1fr))] gap-x-8 gap-y-6">
      {Object.entries(tables).map(([name, columns]) => (
        <div key={name}>
          <h2 className="mb-1 font-mono text-[13px] font-semibold">{name}</h2>
          <p className="font-mono text-xs leading-relaxed text-soft">{columns.filter((one) => one !== "organization_id").join(", ")}</p>
        </div>
      ))}
    </section>
  );
}

async function everything(query: string): Promise<void> {
  const answer = await request("/api/sql", { method: "POST", body: JSON.stringify({ query }) });
  if (!answer.ok) throw await errorOf(answer);
  save(await answer.blob(), "result.json");
}

export function textOf(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function csvOf(rows: Row[]): string {
  const names = Object.keys(rows[0] ?? {});
  const cell = (value: unknown) => {
    const text = textOf(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names.map(cell).join(","), ...rows.map((row) => names.map((name) => cell(row[name])).join(","))].join("\r\n");
}

const LINE = 32;

function Rows({ rows }: { rows: Row[] }) {
  const scroller = useRef<HTMLDivElement>(null);
  const names = Object.keys(rows[0] ?? {});
  const lines = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => LINE,
    overscan: 12,
  });
  const items = lines.getVirtualItems();
  const above = items[0]?.start ?? 0;
  const below = lines.getTotalSize() - (items[items.length - 1]?.end ?? 0);
  return (
    <div ref={scroller} tabIndex={0} role="region" aria-label="Result" className="max-h-[56vh] overflow-auto rounded-xl border border-line bg-panel">
      <table className="w-full border-separate border-spacing-0 text-[13px]" aria-rowcount={rows.length + 1}>
        <thead className="sticky top-0 z-10 bg-panel">
          <tr>
            {names.map((name) => (
              <th key={name} scope="col" className="border-b border-line px-3 py-2 text-left text-xs font-medium whitespace-nowrap text-soft">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {above > 0 && <tr aria-hidden style={{ height: above }} />}
          {items.map((item) => {
            const row = rows[item.index] ?? {};
            return (
              <tr key={item.index} aria-rowindex={item.index + 2} className="hover:bg-sunk" style={{ height: LINE }}>
                {names.map((name) => {
                  const value = row[name];
                  const missing = value === null || value === undefined;
                  return (
                    <td key={name} title={textOf(value)} className={clsx("max-w-80 truncate px-3", typeof value === "number" && "tabular text-right")}>
                      {missing ? <span className="text-faint">null</span> : textOf(value).slice(0, 300)}
                    </td>
                  );
                })}
              </tr>
            );
          })}
          {below > 0 && <tr aria-hidden style={{ height: below }} />}
        </tbody>
      </table>
    </div>
  );
}
