/** Rows as the app uses them. Selections have the columns that were asked for, which OpenAPI cannot say. */
import type { Schemas } from "./client";

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

export interface Condition {
  left: string;
  op: string;
  right?: Json;
}
export type Filter =
  | Condition
  | { any: Filter[] }
  | { all: Filter[] }
  | { not: Filter | Filter[] }
  | { exists: string; where: Filter[] };

export interface Region {
  top: number;
  left: number;
  height: number;
  width: number;
}
export interface Metadata {
  uri?: string;
  width?: number;
  height?: number;
  normalized_roi?: Region;
  duration?: number;
  [key: string]: unknown;
}
export interface Datapoint {
  id: string;
  type: "IMAGE" | "VIDEO" | "AUDIO" | "TEXT";
  metadata: Metadata | null;
  text: string | null;
  created_at: string;
  parent_datapoint: string | null;
  [column: string]: unknown;
}

export type Tag = Schemas["TagRow"];
export type GroundTruth = Schemas["GroundTruthRow"];
export type Prediction = Schemas["PredictionRow"];
export type Box = Schemas["BoxRow"];
export type Lane = Schemas["LaneRow"];
export type Completion = Schemas["CompletionRow"];
export type Execution = Schemas["Execution"];
export type Bucket = Schemas["Bucket"];

/** What is attached to one datapoint. */
export interface Attached {
  tags: Tag[];
  groundtruths: GroundTruth[];
  predictions: Prediction[];
  bboxes: Box[];
  lanes: Lane[];
  completions: Completion[];
}

export const NOTHING: Attached = { tags: [], groundtruths: [], predictions: [], bboxes: [], lanes: [], completions: [] };

/** Attachments of a page, by datapoint. */
export function byDatapoint(all: Schemas["Attachments"]): Map<string, Attached> {
  const found = new Map<string, Attached>();
  const tables = Object.keys(NOTHING) as (keyof Attached)[];
  for (const table of tables) {
    for (const row of all[table]) {
      let own = found.get(row.datapoint);
      if (!own) {
        own = { tags: [], groundtruths: [], predictions: [], bboxes: [], lanes: [], completions: [] };
        found.set(row.datapoint, own);
      }
      (own[table] as unknown[]).push(row);
    }
  }
  return found;
}

/** A short text that changes with the image of a datapoint, for addresses that are kept for ever. */
export function mediaVersion(row: Datapoint): string {
  const text = `${row.metadata?.uri ?? ""}|${JSON.stringify(row.metadata?.normalized_roi ?? null)}`;
  let hash = 2166136261;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 16777619);
  }
  return (hash >>> 0).toString(36);
}

export function thumbnailUrl(row: Datapoint, size: number): string {
  return `/api/datapoints/${row.id}/thumbnail?size=${size}&v=${mediaVersion(row)}`;
}
