/** The few pieces every page is made of; what needs care for keyboards and readers comes from Radix. */
import clsx from "clsx";
import { Check, X } from "lucide-react";
import { Dialog as RadixDialog, DropdownMenu, Popover as RadixPopover, Switch as RadixSwitch, Tooltip } from "radix-ui";
import { type ComponentProps, forwardRef, type ReactNode } from "react";
import { said } from "../api/client";

type Kind = "plain" | "primary" | "quiet" | "danger";

const KINDS: Record<Kind, string> = {
  plain: "border border-line-strong bg-panel text-ink hover:bg-sunk",
  primary: "bg-accent text-on-accent hover:brightness-110 border border-transparent",
  quiet: "text-soft hover:text-ink hover:bg-sunk border border-transparent",
  danger: "border border-transparent bg-danger text-white dark:text-black hover:brightness-110",
};

export interface ButtonProps extends ComponentProps<"button"> {
  kind?: Kind;
  small?: boolean;
}

export const Button = forwardRef<HTMLButtonElement, ButtonProps>(function Button(
  { kind = "plain", small, className, ...rest },
  ref,
) {
  return (
    <button
      ref={ref}
      type="button"
      className={clsx(
        "inline-flex shrink-0 items-center justify-center gap-1.5 rounded-md font-medium whitespace-nowrap transition-colors disabled:opacity-45 disabled:pointer-events-none",
        small ? "h-7 px-2 text-[13px]" : "h-8 px-3 text-[13px]",
        KINDS[kind],
        className,
      )}
      {...rest}
    />
  );
});

/** A button that is only an icon: its label is said and shown on hover. */
export const IconButton = forwardRef<HTMLButtonElement, ButtonProps & { label: string; pressed?: boolean }>(
  function IconButton({ label, pressed, kind = "quiet", className, ...rest }, ref) {
    return (
      <Hint text={label}>
        <Button
          ref={ref}
          kind={kind}
          aria-label={label}
          aria-pressed={pressed}
          className={clsx("size-8 !px-0", pressed && "bg-accent-wash !text-accent-ink", className)}
          {...rest}
        />
      </Hint>
    );
  },
);

export function Hint({ text, children }: { text: ReactNode; children: ReactNode }) {
  return (
    <Tooltip.Root>
      <Tooltip.Trigger asChild>{children}</Tooltip.Trigger>
      <Tooltip.Portal>
        <Tooltip.Content
          sideOffset={6}
          className="fade z-50 max-w-72 rounded-md bg-ink px-2 py-1 text-xs text-page shadow-float"
        >
          {text}
        </Tooltip.Content>
      </Tooltip.Portal>
    </Tooltip.Root>
  );
}

const FIELD =
  "h-8 w-full rounded-md border border-line-strong bg-panel px-2.5 text-[13px] text-ink placeholder:text-faint focus-visible:outline-offset-0";

export const Input = forwardRef<HTMLInputElement, ComponentProps<"input">>(function Input({ className, ...rest }, ref) {
  return <input ref={ref} autoComplete="off" spellCheck={false} className={clsx(FIELD, className)} {...rest} />;
});

export function Select({ className, ...rest }: ComponentProps<"select">) {
  return <select className={clsx(FIELD, "!w-auto pr-1", className)} {...rest} />;
}

export function Field({ label, hint, children }: { label: string; hint?: ReactNode; children: ReactNode }) {
  return (
    <label className="block">
      <span className="mb-1 block text-[13px] font-medium">{label}</span>
      {children}
      {hint && <span className="mt-1 block text-xs text-soft">{hint}</span>}
    </label>
  );
}

export function Switch({
  label,
  checked,
  onChange,
  children,
}: {
  label: string;
  checked: boolean;
  onChange: (on: boolean) => void;
  children?: ReactNode;
}) {
  return (
    <label className="flex min-h-7 items-center gap-2.5 rounded-md text-[13px]">
      <RadixSwitch.Root
        checked={checked}
        onCheckedChange={onChange}
        aria-label={label}
        className="relative h-[18px] w-8 shrink-0 rounded-full border border-transparent bg-line-strong transition-colors data-[state=checked]:bg-accent"
      >
        <RadixSwitch.Thumb className="block size-3.5 translate-x-[1px] rounded-full bg-panel transition-transform data-[state=checked]:translate-x-[15px]" />
      </RadixSwitch.Root>
      <span className="flex min-w-0 flex-1 items-center gap-2">{children ?? label}</span>
    </label>
  );
}

export function CheckMark({ checked, className }: { checked: boolean; className?: string }) {
  return (
    <span
      aria-hidden
      className={clsx(
        "grid size-[18px] place-items-center rounded-[5px] border",
        checked ? "border-accent bg-accent text-on-accent" : "border-line-strong bg-panel/90 text-transparent",
        className,
      )}
    >
      <Check size={13} strokeWidth={3} />
    </span>
  );
}

export function Dialog({
  open,
  onClose,
  title,
  description,
  children,
  wide,
}: {
  open: boolean;
  onClose: () => void;
  title: string;
  description?: ReactNode;
  children?: ReactNode;
  wide?: boolean;
}) {
  return (
    <RadixDialog.Root open={open} onOpenChange={(now) => !now && onClose()}>
      <RadixDialog.Portal>
        <RadixDialog.Overlay className="fade fixed inset-0 z-40 bg-black/35 dark:bg-black/60" />
        <RadixDialog.Content
          {...(description ? {} : { "aria-describedby": undefined })}
          className={clsx(
            "rise fixed top-[18vh] left-1/2 z-40 w-[calc(100vw-2rem)] -translate-x-1/2 rounded-xl border border-line bg-panel p-5 shadow-float",
            wide ? "max-w-2xl" : "max-w-md",
          )}
        >
          <RadixDialog.Title className="pr-8 text-base font-semibold">{title}</RadixDialog.Title>
          {description && (
            <RadixDialog.Description asChild>
              <div className="mt-1 text-[13px] text-soft">{description}</div>
            </RadixDialog.Description>
          )}
          <div className="mt-4">{children}</div>
          <RadixDialog.Close asChild>
            <Button kind="quiet" aria-label="Close" className="absolute top-3.5 right-3.5 size-8 !px-0">
              <X size={16} />
            </Button>
          </RadixDialog.Close>
        </RadixDialog.Content>
      </RadixDialog.Portal>
    </RadixDialog.Root>
  );
}

export function Popover({
  trigger,
  children,
  align = "end",
  label,
}: {
  trigger: ReactNode;
  children: ReactNode;
  align?: "start" | "center" | "end";
  label: string;
}) {
  return (
    <RadixPopover.Root>
      <RadixPopover.Trigger asChild>{trigger}</RadixPopover.Trigger>
      <RadixPopover.Portal>
        <RadixPopover.Content
          align={align}
          sideOffset={6}
          collisionPadding={12}
          aria-label={label}
          className="rise z-30 max-h-[70vh] w-72 overflow-auto rounded-xl border border-line bg-panel p-3 shadow-float"
        >
          {children}
        </RadixPopover.Content>
      </RadixPopover.Portal>
    </RadixPopover.Root>
  );
}

export interface MenuItem {
  label: string;
  icon?: ReactNode;
  danger?: boolean;
  onSelect: () => void;
}

export function Menu({ trigger, items, align = "start" }: { trigger: ReactNode; items: MenuItem[]; align?: "start" | "end" }) {
  return (
    <DropdownMenu.Root>
      <DropdownMenu.Trigger asChild>{trigger}</DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content
          align={align}
          sideOffset={4}
          className="rise z-30 min-w-44 rounded-lg border border-line bg-panel p-1 shadow-float"
        >
          {items.map((item) => (
            <DropdownMenu.Item
              key={item.label}
              onSelect={item.onSelect}
              className={clsx(
                "flex h-8 cursor-pointer items-center gap-2 rounded-md px-2 text-[13px] outline-none data-[highlighted]:bg-sunk",
                item.danger && "text-danger",
              )}
            >
              {item.icon}
              {item.label}
            </DropdownMenu.Item>
          ))}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}

export function Fault({ error, action, className }: { error: unknown; action?: ReactNode; className?: string }) {
  const { message, hint } = said(error);
  return (
    <div role="alert" className={clsx("rounded-lg bg-danger-wash px-3 py-2 text-[13px] text-danger", className)}>
      <div className="font-medium break-words">{message}</div>
      {hint && <div className="mt-0.5 break-words text-ink/80">{hint}</div>}
      {action && <div className="mt-2">{action}</div>}
    </div>
  );
}

export function Progress({ value, label }: { value: number | null; label: string }) {
  return (
    <div
      role="progressbar"
      aria-label={label}
      aria-valuenow={value === null ? undefined : Math.round(value * 100)}
      aria-valuemin={0}
      aria-valuemax={100}
      className="h-1.5 w-full overflow-hidden rounded-full bg-sunk"
    >
      <div
        className={clsx("h-full rounded-full bg-accent transition-[width] duration-300", value === null && "w-1/3 animate-pulse")}
        style={value === null ? undefined : { width: `${Math.max(2, value * 100)}%` }}
      />
    </div>
  );
}

export function Empty({ title, children, icon }: { title: string; children?: ReactNode; icon?: ReactNode }) {
  return (
    <div className="mx-auto flex max-w-md flex-col items-center px-6 py-16 text-center">
      {icon && <div className="mb-3 text-faint">{icon}</div>}
      <h2 className="text-[15px] font-semibold">{title}</h2>
      <div className="mt-1 text-[13px] text-soft">{children}</div>
    </div>
  );
}

export const number = new Intl.NumberFormat("en");
export const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export function many(count: number, one: string, more = `${one}s`): string {
  return `${number.format(count)} ${count === 1 ? one : more}`;
}

export function moment(text: string | null | undefined): string {
  if (!text) return "";
  const when = new Date(text);
  return Number.isNaN(when.getTime())
    ? text
    : when.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
