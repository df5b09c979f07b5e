/** Keys for programs, how the app looks, and who this browser is. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Monitor, Moon, Sun, Trash2 } from "lucide-react";
import { ToggleGroup } from "radix-ui";
import { useState } from "react";
import { api, data } from "../api/client";
import { keysQuery, sessionQuery } from "../api/queries";
import { setTheme, type Theme, useTheme } from "../shell/theme";
import { Page } from "../shell/Shell";
import { Code } from "../ui/Copy";
import { Button, Dialog, Fault, IconButton, Input, moment } from "../ui/kit";
import { toast } from "../ui/toast";

export function SettingsPage() {
  return (
    <Page title="Settings">
      <div className="space-y-10">
        <Keys />
        <Look />
        <Browser />
      </div>
    </Page>
  );
}

function Keys() {
  const queries = useQueryClient();
  const keys = useQuery(keysQuery);
  const [name, setName] = useState("");
  const [made, setMade] = useState<{ name: string; key: string } | null>(null);
  const [gone, setGone] = useState<{ id: string; name: string } | null>(null);
  const [error, setError] = useState<unknown>(null);
  const refresh = () => queries.invalidateQueries({ queryKey: keysQuery.queryKey });
  const act = async (work: () => Promise<void>) => {
    setError(null);
    try {
      await work();
      await refresh();
    } catch (wrong) {
      setError(wrong);
    }
  };
  return (
    <section aria-labelledby="keys">
      <h2 id="keys" className="font-semibold">
        API keys
      </h2>
      <p className="mt-0.5 mb-3 text-[13px] text-soft">
        Programs send one as <code className="font-mono">x-api-key</code>. A key is shown once, when it is made; the lake keeps only its hash.
      </p>
      <form
        className="mb-3 flex max-w-md gap-2"
        onSubmit={(event) => {
          event.preventDefault();
          void act(async () => {
            const answer = await data(api.POST("/api/api-key", { body: { name: name.trim() } }));
            if (answer) setMade(answer);
            setName("");
          });
        }}
      >
        <Input aria-label="Name of the new key" required maxLength={200} value={name} onChange={(event) => setName(event.target.value)} placeholder="What it is for: laptop, ci …" />
        <Button kind="primary" type="submit" disabled={!name.trim()}>
          Make a key
        </Button>
      </form>
      {(error ?? keys.error) !== null && <Fault error={error ?? keys.error} className="mb-3" />}
      {keys.data && keys.data.length > 0 && (
        <ul className="divide-y divide-line rounded-xl border border-line bg-panel">
          {keys.data.map((key) => (
            <li key={key.id} className="flex min-h-12 items-center gap-4 px-4 text-[13px]">
              <span className="min-w-0 flex-1 truncate font-medium">{key.name || "no name"}</span>
              <code className="font-mono text-xs text-soft">{key.prefix ? `${key.prefix}…` : "set by the operator"}</code>
              <span className="w-44 text-right text-xs text-soft">{moment(key.created_at)}</span>
              <IconButton label={`Delete the key ${key.name}`} onClick={() => setGone(key)}>
                <Trash2 size={15} />
              </IconButton>
            </li>
          ))}
        </ul>
      )}
      {made && (
        <Dialog wide open onClose={() => setMade(null)} title={`The key ${made.name}`} description="Keep it now: it is not shown again.">
          <Code text={made.key} />
          <div className="mt-4 flex justify-end">
            <Button kind="primary" onClick={() => setMade(null)}>
              I have kept it
            </Button>
          </div>
        </Dialog>
      )}
      {gone && (
        <Dialog open onClose={() => setGone(null)} title={`Delete the key ${gone.name}?`} description="Whoever uses it is refused from then on, browsers that signed in with it too.">
          <div className="flex justify-end gap-2">
            <Button onClick={() => setGone(null)}>Keep it</Button>
            <Button
              kind="danger"
              onClick={() =>
                void act(async () => {
                  await api.DELETE("/api/api-key/{key_id}", { params: { path: { key_id: gone.id } } });
                  setGone(null);
                  toast("Deleted the key");
                })
              }
            >
              Delete the key
            </Button>
          </div>
        </Dialog>
      )}
    </section>
  );
}

const THEMES: { value: Theme; label: string; icon: typeof Sun }[] = [
  { value: "system", label: "As the system", icon: Monitor },
  { value: "light", label: "Light", icon: Sun },
  { value: "dark", label: "Dark", icon: Moon },
];

function Look() {
  const { theme } = useTheme();
  return (
    <section aria-labelledby="look">
      <h2 id="look" className="mb-3 font-semibold">
        Theme
      </h2>
      <ToggleGroup.Root
        type="single"
        value={theme}
        aria-labelledby="look"
        onValueChange={(value) => value && setTheme(value as Theme)}
        className="inline-flex gap-1 rounded-lg border border-line bg-panel p-1"
      >
        {THEMES.map(({ value, label, icon: Icon }) => (
          <ToggleGroup.Item
            key={value}
            value={value}
            className="inline-flex h-8 items-center gap-2 rounded-md px-3 text-[13px] text-soft hover:text-ink data-[state=on]:bg-accent-wash data-[state=on]:font-medium data-[state=on]:text-accent-ink"
          >
            <Icon size={15} aria-hidden /> {label}
          </ToggleGroup.Item>
        ))}
      </ToggleGroup.Root>
    </section>
  );
}

function Browser() {
  const session = useQuery(sessionQuery);
  if (!session.data) return null;
  const { local, organizationId, version } = session.data;
  return (
    <section aria-labelledby="browser">
      <h2 id="browser" className="mb-3 font-semibold">
        This browser
      </h2>
      <dl className="grid max-w-xl grid-cols-[140px_1fr] gap-y-1.5 text-[13px]">
        <dt className="text-soft">Signed in</dt>
        <dd>{local ? "as the person who runs the server, without a key" : "with an API key"}</dd>
        <dt className="text-soft">Organization</dt>
        <dd>{organizationId}</dd>
        <dt className="text-soft">KatiML</dt>
        <dd>{version}</dd>
      </dl>
      {!local && (
        <Button
          className="mt-4"
          onClick={() => void api.DELETE("/api/session").then(() => location.assign("/"))}
        >
          Sign out
        </Button>
      )}
    </section>
  );
}
