/** What is selected: datapoints one by one, or all of the query but some. */
import type { Filter } from "../api/types";

export class Selection {
  private constructor(
    readonly all: boolean,
    readonly ids: ReadonlySet<string>,
  ) {}

  static readonly none = new Selection(false, new Set());
  static readonly everything = new Selection(true, new Set());

  has(id: string): boolean {
    return this.ids.has(id) !== this.all;
  }

  with(ids: string[], selected: boolean): Selection {
    const now = new Set(this.ids);
    for (const id of ids) {
      if (selected !== this.all) now.add(id);
      else now.delete(id);
    }
    return new Selection(this.all, now);
  }

  size(count: number): number {
    return this.all ? Math.max(0, count - this.ids.size) : this.ids.size;
  }

  /** The filters that find what is selected. */
  filters(query: Filter[]): Filter[] {
    const ids = [...this.ids];
    if (!this.all) return [{ left: "id", op: "in", right: ids }];
    return ids.length ? [...query, { left: "id", op: "not in", right: ids }] : query;
  }
}
