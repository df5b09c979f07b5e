/** One datapoint: its image, what is over it, and everything that is known about it. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { ArrowLeft, ChevronLeft, ChevronRight, Trash2 } from "lucide-react";
import { useCallback, useEffect, useMemo, useState } from "react";
import { api, fail, ServerError } from "../api/client";
import { attachmentsQuery, asBody, datapointQuery, forgetRows, namesQuery, PAGE, rowsKey, selectDatapoints } from "../api/queries";
import { type Attached, type Datapoint, type Filter, NOTHING } from "../api/types";
import { LayerSwitches } from "../explore/Layers";
import { Film, Sound } from "../explore/Players";
import { type Search, shownOf } from "../explore/search";
import { nameOf } from "../explore/Tile";
import { classesOf } from "../overlays/shapes";
import { Button, Dialog, Empty, Fault, IconButton, moment } from "../ui/kit";
import { CopyButton } from "../ui/Copy";
import { toast } from "../ui/toast";
import { Predictions } from "./Predictions";
import { Viewer } from "./Viewer";

const NONE: Filter[] = [];

export function DatapointPage() {
  const { id } = useParams({ from: "/datapoints/$id" });
  const search = useSearch({ from: "/datapoints/$id" });
  const navigate = useNavigate({ from: "/datapoints/$id" });
  const row = useQuery(datapointQuery(id));
  const attached = useQuery(attachmentsQuery([id]));
  const own = attached.data?.get(id) ?? NOTHING;
  const update = useCallback(
    (change: Partial<Search>) => void navigate({ search: (before) => ({ ...before, ...change }), replace: true }),
    [navigate],
  );
  const shown = useMemo(
    () => shownOf(search),
    // biome-ignore lint: these are the parts it reads
    [search.truth, search.models, search.without, search.hidden, search.least],
  );
  const { previous, next } = useNeighbours(id, search);
  const go = useCallback(
    (to: Datapoint | undefined) => {
      if (to) void navigate({ to: "/datapoints/$id", params: { id: to.id }, search: (before) => before, replace: true });
    },
    [navigate],
  );
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const place = event.target as HTMLElement;
      if (place.closest("input, textarea, select, [role=dialog], [role=menu], [contenteditable]")) return;
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "ArrowLeft" || event.key === "j") go(previous);
      else if (event.key === "ArrowRight" || event.key === "k") go(next);
      else if (event.key === "g") update({ truth: !shown.truth });
      else if (event.key === "m") update({ without: shown.without.includes("masks") ? shown.without.filter((one) => one !== "masks") : [...shown.without, "masks"] });
      else if (event.key === "Escape") void navigate({ to: "/", search: (before) => before });
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [go, previous, next, navigate, update, shown]);

  if (row.error) {
    const missing = row.error instanceof ServerError && row.error.status === 404;
    return (
      <Empty title={missing ? "No such datapoint" : "The datapoint could not be read"}>
        <Fault error={row.error} className="mb-3 text-left" />
        <Link to="/" search={(before) => before} className="text-accent-ink underline underline-offset-2">
          Back to the grid
        </Link>
      </Empty>
    );
  }
  return (
    <div className="flex h-full min-h-0 flex-col">
      <header className="flex h-13 shrink-0 items-center gap-2 border-b border-line px-3">
        <Link
          to="/"
          search={(before) => before}
          className="inline-flex h-8 items-center gap-1.5 rounded-md px-2 text-[13px] font-medium text-soft hover:bg-sunk hover:text-ink"
        >
          <ArrowLeft size={16} aria-hidden /> Explore
        </Link>
        <h1 className="min-w-0 truncate text-[14px] font-semibold">{row.data ? nameOf(row.data) : " "}</h1>
        <div className="ml-auto flex items-center gap-1">
          <IconButton label="Previous (←)" disabled={!previous} onClick={() => go(previous)}>
            <ChevronLeft size={18} />
          </IconButton>
          <IconButton label="Next (→)" disabled={!next} onClick={() => go(next)}>
            <ChevronRight size={18} />
          </IconButton>
          {row.data && <DeleteOne row={row.data} onDone={() => (next ? go(next) : void navigate({ to: "/", search: (before) => before }))} />}
        </div>
      </header>
      <div className="flex min-h-0 flex-1">
        <div className="min-w-0 flex-1 bg-canvas">{row.data && <Content row={row.data} attached={own} shown={shown} />}</div>
        <aside aria-label="Details" className="w-[360px] shrink-0 overflow-y-auto border-l border-line bg-panel">
          {attached.error && <Fault error={attached.error} className="m-4" />}
          {row.data && <Details row={row.data} attached={own} shown={shown} update={update} />}
        </aside>
      </div>
    </div>
  );
}

function Content({ row, attached, shown }: { row: Datapoint; attached: Attached; shown: ReturnType<typeof shownOf> }) {
  if (row.type === "IMAGE") return <Viewer key={row.id} row={row} attached={attached} shown={shown} />;
  if (row.type === "AUDIO") {
    return (
      <div className="grid h-full place-items-center p-10">
        <div className="w-full max-w-3xl">
          <Sound row={row} large />
        </div>
      </div>
    );
  }
  if (row.type === "VIDEO") return <div className="h-full p-6">{<Film row={row} large />}</div>;
  return (
    <div className="h-full overflow-auto" tabIndex={0} role="region" aria-label="Text">
      <article className="mx-auto max-w-2xl px-8 py-10 text-[16px] leading-relaxed break-words whitespace-pre-wrap">{row.text}</article>
    </div>
  );
}

function Details({
  row,
  attached,
  shown,
  update,
}: {
  row: Datapoint;
  attached: Attached;
  shown: ReturnType<typeof shownOf>;
  update: (change: Partial<Search>) => void;
}) {
  const classes = useMemo(() => classesOf([attached]), [attached]);
  const children = useQuery({
    queryKey: ["children", row.id],
    queryFn: () => selectDatapoints([{ left: "parent_datapoint", op: "=", right: row.id }], {}, { limit: 24 }),
  });
  const metadata = Object.entries(row.metadata ?? {});
  return (
    <div className="divide-y divide-line">
      {row.type === "IMAGE" && (
        <Part title="Layers">
          <LayerSwitches
            shown={shown}
            classes={classes}
            models={[...new Set(attached.predictions.map((one) => one.model_name ?? ""))].sort()}
            onChange={update}
          />
        </Part>
      )}
      <Predictions row={row} attached={attached} />
      <Part title="Tags">
        <Tags row={row} attached={attached} />
      </Part>
      <Part title="Datapoint">
        <dl className="grid grid-cols-[88px_minmax(0,1fr)] gap-x-3 gap-y-1 text-[13px]">
          <dt className="text-soft">Id</dt>
          <dd className="flex items-center gap-1">
            <code className="truncate font-mono text-xs">{row.id}</code>
            <CopyButton text={row.id} label="Copy the id" />
          </dd>
          <dt className="text-soft">Type</dt>
          <dd>{row.type}</dd>
          <dt className="text-soft">Created</dt>
          <dd>{moment(row.created_at)}</dd>
          {row.parent_datapoint && (
            <>
              <dt className="text-soft">Part of</dt>
              <dd>
                <Link to="/datapoints/$id" params={{ id: row.parent_datapoint }} search={(before) => before} className="text-accent-ink underline underline-offset-2">
                  another datapoint
                </Link>
              </dd>
            </>
          )}
          {metadata.map(([name, value]) => (
            <Pair key={name} name={name} value={value} />
          ))}
        </dl>
      </Part>
      {!!children.data?.length && (
        <Part title="Made from it">
          <ul className="flex flex-wrap gap-1.5">
            {children.data.map((child) => (
              <li key={child.id}>
                <Link
                  to="/datapoints/$id"
                  params={{ id: child.id }}
                  search={(before) => before}
                  aria-label={nameOf(child)}
                  className="block size-16 overflow-hidden rounded-md border border-line bg-canvas"
                >
                  <img src={`/api/datapoints/${child.id}/thumbnail?size=128&v=1`} alt="" className="h-full w-full object-contain" />
                </Link>
              </li>
            ))}
          </ul>
        </Part>
      )}
      <Part title="Raw record">
        <Raw row={row} attached={attached} />
      </Part>
    </div>
  );
}

export function Part({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <section className="px-4 py-3.5">
      <h2 className="mb-2 text-[13px] font-semibold">{title}</h2>
      {children}
    </section>
  );
}

function Pair({ name, value }: { name: string; value: unknown }) {
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return (
    <>
      <dt className="truncate text-soft" title={name}>
        {name}
      </dt>
      <dd className="break-words [overflow-wrap:anywhere]">{text}</dd>
    </>
  );
}

function Tags({ row, attached }: { row: Datapoint; attached: Attached }) {
  const names = useQuery(namesQuery("tags"));
  const [text, setText] = useState("");
  const set = async (name: string, value: string | null) => {
    try {
      await api.POST("/api/datapoints/tag", { body: { filters: asBody([{ left: "id", op: "=", right: row.id }]), name, value } });
      await forgetRows();
    } catch (error) {
      toast(fail(error));
    }
  };
  return (
    <>
      <ul className="mb-2 flex flex-wrap gap-1.5">
        {attached.tags.map((tag) => (
          <li key={tag.id} className="inline-flex h-6 max-w-full items-center rounded-md bg-sunk pl-2 text-xs">
            <span className="truncate">
              <span className="text-soft">{tag.name}</span> {tag.value}
            </span>
            <button type="button" aria-label={`Remove the tag ${tag.name}`} onClick={() => void set(tag.name, null)} className="grid size-6 place-items-center text-soft hover:text-ink">
              ×
            </button>
          </li>
        ))}
        {attached.tags.length === 0 && <li className="text-xs text-soft">No tags</li>}
      </ul>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const found = /^\s*([^=]+?)\s*=\s*(.+?)\s*$/.exec(text);
          if (!found?.[1] || !found[2]) return toast("Write it like split = train");
          setText("");
          void set(found[1], found[2]);
        }}
      >
        <input
          aria-label="Add a tag, as name = value"
          list="tag-names"
          value={text}
          onChange={(event) => setText(event.target.value)}
          placeholder="name = value"
          className="h-7 w-full rounded-md border border-line-strong bg-panel px-2 text-[12.5px] placeholder:text-faint"
        />
        <datalist id="tag-names">{names.data?.map((one) => <option key={one} value={`${one} = `} />)}</datalist>
      </form>
    </>
  );
}

function Raw({ row, attached }: { row: Datapoint; attached: Attached }) {
  const [open, setOpen] = useState(false);
  const text = useMemo(() => (open ? JSON.stringify({ ...row, ...attached }, null, 2) : ""), [open, row, attached]);
  return (
    <>
      <div className="flex items-center gap-1">
        <Button small aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? "Hide" : "Show"} the JSON
        </Button>
        {open && <CopyButton text={text} label="Copy the JSON" />}
      </div>
      {open && (
        <pre tabIndex={0} className="mt-2 max-h-96 overflow-auto rounded-lg bg-sunk p-3 font-mono text-[11.5px] leading-relaxed">
          {text.length > 200_000 ? `${text.slice(0, 200_000)}\n…` : text}
        </pre>
      )}
    </>
  );
}

function DeleteOne({ row, onDone }: { row: Datapoint; onDone: () => void }) {
  const [open, setOpen] = useState(false);
  const [error, setError] = useState<unknown>(null);
  return (
    <>
      <IconButton label="Delete this datapoint" onClick={() => setOpen(true)}>
        <Trash2 size={16} />
      </IconButton>
      <Dialog
        open={open}
        onClose={() => setOpen(false)}
        title="Delete this datapoint?"
        description="Its tags, ground truths, predictions and vectors go with it. This cannot be undone. The file it points at stays."
      >
        {error !== null && <Fault error={error} className="mb-3" />}
        <div className="flex justify-end gap-2">
          <Button onClick={() => setOpen(false)}>Keep it</Button>
          <Button
            kind="danger"
            onClick={() =>
              void (async () => {
                try {
                  await api.POST("/api/datapoints/delete", {
                    body: { filters: asBody([{ left: "id", op: "=", right: row.id }]), returning: "counts" },
                  });
                  setOpen(false);
                  onDone();
                  await forgetRows();
                  toast("Deleted the datapoint");
                } catch (wrong) {
                  setError(wrong);
                }
              })()
            }
          >
            Delete it
          </Button>
        </div>
      </Dialog>
    </>
  );
}

/** The datapoints before and after in the order of the grid: from its pages, or else asked for. */
function useNeighbours(id: string, search: Search): { previous?: Datapoint; next?: Datapoint } {
  const queries = useQueryClient();
  const filters = search.filters ?? NONE;
  const ordering = { order: search.order, desc: search.desc };
  const shuffled = search.order?.startsWith("RANDOM") ?? false;
  const kept = neighboursInPages(
    queries.getQueriesData<Datapoint[]>({ queryKey: rowsKey(filters, ordering) }) as [readonly unknown[], Datapoint[] | undefined][],
    id,
  );
  const next = useQuery({
    queryKey: ["beside", id, "next", filters, ordering],
    queryFn: async () => (await selectDatapoints(filters, ordering, { limit: 1, after: id }))[0] ?? null,
    enabled: !kept.next && !shuffled,
    retry: false,
  });
  const previous = useQuery({
    queryKey: ["beside", id, "previous", filters, ordering],
    queryFn: async () =>
      (await selectDatapoints(filters, { ...ordering, desc: !ordering.desc }, { limit: 1, after: id }))[0] ?? null,
    enabled: !kept.previous && !shuffled,
    retry: false,
  });
  const found = { previous: kept.previous ?? previous.data ?? undefined, next: kept.next ?? next.data ?? undefined };
  useEffect(() => {
    for (const row of [found.next, found.previous]) {
      if (!row) continue;
      queries.setQueryData(datapointQuery(row.id).queryKey, row);
      void queries.prefetchQuery(attachmentsQuery([row.id]));
    }
  }, [found.next, found.previous, queries]);
  return found;
}

function neighboursInPages(pages: [readonly unknown[], Datapoint[] | undefined][], id: string) {
  for (const [key, rows] of pages) {
    const at = rows?.findIndex((row) => row.id === id) ?? -1;
    if (!rows || at < 0) continue;
    const page = key[key.length - 1] as number;
    const other = (number: number) => pages.find(([one]) => one[one.length - 1] === number)?.[1];
    const before = other(page - 1);
    return {
      previous: rows[at - 1] ?? (before?.length === PAGE ? before[PAGE - 1] : undefined),
      next: rows[at + 1] ?? other(page + 1)?.[0],
    };
  }
  return { previous: undefined, next: undefined };
}
