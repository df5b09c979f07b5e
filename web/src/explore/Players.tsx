/** Sounds and films in the grid and on their own page. */
import clsx from "clsx";
import { Pause, Play } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { request } from "../api/client";
import type { Datapoint } from "../api/types";

const POINTS = 160;
const LARGEST_WAVE = 12_000_000;
const waves = new Map<string, Promise<number[] | null>>();

/** The loudest sample of each of `POINTS` stretches, 0 to 1. */
function waveOf(id: string): Promise<number[] | null> {
  let found = waves.get(id);
  if (!found) {
    found = read(id).catch(() => null);
    waves.set(id, found);
    if (waves.size > 200) waves.delete(waves.keys().next().value as string);
  }
  return found;
}

async function read(id: string): Promise<number[] | null> {
  const answer = await request(`/api/datapoints/${id}/media`);
  if (!answer.ok || Number(answer.headers.get("content-length")) > LARGEST_WAVE) return null;
  const decoded = await new OfflineAudioContext(1, 1, 22_050).decodeAudioData(await answer.arrayBuffer());
  const samples = decoded.getChannelData(0);
  const step = samples.length / POINTS;
  const peaks = Array.from({ length: POINTS }, (_, index) => {
    let peak = 0;
    for (let at = Math.floor(index * step); at < (index + 1) * step && at < samples.length; at++) {
      peak = Math.max(peak, Math.abs(samples[at] as number));
    }
    return peak;
  });
  const most = Math.max(...peaks, 1e-6);
  return peaks.map((peak) => peak / most);
}

export function Sound({ row, large }: { row: Datapoint; large?: boolean }) {
  const audio = useRef<HTMLAudioElement>(null);
  const [wave, setWave] = useState<number[] | null>(null);
  const [playing, setPlaying] = useState(false);
  const [place, setPlace] = useState(0);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    let gone = false;
    const timer = setTimeout(() => void waveOf(row.id).then((found) => !gone && setWave(found)), 150);
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [row.id]);
  const toggle = () => {
    const player = audio.current;
    if (!player) return;
    if (player.paused) void player.play().catch(() => setFailed(true));
    else player.pause();
  };
  const seek = (share: number) => {
    const player = audio.current;
    if (player && Number.isFinite(player.duration)) player.currentTime = share * player.duration;
  };
  return (
    <div className={clsx("flex h-full w-full items-center gap-2 bg-sunk", large ? "rounded-xl px-8 py-16" : "px-3")}>
      <button
        type="button"
        aria-label={playing ? "Pause" : "Play"}
        onClick={(event) => {
          event.preventDefault();
          event.stopPropagation();
          toggle();
        }}
        className="grid size-9 shrink-0 place-items-center rounded-full bg-accent text-on-accent hover:brightness-110"
      >
        {playing ? <Pause size={16} fill="currentColor" /> : <Play size={16} fill="currentColor" className="ml-0.5" />}
      </button>
      <svg
        viewBox={`0 0 ${POINTS} 40`}
        preserveAspectRatio="none"
        className={clsx("min-w-0 flex-1", large ? "h-40 cursor-pointer" : "h-14")}
        aria-hidden
        onClick={(event) => {
          if (!large) return;
          const box = event.currentTarget.getBoundingClientRect();
          seek((event.clientX - box.left) / box.width);
        }}
      >
        {(wave ?? Array.from({ length: POINTS }, () => 0.02)).map((peak, index) => (
          <rect
            // biome-ignore lint: places are all these bars have
            key={index}
            x={index + 0.15}
            width={0.7}
            y={20 - Math.max(0.6, peak * 19)}
            height={Math.max(1.2, peak * 38)}
            rx={0.3}
            fill={index / POINTS < place ? "var(--accent)" : "var(--line-strong)"}
          />
        ))}
      </svg>
      {failed && <span className="text-xs text-danger">cannot be played</span>}
      <audio
        ref={audio}
        src={`/api/datapoints/${row.id}/media`}
        preload="none"
        onPlay={() => setPlaying(true)}
        onPause={() => setPlaying(false)}
        onEnded={() => setPlace(0)}
        onError={() => setFailed(true)}
        onTimeUpdate={(event) => setPlace(event.currentTarget.currentTime / (event.currentTarget.duration || 1))}
      />
    </div>
  );
}

export function Film({ row, large }: { row: Datapoint; large?: boolean }) {
  const [failed, setFailed] = useState(false);
  const frame = typeof row.metadata?.frame === "number" && typeof row.metadata.frame_rate === "number";
  const start = frame ? (row.metadata?.frame as number) / (row.metadata?.frame_rate as number) : 0.01;
  if (failed) return <div className="grid h-full w-full place-items-center bg-sunk text-xs text-soft">This video cannot be played</div>;
  return (
    <video
      src={`/api/datapoints/${row.id}/media#t=${start}`}
      preload="metadata"
      muted={!large}
      controls={large}
      playsInline
      loop={!large}
      className="h-full w-full object-contain"
      onError={() => setFailed(true)}
      onMouseEnter={(event) => !large && void event.currentTarget.play().catch(() => undefined)}
      onMouseLeave={(event) => !large && event.currentTarget.pause()}
    />
  );
}
