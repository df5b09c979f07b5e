/** What is true and what each model says, side by side. */
import clsx from "clsx";
import type { Attached, Box, Completion, Datapoint, GroundTruth, Prediction } from "../api/types";
import { shownValue } from "../filters/model";
import { colourOf } from "../overlays/colours";
import { Part } from "./DatapointPage";

const TASKS: Record<string, string> = {
  CLASSIFICATION: "Classification",
  OBJECT_DETECTION: "Object detection",
  INSTANCE_SEGMENTATION: "Instance segmentation",
  SEGMENTATION: "Segmentation",
  LANE_DETECTION: "Lanes",
  COMPLETION: "Completion",
  NER: "Entities",
};
type Owner = GroundTruth | Prediction;

export function Predictions({ row, attached }: { row: Datapoint; attached: Attached }) {
  const owners: Owner[] = [...attached.groundtruths, ...attached.predictions];
  const tasks = [...new Set(owners.map((one) => one.task_type ?? ""))].sort((one, other) => rank(one) - rank(other));
  if (!owners.length) {
    return (
      <Part title="Labels">
        <p className="text-xs text-soft">No ground truths and no predictions for this {row.type.toLowerCase()}</p>
      </Part>
    );
  }
  return (
    <>
      {tasks.map((task) => (
        <Part key={task} title={TASKS[task] ?? task}>
          <div className="space-y-2.5">
            {owners
              .filter((one) => (one.task_type ?? "") === task)
              .map((owner) => (
                <OwnerView key={owner.id} owner={owner} attached={attached} truth={attached.groundtruths.find((one) => one.task_type === task)} />
              ))}
          </div>
        </Part>
      ))}
    </>
  );
}

const ORDER = Object.keys(TASKS);
const rank = (task: string) => (ORDER.includes(task) ? ORDER.indexOf(task) : ORDER.length);

function OwnerView({ owner, attached, truth }: { owner: Owner; attached: Attached; truth: GroundTruth | undefined }) {
  const isPrediction = "model_name" in owner;
  const key = isPrediction ? "prediction" : "groundtruth";
  const boxes = attached.bboxes.filter((one) => one[key] === owner.id);
  const lanes = attached.lanes.filter((one) => one[key] === owner.id);
  const texts = attached.completions.filter((one) => one[key] === owner.id);
  const metrics = Object.entries(owner.metrics ?? {}).filter(([, value]) => typeof value === "number");
  const wrong = isPrediction && truth?.class_name && owner.class_name && truth.class_name !== owner.class_name;
  return (
    <div className={clsx("rounded-lg border p-2.5", isPrediction ? "border-line" : "border-transparent bg-sunk")}>
      <div className="flex items-baseline gap-2 text-[13px]">
        <span className={clsx("truncate text-xs", isPrediction ? "text-soft" : "font-medium text-good")}>
          {isPrediction ? owner.model_name || "no name" : "Ground truth"}
        </span>
        {owner.class_name && (
          <span className={clsx("ml-auto truncate font-medium", wrong && "text-danger")}>
            {owner.class_name}
            {isPrediction && owner.confidence !== null && <span className="tabular ml-1.5 font-normal text-soft">{owner.confidence.toFixed(3)}</span>}
          </span>
        )}
      </div>
      {isPrediction && owner.confidences && owner.class_names && owner.task_type !== "SEGMENTATION" && (
        <Confidences names={owner.class_names} values={owner.confidences} truth={truth?.class_name ?? null} />
      )}
      {boxes.length > 0 && <Boxes boxes={boxes} />}
      {lanes.length > 0 && <p className="mt-1 text-xs text-soft">{lanes.length} lanes</p>}
      {owner.task_type === "SEGMENTATION" && <Pixels owner={owner} />}
      {texts.map((one) => (
        <Text key={one.id} completion={one} />
      ))}
      {metrics.length > 0 && (
        <dl className="mt-1.5 flex flex-wrap gap-x-3 gap-y-0.5 text-[11.5px]">
          {metrics.map(([name, value]) => (
            <div key={name} className="flex gap-1">
              <dt className="text-soft">{name}</dt>
              <dd className="tabular">{shownValue(value as number)}</dd>
            </div>
          ))}
        </dl>
      )}
    </div>
  );
}

function Confidences({ names, values, truth }: { names: string[]; values: number[]; truth: string | null }) {
  const ranked = values.map((value, index) => ({ value, name: names[index] ?? String(index) })).sort((one, other) => other.value - one.value);
  return (
    <ul className="mt-2 space-y-1">
      {ranked.slice(0, 6).map(({ name, value }) => (
        <li key={name} className="flex items-center gap-2 text-[11.5px]">
          <span className={clsx("w-20 truncate", name === truth ? "font-semibold text-good" : "text-soft")}>{name}</span>
          <span className="h-1.5 min-w-0 flex-1 overflow-hidden rounded-full bg-sunk">
            <span className="block h-full rounded-full bg-bar" style={{ width: `${value * 100}%` }} />
          </span>
          <span className="tabular w-9 text-right text-soft">{value.toFixed(2)}</span>
        </li>
      ))}
    </ul>
  );
}

function Boxes({ boxes }: { boxes: Box[] }) {
  const counts = new Map<string, number>();
  for (const box of boxes) counts.set(box.class_name ?? "no class", (counts.get(box.class_name ?? "no class") ?? 0) + 1);
  return (
    <ul className="mt-1.5 flex flex-wrap gap-1.5">
      {[...counts].map(([name, count]) => (
        <li key={name} className="inline-flex items-center gap-1.5 text-xs">
          <span aria-hidden className="size-2 rounded-full ring-1 ring-black/20" style={{ background: colourOf(name === "no class" ? "" : name) }} />
          {name} <span className="tabular text-soft">{count}</span>
        </li>
      ))}
    </ul>
  );
}

function Pixels({ owner }: { owner: Owner }) {
  const spread = (owner.metrics as { distribution?: Record<string, number> } | null)?.distribution ?? {};
  const total = Object.values(spread).reduce((sum, value) => sum + value, 0) || 1;
  const ranked = Object.entries(spread).sort((one, other) => other[1] - one[1]);
  return (
    <>
      <div className="mt-2 flex h-2 overflow-hidden rounded-full" aria-hidden>
        {ranked.map(([name, value]) => (
          <span key={name} style={{ width: `${(100 * value) / total}%`, background: colourOf(name) }} />
        ))}
      </div>
      <ul className="mt-1.5 flex flex-wrap gap-x-3 gap-y-1 text-xs">
        {ranked.map(([name, value]) => (
          <li key={name} className="inline-flex items-center gap-1.5">
            <span aria-hidden className="size-2 rounded-full ring-1 ring-black/20" style={{ background: colourOf(name) }} />
            {name} <span className="tabular text-soft">{((100 * value) / total).toFixed(1)} %</span>
          </li>
        ))}
      </ul>
    </>
  );
}

function Text({ completion }: { completion: Completion }) {
  const metrics = Object.entries(completion.metrics ?? {}).filter(([, value]) => typeof value === "number");
  return (
    <div className="mt-1.5 text-[13px]">
      <p className="break-words whitespace-pre-wrap">{completion.text}</p>
      <p className="tabular mt-0.5 text-[11.5px] text-soft">
        {completion.confidence !== null && `confidence ${completion.confidence.toFixed(2)} `}
        {metrics.map(([name, value]) => `${name} ${shownValue(value as number)}`).join("  ")}
      </p>
    </div>
  );
}
