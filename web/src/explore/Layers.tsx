/** What is drawn over the images. */
import { useQuery } from "@tanstack/react-query";
import { Layers as LayersIcon } from "lucide-react";
import { namesQuery } from "../api/queries";
import { colourOf } from "../overlays/colours";
import { Button, Popover, Switch } from "../ui/kit";
import { KINDS, type Search, type Shown } from "./search";

const NAMES: Record<string, string> = {
  boxes: "Boxes",
  polygons: "Polygons",
  masks: "Masks",
  lanes: "Lanes",
  labels: "Labels",
  confidences: "Confidences",
};

export function toggle<T>(list: T[], item: T): T[] {
  return list.includes(item) ? list.filter((one) => one !== item) : [...list, item];
}

interface Props {
  search: Search;
  shown: Shown;
  classes: string[];
  onChange: (change: Partial<Search>, replace?: boolean) => void;
}

export function Layers(props: Props) {
  return (
    <Popover
      label="Layers"
      trigger={
        <Button>
          <LayersIcon size={15} aria-hidden />
          Layers
        </Button>
      }
    >
      <LayerSwitches {...props} />
    </Popover>
  );
}

export function LayerSwitches({ shown, classes, models: own, onChange }: Omit<Props, "search"> & { models?: string[] }) {
  const known = useQuery({ ...namesQuery("models"), enabled: !own });
  const models = own ?? known.data ?? [];
  return (
    <div className="space-y-3">
      <Group title="Sources">
        <Switch label="Ground truths" checked={shown.truth} onChange={(truth) => onChange({ truth })}>
          Ground truths
          <Line />
        </Switch>
        {models.map((model) => (
          <Switch
            key={model}
            label={`Predictions of ${model}`}
            checked={shown.models.includes(model)}
            onChange={() => onChange({ models: toggle(shown.models, model) })}
          >
            <span className="truncate">{model}</span>
            <Line dashed />
          </Switch>
        ))}
      </Group>
      {shown.models.length > 0 && (
        <label className="block text-[13px]">
          <span className="flex justify-between">
            Confidence from
            <span className="tabular text-soft">{shown.least.toFixed(2)}</span>
          </span>
          <input
            type="range"
            min={0}
            max={1}
            step={0.01}
            value={shown.least}
            onChange={(event) => onChange({ least: Number(event.target.value) }, true)}
            className="w-full accent-[var(--accent)]"
          />
        </label>
      )}
      <Group title="Kinds">
        <div className="grid grid-cols-2 gap-x-3">
          {KINDS.map((kind) => (
            <Switch
              key={kind}
              label={NAMES[kind] ?? kind}
              checked={!shown.without.includes(kind)}
              onChange={() => onChange({ without: toggle(shown.without, kind) })}
            />
          ))}
        </div>
      </Group>
      {classes.length > 0 && (
        <Group title="Classes">
          <div className="max-h-56 overflow-auto" tabIndex={0}>
            {classes.map((name) => (
              <Switch
                key={name}
                label={`Class ${name}`}
                checked={!shown.hidden.includes(name)}
                onChange={() => onChange({ hidden: toggle(shown.hidden, name) })}
              >
                <span aria-hidden className="size-2.5 shrink-0 rounded-full ring-1 ring-black/20" style={{ background: colourOf(name) }} />
                <span className="truncate">{name}</span>
              </Switch>
            ))}
          </div>
          <div className="mt-1 flex gap-1">
            <Button small kind="quiet" onClick={() => onChange({ hidden: [] })}>
              All
            </Button>
            <Button small kind="quiet" onClick={() => onChange({ hidden: classes })}>
              None
            </Button>
          </div>
        </Group>
      )}
    </div>
  );
}

function Group({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <fieldset>
      <legend className="mb-1 text-xs font-medium text-soft">{title}</legend>
      {children}
    </fieldset>
  );
}

/** How the source is drawn. */
function Line({ dashed }: { dashed?: boolean }) {
  return (
    <svg aria-hidden viewBox="0 0 22 6" className="ml-auto w-6 shrink-0 text-soft">
      <line x1="1" x2="21" y1="3" y2="3" stroke="currentColor" strokeWidth="2" strokeDasharray={dashed ? "5 3" : undefined} />
    </svg>
  );
}
