// Before anything is drawn, so that a dark page never flashes white.
const chosen = localStorage.getItem("katiml-theme") ?? "system";
const dark = chosen === "dark" || (chosen === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
document.documentElement.classList.toggle("dark", dark);
