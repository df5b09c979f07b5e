/** Drawing on a canvas of either kind: on the page for one image, in the worker for many. */
import { channels } from "./colours";
import type { Drawing, MaskShape, Shape } from "./shapes";

type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

/** The rectangle an image takes when it is fitted into a larger one. */
export function fitted(width: number, height: number, into: { width: number; height: number }) {
  const scale = Math.min(into.width / width, into.height / height);
  return { x: (into.width - width * scale) / 2, y: (into.height - height * scale) / 2, scale };
}

/** Draw shapes at `scale`; `line` is the width of a stroke in pixels of the canvas. */
export function drawShapes(context: Context, drawing: Drawing, scale: number, x: number, y: number, line: number, text: number): void {
  context.save();
  context.beginPath();
  context.rect(x - line, y - line, drawing.width * scale + 2 * line, drawing.height * scale + 2 * line);
  context.clip();
  context.lineJoin = "round";
  context.font = `600 ${text}px "Inter Variable", system-ui, sans-serif`;
  context.textBaseline = "middle";
  // Shapes of one colour are stroked together: a hundred boxes cost what ten do.
  for (const { colour, dashed, shapes } of alike(drawing.shapes)) {
    context.beginPath();
    for (const shape of shapes) trace(context, shape, scale, x, y);
    context.setLineDash([]);
    context.strokeStyle = "rgba(0,0,0,0.45)";
    context.lineWidth = line + 1.5;
    context.stroke();
    context.setLineDash(dashed ? [line * 3.2, line * 2.2] : []);
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.stroke();
    const polygons = shapes.filter((shape) => shape.kind === "polygon");
    if (!polygons.length) continue;
    context.beginPath();
    for (const shape of polygons) trace(context, shape, scale, x, y);
    context.fillStyle = `${colour}2e`;
    context.fill();
  }
  context.setLineDash([]);
  for (const shape of drawing.shapes) if (shape.label && text) drawLabel(context, shape, scale, x, y, text);
  context.restore();
}

function alike(shapes: Shape[]): { colour: string; dashed: boolean; shapes: Shape[] }[] {
  const groups = new Map<string, { colour: string; dashed: boolean; shapes: Shape[] }>();
  for (const shape of shapes) {
    const key = `${shape.colour}${shape.dashed}`;
    const group = groups.get(key);
    if (group) group.shapes.push(shape);
    else groups.set(key, { colour: shape.colour, dashed: shape.dashed, shapes: [shape] });
  }
  return [...groups.values()];
}

function trace(context: Context, shape: Shape, scale: number, x: number, y: number): void {
  const { points } = shape;
  if (shape.kind === "box") {
    const [left = 0, top = 0, width = 0, height = 0] = points;
    context.rect(x + left * scale, y + top * scale, width * scale, height * scale);
    return;
  }
  for (let index = 0; index + 1 < points.length; index += 2) {
    const px = x + (points[index] as number) * scale;
    const py = y + (points[index + 1] as number) * scale;
    if (index === 0) context.moveTo(px, py);
    else context.lineTo(px, py);
  }
  if (shape.kind === "polygon") context.closePath();
}

function drawLabel(context: Context, shape: Shape, scale: number, x: number, y: number, text: number): void {
  let left = Number.POSITIVE_INFINITY;
  let top = Number.POSITIVE_INFINITY;
  let bottom = 0;
  if (shape.kind === "box") {
    left = shape.points[0] ?? 0;
    top = shape.points[1] ?? 0;
    bottom = top + (shape.points[3] ?? 0);
  } else {
    for (let index = 0; index + 1 < shape.points.length; index += 2) {
      left = Math.min(left, shape.points[index] as number);
      top = Math.min(top, shape.points[index + 1] as number);
      bottom = Math.max(bottom, shape.points[index + 1] as number);
    }
  }
  const height = text + 5;
  const width = context.measureText(shape.label).width + 7;
  const px = x + left * scale - 1;
  // What is true is said above a shape, what a model says below, so that one does not hide the other.
  const above = Math.max(y, y + top * scale - height);
  const py = shape.dashed ? y + bottom * scale : above;
  context.fillStyle = shape.dashed ? "rgba(12,14,16,0.78)" : shape.colour;
  context.beginPath();
  context.roundRect(px, py, width, height, 3);
  context.fill();
  context.fillStyle = shape.dashed ? shape.colour : "#0c0e10";
  context.fillText(shape.label, px + 3.5, py + height / 2 + 0.5);
}

/** A mask's grey values as colours, half transparent. */
export async function paintedMask(mask: MaskShape, signal?: AbortSignal): Promise<OffscreenCanvas | null> {
  const answer = await fetch(mask.url, { signal });
  if (!answer.ok) return null;
  const bitmap = await createImageBitmap(await answer.blob(), { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) return null;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const table = mask.colours.map((colour) => (colour ? channels(colour) : null));
  const { data } = pixels;
  for (let index = 0; index < data.length; index += 4) {
    const value = data[index] as number;
    const colour = value === 0 ? null : table[value - 1];
    if (!colour) {
      data[index + 3] = 0;
      continue;
    }
    data[index] = colour[0];
    data[index + 1] = colour[1];
    data[index + 2] = colour[2];
    data[index + 3] = 100;
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}
