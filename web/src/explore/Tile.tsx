/** One datapoint in the grid. */
import { Link } from "@tanstack/react-router";
import clsx from "clsx";
import { memo, type MouseEvent, useMemo, useState } from "react";
import { type Attached, type Datapoint, NOTHING } from "../api/types";
import { Overlay } from "../overlays/Overlay";
import { drawingOf } from "../overlays/shapes";
import { CheckMark } from "../ui/kit";
import { Picture } from "./Picture";
import { Film, Sound } from "./Players";
import type { Shown } from "./search";

export const CAPTION = 26;

export interface TileProps {
  row: Datapoint | undefined;
  attached: Attached | undefined;
  index: number;
  width: number;
  height: number;
  shown: Shown;
  selected: boolean;
  focused: boolean;
  value: string;
  onSelect: (index: number, range: boolean) => void;
}

export const Tile = memo(function Tile({ row, attached, index, width, height, shown, selected, focused, value, onSelect }: TileProps) {
  if (!row) {
    return (
      <div role="gridcell" aria-colindex={1} className="p-[3px]" style={{ width, height }}>
        <div className="h-full animate-pulse rounded-lg bg-sunk" />
      </div>
    );
  }
  const own = attached ?? NOTHING;
  const choose = (event: MouseEvent) => {
    event.preventDefault();
    event.stopPropagation();
    onSelect(index, event.shiftKey);
  };
  return (
    <div role="gridcell" aria-selected={selected} className="group relative p-[3px]" style={{ width, height }}>
      <Link
        to="/datapoints/$id"
        params={{ id: row.id }}
        search={(before) => before}
        tabIndex={focused ? 0 : -1}
        data-index={index}
        onClick={(event) => {
          if (event.shiftKey) choose(event);
        }}
        className={clsx(
          "block h-full overflow-hidden rounded-lg border bg-panel focus-visible:outline-offset-0",
          selected ? "border-accent ring-2 ring-accent" : "border-line hover:border-line-strong",
        )}
      >
        <div className="relative overflow-hidden bg-canvas" style={{ height: height - 8 - CAPTION }}>
          <Content row={row} attached={own} width={width - 8} height={height - 8 - CAPTION} shown={shown} />
        </div>
        <Caption attached={own} row={row} value={value} />
      </Link>
      <button
        type="button"
        tabIndex={-1}
        role="checkbox"
        aria-checked={selected}
        aria-label={`Select datapoint ${index + 1}`}
        onClick={choose}
        className={clsx(
          "absolute top-[9px] left-[9px] rounded-[5px] group-hover:opacity-100",
          selected ? "opacity-100" : "opacity-0 group-focus-within:opacity-100",
        )}
      >
        <CheckMark checked={selected} />
      </button>
    </div>
  );
});

function Content({ row, attached, width, height, shown }: { row: Datapoint; attached: Attached; width: number; height: number; shown: Shown }) {
  if (row.type === "TEXT") return <Words row={row} attached={attached} />;
  if (row.type === "AUDIO") return <Sound row={row} />;
  if (row.type === "VIDEO") return <Film row={row} />;
  return <Image row={row} attached={attached} width={width} height={height} shown={shown} />;
}

function Image({ row, attached, width, height, shown }: { row: Datapoint; attached: Attached; width: number; height: number; shown: Shown }) {
  const size = Math.max(width, height) * Math.min(2, devicePixelRatio) > 256 ? 512 : 256;
  const [natural, setNatural] = useState({ width: 0, height: 0 });
  const drawing = useMemo(() => {
    const made = drawingOf(row, attached, shown, 256);
    // Without a width in the metadata the image's own counts; small images come as they are.
    return made.width ? made : { ...made, ...natural };
  }, [row, attached, shown, natural]);
  const small = (row.metadata?.width ?? natural.width) > 0 && (row.metadata?.width ?? natural.width) <= 96;
  return (
    <>
      <Picture
        row={row}
        size={size}
        alt={nameOf(row)}
        className={clsx("absolute inset-0 h-full w-full object-contain", small && "[image-rendering:pixelated]")}
        onSize={row.metadata?.width ? undefined : (w, h) => setNatural({ width: w, height: h })}
      />
      <Overlay drawing={drawing} width={width} height={height} />
    </>
  );
}

function Words({ row, attached }: { row: Datapoint; attached: Attached }) {
  const truths = attached.completions.filter((one) => one.groundtruth);
  const answers = attached.completions.filter((one) => one.prediction);
  return (
    <div className="flex h-full flex-col gap-1.5 overflow-hidden bg-panel p-2.5 text-[12.5px] leading-snug">
      <p className={clsx("break-words", attached.completions.length ? "line-clamp-3 font-medium" : "line-clamp-[12]")}>{row.text}</p>
      {truths.map((one) => (
        <p key={one.id} className="line-clamp-2 border-l-2 border-good pl-2 break-words text-soft">
          {one.text}
        </p>
      ))}
      {answers.map((one) => {
        const model = attached.predictions.find((prediction) => prediction.id === one.prediction)?.model_name;
        return (
          <p key={one.id} className="line-clamp-2 border-l-2 border-line-strong pl-2 break-words">
            <span className="text-faint">{model} </span>
            {one.text}
          </p>
        );
      })}
    </div>
  );
}

/** What is true and what models say, as far as it fits into a word. */
function Caption({ row, attached, value }: { row: Datapoint; attached: Attached; value: string }) {
  const truth = attached.groundtruths.find((one) => one.task_type === "CLASSIFICATION")?.class_name;
  const guess = attached.predictions.find((one) => one.task_type === "CLASSIFICATION");
  const wrong = truth && guess?.class_name && truth !== guess.class_name;
  const objects = attached.bboxes.filter((one) => one.groundtruth).length;
  return (
    <div className="flex items-center gap-1.5 px-2 text-[11.5px] text-soft" style={{ height: CAPTION }}>
      {truth && <span className="truncate font-medium text-ink">{truth}</span>}
      {guess?.class_name && (
        <span className={clsx("truncate", wrong ? "text-danger" : "text-soft")}>
          {truth ? (wrong ? `≠ ${guess.class_name}` : "=") : guess.class_name}
          {guess.confidence !== null && ` ${guess.confidence.toFixed(2)}`}
        </span>
      )}
      {!truth && !guess && (objects > 0 ? `${objects} objects` : <span className="truncate">{nameOf(row)}</span>)}
      {value && <span className="tabular ml-auto shrink-0 truncate text-ink">{value}</span>}
    </div>
  );
}

export function nameOf(row: Datapoint): string {
  const uri = row.metadata?.uri;
  if (typeof uri === "string" && !uri.startsWith("object://")) return uri.split(/[?#]/)[0]?.split("/").pop() || uri;
  return row.type.toLowerCase();
}
