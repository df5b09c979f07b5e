/** One colour for each class, the same on every page and in every session. */

// Distinct in hue and lightness, and visible on photographs.
const PALETTE = [
  "#2dd4bf", "#f97316", "#60a5fa", "#facc15", "#f472b6", "#84cc16", "#a78bfa", "#ef4444",
  "#22d3ee", "#eab308", "#4ade80", "#e879f9", "#38bdf8", "#fb923c", "#34d399", "#fb7185",
];

export function colourOf(name: string): string {
  let hash = 2166136261;
  for (let index = 0; index < name.length; index++) hash = Math.imul(hash ^ name.charCodeAt(index), 16777619);
  hash ^= hash >>> 15;
  return PALETTE[(hash >>> 0) % PALETTE.length] as string;
}

export function channels(colour: string): [number, number, number] {
  const value = Number.parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
