/** Filters as chips and one line to write the next: field, operator, value, each completed. */
import { useQuery } from "@tanstack/react-query";
import clsx from "clsx";
import { ArrowLeftRight, Braces, Pencil, Plus, Search, Trash2, X } from "lucide-react";
import { type KeyboardEvent, useEffect, useId, useMemo, useRef, useState } from "react";
import { said } from "../api/client";
import { distributionQuery, fieldsQuery, namesQuery, valuesQuery } from "../api/queries";
import type { Condition, Filter, Json } from "../api/types";
import { Button, Dialog, Fault, Menu, number } from "../ui/kit";
import {
  asTag,
  type Chip,
  faultyChip,
  fromChips,
  inWords,
  OPERATORS,
  shownFilter,
  shownValue,
  tagFilter,
  toChips,
  typed,
  UNARY,
} from "./model";

interface Draft {
  field?: string;
  op?: string;
  /** The chip that is changed, or gets an alternative. */
  chip?: number;
  alternative?: number;
}
interface Suggestion {
  label: string;
  says?: string;
  value: Json;
}

const TAG = "tags.";
const OWN_TAG_COLUMNS = ["tags.id", "tags.name", "tags.value", "tags.datapoint", "tags.organization_id", "tags.created_at"];

export function FilterBar({
  filters,
  onChange,
  error,
}: {
  filters: Filter[];
  onChange: (filters: Filter[]) => void;
  error: unknown;
}) {
  const chips = useMemo(() => toChips(filters), [filters]);
  const [draft, setDraft] = useState<Draft>({});
  const [text, setText] = useState("");
  const [open, setOpen] = useState(false);
  const [active, setActive] = useState(-1);
  const [json, setJson] = useState<number | null>(null);
  const input = useRef<HTMLInputElement>(null);
  const listId = useId();
  const fault = error ? said(error) : null;
  const faulty = fault ? faultyChip(fault.message) : null;

  const suggestions = useSuggestions(draft, text, open);
  useEffect(() => setActive(-1), [draft.field, draft.op]);

  const change = (now: Chip[]) => onChange(fromChips(now));
  const begin = (next: Draft, value = "") => {
    setDraft(next);
    setText(value);
    setOpen(true);
    input.current?.focus();
  };
  const add = (field: string, op: string, right: Json | undefined) => {
    const plain: Condition = UNARY.includes(op) ? { left: field, op } : { left: field, op, right };
    const isTag = field.startsWith(TAG) && !OWN_TAG_COLUMNS.includes(field);
    const made = isTag ? tagFilter(field.slice(TAG.length), op, right) : plain;
    const now = chips.map((chip) => ({ ...chip, any: [...chip.any] }));
    const edited = draft.chip === undefined ? undefined : now[draft.chip];
    if (edited) edited.any.splice(draft.alternative ?? edited.any.length, draft.alternative === undefined ? 0 : 1, made);
    else now.push({ not: false, any: [made] });
    change(now);
    setDraft({});
    setText("");
    setActive(-1);
  };
  const choose = (suggestion: Suggestion) => {
    if (!draft.field) begin({ ...draft, field: String(suggestion.value) });
    else if (!draft.op) {
      const op = String(suggestion.value);
      if (UNARY.includes(op)) add(draft.field, op, undefined);
      else begin({ ...draft, op });
    } else if (["in", "not in", "between", "not between"].includes(draft.op)) {
      const before = text.split(",").slice(0, -1).map((part) => part.trim());
      setText(`${[...before, shownValue(suggestion.value)].join(", ")}, `);
      setActive(-1);
    } else add(draft.field, draft.op, suggestion.value);
  };
  const accept = () => {
    const written = text.trim();
    const picked = active >= 0 ? suggestions[active] : undefined;
    if (picked) return choose(picked);
    if (!written) return;
    if (!draft.field) {
      // A whole filter in one line, as people paste it: tags.split = train
      const whole = /^(\S+)\s+(not in|not like|not ilike|not between|is not null|is null|is not|is|!=|>=|<=|=|>|<|in|like|ilike|between|regexp|contains|any)(?:\s+(.+))?$/is.exec(written);
      if (whole?.[1] && whole[2] && (whole[3] || UNARY.includes(whole[2].toLowerCase()))) {
        const op = whole[2].toLowerCase();
        return add(whole[1], op, UNARY.includes(op) ? undefined : typed(whole[3] ?? "", op));
      }
      begin({ ...draft, field: (suggestions.find((one) => one.label === written) ?? suggestions[0])?.label ?? written });
    } else if (!draft.op) {
      const op = written.toLowerCase();
      if (UNARY.includes(op)) add(draft.field, op, undefined);
      else begin({ ...draft, op: OPERATORS.some((one) => one.op === op) ? op : (suggestions[0]?.label ?? op) });
    } else add(draft.field, draft.op, typed(written.replace(/,\s*$/, ""), draft.op));
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      setOpen(true);
      const step = event.key === "ArrowDown" ? 1 : -1;
      setActive((before) => (suggestions.length ? (before + step + suggestions.length + (before < 0 && step < 0 ? 1 : 0)) % suggestions.length : -1));
    } else if (event.key === "Enter" || (event.key === "Tab" && open && (text || active >= 0))) {
      event.preventDefault();
      accept();
    } else if (event.key === "Escape") {
      if (open) event.stopPropagation();
      setOpen(false);
      setDraft({});
      setText("");
    } else if (event.key === "Backspace" && !text) {
      if (draft.op) begin({ ...draft, op: undefined });
      else if (draft.field) begin({ ...draft, field: undefined });
      else if (chips.length) change(chips.slice(0, -1));
    }
  };
  const editChip = (chip: number, alternative: number) => {
    const filter = chips[chip]?.any[alternative];
    if (!filter) return;
    const tag = asTag(filter);
    if (tag) begin({ field: `${TAG}${tag.name}`, op: tag.op, chip, alternative }, shownValue(tag.right));
    else if ("left" in filter) begin({ field: filter.left, op: filter.op, chip, alternative }, shownValue(filter.right));
    else setJson(chip);
  };

  return (
    <div className="min-w-0 flex-1">
      <div
        className="relative flex min-h-10 flex-wrap items-center gap-1.5 rounded-lg border border-line-strong bg-panel px-2 py-1 focus-within:border-accent"
        onClick={(event) => event.target === event.currentTarget && input.current?.focus()}
      >
        <Search size={15} className="ml-1 shrink-0 text-faint" aria-hidden />
        {chips.length > 0 && (
          <ul aria-label="Filters" className="contents">
            {chips.map((chip, index) => (
              <li key={`${index} ${JSON.stringify(chip)}`} className="max-w-full">
                <ChipView
                  chip={chip}
                  faulty={faulty === index}
                  onEdit={() => editChip(index, 0)}
                  onOr={() => begin({ chip: index })}
                  onNot={() => change(chips.map((one, at) => (at === index ? { ...one, not: !one.not } : one)))}
                  onJson={() => setJson(index)}
                  onRemove={() => change(chips.filter((_, at) => at !== index))}
                />
              </li>
            ))}
          </ul>
        )}
        <div className="flex min-w-52 flex-1 items-center gap-1">
          {draft.chip !== undefined && (
            <span className="text-xs text-soft">{draft.alternative === undefined ? "or" : "change to"}</span>
          )}
          {draft.field && <span className="max-w-60 truncate rounded bg-sunk px-1.5 py-0.5 text-[13px]">{draft.field}</span>}
          {draft.op && <span className="rounded bg-sunk px-1.5 py-0.5 text-[13px] text-soft">{draft.op}</span>}
          <input
            ref={input}
            role="combobox"
            aria-label={draft.op ? "Value of the filter" : draft.field ? "Operator of the filter" : "Add a filter"}
            aria-expanded={open && suggestions.length > 0}
            aria-controls={listId}
            aria-autocomplete="list"
            aria-activedescendant={active >= 0 ? `${listId}-${active}` : undefined}
            autoComplete="off"
            spellCheck={false}
            value={text}
            placeholder={
              draft.op ? "value" : draft.field ? "operator" : chips.length ? "and …" : "Filter: tags.split = train, predictions.metrics.entropy > 0.5 …"
            }
            onFocus={() => setOpen(true)}
            onBlur={() => setOpen(false)}
            onChange={(event) => {
              setText(event.target.value);
              setActive(-1);
              setOpen(true);
            }}
            onKeyDown={onKey}
            className="h-7 min-w-0 flex-1 bg-transparent px-1 text-[13px] outline-none placeholder:text-faint"
          />
        </div>
        {chips.length > 0 && (
          <Button kind="quiet" small onClick={() => onChange([])}>
            Clear
          </Button>
        )}
        {open && suggestions.length > 0 && (
          <ul
            id={listId}
            role="listbox"
            aria-label="Suggestions"
            className="rise absolute top-full left-0 z-30 mt-1 max-h-80 w-[min(30rem,100%)] overflow-auto rounded-lg border border-line bg-panel p-1 shadow-float"
          >
            {suggestions.map((one, index) => (
              <li
                key={`${one.label} ${index}`}
                id={`${listId}-${index}`}
                role="option"
                aria-selected={index === active}
                ref={(place) => {
                  if (index === active) place?.scrollIntoView({ block: "nearest" });
                }}
                className={clsx(
                  "flex min-h-8 cursor-pointer items-center gap-3 rounded-md px-2 text-[13px]",
                  index === active ? "bg-accent-wash" : "hover:bg-sunk",
                )}
                onMouseDown={(event) => {
                  event.preventDefault();
                  choose(one);
                }}
              >
                <span className="truncate">{one.label}</span>
                {one.says && <span className="ml-auto shrink-0 text-xs text-soft">{one.says}</span>}
              </li>
            ))}
          </ul>
        )}
      </div>
      {fault && <Fault className="mt-2" error={error} />}
      {json !== null && (
        <JsonDialog
          filter={fromChips(chips)[json]}
          onClose={() => setJson(null)}
          onSave={(filter) => {
            onChange(fromChips(chips).map((one, index) => (index === json ? filter : one)));
            setJson(null);
          }}
        />
      )}
    </div>
  );
}

function ChipView({
  chip,
  faulty,
  onEdit,
  onOr,
  onNot,
  onJson,
  onRemove,
}: {
  chip: Chip;
  faulty: boolean;
  onEdit: () => void;
  onOr: () => void;
  onNot: () => void;
  onJson: () => void;
  onRemove: () => void;
}) {
  const words = (chip.not ? "not " : "") + chip.any.map(inWords).join(" or ");
  return (
    <span
      className={clsx(
        "inline-flex max-w-full items-center rounded-md text-[13px]",
        faulty ? "bg-danger-wash text-danger ring-1 ring-danger" : "bg-accent-wash text-ink",
      )}
    >
      <Menu
        trigger={
          <button
            type="button"
            aria-label={`Filter: ${words}${faulty ? ", which is wrong" : ""}`}
            className="flex h-7 min-w-0 items-center gap-1 rounded-l-md pr-1 pl-2 hover:brightness-95 dark:hover:brightness-125"
          >
            {chip.not && <b className="font-semibold text-danger">not</b>}
            <span className="max-w-[26rem] truncate">
              {chip.any.map((filter, index) => {
                const { left, op, right } = shownFilter(filter);
                return (
                  <span key={inWords(filter)}>
                    {index > 0 && <i className="px-1 text-soft not-italic">or</i>}
                    {left} <span className="text-soft">{op}</span> <b className="font-medium">{right}</b>
                  </span>
                );
              })}
            </span>
          </button>
        }
        items={[
          { label: "Edit", icon: <Pencil size={14} />, onSelect: onEdit },
          { label: "Or …", icon: <Plus size={14} />, onSelect: onOr },
          { label: chip.not ? "Has to hold" : "Must not hold", icon: <ArrowLeftRight size={14} />, onSelect: onNot },
          { label: "As JSON", icon: <Braces size={14} />, onSelect: onJson },
          { label: "Remove", icon: <Trash2 size={14} />, danger: true, onSelect: onRemove },
        ]}
      />
      <button type="button" aria-label={`Remove the filter ${words}`} onClick={onRemove} className="grid h-7 w-6 place-items-center rounded-r-md text-soft hover:text-ink">
        <X size={13} />
      </button>
    </span>
  );
}

function JsonDialog({ filter, onClose, onSave }: { filter: Filter | undefined; onClose: () => void; onSave: (filter: Filter) => void }) {
  const [text, setText] = useState(JSON.stringify(filter, null, 2));
  const [error, setError] = useState<unknown>(null);
  return (
    <Dialog open onClose={onClose} title="The filter as JSON" description="Groups may hold groups: any, all, not, exists.">
      <textarea
        aria-label="The filter as JSON"
        value={text}
        spellCheck={false}
        rows={10}
        onChange={(event) => setText(event.target.value)}
        className="w-full rounded-md border border-line-strong bg-panel p-2 font-mono text-[12.5px]"
      />
      {error !== null && <Fault className="mt-2" error={error} />}
      <div className="mt-3 flex justify-end">
        <Button
          kind="primary"
          onClick={() => {
            try {
              onSave(JSON.parse(text) as Filter);
            } catch (wrong) {
              setError(wrong);
            }
          }}
        >
          Use it
        </Button>
      </div>
    </Dialog>
  );
}

/** What could come next. Tags are offered as fields of their own: tags.split. */
function useSuggestions(draft: Draft, text: string, open: boolean): Suggestion[] {
  const wanted = useLater(text.trim());
  const { field, op } = draft;
  const isTag = !!field?.startsWith(TAG) && !OWN_TAG_COLUMNS.includes(field);
  const listing = op && ["in", "not in", "between", "not between"].includes(op);
  const part = listing ? (wanted.split(",").pop() ?? "").trim() : wanted;
  const tags = useQuery({ ...namesQuery("tags"), enabled: open && !field });
  const fields = useQuery({ ...fieldsQuery(wanted), enabled: open && !field });
  const values = useQuery({ ...valuesQuery(field ?? "", part), enabled: open && !!op && !!field && !isTag });
  const tagValues = useQuery({ ...distributionQuery(field ?? "", []), enabled: open && !!op && isTag });
  if (!open) return [];
  if (!field) {
    const named = (tags.data ?? [])
      .map((name) => ({ label: `${TAG}${name}`, says: "tag", value: `${TAG}${name}` }))
      .filter((one) => one.label.toLowerCase().includes(wanted.toLowerCase()));
    const plain = (fields.data ?? [])
      .filter((name) => !OWN_TAG_COLUMNS.includes(name) && !name.includes("organization_id"))
      .map((name) => ({ label: name, value: name }));
    return [...named.slice(0, 20), ...plain].slice(0, 60);
  }
  if (!op) {
    return OPERATORS.filter((one) => one.op.startsWith(wanted.toLowerCase()) || one.says.includes(wanted.toLowerCase())).map(
      ({ op: label, says }) => ({ label, says, value: label }),
    );
  }
  if (isTag) {
    return (tagValues.data?.buckets ?? [])
      .filter((one) => one.bucket.toLowerCase().includes(part.toLowerCase()))
      .map((one) => ({ label: one.bucket, says: number.format(one.count), value: one.bucket }));
  }
  return (values.data ?? []).slice(0, 50).map((value) => ({ label: shownValue(value as Json), value: value as Json }));
}

/** The value once it has not changed for a moment. */
export function useLater<T>(value: T, milliseconds = 120): T {
  const [later, setLater] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setLater(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return later;
}
