/** Rows as points, lines or bars. */
import "uplot/dist/uPlot.min.css";
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import { useTheme } from "../shell/theme";
import { Empty, Select } from "../ui/kit";
import { type Row, textOf } from "./SqlPage";

type Form = "bars" | "line" | "points";
const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);

export default function Plot({ rows }: { rows: Row[] }) {
  const place = useRef<HTMLDivElement>(null);
  const { dark } = useTheme();
  const names = Object.keys(rows[0] ?? {});
  const numeric = useMemo(() => names.filter((name) => rows.some((row) => isNumber(row[name]))), [rows, names.join()]);
  const [x, setX] = useState<string>();
  const [y, setY] = useState<string>();
  const [form, setForm] = useState<Form>();
  const across = x && names.includes(x) ? x : (names.find((name) => !numeric.includes(name)) ?? numeric[0] ?? "");
  const up = y && numeric.includes(y) ? y : (numeric.find((name) => name !== across) ?? numeric[0] ?? "");
  const named = !numeric.includes(across);
  const how = form ?? (named ? "bars" : rows.length > 60 ? "points" : "line");

  useEffect(() => {
    const element = place.current;
    if (!element || !up) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const chosen = rows.filter((row) => isNumber(row[up]) && (named || isNumber(row[across]))).slice(0, 10_000);
    if (!named) chosen.sort((one, other) => (one[across] as number) - (other[across] as number));
    const labels = chosen.map((row) => textOf(row[across]));
    const xs = named ? chosen.map((_, index) => index) : chosen.map((row) => row[across] as number);
    const ys = chosen.map((row) => row[up] as number);
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") }, font: '12px "Inter Variable"' };
    const paths = how === "bars" ? uPlot.paths.bars?.({ size: [0.7, 64] }) : how === "points" ? () => null : undefined;
    const plot = new uPlot(
      {
        width: element.clientWidth,
        height: 380,
        legend: { show: false },
        cursor: { drag: { x: true, y: false } },
        scales: { x: { time: false, range: named ? (_, low, high) => [low - 0.6, high + 0.6] : undefined }, y: how === "bars" ? { range: (_, low, high) => [Math.min(0, low), high * 1.05 || 1] } : {} },
        axes: [
          named
            ? { ...axis, splits: () => xs.filter((_, index) => index % Math.ceil(xs.length / 12) === 0), values: (_, at) => at.map((one) => (labels[one] ?? "").slice(0, 18)) }
            : axis,
          { ...axis, size: 64 },
        ],
        series: [
          {},
          {
            stroke: colour("--bar"),
            fill: how === "bars" ? colour("--bar") : undefined,
            width: 2,
            paths: paths as uPlot.Series.PathBuilder | undefined,
            points: { show: how !== "bars", size: how === "points" ? 5 : 4, fill: colour("--bar") },
          },
        ],
      },
      [xs, ys],
      element,
    );
    const sized = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: 380 }));
    sized.observe(element);
    return () => {
      sized.disconnect();
      plot.destroy();
    };
  }, [rows, across, up, how, named, dark]);

  if (!numeric.length) return <Empty title="Nothing to plot">A column of numbers is needed.</Empty>;
  return (
    <div className="rounded-xl border border-line bg-panel p-4">
      <div className="mb-3 flex flex-wrap gap-3 text-[13px]">
        <label className="flex items-center gap-2">
          <span className="text-soft">Across</span>
          <Select value={across} onChange={(event) => setX(event.target.value)}>
            {names.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </Select>
        </label>
        <label className="flex items-center gap-2">
          <span className="text-soft">Up</span>
          <Select value={up} onChange={(event) => setY(event.target.value)}>
            {numeric.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </Select>
        </label>
        <label className="flex items-center gap-2">
          <span className="text-soft">As</span>
          <Select value={how} onChange={(event) => setForm(event.target.value as Form)}>
            <option value="bars">bars</option>
            <option value="line">a line</option>
            <option value="points">points</option>
          </Select>
        </label>
      </div>
      <div ref={place} role="img" aria-label={`${up} by ${across}`} />
    </div>
  );
}
