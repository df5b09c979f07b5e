/** Filters as chips: each chip is one filter or several alternatives, and may be turned around. */
import type { Condition, Filter, Json } from "../api/types";

export interface Chip {
  /** Whether it has to be false. */
  not: boolean;
  /** One of them has to hold. */
  any: Filter[];
}

const isGroup = (filter: Filter): filter is Exclude<Filter, Condition> => !("left" in filter);

export function toChips(filters: Filter[]): Chip[] {
  return filters.map((filter) => {
    let inner = filter;
    let not = false;
    if (isGroup(inner) && "not" in inner) {
      const inside = Array.isArray(inner.not) ? inner.not : [inner.not];
      not = true;
      inner = inside.length === 1 && inside[0] ? inside[0] : { all: inside };
    }
    if (isGroup(inner) && "any" in inner && inner.any.length > 0) return { not, any: inner.any };
    return { not, any: [inner] };
  });
}

export function fromChips(chips: Chip[]): Filter[] {
  return chips
    .filter((chip) => chip.any.length > 0)
    .map((chip) => {
      const inner: Filter = chip.any.length === 1 ? (chip.any[0] as Filter) : { any: chip.any };
      return chip.not ? { not: inner } : inner;
    });
}

/** A tag of one name, written `tags.split` here, is an attachment with a name and a value there. */
export function tagFilter(name: string, op: string, right?: Json): Filter {
  const where: Filter[] = [{ left: "name", op: "=", right: name }];
  if (op === "is null") return { not: { exists: "tags", where } };
  if (op !== "is not null") where.push({ left: "value", op, right });
  return { exists: "tags", where };
}

/** The name, operator and value of a filter that `tagFilter` made. */
export function asTag(filter: Filter): { name: string; op: string; right?: Json } | null {
  if (!("exists" in filter) || filter.exists !== "tags" || !Array.isArray(filter.where)) return null;
  const [name, value] = filter.where as Condition[];
  if (!name || name.left !== "name" || name.op !== "=" || typeof name.right !== "string") return null;
  if (filter.where.length === 1) return { name: name.right, op: "is not null" };
  if (filter.where.length !== 2 || !value || value.left !== "value") return null;
  return { name: name.right, op: value.op, right: value.right };
}

export const UNARY = ["is null", "is not null"];
const LISTED = ["in", "not in", "between", "not between"];

export const OPERATORS: { op: string; says: string }[] = [
  { op: "=", says: "is" },
  { op: "!=", says: "is another value than" },
  { op: "in", says: "is one of, with commas between" },
  { op: "not in", says: "is none of" },
  { op: ">", says: "is larger than" },
  { op: ">=", says: "is at least" },
  { op: "<", says: "is smaller than" },
  { op: "<=", says: "is at most" },
  { op: "between", says: "lies between two values" },
  { op: "like", says: "matches, % for any text" },
  { op: "ilike", says: "matches in any case" },
  { op: "regexp", says: "has a part that matches" },
  { op: "contains", says: "its list has" },
  { op: "any", says: "its list has one of" },
  { op: "is null", says: "is missing" },
  { op: "is not null", says: "is there" },
];

/** A value as it was typed. Quotes make a number a text. */
export function typed(text: string, op: string): Json {
  const one = (part: string): Json => {
    const bare = part.trim();
    const quoted = /^"(.*)"$|^'(.*)'$/s.exec(bare);
    if (quoted) return quoted[1] ?? quoted[2] ?? "";
    if (bare === "true") return true;
    if (bare === "false") return false;
    if (/^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(bare)) return Number(bare);
    return bare;
  };
  return LISTED.includes(op) ? text.split(",").map(one) : one(text);
}

export function shownValue(value: Json | undefined): string {
  if (value === undefined || value === null) return String(value ?? "");
  if (Array.isArray(value)) return value.map(shownValue).join(", ");
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A filter in words, for chips and for what is read out. */
export function shownFilter(filter: Filter): { left: string; op: string; right: string } {
  const tag = asTag(filter);
  if (tag) return { left: `tags.${tag.name}`, op: tag.op, right: shownValue(tag.right) };
  if (!isGroup(filter)) return { left: filter.left, op: filter.op, right: UNARY.includes(filter.op) ? "" : shownValue(filter.right) };
  if ("exists" in filter) {
    const where = Array.isArray(filter.where) ? filter.where : filter.where ? [filter.where] : [];
    return { left: filter.exists, op: where.length ? "with" : "exist", right: where.map(inWords).join(" and ") };
  }
  if ("any" in filter) return { left: "", op: "any of", right: filter.any.map(inWords).join(" or ") };
  if ("all" in filter) return { left: "", op: "all of", right: filter.all.map(inWords).join(" and ") };
  const inside = Array.isArray(filter.not) ? filter.not : [filter.not];
  return { left: "", op: "not", right: inside.map(inWords).join(" and ") };
}

export function inWords(filter: Filter): string {
  const { left, op, right } = shownFilter(filter);
  return [left, op, right].filter(Boolean).join(" ");
}

export const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

/** The filters with this one added, or without it where it was there. */
export function toggled(filters: Filter[], filter: Filter): Filter[] {
  const left = filters.filter((one) => !same(one, filter));
  return left.length < filters.length ? left : [...filters, filter];
}

/** Which chip an error of the server is about: `filters[1]: unknown field …`. */
export function faultyChip(message: string): number | null {
  const found = /^filters\[(\d+)\]/.exec(message);
  return found ? Number(found[1]) : null;
}
