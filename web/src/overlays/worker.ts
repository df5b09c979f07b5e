/** Draws the overlays of the grid away from the page, so that scrolling never waits for them. */
import { drawShapes, fitted, paintedMask } from "./draw";
import type { Drawing } from "./shapes";

export interface Job {
  id: number;
  width: number;
  height: number;
  ratio: number;
  drawing: Drawing;
}
export interface Done {
  id: number;
  bitmap: ImageBitmap | null;
}

const cancelled = new Set<number>();
const waiting: Job[] = [];
let busy = false;

self.onmessage = (event: MessageEvent<Job | { cancel: number }>) => {
  if ("cancel" in event.data) {
    const { cancel } = event.data;
    const place = waiting.findIndex((job) => job.id === cancel);
    if (place >= 0) waiting.splice(place, 1);
    else cancelled.add(cancel);
    return;
  }
  waiting.push(event.data);
  if (!busy) void work();
};

async function work(): Promise<void> {
  busy = true;
  for (;;) {
    const job = waiting.shift();
    if (!job) break;
    // Messages that came meanwhile (what was scrolled past) are heard between two drawings.
    await new Promise((resume) => setTimeout(resume, 0));
    if (cancelled.delete(job.id)) continue;
    const bitmap = await draw(job).catch(() => null);
    const done: Done = { id: job.id, bitmap };
    self.postMessage(done, bitmap ? { transfer: [bitmap] } : {});
  }
  busy = false;
}

async function draw({ width, height, ratio, drawing }: Job): Promise<ImageBitmap | null> {
  if (!drawing.width || !drawing.height) return null;
  const canvas = new OffscreenCanvas(Math.round(width * ratio), Math.round(height * ratio));
  const context = canvas.getContext("2d");
  if (!context) return null;
  const { x, y, scale } = fitted(drawing.width, drawing.height, canvas);
  context.imageSmoothingEnabled = false;
  for (const mask of drawing.masks) {
    const painted = await paintedMask(mask);
    if (painted) context.drawImage(painted, x, y, drawing.width * scale, drawing.height * scale);
  }
  // Where there would be more label than image, there is none.
  const crowded = drawing.shapes.length > 40 && width < 400;
  const text = crowded || width < 150 ? 0 : width < 260 ? 8.5 : 10;
  drawShapes(context, drawing, scale, x, y, (width < 200 ? 1.2 : 1.5) * ratio, text * ratio);
  return canvas.transferToImageBitmap();
}
