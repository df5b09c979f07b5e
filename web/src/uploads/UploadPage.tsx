/** One upload: how far it is, what landed, and which records were rejected for which reason. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { ArrowLeft, Download } from "lucide-react";
import { useEffect, useRef } from "react";
import { api, fail, request } from "../api/client";
import { executionQuery, executionsQuery, forgetRows } from "../api/queries";
import { Page } from "../shell/Shell";
import { Button, Empty, Fault, moment, number, Progress } from "../ui/kit";
import { toast } from "../ui/toast";
import { sourceOf, Status } from "./UploadsPage";

interface Rejected {
  source: string | null;
  line: number | null;
  path: string | null;
  reason: string;
  record: string;
}
const SHOWN = 200;

export function UploadPage() {
  const { id } = useParams({ from: "/uploads/$id" });
  const queries = useQueryClient();
  const upload = useQuery(executionQuery(id));
  const one = upload.data;
  const running = one?.status === "RUNNING";
  const ran = useRef(false);
  useEffect(() => {
    if (running) ran.current = true;
    else if (ran.current) void forgetRows();
  }, [running]);
  const rejected = useQuery({
    queryKey: ["rejected", id, one?.counts.rejected],
    queryFn: () => firstLines(`/api/ingestion/executions/${id}/rejected`),
    enabled: !!one && one.counts.rejected > 0,
  });
  const cancel = async () => {
    try {
      await api.POST("/api/ingestion/executions/{upload_id}/cancel", { params: { path: { upload_id: id } } });
      await queries.invalidateQueries({ queryKey: executionsQuery.queryKey });
    } catch (error) {
      toast(fail(error));
    }
  };
  return (
    <Page title="Upload" actions={running && <Button onClick={() => void cancel()}>Stop it</Button>}>
      <Link to="/uploads" className="-mt-4 mb-5 inline-flex items-center gap-1.5 text-[13px] text-soft hover:text-ink">
        <ArrowLeft size={15} aria-hidden /> All uploads
      </Link>
      {upload.error && <Fault error={upload.error} />}
      {one && (
        <>
          <div className="rounded-xl border border-line bg-panel p-5">
            <div className="flex flex-wrap items-center gap-3">
              <Status status={one.status} />
              <span className="text-[13px] break-all">{sourceOf(one)}</span>
              <span className="ml-auto text-xs text-soft">
                {moment(one.startDate)} · {(one.durationMs / 1000).toFixed(1)} s
              </span>
            </div>
            {running && (
              <div className="mt-4">
                <Progress label="Progress of the upload" value={one.progress ?? null} />
              </div>
            )}
            <dl className="mt-5 grid grid-cols-3 gap-4">
              {(["read", "landed", "rejected"] as const).map((name) => (
                <div key={name}>
                  <dt className="text-xs text-soft">{name.charAt(0).toUpperCase() + name.slice(1)}</dt>
                  <dd className={`tabular text-2xl font-semibold ${name === "rejected" && one.counts.rejected ? "text-danger" : ""}`}>
                    {number.format(one.counts[name])}
                  </dd>
                </div>
              ))}
            </dl>
            {one.errorMessage && <Fault className="mt-4" error={new Error(one.errorMessage)} />}
          </div>
          <div className="mt-8 mb-2 flex flex-wrap items-center gap-2">
            <h2 className="font-semibold">Rejected records</h2>
            {one.counts.rejected > 0 && (
              <span className="ml-auto flex gap-2">
                <DownloadLink href={`/api/ingestion/executions/${id}/rejected`} label="With reasons" />
                <DownloadLink href={`/api/ingestion/executions/${id}/rejected?reasons=false`} label="To mend and send again" />
              </span>
            )}
          </div>
          {rejected.error && <Fault error={rejected.error} />}
          {one.counts.rejected === 0 && <Empty title={running ? "None so far" : "No record was rejected"} />}
          {!!rejected.data?.length && (
            <div className="overflow-x-auto rounded-xl border border-line bg-panel" tabIndex={0} role="region" aria-label="Rejected records">
              <table className="w-full text-left text-[13px]">
                <thead className="border-b border-line text-xs text-soft">
                  <tr>
                    {["Line", "Where", "Reason", "Record"].map((name) => (
                      <th key={name} scope="col" className="px-3 py-2 font-medium">
                        {name}
                      </th>
                    ))}
                  </tr>
                </thead>
                <tbody className="divide-y divide-line align-top">
                  {rejected.data.map((row, index) => (
                    // biome-ignore lint: lines may come from several files
                    <tr key={index}>
                      <td className="tabular px-3 py-2">{row.line}</td>
                      <td className="px-3 py-2 font-mono text-xs">{row.path}</td>
                      <td className="px-3 py-2">{row.reason}</td>
                      <td className="max-w-72 truncate px-3 py-2 font-mono text-xs text-soft">{row.record.slice(0, 200)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
          {one.counts.rejected > SHOWN && <p className="mt-2 text-xs text-soft">The first {SHOWN}; the file has all of them.</p>}
        </>
      )}
    </Page>
  );
}

function DownloadLink({ href, label }: { href: string; label: string }) {
  return (
    <a
      href={href}
      download
      className="inline-flex h-7 items-center gap-1.5 rounded-md border border-line-strong bg-panel px-2 text-[13px] font-medium hover:bg-sunk"
    >
      <Download size={14} aria-hidden /> {label}
    </a>
  );
}

/** The first rejected records of a file that may have millions. */
async function firstLines(url: string): Promise<Rejected[]> {
  const answer = await request(url);
  const reader = answer.body?.getReader();
  if (!reader) return [];
  const decoder = new TextDecoder();
  let text = "";
  while (text.split("\n").length <= SHOWN) {
    const { value, done } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
  }
  await reader.cancel();
  const lines = text.split("\n").slice(0, SHOWN).filter(Boolean);
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line) as Rejected];
    } catch {
      return [];
    }
  });
}
