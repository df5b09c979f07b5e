import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `npm run dev` answers pages itself and leaves the rest to `katiml serve` on its usual port.
const server = "http://127.0.0.1:4004";

export default defineConfig({
  plugins: [react(), tailwindcss()],
  build: {
    outDir: "../src/katiml/server/static",
    emptyOutDir: true,
    // A strict Content-Security-Policy lets nothing in that is pasted into the page.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    chunkSizeWarningLimit: 700,
    target: "es2022",
  },
  worker: { format: "es" },
  server: { proxy: { "/api": server, "/docs": server, "/health": server, "/openapi.json": server } },
});
