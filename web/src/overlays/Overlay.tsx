/** A canvas over an image of the grid, drawn by the worker. */
import { useEffect, useRef } from "react";
import type { Drawing } from "./shapes";
import type { Done, Job } from "./worker";

let worker: Worker | null = null;
let next = 1;
const answers = new Map<number, (bitmap: ImageBitmap | null) => void>();

function drawer(): Worker {
  if (!worker) {
    worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<Done>) => {
      const answer = answers.get(data.id);
      answers.delete(data.id);
      if (answer) answer(data.bitmap);
      else data.bitmap?.close();
    };
  }
  return worker;
}

export function Overlay({ drawing, width, height }: { drawing: Drawing; width: number; height: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const empty = !drawing.shapes.length && !drawing.masks.length;
  useEffect(() => {
    const place = canvas.current;
    if (!place || empty) return;
    const id = next++;
    answers.set(id, (bitmap) => place.getContext("bitmaprenderer")?.transferFromImageBitmap(bitmap));
    const job: Job = { id, width, height, ratio: Math.min(2, devicePixelRatio), drawing };
    drawer().postMessage(job);
    return () => {
      if (answers.delete(id)) drawer().postMessage({ cancel: id });
    };
  }, [drawing, width, height, empty]);
  if (empty) return null;
  return <canvas ref={canvas} aria-hidden className="pointer-events-none absolute inset-0" style={{ width, height }} />;
}
