/** Text that is meant to be copied. */
import { Check, Copy as CopyIcon } from "lucide-react";
import { useState } from "react";
import { IconButton } from "./kit";

export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  return (
    <IconButton
      label={done ? "Copied" : label}
      onClick={() => {
        void navigator.clipboard.writeText(text).then(() => {
          setDone(true);
          setTimeout(() => setDone(false), 1500);
        });
      }}
    >
      {done ? <Check size={15} /> : <CopyIcon size={15} />}
    </IconButton>
  );
}

export function Code({ text }: { text: string }) {
  return (
    <div className="relative rounded-lg border border-line bg-sunk text-left">
      <pre tabIndex={0} className="overflow-auto p-3 pr-12 font-mono text-[12.5px] leading-relaxed">
        {text}
      </pre>
      <div className="absolute top-1.5 right-1.5">
        <CopyButton text={text} label="Copy the code" />
      </div>
    </div>
  );
}
