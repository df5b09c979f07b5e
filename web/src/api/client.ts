/** The typed client of the server's OpenAPI document, and what its errors look like. */
import createClient, { type Middleware } from "openapi-fetch";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];

/** What the server said is wrong, with what to do about it. */
export class ServerError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string | null,
    readonly details: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

/** The server did not answer at all. */
export class ServerGone extends Error {
  constructor() {
    super("The server does not answer.");
  }
}

type Listener = () => void;
const listeners = { gone: new Set<Listener>(), back: new Set<Listener>(), signedOut: new Set<Listener>() };

export function on(event: keyof typeof listeners, listener: Listener): () => void {
  listeners[event].add(listener);
  return () => listeners[event].delete(listener);
}

function tell(event: keyof typeof listeners): void {
  for (const listener of listeners[event]) listener();
}

/** A request of this page: the header tells the server that it comes from here. */
export async function request(url: string | Request, init?: RequestInit): Promise<Response> {
  const made = url instanceof Request ? new Request(url) : new Request(url, init);
  made.headers.set("x-katiml-web", "1");
  const again = made.clone();
  let answer = await send(made);
  if (answer.status === 401 && !made.url.includes("/api/session")) {
    if (await signInLocally()) answer = await send(again);
    else tell("signedOut");
  }
  return answer;
}

async function send(made: Request): Promise<Response> {
  try {
    const answer = await fetch(made);
    tell("back");
    return answer;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    tell("gone");
    throw new ServerGone();
  }
}

let signingIn: Promise<boolean> | null = null;

/** At the server's own machine no key is needed; many requests that fail at once ask once. */
function signInLocally(): Promise<boolean> {
  signingIn ??= fetch("/api/session", { method: "POST", headers: { "x-katiml-web": "1" }, body: "{}" })
    .then((answer) => answer.ok)
    .catch(() => false)
    .finally(() => {
      setTimeout(() => (signingIn = null), 1000);
    });
  return signingIn;
}

/** The error that an answer carries. */
export async function errorOf(answer: Response): Promise<ServerError> {
  const body = (await answer.json().catch(() => null)) as { error?: Schemas["Error"]["error"] } | null;
  const said = body?.error;
  return new ServerError(
    answer.status,
    said?.code ?? "unknown",
    said?.message ?? `The server answered ${answer.status}.`,
    said?.hint ?? null,
    (said?.details as Record<string, unknown>) ?? {},
  );
}

const raising: Middleware = {
  async onResponse({ response }) {
    if (!response.ok) throw await errorOf(response);
    return undefined;
  },
};

export const api = createClient<paths>({ fetch: (made) => request(made) });
api.use(raising);

/** The body of an answer that middleware has seen to be good. */
export async function data<T>(answer: Promise<{ data?: T }>): Promise<T> {
  return (await answer).data as T;
}

/** What to show of any error. */
export function said(error: unknown): { message: string; hint: string | null } {
  if (error instanceof ServerError) return { message: error.message, hint: error.hint };
  if (error instanceof ServerGone) return { message: error.message, hint: "It is tried again." };
  return { message: error instanceof Error ? error.message : String(error), hint: null };
}

/** An error in one line. */
export function fail(error: unknown): string {
  const { message, hint } = said(error);
  return hint ? `${message} (${hint})` : message;
}
