/** From what is attached to a datapoint to what is drawn over its image. */
import type { Attached, Box, Datapoint, GroundTruth, Prediction } from "../api/types";
import type { Shown } from "../explore/search";
import { colourOf } from "./colours";

export interface Shape {
  kind: "box" | "polygon" | "lane";
  /** left, top, width, height; or x, y, x, y … in pixels of the image. */
  points: number[];
  colour: string;
  label: string;
  /** Predictions are dashed. */
  dashed: boolean;
}
export interface MaskShape {
  url: string;
  /** The colour of each value, from 1; null is not drawn. */
  colours: (string | null)[];
}
export interface Drawing {
  /** The size of the image in the pixels that shapes are given in; 0 where it is not known. */
  width: number;
  height: number;
  shapes: Shape[];
  masks: MaskShape[];
}

/** The pixels that shapes refer to: those of the image, or of the region that is shown of it. */
export function frameOf(row: Datapoint): { width: number; height: number } {
  const { width, height, normalized_roi: region } = row.metadata ?? {};
  if (typeof width !== "number" || typeof height !== "number") return { width: 0, height: 0 };
  return region ? { width: width * region.width, height: height * region.height } : { width, height };
}

export function drawingOf(row: Datapoint, attached: Attached, shown: Shown, maskSize: number): Drawing {
  const drawing: Drawing = { ...frameOf(row), shapes: [], masks: [] };
  const sources: { owner: GroundTruth | Prediction; dashed: boolean; table: string }[] = [];
  if (shown.truth) for (const owner of attached.groundtruths) sources.push({ owner, dashed: false, table: "groundtruths" });
  for (const owner of attached.predictions) {
    if (shown.models.includes(owner.model_name ?? "")) sources.push({ owner, dashed: true, table: "predictions" });
  }
  const off = new Set(shown.without);
  const hidden = new Set(shown.hidden);
  for (const { owner, dashed, table } of sources) {
    const key = dashed ? "prediction" : "groundtruth";
    const boxes = attached.bboxes.filter((box) => box[key] === owner.id);
    const drawn: (Box | GroundTruth | Prediction)[] = boxes.length ? boxes : owner.left !== null ? [owner] : [];
    for (const box of drawn) addBox(drawing, box, dashed, off, hidden, shown.least);
    if (!off.has("lanes")) {
      for (const lane of attached.lanes) {
        if (lane[key] !== owner.id || !lane.coco_polyline || below(lane.confidence, shown.least)) continue;
        const name = lane.classifications?.[0]?.class_name;
        const label = typeof name === "string" ? name : "lane";
        if (hidden.has(label)) continue;
        const said = off.has("labels") || label === "lane" ? "" : label;
        drawing.shapes.push({ kind: "lane", points: lane.coco_polyline, colour: colourOf(label), label: said, dashed });
      }
    }
    if (!off.has("masks")) addMask(drawing, owner, boxes, table, hidden, maskSize);
  }
  return drawing;
}

function below(confidence: number | null | undefined, least: number): boolean {
  return least > 0 && typeof confidence === "number" && confidence < least;
}

function addBox(
  drawing: Drawing,
  box: Box | GroundTruth | Prediction,
  dashed: boolean,
  off: Set<string>,
  hidden: Set<string>,
  least: number,
): void {
  const name = box.class_name ?? "";
  const confidence = "confidence" in box ? box.confidence : null;
  if (hidden.has(name) || below(confidence, least)) return;
  const parts: string[] = [];
  if (name && !off.has("labels")) parts.push(name);
  if (typeof confidence === "number" && !off.has("confidences")) parts.push(confidence.toFixed(2));
  const shape = { colour: colourOf(name), label: parts.join(" "), dashed };
  const polygon = "coco_polygon" in box ? box.coco_polygon : null;
  if (polygon && polygon.length >= 6) {
    if (!off.has("polygons")) drawing.shapes.push({ kind: "polygon", points: polygon, ...shape });
  } else if (!off.has("boxes") && box.left !== null && box.top !== null && box.width !== null && box.height !== null) {
    drawing.shapes.push({ kind: "box", points: [box.left, box.top, box.width, box.height], ...shape });
  }
}

function addMask(
  drawing: Drawing,
  owner: GroundTruth | Prediction,
  boxes: Box[],
  table: string,
  hidden: Set<string>,
  size: number,
): void {
  const url = `/api/${table}/${owner.id}/mask?size=${size}&v=1`;
  if (owner.task_type === "SEGMENTATION") {
    const names = owner.class_names ?? [];
    const colours = Array.from({ length: Math.max(names.length, 32) }, (_, index) => {
      const name = names[index] ?? String(index);
      return hidden.has(name) ? null : colourOf(name);
    });
    drawing.masks.push({ url, colours });
  } else if (owner.task_type === "INSTANCE_SEGMENTATION" && boxes.length && boxes.every((box) => !box.coco_polygon)) {
    // The server numbers instances in the order of the ids.
    const sorted = [...boxes].sort((one, other) => (one.id < other.id ? -1 : 1));
    drawing.masks.push({ url, colours: sorted.map((box) => (hidden.has(box.class_name ?? "") ? null : colourOf(box.class_name ?? ""))) });
  }
}

/** The classes that are attached, for switches. */
export function classesOf(attached: Iterable<Attached>): string[] {
  const names = new Set<string>();
  for (const own of attached) {
    for (const box of own.bboxes) if (box.class_name) names.add(box.class_name);
    for (const owner of [...own.groundtruths, ...own.predictions]) {
      if (owner.task_type === "SEGMENTATION") for (const name of owner.class_names ?? []) names.add(name);
    }
    for (const lane of own.lanes) {
      const name = lane.classifications?.[0]?.class_name;
      names.add(typeof name === "string" ? name : "lane");
    }
  }
  return [...names].sort();
}
