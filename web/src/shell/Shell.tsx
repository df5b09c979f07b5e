/** What is around every page: the menu, the sign-in, and the news that the server is gone. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import clsx from "clsx";
import { BookOpen, Database, Images, Moon, Settings, Sun, Upload } from "lucide-react";
import { type ReactNode, useEffect, useState } from "react";
import { on } from "../api/client";
import { sessionQuery } from "../api/queries";
import type { Search } from "../explore/search";
import { Button, Hint, IconButton } from "../ui/kit";
import { Toasts } from "../ui/toast";
import { SignIn } from "./SignIn";
import { setTheme, useTheme } from "./theme";

const PAGES = [
  { to: "/", label: "Explore", icon: Images },
  { to: "/uploads", label: "Uploads", icon: Upload },
  { to: "/sql", label: "SQL", icon: Database },
  { to: "/settings", label: "Settings", icon: Settings },
] as const;

export function Shell() {
  const queries = useQueryClient();
  const session = useQuery(sessionQuery);
  const [signedOut, setSignedOut] = useState(false);
  useEffect(() => on("signedOut", () => setSignedOut(true)), []);
  const mustSignIn = signedOut || (session.data && !session.data.signedIn && !session.data.mayBeLocal);
  return (
    <div className="flex h-full">
      <a
        href="#main"
        className="absolute -top-12 left-3 z-50 rounded-md bg-accent px-3 py-1.5 text-on-accent focus:top-3"
      >
        Skip to the page
      </a>
      <Rail />
      <div className="flex min-w-0 flex-1 flex-col">
        <Gone />
        <main id="main" tabIndex={-1} className="min-h-0 flex-1 outline-none">
          {session.data && !(mustSignIn && !signedOut) && <Outlet />}
        </main>
      </div>
      {mustSignIn && (
        <SignIn
          expired={signedOut}
          onDone={() => {
            setSignedOut(false);
            void queries.invalidateQueries();
          }}
        />
      )}
      <Toasts />
    </div>
  );
}

function Rail() {
  const { dark } = useTheme();
  const inside = useLocation().pathname.startsWith("/datapoints/");
  return (
    <nav aria-label="Pages" className="flex w-[68px] shrink-0 flex-col items-center border-r border-line bg-panel pt-3 pb-3">
      <Link to="/" aria-label="KatiML" className="mb-4 rounded-lg">
        <img src="/icon.svg" alt="" className="size-8" />
      </Link>
      <ul className="flex w-full flex-col gap-1 px-1.5">
        {PAGES.map(({ to, label, icon: Icon }) => (
          <li key={to}>
            <Link
              to={to}
              activeOptions={{ exact: to === "/", includeSearch: false }}
              {...(inside && to === "/" ? { "aria-current": "page", search: (before: Search) => before } : {})}
              className="flex flex-col items-center gap-1 rounded-lg py-2 text-[11px] font-medium text-soft hover:bg-sunk hover:text-ink aria-[current=page]:bg-accent-wash aria-[current=page]:text-accent-ink"
            >
              <Icon size={19} strokeWidth={1.8} aria-hidden />
              {label}
            </Link>
          </li>
        ))}
      </ul>
      <div className="mt-auto flex flex-col items-center gap-1">
        <Hint text="The HTTP API">
          <a href="/docs" target="_blank" rel="noreferrer" aria-label="The HTTP API" className="grid size-9 place-items-center rounded-md text-soft hover:bg-sunk hover:text-ink">
            <BookOpen size={17} />
          </a>
        </Hint>
        <IconButton label={dark ? "Light theme" : "Dark theme"} className="size-9" onClick={() => setTheme(dark ? "light" : "dark")}>
          {dark ? <Sun size={17} /> : <Moon size={17} />}
        </IconButton>
      </div>
    </nav>
  );
}

/** Shown while the server does not answer; what was typed stays where it is. */
function Gone() {
  const queries = useQueryClient();
  const [gone, setGone] = useState(false);
  useEffect(() => on("gone", () => setGone(true)), []);
  useEffect(
    () =>
      on("back", () =>
        setGone((before) => {
          if (before) void queries.invalidateQueries({ predicate: (query) => query.state.status === "error" });
          return false;
        }),
      ),
    [queries],
  );
  const ask = () =>
    fetch("/health")
      .then((answer) => {
        if (!answer.ok) return;
        setGone(false);
        void queries.refetchQueries({ predicate: (query) => query.state.status !== "success" });
      })
      .catch(() => undefined);
  useEffect(() => {
    if (!gone) return;
    const timer = setInterval(ask, 2000);
    return () => clearInterval(timer);
  });
  if (!gone) return null;
  return (
    <div role="alert" className="flex items-center gap-3 border-b border-line bg-warn-wash px-4 py-2 text-[13px] text-warn">
      <span className="font-medium">The server does not answer.</span>
      <span className="text-ink/80">It is asked again every two seconds; nothing you typed is lost.</span>
      <Button small className="ml-auto" onClick={() => void ask()}>
        Try now
      </Button>
    </div>
  );
}

export function Page({ title, actions, children, wide }: { title: string; actions?: ReactNode; children: ReactNode; wide?: boolean }) {
  return (
    <div className="h-full overflow-auto">
      <div className={clsx("mx-auto px-8 py-7", wide ? "max-w-6xl" : "max-w-4xl")}>
        <header className="mb-6 flex min-h-8 items-center gap-3">
          <h1 className="text-xl font-semibold tracking-tight">{title}</h1>
          <div className="ml-auto flex items-center gap-2">{actions}</div>
        </header>
        {children}
      </div>
    </div>
  );
}
