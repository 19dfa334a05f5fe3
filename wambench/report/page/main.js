// Which view is shown, and the colours.
"use strict";

const VIEWS = [
  ["leaderboard", "Leaderboard", showLeaderboard, () => D.rates.length],
  ["tasks", "Tasks", showTasks, () => D.task_rates.length],
  ["compare", "Compare", showCompare, () => D.comparisons.length],
  ["time", "Time", showTime, () => D.sweeps.length],
  ["attribution", "Attribution", showAttribution, () => D.attributions.length || D.self_tests.length],
  ["episodes", "Episodes", showEpisodes, () => D.episodes.length],
  ["about", "About", showAbout, () => true],
];
const leave = []; // what to stop when a view is left

function show(first) {
  leave.splice(0).forEach((stop) => stop());
  const here = place();
  const there = VIEWS.filter(([, , , any]) => any());
  const view = here.view === "episode" ? "episodes" : there.some(([name]) => name === here.view) ? here.view : there[0][0];
  document.getElementById("nav").replaceChildren(...there.map(([name, label]) =>
    el("a", { href: address(name), "aria-current": name === view ? "page" : null }, label)));
  const nav = document.getElementById("nav");
  const tab = nav.querySelector("[aria-current]");
  nav.scrollLeft = tab.offsetLeft - nav.offsetLeft - (nav.clientWidth - tab.offsetWidth) / 2; // on a phone
  const main = document.getElementById("main");
  shown = here.view === "episode" ? here.view : view;
  if (here.view === "episode") showEpisode(main, here);
  else there.find(([name]) => name === view)[2](main, here.view === view ? here : { rest: [], query: new URLSearchParams() });
  document.title = `${main.querySelector("h1")?.textContent || ""} – ${D.title}`;
  if (!first) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

const THEMES = [["", "Auto", "as the system has them"], ["light", "Light", "light"], ["dark", "Dark", "dark"]];

function paint(theme) {
  const [key, label, about] = THEMES.find(([name]) => name === theme) || THEMES[0];
  if (key) document.documentElement.dataset.theme = key;
  else delete document.documentElement.dataset.theme;
  const button = document.getElementById("theme");
  button.textContent = label;
  button.setAttribute("aria-label", `Colours: ${about}`);
}

function stored(value) { // a page from disk may not be allowed to remember anything
  try {
    if (value !== undefined) localStorage.setItem("wambench-theme", value);
    return localStorage.getItem("wambench-theme") || "";
  } catch {
    return value || "";
  }
}

let theme = stored();
paint(theme);
document.getElementById("theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.findIndex(([name]) => name === theme) + 1) % THEMES.length][0];
  stored(theme);
  paint(theme);
});
addEventListener("hashchange", () => show(false));
show(true);
