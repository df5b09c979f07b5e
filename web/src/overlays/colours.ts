/** One colour for each class, the same on every page and in every session. */

// Any hue, in three shades that are visible on photographs.
const SHADES: [number, number][] = [
  [0.86, 0.6],
  [0.95, 0.7],
  [0.7, 0.52],
];

export function colourOf(name: string): string {
  const place = mixed(name);
  const [saturation, lightness] = SHADES[Math.floor(place / 360) % SHADES.length] as [number, number];
  return hex(place % 360, saturation, lightness);
}

// Chosen so that the commonest classes (car, person, road, building, sky, cat, dog …) lie far apart.
const SEED = 11_638;

/** A hash of a text: FNV-1a, then the last step of MurmurHash3. */
function mixed(name: string): number {
  let hash = SEED;
  for (let index = 0; index < name.length; index++) hash = Math.imul(hash ^ name.charCodeAt(index), 16777619);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function hex(hue: number, saturation: number, lightness: number): string {
  const part = (offset: number) => {
    const place = (offset + hue / 30) % 12;
    const value = lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(place - 3, 9 - place, 1));
    return Math.round(value * 255).toString(16).padStart(2, "0");
  };
  return `#${part(0)}${part(8)}${part(4)}`;
}

export function channels(colour: string): [number, number, number] {
  const value = Number.parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
