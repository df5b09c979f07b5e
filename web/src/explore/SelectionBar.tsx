/** What can be done with what is selected. */
import { useQuery } from "@tanstack/react-query";
import { Download, Tag as TagIcon, Trash2, X } from "lucide-react";
import { useId, useState } from "react";
import { api, data } from "../api/client";
import { asBody, forgetRows, namesQuery, selectDatapoints } from "../api/queries";
import type { Filter } from "../api/types";
import { Button, Dialog, Fault, Field, IconButton, Input, many } from "../ui/kit";
import { toast } from "../ui/toast";
import { Selection } from "./selection";

interface Props {
  selection: Selection;
  count: number;
  filters: Filter[];
  onChange: (selection: Selection) => void;
}

export function SelectionBar({ selection, count, filters, onChange }: Props) {
  const [doing, setDoing] = useState<"tag" | "delete" | null>(null);
  const size = selection.size(count);
  const done = () => {
    setDoing(null);
    onChange(Selection.none);
  };
  return (
    <div className="flex flex-wrap items-center gap-1" role="toolbar" aria-label="Selection">
      <span className="tabular rounded-md bg-accent-wash px-2 py-1 text-[13px] font-medium text-accent-ink">
        {size.toLocaleString("en")} selected
      </span>
      <IconButton label="Select nothing" onClick={() => onChange(Selection.none)} className="size-7">
        <X size={15} />
      </IconButton>
      {size < count && (
        <Button small kind="quiet" onClick={() => onChange(Selection.everything)}>
          Select all {count.toLocaleString("en")}
        </Button>
      )}
      <Button small onClick={() => setDoing("tag")}>
        <TagIcon size={14} aria-hidden /> Tag
      </Button>
      <Button small onClick={() => void saveRecords(selection, filters)}>
        <Download size={14} aria-hidden /> Records
      </Button>
      <Button small onClick={() => setDoing("delete")}>
        <Trash2 size={14} aria-hidden /> Delete
      </Button>
      {doing === "tag" && <TagDialog filters={selection.filters(filters)} size={size} onClose={() => setDoing(null)} onDone={done} />}
      {doing === "delete" && <DeleteDialog filters={selection.filters(filters)} size={size} onClose={() => setDoing(null)} onDone={done} />}
    </div>
  );
}

/** The selected rows as a file of one JSON object a line. */
async function saveRecords(selection: Selection, filters: Filter[]): Promise<void> {
  try {
    const rows = await selectDatapoints(selection.filters(filters), {}, { limit: 1_000_000 });
    const lines = rows.map((row) => JSON.stringify(row)).join("\n");
    save(new Blob([lines, "\n"], { type: "application/x-ndjson" }), "datapoints.ndjson");
  } catch (error) {
    toast(error instanceof Error ? error.message : String(error), { bad: true });
  }
}

export function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function tag(filters: Filter[], name: string, value: string | null) {
  const done = await data(api.POST("/api/datapoints/tag", { body: { filters: asBody(filters), name, value, all: true } }));
  await forgetRows();
  return done;
}

function TagDialog({ filters, size, onClose, onDone }: { filters: Filter[]; size: number; onClose: () => void; onDone: () => void }) {
  const names = useQuery(namesQuery("tags"));
  const [name, setName] = useState("");
  const [value, setValue] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const list = useId();
  const run = async (remove: boolean) => {
    setBusy(true);
    setError(null);
    try {
      const done = await tag(filters, name, remove ? null : value);
      const previous = done.previous;
      toast(`${remove ? "Removed the tag from" : "Tagged"} ${many(done.datapoints, "datapoint")}`, {
        action: previous
          ? {
              label: "Undo",
              run: () =>
                void (async () => {
                  for (const before of previous) {
                    await tag([{ left: "id", op: "in", right: before.datapointIds }], name, before.value);
                  }
                  toast("The tags are as they were");
                })(),
            }
          : undefined,
      });
      onDone();
    } catch (wrong) {
      setError(wrong);
      setBusy(false);
    }
  };
  return (
    <Dialog open onClose={onClose} title={`Tag ${many(size, "datapoint")}`} description="A tag of the same name gets the new value.">
      <form
        className="space-y-3"
        onSubmit={(event) => {
          event.preventDefault();
          void run(false);
        }}
      >
        <Field label="Name">
          <Input autoFocus required list={list} value={name} onChange={(event) => setName(event.target.value)} placeholder="split" />
        </Field>
        <datalist id={list}>{names.data?.map((one) => <option key={one} value={one} />)}</datalist>
        <Field label="Value">
          <Input value={value} onChange={(event) => setValue(event.target.value)} placeholder="train" />
        </Field>
        {error !== null && <Fault error={error} />}
        <div className="flex justify-end gap-2">
          <Button kind="quiet" disabled={!name || busy} onClick={() => void run(true)}>
            Remove this tag
          </Button>
          <Button kind="primary" type="submit" disabled={!name || !value || busy}>
            Tag {many(size, "datapoint")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function DeleteDialog({ filters, size, onClose, onDone }: { filters: Filter[]; size: number; onClose: () => void; onDone: () => void }) {
  // Counted anew: the number on the button is that of the lake, not of the page.
  const counted = useQuery({
    queryKey: ["to-delete", filters],
    queryFn: () => data(api.POST("/api/datapoints/count", { body: { filters: asBody(filters) } })),
    gcTime: 0,
    staleTime: 0,
  });
  const [typed, setTyped] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const count = counted.data ?? size;
  const large = count > 100;
  const run = async () => {
    setBusy(true);
    setError(null);
    try {
      const body = { filters: asBody(filters), returning: "counts" as const, all: true };
      const gone = (await data(api.POST("/api/datapoints/delete", { body }))) as Record<string, number>;
      await forgetRows();
      toast(`Deleted ${many(gone.datapoints ?? 0, "datapoint")}`);
      onDone();
    } catch (wrong) {
      setError(wrong);
      setBusy(false);
    }
  };
  return (
    <Dialog
      open
      onClose={onClose}
      title={`Delete ${many(count, "datapoint")}?`}
      description="Their tags, ground truths, predictions and vectors go with them, and datapoints made from them too. This cannot be undone. The files they point at stay."
    >
      {large && (
        <Field label={`Type ${count} to go on`}>
          <Input inputMode="numeric" autoFocus value={typed} onChange={(event) => setTyped(event.target.value)} />
        </Field>
      )}
      {error !== null && <Fault className="mt-3" error={error} />}
      <div className="mt-4 flex justify-end gap-2">
        <Button onClick={onClose}>Keep them</Button>
        <Button kind="danger" disabled={busy || !counted.isSuccess || (large && typed.replace(/\D/g, "") !== String(count))} onClick={() => void run()}>
          Delete {many(count, "datapoint")}
        </Button>
      </div>
    </Dialog>
  );
}
