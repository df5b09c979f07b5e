/** Short news at the foot of the page, with at most one thing to do about each. */
import { X } from "lucide-react";
import { useSyncExternalStore } from "react";
import { Button } from "./kit";

interface Toast {
  id: number;
  text: string;
  action?: { label: string; run: () => void };
  bad?: boolean;
}

let toasts: Toast[] = [];
let next = 1;
const listeners = new Set<() => void>();

function change(now: Toast[]): void {
  toasts = now;
  for (const listener of listeners) listener();
}

export function toast(text: string, options: Omit<Toast, "id" | "text"> = {}): void {
  const id = next++;
  change([...toasts.slice(-2), { id, text, ...options }]);
  setTimeout(() => dismiss(id), options.action ? 15_000 : 6000);
}

function dismiss(id: number): void {
  change(toasts.filter((one) => one.id !== id));
}

export function Toasts() {
  const shown = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => toasts,
  );
  return (
    <div role="status" aria-live="polite" className="pointer-events-none fixed inset-x-0 bottom-5 z-50 flex flex-col items-center gap-2">
      {shown.map((one) => (
        <div
          key={one.id}
          className="rise pointer-events-auto flex items-center gap-3 rounded-lg bg-ink py-1.5 pr-1.5 pl-4 text-[13px] text-page shadow-float"
        >
          <span>{one.text}</span>
          {one.action && (
            <Button
              small
              kind="quiet"
              className="!text-page underline underline-offset-2 hover:!bg-white/10 dark:hover:!bg-black/10"
              onClick={() => {
                one.action?.run();
                dismiss(one.id);
              }}
            >
              {one.action.label}
            </Button>
          )}
          <button type="button" aria-label="Dismiss" onClick={() => dismiss(one.id)} className="grid size-7 place-items-center rounded-md hover:bg-white/10 dark:hover:bg-black/10">
            <X size={14} />
          </button>
        </div>
      ))}
    </div>
  );
}
