/** The first page of a new lake: something to look at in one click, and how one's own data come in. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Upload } from "lucide-react";
import { useEffect, useState } from "react";
import { api, data } from "../api/client";
import { forgetRows, sessionQuery } from "../api/queries";
import { Code } from "../ui/Copy";
import { Button, Fault, Progress } from "../ui/kit";

export function EmptyLake() {
  const session = useQuery(sessionQuery);
  const [started, setStarted] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const demo = useQuery({
    queryKey: ["demo"],
    queryFn: () => data(api.GET("/api/demo")),
    refetchInterval: (query) => (query.state.data?.status === "RUNNING" || started ? 400 : false),
  });
  const state = demo.data;
  const running = state?.status === "RUNNING";
  useEffect(() => {
    if (state?.status === "SUCCEEDED") void forgetRows();
    if (state?.status === "FAILED") setStarted(false);
  }, [state?.status]);
  const start = async () => {
    setStarted(true);
    setError(null);
    try {
      await api.POST("/api/demo");
      await demo.refetch();
    } catch (wrong) {
      setError(wrong);
      setStarted(false);
    }
  };
  const local = session.data?.local;
  const python = local
    ? `import katiml

# The folder that this server serves; without one, ~/.katiml
lake = katiml.connect()
lake.ingest([
    {
        "type": "IMAGE",
        "metadata": {"uri": "/path/to/image.jpg"},
        "tags": {"split": "train"},
        "groundtruths": [
            {"task_type": "CLASSIFICATION", "class_name": "cat"},
        ],
    }
])`
    : `import os
os.environ["DIOPTRA_APP_ENDPOINT"] = "${location.origin}"
os.environ["DIOPTRA_API_KEY"] = "…"      # Settings makes one

from dioptra.lake.utils import upload_to_lake, wait_for_upload
upload = upload_to_lake([
    {
        "type": "IMAGE",
        "metadata": {"uri": "s3://bucket/image.jpg"},
        "tags": {"split": "train"},
        "groundtruths": [
            {"task_type": "CLASSIFICATION", "class_name": "cat"},
        ],
    }
])
wait_for_upload(upload["id"])`;
  return (
    <div className="h-full overflow-auto">
      <div className="mx-auto max-w-2xl px-8 py-16">
        <img src="/icon.svg" alt="" className="mb-6 size-12" />
        <h1 className="text-2xl font-semibold tracking-tight">This lake is empty</h1>
        <p className="mt-2 max-w-prose text-soft">
          A datapoint is an image, a video, a sound or a text, with its tags, ground truths and predictions. Look at an example, or
          bring your own.
        </p>
        <section className="mt-8 rounded-xl border border-line bg-panel p-5">
          <h2 className="font-semibold">Handwritten digits</h2>
          <p className="mt-1 text-[13px] text-soft">
            1,797 images, a hundred of them labelled, and what a classifier that saw those thinks of all. They go into this lake,
            tagged <code className="font-mono">source = katiml-demo</code>, so they are easily deleted.
          </p>
          <div className="mt-4 flex min-h-8 items-center gap-4">
            <Button kind="primary" disabled={running || started} onClick={() => void start()}>
              Load the demo data
            </Button>
            {(running || started) && (
              <div className="min-w-0 flex-1" role="status">
                <div className="mb-1 flex justify-between text-xs text-soft">
                  <span>{state?.step || "starting"}</span>
                  {!!state?.total && (
                    <span className="tabular">
                      {state.done} of {state.total}
                    </span>
                  )}
                </div>
                <Progress label="Loading the demo data" value={state?.total ? state.done / state.total : null} />
              </div>
            )}
          </div>
          {error !== null && <Fault className="mt-3" error={error} />}
          {state?.status === "FAILED" && state.error && <Fault className="mt-3" error={new Error(state.error)} />}
        </section>
        <section className="mt-6">
          <h2 className="mb-2 font-semibold">From Python</h2>
          <Code text={python} />
        </section>
        <section className="mt-6 flex items-center gap-3 text-[13px]">
          <Link to="/uploads" className="inline-flex items-center gap-1.5 font-medium text-accent-ink underline-offset-4 hover:underline">
            <Upload size={15} aria-hidden /> Upload a file of records
          </Link>
        </section>
      </div>
    </div>
  );
}
