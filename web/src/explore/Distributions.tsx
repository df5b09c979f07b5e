/** How values are spread over what is shown, beside what is shown; a bar is a filter. */
import { useQuery } from "@tanstack/react-query";
import clsx from "clsx";
import { ChevronRight } from "lucide-react";
import { type PointerEvent, useId, useState } from "react";
import { distributionQuery, modelsWithQuery, namesQuery } from "../api/queries";
import type { Bucket, Condition, Filter } from "../api/types";
import { same, shownValue, tagFilter } from "../filters/model";
import { Button, compact, Fault, number } from "../ui/kit";

interface Section {
  field: string;
  title: string;
  group: string;
}

const TASKS: Record<string, string> = {
  CLASSIFICATION: "Labels",
  OBJECT_DETECTION: "Boxes",
  INSTANCE_SEGMENTATION: "Instances",
  SEGMENTATION: "Pixels",
  LANE_DETECTION: "Number of lanes",
  COMPLETION: "Number of words",
  NER: "Entities",
};
const FIRST = 8;

interface Props {
  filters: Filter[];
  open: string[] | undefined;
  onOpen: (open: string[]) => void;
  onToggle: (filter: Filter) => void;
  onFilters: (filters: Filter[]) => void;
}

export function Distributions({ filters, open, onOpen, onToggle, onFilters }: Props) {
  const tags = useQuery(namesQuery("tags"));
  const metrics = useQuery(namesQuery("metrics"));
  const sections: Section[] = [
    { field: "groundtruths", title: "Ground truths", group: "" },
    { field: "predictions", title: "Predictions", group: "" },
    ...(tags.data ?? []).slice(0, 60).map((name) => ({ field: `tags.${name}`, title: name, group: "Tags" })),
    ...(metrics.data ?? []).map((name) => ({ field: name, title: name, group: "Metrics" })),
    { field: "confidence", title: "confidence", group: "Metrics" },
    { field: "type", title: "type", group: "Datapoint" },
  ];
  const shown = open ?? ["groundtruths", ...(tags.data ?? []).slice(0, 2).map((name) => `tags.${name}`)];
  let group = "";
  return (
    <aside aria-label="Distributions" className="w-[296px] shrink-0 overflow-y-auto border-l border-line bg-panel pb-6">
      {sections.map((section) => {
        const heading = section.group !== group && section.group;
        group = section.group;
        return (
          <div key={section.field}>
            {heading && <h2 className="px-4 pt-4 pb-1 text-xs font-medium text-soft">{heading}</h2>}
            <SectionView
              section={section}
              filters={filters}
              open={shown.includes(section.field)}
              onOpen={() =>
                onOpen(shown.includes(section.field) ? shown.filter((one) => one !== section.field) : [...shown, section.field])
              }
              onToggle={onToggle}
              onFilters={onFilters}
            />
          </div>
        );
      })}
    </aside>
  );
}

interface SectionProps {
  section: Section;
  filters: Filter[];
  open: boolean;
  onOpen: () => void;
  onToggle: (filter: Filter) => void;
  onFilters: (filters: Filter[]) => void;
}

function SectionView({ section, filters, open, onOpen, onToggle, onFilters }: SectionProps) {
  const id = useId();
  return (
    <section className="border-b border-line/70">
      <h3>
        <button
          type="button"
          aria-expanded={open}
          aria-controls={id}
          onClick={onOpen}
          className="flex h-9 w-full items-center gap-1.5 px-3 text-left text-[13px] font-medium hover:bg-sunk focus-visible:-outline-offset-2"
        >
          <ChevronRight size={14} aria-hidden className={clsx("text-faint transition-transform", open && "rotate-90")} />
          <span className="truncate">{section.title}</span>
        </button>
      </h3>
      <div id={id} hidden={!open}>
        {open && <Spread section={section} filters={filters} onToggle={onToggle} onFilters={onFilters} />}
      </div>
    </section>
  );
}

const NONE: Filter[] = [];

function Spread({ section, filters, onToggle, onFilters }: Omit<SectionProps, "open" | "onOpen">) {
  const isMetric = section.group === "Metrics";
  const models = useQuery({ ...modelsWithQuery(isMetric ? section.field : null, filters), enabled: section.field === "predictions" || isMetric });
  const byModel = section.field === "predictions" || isMetric;
  const [picked, setPicked] = useState<string | null>(null);
  const model = byModel ? (picked && models.data?.includes(picked) ? picked : models.data?.[0]) : undefined;
  const ready = !byModel || models.isSuccess;
  const found = useQuery({ ...distributionQuery(section.field, filters, model), enabled: ready });
  const whole = useQuery({ ...distributionQuery(section.field, NONE, model), enabled: ready });
  const buckets = found.data?.buckets ?? [];
  const all = whole.data?.buckets ?? [];
  return (
    <div className={clsx("px-3 pb-3", found.isPlaceholderData && "opacity-60")}>
      {byModel && (models.data?.length ?? 0) > 1 && (
        <div className="mb-2 flex flex-wrap gap-1" role="group" aria-label="Model">
          {models.data?.map((name) => (
            <button
              key={name}
              type="button"
              aria-pressed={name === model}
              onClick={() => setPicked(name)}
              className="max-w-full truncate rounded-md px-1.5 py-0.5 text-xs text-soft hover:bg-sunk aria-pressed:bg-accent-wash aria-pressed:text-accent-ink"
            >
              {name}
            </button>
          ))}
        </div>
      )}
      {found.error ? (
        <Fault error={found.error} />
      ) : found.isSuccess && buckets.length === 0 && all.length === 0 ? (
        <p className="px-1 text-xs text-soft">No values</p>
      ) : found.data?.numeric || whole.data?.numeric ? (
        <Histogram section={section} model={model} buckets={all.length ? all : buckets} filters={filters} now={buckets} onFilters={onFilters} />
      ) : (
        <Classes section={section} model={model} buckets={buckets} all={all} filters={filters} onToggle={onToggle} />
      )}
      {found.data && found.data.total > buckets.length && (
        <p className="mt-1 px-1 text-xs text-soft">The {buckets.length} most frequent of {number.format(found.data.total)}</p>
      )}
    </div>
  );
}

/** The filter that a bar stands for; null where a filter cannot say it. */
export function filterOf(field: string, bucket: Bucket, model?: string): Filter | null {
  if (field.startsWith("tags.")) return tagFilter(field.slice(5), "=", bucket.bucket);
  if (field !== "groundtruths" && field !== "predictions") return { left: field, op: "=", right: bucket.bucket };
  const named: Filter[] = model ? [{ left: "model_name", op: "=", right: model }] : [];
  const task: Filter[] = bucket.taskType ? [{ left: "task_type", op: "=", right: bucket.taskType }] : [];
  const isClass: Filter = { left: "class_name", op: "=", right: bucket.bucket };
  switch (bucket.taskType) {
    case "SEGMENTATION":
      return { exists: field, where: [...named, { left: `metrics.distribution."${bucket.bucket}"`, op: ">", right: 0 }] };
    case "LANE_DETECTION":
    case "COMPLETION":
      return null;
    case "OBJECT_DETECTION":
    case "INSTANCE_SEGMENTATION":
      return { exists: field, where: [...named, ...task, { any: [isClass, { exists: "bboxes", where: [isClass] }] }] };
    default:
      // A lone kind of task is not named in the answer; a label may be a box's then.
      if (!bucket.taskType) return { exists: field, where: [...named, { any: [isClass, { exists: "bboxes", where: [isClass] }] }] };
      return { exists: field, where: [...named, ...task, isClass] };
  }
}

function Classes({
  section,
  model,
  buckets,
  all,
  filters,
  onToggle,
}: {
  section: Section;
  model?: string;
  buckets: Bucket[];
  all: Bucket[];
  filters: Filter[];
  onToggle: (filter: Filter) => void;
}) {
  const [more, setMore] = useState<string[]>([]);
  const key = (bucket: Bucket) => `${bucket.taskType ?? ""} ${bucket.bucket}`;
  const counts = new Map(buckets.map((bucket) => [key(bucket), bucket.count]));
  // In the order of the whole, so that bars stay where they are while filters change.
  const listed = all.length ? [...all, ...buckets.filter((one) => !all.some((other) => key(other) === key(one)))] : buckets;
  const groups = new Map<string, Bucket[]>();
  for (const bucket of listed) {
    const task = bucket.taskType ?? "";
    groups.set(task, [...(groups.get(task) ?? []), bucket]);
  }
  return (
    <div className="space-y-2.5">
      {[...groups].map(([task, rows]) => {
        const most = Math.max(...rows.map((row) => row.count), 1);
        const full = more.includes(task) || rows.length <= FIRST + 1;
        return (
          <div key={task}>
            {task && groups.size > 1 && <h4 className="mb-1 px-1 text-[11.5px] text-soft">{TASKS[task] ?? task}</h4>}
            <ul>
              {(full ? rows : rows.slice(0, FIRST)).map((row) => {
                const filter = filterOf(section.field, row, model);
                const on = filter !== null && filters.some((one) => same(one, filter));
                const count = counts.get(key(row)) ?? 0;
                return (
                  <li key={row.bucket}>
                    <button
                      type="button"
                      disabled={!filter}
                      aria-pressed={filter ? on : undefined}
                      onClick={() => filter && onToggle(filter)}
                      className={clsx(
                        "group relative flex h-[26px] w-full items-center gap-2 rounded-[5px] px-1 text-[12.5px]",
                        on ? "bg-accent-wash font-medium text-accent-ink" : "enabled:hover:bg-sunk",
                      )}
                    >
                      <span className="w-[104px] shrink-0 truncate text-left" title={row.bucket}>
                        {row.bucket}
                        <span className="sr-only">: </span>
                      </span>
                      <span className="relative h-2.5 min-w-0 flex-1">
                        <span className="absolute inset-y-0 left-0 rounded-[3px] bg-bar-ghost" style={{ width: `${Math.max(1, (100 * row.count) / most)}%` }} />
                        <span className="absolute inset-y-0 left-0 rounded-[3px] bg-bar" style={{ width: `${count ? Math.max(1, (100 * count) / most) : 0}%` }} />
                      </span>
                      <span className="tabular w-11 shrink-0 text-right text-[11.5px] text-soft">
                        {count < 10_000 ? number.format(count) : compact.format(count)}
                        <span className="sr-only"> of {number.format(row.count)}</span>
                      </span>
                    </button>
                  </li>
                );
              })}
            </ul>
            {rows.length > FIRST + 1 && (
              <Button small kind="quiet" onClick={() => setMore((before) => (full ? before.filter((one) => one !== task) : [...before, task]))}>
                {full ? "Show fewer" : `Show all ${rows.length}`}
              </Button>
            )}
          </div>
        );
      })}
    </div>
  );
}

const H = 84;

/** Numbers as bars; a stretch of them is dragged over, or chosen bar by bar from the keyboard. */
function Histogram({
  section,
  model,
  buckets,
  now,
  filters,
  onFilters,
}: {
  section: Section;
  model?: string;
  buckets: Bucket[];
  now: Bucket[];
  filters: Filter[];
  onFilters: (filters: Filter[]) => void;
}) {
  const [drag, setDrag] = useState<[number, number] | null>(null);
  const most = Math.max(...buckets.map((one) => one.count), 1);
  // The filtered values have bins of their own; each is laid where it belongs in those of the whole.
  const inside = buckets.map(() => 0);
  const low = buckets[0]?.low ?? 0;
  const high = buckets[buckets.length - 1]?.high ?? 1;
  const width = (high - low) / buckets.length || 1;
  for (const one of now) {
    const middle = ((one.low ?? 0) + (one.high ?? 0)) / 2;
    const place = Math.min(buckets.length - 1, Math.max(0, Math.floor((middle - low) / width)));
    inside[place] = (inside[place] ?? 0) + one.count;
  }
  const named: Filter[] = model ? [{ left: "model_name", op: "=", right: model }] : [];
  const field = section.field === "confidence" ? "confidence" : `metrics.${/^[\w]+$/.test(section.field) ? section.field : `"${section.field}"`}`;
  const isOwn = (filter: Filter): boolean =>
    "exists" in filter && filter.exists === "predictions" && filter.where.some((one) => "left" in one && one.left === field);
  const current = filters.find(isOwn);
  const bounds = current && "exists" in current ? (current.where as Condition[]).filter((one) => one.left === field) : [];
  const from = bounds.find((one) => one.op === ">=")?.right as number | undefined;
  const to = bounds.find((one) => one.op.startsWith("<"))?.right as number | undefined;

  const choose = (first: number, last: number) => {
    const start = buckets[Math.min(first, last)]?.low ?? low;
    const end = buckets[Math.max(first, last)]?.high ?? high;
    const others = filters.filter((one) => !isOwn(one));
    const closed = Math.max(first, last) === buckets.length - 1 ? "<=" : "<";
    const made: Filter = {
      exists: "predictions",
      where: [...named, { left: field, op: ">=", right: start }, { left: field, op: closed, right: end }],
    };
    onFilters(current && same(current, made) ? others : [...others, made]);
  };
  const placeOf = (event: PointerEvent<HTMLDivElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    return Math.max(0, Math.min(buckets.length - 1, Math.floor(((event.clientX - box.left) / box.width) * buckets.length)));
  };
  const chosen = (index: number): boolean => {
    if (drag) return index >= Math.min(...drag) && index <= Math.max(...drag);
    const bucket = buckets[index];
    if (from === undefined || to === undefined || !bucket) return false;
    return (bucket.low ?? 0) >= from - width * 1e-6 && (bucket.high ?? 0) <= to + width * 1e-6;
  };
  return (
    <div>
      <div
        role="group"
        aria-label={`${section.title}: choose a range`}
        className="relative flex touch-none items-end gap-px"
        style={{ height: H }}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          setDrag([placeOf(event), placeOf(event)]);
        }}
        onPointerMove={(event) => drag && setDrag([drag[0], placeOf(event)])}
        onPointerUp={() => {
          if (drag) choose(drag[0], drag[1]);
          setDrag(null);
        }}
        onPointerCancel={() => setDrag(null)}
      >
        {buckets.map((bucket, index) => (
          <button
            key={bucket.bucket}
            type="button"
            aria-pressed={chosen(index)}
            aria-label={`${bucket.bucket}: ${number.format(inside[index] ?? 0)}`}
            title={`${shownValue(bucket.low)} to ${shownValue(bucket.high)}: ${number.format(inside[index] ?? 0)} of ${number.format(bucket.count)}`}
            onKeyDown={(event) => {
              if (event.key !== "Enter" && event.key !== " ") return;
              event.preventDefault();
              choose(index, index);
            }}
            className={clsx("relative h-full flex-1 cursor-crosshair rounded-sm", chosen(index) && "bg-accent-wash")}
          >
            <span className="absolute inset-x-0 bottom-0 rounded-t-[2px] bg-bar-ghost" style={{ height: `${bucket.count ? Math.max(2, (100 * bucket.count) / most) : 0}%` }} />
            <span className="absolute inset-x-0 bottom-0 rounded-t-[2px] bg-bar" style={{ height: `${inside[index] ? Math.max(2, Math.min(100, (100 * (inside[index] ?? 0)) / most)) : 0}%` }} />
          </button>
        ))}
      </div>
      <div className="tabular mt-1 flex justify-between text-[11px] text-soft">
        <span>{shownValue(low)}</span>
        {current && (
          <button type="button" className="font-medium text-accent-ink underline underline-offset-2" onClick={() => onFilters(filters.filter((one) => !isOwn(one)))}>
            {shownValue(from)} to {shownValue(to)} · clear
          </button>
        )}
        <span>{shownValue(high)}</span>
      </div>
    </div>
  );
}
