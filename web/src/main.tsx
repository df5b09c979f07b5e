import "@fontsource-variable/inter/index.css";
import "./styles.css";
import { QueryClientProvider } from "@tanstack/react-query";
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Link, RouterProvider } from "@tanstack/react-router";
import { Tooltip } from "radix-ui";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { client } from "./api/queries";
import { DatapointPage } from "./datapoint/DatapointPage";
import { ExplorePage } from "./explore/ExplorePage";
import { readSearch } from "./explore/search";
import { SettingsPage } from "./settings/SettingsPage";
import { Shell } from "./shell/Shell";
import { Empty, Fault } from "./ui/kit";
import { UploadPage } from "./uploads/UploadPage";
import { UploadsPage } from "./uploads/UploadsPage";

// Styles that dialogs add to the page need the nonce of its Content-Security-Policy.
Object.assign(globalThis, {
  __webpack_nonce__: document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content,
});

const root = createRootRoute({
  component: Shell,
  notFoundComponent: () => (
    <Empty title="There is no such page">
      <Link to="/" className="text-accent-ink underline underline-offset-2">
        Explore the lake
      </Link>
    </Empty>
  ),
  errorComponent: ({ error }) => (
    <div className="p-8">
      <Fault error={error} />
    </div>
  ),
});

export const exploreRoute = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: ExplorePage,
  validateSearch: readSearch,
});
export const datapointRoute = createRoute({
  getParentRoute: () => root,
  path: "/datapoints/$id",
  component: DatapointPage,
  validateSearch: readSearch,
});
const uploads = createRoute({ getParentRoute: () => root, path: "/uploads", component: UploadsPage });
const upload = createRoute({ getParentRoute: () => root, path: "/uploads/$id", component: UploadPage });
const sql = createRoute({
  getParentRoute: () => root,
  path: "/sql",
  component: lazyRouteComponent(() => import("./sql/SqlPage"), "SqlPage"),
  validateSearch: (search: Record<string, unknown>): { query?: string } =>
    typeof search.query === "string" ? { query: search.query } : {},
});
const settings = createRoute({ getParentRoute: () => root, path: "/settings", component: SettingsPage });

const router = createRouter({
  routeTree: root.addChildren([exploreRoute, datapointRoute, uploads, upload, sql, settings]),
  defaultPreload: false,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

const place = document.getElementById("root");
if (place) {
  createRoot(place).render(
    <StrictMode>
      <QueryClientProvider client={client}>
        <Tooltip.Provider delayDuration={350}>
          <RouterProvider router={router} />
        </Tooltip.Provider>
      </QueryClientProvider>
    </StrictMode>,
  );
}
