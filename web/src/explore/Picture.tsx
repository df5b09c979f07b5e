/** An image of a datapoint, or why there is none. */
import { useQuery } from "@tanstack/react-query";
import { CloudOff, FileQuestion, FileWarning, Lock, Maximize } from "lucide-react";
import { useEffect, useState } from "react";
import { errorOf, request, ServerError } from "../api/client";
import { type Datapoint, thumbnailUrl } from "../api/types";

const ICONS: Record<string, typeof Lock> = {
  media_missing: FileQuestion,
  media_forbidden: Lock,
  media_broken: FileWarning,
  media_too_large: Maximize,
  media_unreachable: CloudOff,
};
export const TITLES: Record<string, string> = {
  media_missing: "Missing",
  media_forbidden: "Not allowed",
  media_broken: "Not readable",
  media_too_large: "Too large",
  media_unreachable: "Not reachable",
};

export function Picture({
  row,
  size,
  alt,
  className,
  onSize,
}: {
  row: Datapoint;
  size: number;
  alt: string;
  className?: string;
  onSize?: (width: number, height: number) => void;
}) {
  const url = thumbnailUrl(row, size);
  const [failed, setFailed] = useState<string | null>(null);
  const [shown, setShown] = useState(false);
  useEffect(() => setFailed(null), [url]);
  if (failed === url) return <NoPicture url={url} />;
  return (
    <img
      src={url}
      alt={alt}
      decoding="async"
      draggable={false}
      onLoad={(event) => {
        setShown(true);
        onSize?.(event.currentTarget.naturalWidth, event.currentTarget.naturalHeight);
      }}
      onError={() => setFailed(url)}
      className={className}
      style={{ opacity: shown ? 1 : 0, transition: "opacity 120ms" }}
    />
  );
}

/** Which of the things that can be wrong it is: an <img> does not say. */
function NoPicture({ url }: { url: string }) {
  const { data: error } = useQuery({
    queryKey: ["media-error", url],
    queryFn: async () => {
      const answer = await request(url);
      return answer.ok ? new ServerError(0, "again", "The image could not be shown.", null) : errorOf(answer);
    },
    staleTime: Number.POSITIVE_INFINITY,
  });
  const Icon = ICONS[error?.code ?? ""] ?? FileWarning;
  return (
    <div
      title={error ? [error.message, error.hint].filter(Boolean).join("\n") : undefined}
      className="flex h-full w-full flex-col items-center justify-center gap-1 overflow-hidden bg-sunk p-2 text-center text-soft"
    >
      <Icon size={20} strokeWidth={1.6} aria-hidden />
      <span className="text-xs font-medium">{TITLES[error?.code ?? ""] ?? "No image"}</span>
      <span className="line-clamp-3 text-[11px] leading-tight break-words">{error?.message}</span>
    </div>
  );
}
