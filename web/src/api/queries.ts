/** What the pages ask, with the keys under which answers are kept. */
import { keepPreviousData, QueryClient, queryOptions } from "@tanstack/react-query";
import { api, data, errorOf, request, ServerError, ServerGone } from "./client";
import { byDatapoint, type Datapoint, type Filter } from "./types";

export const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 30_000,
      gcTime: 5 * 60_000,
      refetchOnWindowFocus: false,
      retry: (count, error) =>
        error instanceof ServerGone ? true : error instanceof ServerError && error.status >= 500 && count < 2,
      retryDelay: (count) => Math.min(400 * 2 ** count, 5000),
    },
  },
});

export const PAGE = 60;

export interface Ordering {
  order?: string;
  desc?: boolean;
}

type Body = { filters: { [key: string]: unknown }[] };
export const asBody = (filters: Filter[]): Body["filters"] => filters as unknown as Body["filters"];

const COLUMNS = ["id", "type", "metadata", "text", "created_at", "parent_datapoint", "timestamp", "request_id"];

export async function selectDatapoints(
  filters: Filter[],
  { order, desc }: Ordering,
  page: { limit: number; offset?: number; after?: string },
  signal?: AbortSignal,
): Promise<Datapoint[]> {
  const body = { selectColumns: COLUMNS, filters: asBody(filters), orderBy: order, desc, ...page };
  const rows = await data(api.POST("/api/datapoints/select", { body, signal }));
  return rows as unknown as Datapoint[];
}

export const rowsKey = (filters: Filter[], ordering: Ordering) =>
  ["rows", filters, ordering.order ?? "", ordering.desc ?? false] as const;

/** One page of the grid: behind the page before where that is there, by its number otherwise. */
export const pageQuery = (filters: Filter[], ordering: Ordering, page: number) =>
  queryOptions({
    queryKey: [...rowsKey(filters, ordering), page],
    queryFn: ({ signal }) => {
      const before = client.getQueryData<Datapoint[]>([...rowsKey(filters, ordering), page - 1]);
      const last = before?.length === PAGE ? before[PAGE - 1] : undefined;
      const place = last ? { after: last.id } : { offset: page * PAGE };
      return selectDatapoints(filters, ordering, { limit: PAGE, ...place }, signal);
    },
    staleTime: 60_000,
  });

export const attachmentsQuery = (ids: string[]) =>
  queryOptions({
    queryKey: ["attachments", ids[0] ?? "", ids[ids.length - 1] ?? "", ids.length],
    queryFn: async ({ signal }) =>
      byDatapoint(await data(api.POST("/api/datapoints/attachments", { body: { datapointIds: ids }, signal }))),
    enabled: ids.length > 0,
  });

export const countQuery = (filters: Filter[]) =>
  queryOptions({
    queryKey: ["count", filters],
    queryFn: ({ signal }) =>
      data(api.POST("/api/datapoints/count", { body: { filters: asBody(filters) }, signal })) as Promise<number>,
    placeholderData: keepPreviousData,
  });

export const datapointQuery = (id: string) =>
  queryOptions({
    queryKey: ["datapoint", id],
    queryFn: async ({ signal }) => {
      const rows = await selectDatapoints([{ left: "id", op: "=", right: id }], {}, { limit: 1 }, signal);
      const row = rows[0];
      if (!row) throw new ServerError(404, "not_found", `There is no datapoint ${id}.`, "It may have been deleted.");
      return row;
    },
  });

export const distributionQuery = (field: string, filters: Filter[], modelName?: string, bins = 20) =>
  queryOptions({
    queryKey: ["distribution", field, filters, modelName ?? "", bins],
    queryFn: ({ signal }) =>
      data(
        api.POST("/api/datapoints/distribution", {
          body: { field, filters: asBody(filters), modelName, bins, limit: 100 },
          signal,
        }),
      ),
    placeholderData: keepPreviousData,
  });

export const namesQuery = (what: "models" | "metrics" | "tags") =>
  queryOptions({
    queryKey: ["names", what],
    queryFn: ({ signal }) => {
      const options = { body: { limit: 200 }, signal };
      if (what === "models") return data(api.POST("/api/predictions/select-distinct-model-names", options));
      if (what === "metrics") return data(api.POST("/api/predictions/select-distinct-metrics", options));
      return data(api.POST("/api/tags/select-distinct-names", options));
    },
  });

/** The models that predict something for what is shown; with `metric`, those that have that metric. */
export const modelsWithQuery = (metric: string | null, filters: Filter[]) =>
  queryOptions({
    queryKey: ["names", "models with", metric, filters],
    queryFn: ({ signal }) => {
      const left = metric === "confidence" ? "confidence" : `metrics.${JSON.stringify(metric)}`;
      const inBoxes = { left: `bboxes.metrics.${JSON.stringify(metric)}`, op: "is not null" };
      const has = { any: [{ left, op: "is not null" }, ...(metric === "confidence" ? [] : [inBoxes])] };
      const body = { datapointFilters: asBody(filters), filters: metric === null ? [] : [has], limit: 200 };
      return data(api.POST("/api/predictions/select-distinct-model-names", { body, signal })) as Promise<string[]>;
    },
    placeholderData: keepPreviousData,
  });

export const fieldsQuery = (key: string) =>
  queryOptions({
    queryKey: ["fields", key],
    queryFn: ({ signal }) =>
      data(api.POST("/api/suggestions/get-keys-suggestions", { body: { key }, signal })) as Promise<string[]>,
    placeholderData: keepPreviousData,
  });

export const valuesQuery = (key: string, value: string) =>
  queryOptions({
    queryKey: ["values", key, value],
    queryFn: ({ signal }) =>
      data(api.POST("/api/suggestions/get-values-suggestions", { body: { key, value }, signal })) as Promise<unknown[]>,
    retry: false,
  });

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: async () => {
    const found = await data(api.GET("/api/session"));
    if (!found || found.signedIn || !found.mayBeLocal) return found;
    // The person at the server's own machine is let in without being asked.
    return data(api.POST("/api/session", { body: {} }));
  },
});

export const executionsQuery = queryOptions({
  queryKey: ["executions"],
  queryFn: () => data(api.GET("/api/ingestion/executions", { params: { query: { limit: 100 } } })),
  refetchInterval: (query) => (query.state.data?.some((one) => one.status === "RUNNING") ? 1000 : false),
});

export const executionQuery = (id: string) =>
  queryOptions({
    queryKey: ["executions", id],
    queryFn: () => data(api.GET("/api/ingestion/executions/{upload_id}", { params: { path: { upload_id: id } } })),
    refetchInterval: (query) => (query.state.data?.status === "RUNNING" ? 500 : false),
  });

export const keysQuery = queryOptions({
  queryKey: ["keys"],
  queryFn: () => data(api.GET("/api/api-key")),
});

/** Everything that was said about datapoints is asked again. */
export function forgetRows(): Promise<unknown> {
  const named = ["rows", "attachments", "count", "datapoint", "distribution", "names", "fields", "values"];
  return Promise.all(named.map((key) => client.invalidateQueries({ queryKey: [key] })));
}

/** Rows of a select that is no page of the grid, as text. */
export async function fetchText(url: string): Promise<string> {
  const answer = await request(url);
  if (!answer.ok) throw await errorOf(answer);
  return answer.text();
}
