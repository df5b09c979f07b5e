/** An API key becomes a session of this browser. */
import { useState } from "react";
import { api } from "../api/client";
import { Button, Fault, Field, Input } from "../ui/kit";

export function SignIn({ expired, onDone }: { expired: boolean; onDone: () => void }) {
  const [key, setKey] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      await api.POST("/api/session", { body: { key } });
      onDone();
    } catch (wrong) {
      setError(wrong);
    }
    setBusy(false);
  };
  return (
    <div className="fade fixed inset-0 z-40 grid place-items-center overflow-auto bg-page/95 p-6">
      <form
        role="dialog"
        aria-labelledby="sign-in"
        className="w-full max-w-sm rounded-xl border border-line bg-panel p-6 shadow-float"
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <img src="/icon.svg" alt="" className="mb-4 size-10" />
        <h1 id="sign-in" className="text-lg font-semibold">
          {expired ? "Your session is over" : "Sign in to this lake"}
        </h1>
        <p className="mt-1 mb-4 text-[13px] text-soft">
          {expired
            ? "Enter an API key to go on; the page stays as you left it."
            : "This server asks for an API key. It is kept in a cookie that scripts cannot read."}
        </p>
        <Field
          label="API key"
          hint={
            <>
              <code className="font-mono">katiml keys create NAME</code> on the server makes one.
            </>
          }
        >
          <Input type="password" autoFocus required value={key} onChange={(event) => setKey(event.target.value)} placeholder="katiml_…" />
        </Field>
        {error !== null && <Fault className="mt-3" error={error} />}
        <Button kind="primary" type="submit" disabled={!key || busy} className="mt-4 w-full">
          Sign in
        </Button>
      </form>
    </div>
  );
}
