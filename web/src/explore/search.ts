/** What the address of Explore says: everything that can be chosen there, so that a link shows the same. */
import type { Filter } from "../api/types";

export interface Shown {
  /** Whether ground truths are drawn. */
  truth: boolean;
  /** The models whose predictions are drawn. */
  models: string[];
  /** Kinds of shapes that are not drawn. */
  without: Kind[];
  /** Classes that are not drawn. */
  hidden: string[];
  /** Predictions below it are not drawn. */
  least: number;
}
export type Kind = "boxes" | "polygons" | "masks" | "lanes" | "labels" | "confidences";
export const KINDS: Kind[] = ["boxes", "polygons", "masks", "lanes", "labels", "confidences"];

export interface Search {
  filters?: Filter[];
  order?: string;
  desc?: boolean;
  tile?: number;
  panel?: boolean;
  open?: string[];
  truth?: boolean;
  models?: string[];
  without?: Kind[];
  hidden?: string[];
  least?: number;
}

export const TILE = { least: 96, usual: 208, most: 480 };

const texts = (value: unknown): string[] | undefined =>
  Array.isArray(value) ? value.filter((one): one is string => typeof one === "string").slice(0, 500) : undefined;

/** The search of an address as somebody may have typed it; what is not understood is left out. */
export function readSearch(raw: Record<string, unknown>): Search {
  const found: Search = {};
  if (Array.isArray(raw.filters)) {
    found.filters = raw.filters.filter((one): one is Filter => typeof one === "object" && one !== null);
  }
  if (typeof raw.order === "string") found.order = raw.order;
  if (typeof raw.desc === "boolean") found.desc = raw.desc;
  if (typeof raw.tile === "number") found.tile = Math.min(TILE.most, Math.max(TILE.least, raw.tile));
  if (typeof raw.panel === "boolean") found.panel = raw.panel;
  if (typeof raw.truth === "boolean") found.truth = raw.truth;
  if (typeof raw.least === "number") found.least = Math.min(1, Math.max(0, raw.least));
  found.open = texts(raw.open);
  found.models = texts(raw.models);
  found.hidden = texts(raw.hidden);
  found.without = texts(raw.without)?.filter((one): one is Kind => (KINDS as string[]).includes(one));
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
}

export function shownOf(search: Search): Shown {
  return {
    truth: search.truth ?? true,
    models: search.models ?? [],
    without: search.without ?? ["masks"],
    hidden: search.hidden ?? [],
    least: search.least ?? 0,
  };
}
