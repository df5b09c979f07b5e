/** Records on their way in: a file or an address, and what became of the earlier ones. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import clsx from "clsx";
import { FileUp } from "lucide-react";
import { useRef, useState } from "react";
import { api, data, type Schemas, ServerError, ServerGone } from "../api/client";
import { executionsQuery } from "../api/queries";
import type { Execution } from "../api/types";
import { Page } from "../shell/Shell";
import { Button, Empty, Fault, Input, moment, number, Progress } from "../ui/kit";

export function UploadsPage() {
  const executions = useQuery(executionsQuery);
  return (
    <Page title="Uploads">
      <NewUpload />
      <h2 className="mt-9 mb-2 font-semibold">History</h2>
      {executions.error && <Fault error={executions.error} />}
      {executions.data?.length === 0 && (
        <Empty title="Nothing was uploaded yet">Files of records appear here, with what landed and what was rejected.</Empty>
      )}
      {!!executions.data?.length && (
        <div className="overflow-x-auto rounded-xl border border-line bg-panel" tabIndex={0} role="region" aria-label="History of uploads">
          <table className="w-full text-left text-[13px]">
            <thead className="border-b border-line text-xs text-soft">
              <tr>
                {["Started", "From", "Status", "Landed", "Rejected", "Time"].map((name, index) => (
                  <th key={name} scope="col" className={clsx("px-3 py-2 font-medium", index >= 3 && "text-right")}>
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody className="divide-y divide-line">
              {executions.data.map((one) => (
                <tr key={one.id} className="hover:bg-sunk/60">
                  <td className="px-3 py-2 whitespace-nowrap">
                    <Link to="/uploads/$id" params={{ id: one.id }} className="font-medium text-accent-ink underline-offset-2 hover:underline">
                      {moment(one.startDate)}
                    </Link>
                  </td>
                  <td className="max-w-64 truncate px-3 py-2 text-soft">{sourceOf(one)}</td>
                  <td className="px-3 py-2">
                    <Status status={one.status} />
                  </td>
                  <td className="tabular px-3 py-2 text-right">{number.format(one.counts.landed)}</td>
                  <td className={clsx("tabular px-3 py-2 text-right", one.counts.rejected > 0 && "font-medium text-danger")}>
                    {number.format(one.counts.rejected)}
                  </td>
                  <td className="tabular px-3 py-2 text-right whitespace-nowrap text-soft">{(one.durationMs / 1000).toFixed(1)} s</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Page>
  );
}

export function sourceOf(one: Execution): string {
  const urls = one.input.urls as string[] | undefined;
  if (!urls?.length) return "records sent directly";
  const first = urls[0]?.startsWith("object://") ? "uploaded file" : (urls[0] ?? "");
  return urls.length > 1 ? `${first} and ${urls.length - 1} more` : first;
}

const COLOURS: Record<string, string> = {
  RUNNING: "bg-accent-wash text-accent-ink",
  SUCCEEDED: "bg-sunk text-good",
  FAILED: "bg-danger-wash text-danger",
  ABORTED: "bg-warn-wash text-warn",
};

export function Status({ status }: { status: string }) {
  const text = status.charAt(0) + status.slice(1).toLowerCase();
  return <span className={clsx("rounded-md px-1.5 py-0.5 text-xs font-medium", COLOURS[status])}>{text}</span>;
}

/** Send a file with its progress, which fetch does not tell. */
function send(file: File, onProgress: (share: number) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("POST", "/api/ingestion/upload");
    sending.setRequestHeader("x-katiml-web", "1");
    sending.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    sending.onload = () => {
      const answer = JSON.parse(sending.responseText || "{}") as { url?: string } & Partial<Schemas["Error"]>;
      if (sending.status === 200 && answer.url) resolve(answer.url);
      else {
        const error = answer.error;
        reject(new ServerError(sending.status, error?.code ?? "unknown", error?.message ?? `The server answered ${sending.status}.`, error?.hint ?? null));
      }
    };
    sending.onerror = () => reject(new ServerGone());
    const form = new FormData();
    form.append("file", file);
    sending.send(form);
  });
}

function NewUpload() {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const picker = useRef<HTMLInputElement>(null);
  const [over, setOver] = useState(false);
  const [url, setUrl] = useState("");
  const [sent, setSent] = useState<{ name: string; share: number } | null>(null);
  const [error, setError] = useState<unknown>(null);

  const ingest = async (urls: string[]) => {
    const body = urls.length === 1 ? { url: urls[0] } : { urls };
    const begun = await data(api.POST("/api/ingestion/ingest", { body }));
    await queries.invalidateQueries({ queryKey: executionsQuery.queryKey });
    if (begun) await navigate({ to: "/uploads/$id", params: { id: begun.id } });
  };
  const start = async (work: () => Promise<void>) => {
    setError(null);
    try {
      await work();
    } catch (wrong) {
      setError(wrong);
    }
    setSent(null);
  };
  const files = (list: FileList | null) => {
    const chosen = [...(list ?? [])];
    if (!chosen.length) return;
    void start(async () => {
      const urls: string[] = [];
      for (const file of chosen) {
        setSent({ name: file.name, share: 0 });
        urls.push(await send(file, (share) => setSent({ name: file.name, share })));
      }
      await ingest(urls);
    });
  };
  return (
    <section aria-label="New upload">
      <div
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={(event) => {
          event.preventDefault();
          setOver(false);
          files(event.dataTransfer.files);
        }}
        className={clsx(
          "flex flex-col items-center rounded-xl border border-dashed px-6 py-10 text-center transition-colors",
          over ? "border-accent bg-accent-wash" : "border-line-strong bg-panel",
        )}
      >
        <FileUp size={26} strokeWidth={1.5} className="mb-3 text-faint" aria-hidden />
        <p className="font-medium">Drop files of records here</p>
        <p className="mt-1 mb-4 text-[13px] text-soft">JSON lines, a JSON array or Parquet; plain, gzip, bz2 or zstd</p>
        <input
          ref={picker}
          type="file"
          multiple
          className="sr-only"
          aria-label="Files of records"
          tabIndex={-1}
          accept=".json,.ndjson,.jsonl,.parquet,.gz,.bz2,.zst"
          onChange={(event) => files(event.target.files)}
        />
        <Button kind="primary" disabled={sent !== null} onClick={() => picker.current?.click()}>
          Choose files
        </Button>
        {sent && (
          <div className="mt-4 w-full max-w-sm" role="status">
            <div className="mb-1 flex justify-between text-xs text-soft">
              <span className="truncate">{sent.name}</span>
              <span className="tabular">{Math.round(sent.share * 100)} %</span>
            </div>
            <Progress label="Sending" value={sent.share} />
          </div>
        )}
      </div>
      <form
        className="mt-3 flex gap-2"
        onSubmit={(event) => {
          event.preventDefault();
          void start(() => ingest([url.trim()]));
        }}
      >
        <Input aria-label="Address of a file of records" required value={url} onChange={(event) => setUrl(event.target.value)} placeholder="https://…/records.ndjson.gz, s3://bucket/records.parquet, gs://…, az://…" />
        <Button type="submit" disabled={!url.trim()}>
          Ingest
        </Button>
      </form>
      {error !== null && <Fault error={error} className="mt-3" />}
    </section>
  );
}
