/** An image that can be zoomed and moved, with its overlays drawn at the resolution of the screen. */
import { useQuery } from "@tanstack/react-query";
import { Flame, Maximize2, ZoomIn, ZoomOut } from "lucide-react";
import { type PointerEvent, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { errorOf, request } from "../api/client";
import { type Attached, type Datapoint, thumbnailUrl } from "../api/types";
import type { Shown } from "../explore/search";
import { TITLES } from "../explore/Picture";
import { drawShapes, fitted, paintedMask } from "../overlays/draw";
import { drawingOf, type MaskShape } from "../overlays/shapes";
import { Fault, IconButton } from "../ui/kit";

interface View {
  zoom: number;
  x: number;
  y: number;
}
const WHOLE: View = { zoom: 1, x: 0, y: 0 };
const MOST = 40;

export function Viewer({ row, attached, shown }: { row: Datapoint; attached: Attached; shown: Shown }) {
  const place = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [box, setBox] = useState({ width: 0, height: 0 });
  const [view, setView] = useState(WHOLE);
  const [heat, setHeat] = useState(false);
  const image = useImage(row);
  const masks = useMasks(row, attached, shown);
  const heatmap = useHeat(attached, heat);
  const segmented = attached.predictions.some((one) => one.task_type === "SEGMENTATION");

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const sized = new ResizeObserver(() => setBox({ width: element.clientWidth, height: element.clientHeight }));
    sized.observe(element);
    return () => sized.disconnect();
  }, []);

  const zoomAt = useCallback((factor: number, px: number, py: number) => {
    setView((before) => {
      const zoom = Math.min(MOST, Math.max(1, before.zoom * factor));
      if (zoom === 1) return WHOLE;
      const by = zoom / before.zoom;
      return { zoom, x: px - (px - before.x) * by, y: py - (py - before.y) * by };
    });
  }, []);
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const bounds = element.getBoundingClientRect();
      const px = event.clientX - bounds.left - bounds.width / 2;
      const py = event.clientY - bounds.top - bounds.height / 2;
      zoomAt(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), px, py);
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, [zoomAt]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if ((event.target as HTMLElement).closest("input, textarea, select, [role=dialog]")) return;
      if (event.key === "+" || event.key === "=") zoomAt(1.4, 0, 0);
      else if (event.key === "-") zoomAt(1 / 1.4, 0, 0);
      else if (event.key === "0") setView(WHOLE);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [zoomAt]);

  const natural = image.data ? { width: image.data.fullWidth, height: image.data.fullHeight } : null;
  const drawing = useMemo(() => {
    const made = drawingOf(row, attached, shown, 2048);
    return made.width || !natural ? made : { ...made, ...natural };
  }, [row, attached, shown, natural?.width, natural?.height]);

  useEffect(() => {
    const target = canvas.current;
    const context = target?.getContext("2d");
    if (!target || !context || !image.data || !box.width) return;
    const ratio = Math.min(2, devicePixelRatio);
    target.width = Math.round(box.width * ratio);
    target.height = Math.round(box.height * ratio);
    const frame = { width: drawing.width || 1, height: drawing.height || 1 };
    const margin = 24 * ratio;
    const fit = fitted(frame.width, frame.height, { width: target.width - margin * 2, height: target.height - margin * 2 });
    const scale = fit.scale * view.zoom;
    const x = target.width / 2 + view.x * ratio - (frame.width * scale) / 2;
    const y = target.height / 2 + view.y * ratio - (frame.height * scale) / 2;
    const { bitmap } = image.data;
    context.imageSmoothingEnabled = (frame.width * scale) / bitmap.width < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, x, y, frame.width * scale, frame.height * scale);
    context.imageSmoothingEnabled = false;
    for (const mask of masks.data ?? []) context.drawImage(mask, x, y, frame.width * scale, frame.height * scale);
    if (heat && heatmap.data) context.drawImage(heatmap.data, x, y, frame.width * scale, frame.height * scale);
    drawShapes(context, drawing, scale, x, y, 2 * ratio, 11.5 * ratio);
  }, [image.data, masks.data, heatmap.data, heat, drawing, box, view]);

  const drag = useRef<{ x: number; y: number } | null>(null);
  const onPointerMove = (event: PointerEvent) => {
    const start = drag.current;
    if (!start) return;
    drag.current = { x: event.clientX, y: event.clientY };
    setView((before) => ({ ...before, x: before.x + event.clientX - start.x, y: before.y + event.clientY - start.y }));
  };
  return (
    <div className="relative h-full overflow-hidden" ref={place}>
      {image.error ? (
        <div className="grid h-full place-items-center p-8">
          <div className="max-w-md">
            <h2 className="mb-2 text-center font-semibold">{TITLES[(image.error as { code?: string }).code ?? ""] ?? "No image"}</h2>
            <Fault error={image.error} />
          </div>
        </div>
      ) : (
        <canvas
          ref={canvas}
          role="img"
          aria-label={`Image with ${drawing.shapes.length} shapes`}
          className="block touch-none"
          style={{ width: box.width, height: box.height, cursor: view.zoom > 1 ? "grab" : "zoom-in" }}
          onPointerDown={(event) => {
            event.currentTarget.setPointerCapture(event.pointerId);
            drag.current = { x: event.clientX, y: event.clientY };
          }}
          onPointerMove={onPointerMove}
          onPointerUp={() => (drag.current = null)}
          onDoubleClick={(event) => {
            const bounds = event.currentTarget.getBoundingClientRect();
            if (view.zoom > 1) setView(WHOLE);
            else zoomAt(3, event.clientX - bounds.left - bounds.width / 2, event.clientY - bounds.top - bounds.height / 2);
          }}
        />
      )}
      <div className="absolute bottom-3 left-1/2 flex -translate-x-1/2 items-center gap-0.5 rounded-lg border border-line bg-panel p-1 shadow-float">
        <IconButton label="Zoom out (−)" onClick={() => zoomAt(1 / 1.4, 0, 0)}>
          <ZoomOut size={16} />
        </IconButton>
        <span className="tabular w-12 text-center text-xs text-soft">{Math.round(view.zoom * 100)} %</span>
        <IconButton label="Zoom in (+)" onClick={() => zoomAt(1.4, 0, 0)}>
          <ZoomIn size={16} />
        </IconButton>
        <IconButton label="The whole image (0)" onClick={() => setView(WHOLE)}>
          <Maximize2 size={15} />
        </IconButton>
        {segmented && (
          <IconButton label="Entropy of each pixel" pressed={heat} onClick={() => setHeat(!heat)}>
            <Flame size={16} />
          </IconButton>
        )}
      </div>
    </div>
  );
}

function useImage(row: Datapoint) {
  return useQuery({
    queryKey: ["image", thumbnailUrl(row, 4096)],
    queryFn: async ({ signal }) => {
      const answer = await request(thumbnailUrl(row, 4096), { signal });
      if (!answer.ok) throw await errorOf(answer);
      const [width = 0, height = 0] = (answer.headers.get("x-image-size") ?? "").split("x").map(Number);
      return { bitmap: await createImageBitmap(await answer.blob()), fullWidth: width, fullHeight: height };
    },
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 60_000,
    retry: false,
  });
}

function useMasks(row: Datapoint, attached: Attached, shown: Shown) {
  const wanted: MaskShape[] = useMemo(() => drawingOf(row, attached, shown, 2048).masks, [row, attached, shown]);
  return useQuery({
    queryKey: ["masks", JSON.stringify(wanted)],
    queryFn: async ({ signal }) => (await Promise.all(wanted.map((mask) => paintedMask(mask, signal)))).filter((one) => one !== null),
    enabled: wanted.length > 0,
    gcTime: 10_000,
  });
}

/** The entropy of each pixel, from clear to orange. */
function useHeat(attached: Attached, wanted: boolean) {
  const owner = attached.predictions.find((one) => one.task_type === "SEGMENTATION");
  return useQuery({
    queryKey: ["uncertainty", owner?.id],
    queryFn: async ({ signal }) => {
      const colours = Array.from({ length: 255 }, () => "#f97316");
      const canvas = await paintedMask({ url: `/api/predictions/${owner?.id}/uncertainty?size=1024&v=1`, colours }, signal);
      return canvas;
    },
    enabled: wanted && !!owner,
    retry: false,
  });
}
