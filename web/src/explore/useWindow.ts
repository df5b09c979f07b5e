/** Which rows of a grid are to be seen, for more rows than a page can be high.
 *
 * Browsers give up at 16 to 33 million pixels. Past `HIGHEST` the scroll bar stands for the whole and
 * the wheel still moves by pixels: `offset` is where the grid is, `scrollTop` only its shadow.
 */
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

const HIGHEST = 12_000_000;
const OVERSCAN = 2;

export interface Window {
  first: number;
  last: number;
  /** Where row `first` stands inside the scrolled element. */
  top: number;
  height: number;
  scrollToRow: (row: number) => void;
  offset: () => number;
}

export function useWindow(scroller: RefObject<HTMLDivElement | null>, rows: number, rowHeight: number, start: number): Window {
  const [view, setView] = useState({ offset: start, height: 800 });
  const full = rows * rowHeight;
  const height = Math.min(full, HIGHEST);
  const own = useRef({ offset: start, set: -1 });
  const most = Math.max(0, full - view.height);
  const ratio = height > view.height ? most / Math.max(1, height - view.height) : 1;
  const compressed = full > HIGHEST;

  const move = useCallback(
    (offset: number) => {
      const place = scroller.current;
      if (!place) return;
      const now = Math.max(0, Math.min(offset, Math.max(0, full - place.clientHeight)));
      own.current.offset = now;
      own.current.set = Math.round(now / ratio);
      place.scrollTop = own.current.set;
      setView({ offset: now, height: place.clientHeight });
    },
    [scroller, full, ratio],
  );

  useEffect(() => {
    const place = scroller.current;
    if (!place) return;
    const onScroll = () => {
      // What this hook set itself is no news; a dragged scroll bar is.
      if (Math.abs(place.scrollTop - own.current.set) <= 1) return;
      own.current.set = -1;
      own.current.offset = place.scrollTop * ratio;
      setView({ offset: own.current.offset, height: place.clientHeight });
    };
    const onWheel = (event: WheelEvent) => {
      if (!compressed || event.ctrlKey) return;
      event.preventDefault();
      const unit = event.deltaMode === 1 ? 20 : event.deltaMode === 2 ? place.clientHeight : 1;
      move(own.current.offset + event.deltaY * unit);
    };
    const sized = new ResizeObserver(() => setView({ offset: own.current.offset, height: place.clientHeight }));
    place.addEventListener("scroll", onScroll, { passive: true });
    place.addEventListener("wheel", onWheel, { passive: false });
    sized.observe(place);
    return () => {
      place.removeEventListener("scroll", onScroll);
      place.removeEventListener("wheel", onWheel);
      sized.disconnect();
    };
  }, [scroller, ratio, compressed, move]);

  // Other sizes and other counts keep the row that was on top.
  const before = useRef({ rowHeight, started: false });
  useLayoutEffect(() => {
    if (!rows) return;
    const scale = rowHeight / before.current.rowHeight;
    if (scale !== 1 || !before.current.started) {
      before.current = { rowHeight, started: true };
      move(own.current.offset * scale);
    }
  }, [rowHeight, rows, move]);

  const offset = Math.min(view.offset, most);
  const first = Math.max(0, Math.floor(offset / rowHeight) - OVERSCAN);
  const last = Math.min(rows - 1, Math.ceil((offset + view.height) / rowHeight) + OVERSCAN);
  const shadow = compressed ? offset / ratio : offset;
  return {
    first,
    last,
    top: first * rowHeight - offset + shadow,
    height,
    offset: () => own.current.offset,
    scrollToRow: (row: number) => {
      const place = scroller.current;
      if (!place) return;
      const above = row * rowHeight;
      const seen = own.current.offset;
      if (above < seen) move(above);
      else if (above + rowHeight > seen + place.clientHeight) move(above + rowHeight - place.clientHeight);
    },
  };
}
