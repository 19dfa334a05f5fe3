// The browser of recorded episodes: cards, and one episode with its film and its marks in time.
"use strict";

const CARDS = 48; // at a time
const OUTCOMES = [["", "every outcome"], ["success", "success"], ["part", "part of the way"], ["nothing", "no stage reached"], ["error", "errors"]];

function outcome(e) {
  if (e.status !== "ok") return "error";
  return e.success ? "success" : e.progress > 0 ? "part" : "nothing";
}

const FILTERS = ["policy", "split", "task", "factor", "outcome", "verdict"];

function chosenEpisodes(query) {
  const asked = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) || ""]));
  return D.episodes.filter((e) =>
    ["policy", "split", "task", "factor"].every((name) => !asked[name] || e[name] === asked[name]) &&
    (!asked.outcome || outcome(e) === asked.outcome) && (!asked.verdict || verdicts(e).includes(asked.verdict)));
}

const verdicts = (e) => (e.attribution ? Object.values(e.attribution.verdicts).map((one) => one.verdict) : []);

function showEpisodes(main, { query }) {
  const state = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) || ""]));
  let most = CARDS;
  const controls = el("div", { class: "controls", role: "search", "aria-label": "Filters" });
  const body = el("div", {});
  const change = (changes) => {
    Object.assign(state, changes);
    remember(state);
    most = CARDS;
    update(true);
  };
  const options = (name, every, form = (value) => value) => {
    const values = unique(D.episodes.map((e) => e[name])).sort();
    return values.length < 2 ? [] : [["", every], ...values.map((value) => [value, form(value)])];
  };
  const said = unique(D.episodes.flatMap(verdicts)).sort();
  controls.append(...[
    choice("Policy", options("policy", "every policy"), state.policy, (policy) => change({ policy })),
    choice("Split", options("split", "every split"), state.split, (split) => change({ split })),
    choice("Task", options("task", "every task", task), state.task, (value) => change({ task: value })),
    choice("Factor", options("factor", "every factor"), state.factor, (factor) => change({ factor })),
    choice("Outcome", OUTCOMES.filter(([key]) => !key || D.episodes.some((e) => outcome(e) === key)), state.outcome, (value) => change({ outcome: value })),
    choice("Verdict", said.length ? [["", "every verdict"], ...said.map((name) => [name, name])] : [], state.verdict, (verdict) => change({ verdict })),
  ].filter(Boolean));
  const update = (tell) => {
    const found = chosenEpisodes(new URLSearchParams(state));
    const more = found.length > most ? el("p", {}, el("button", { class: "button", type: "button", onclick: () => { most += CARDS; update(); } }, `Show ${Math.min(CARDS, found.length - most)} more of ${found.length}`)) : "";
    body.replaceChildren(el("p", { class: "soft small" }, plural(found.length, "episode")),
      found.length ? el("ul", { class: "cards" }, found.slice(0, most).map((e) => el("li", {}, card(e, state)))) : el("p", { class: "empty" }, "No recorded episode fits these filters."), more);
    if (tell) say(plural(found.length, "episode"));
  };
  update();
  main.replaceChildren(el("h1", {}, "Episodes"),
    el("p", { class: "lead" }, "Every recorded episode: its film, what was imagined beside what came, its stages in time and how it was judged."),
    ...D.notes.filter((note) => note.includes("recorded episodes")).map((note) => el("p", { class: "warn small" }, note)), controls, body);
}

function card(e, filters) {
  const text = e.status === "ok" ? number(e.progress) : e.status.replace("_", " ");
  return el("a", { class: "card", href: address("episode", e.id.split("/"), filters) },
    e.poster ? el("img", { src: e.poster, alt: "", loading: "lazy" }) : null,
    el("span", { class: "text" },
      el("span", { class: "row" }, el("span", { class: "prompt" }, e.prompt || e.instruction || task(e.task)), el("span", { class: "number" }, text)),
      el("span", { class: "meter", "aria-hidden": "true" }, el("i", { style: `width:${100 * (e.progress ?? 0)}%` })),
      el("span", { class: "sub" }, `${e.policy} · ${e.split} · ${task(e.task)} ${e.episode}`)));
}

function showEpisode(main, { rest, query }) {
  const id = rest.join("/");
  const e = D.episodes.find((one) => one.id === id);
  if (!e) {
    main.replaceChildren(el("h1", {}, "No such episode"), el("p", {}, `This page has no recording called ${id}.`), el("p", {}, el("a", { href: address("episodes") }, "All recorded episodes")));
    return;
  }
  const filters = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) || ""]));
  const list = chosenEpisodes(query);
  const at = list.indexOf(e);
  const link = (one, text, key) => (one ? el("a", { href: address("episode", one.id.split("/"), filters), rel: key }, text) : null);
  main.replaceChildren(
    el("div", { class: "crumb" }, el("a", { href: address("episodes", [], filters) }, `← ${plural(list.length, "episode")}`),
      el("nav", { "aria-label": "Other episodes" }, link(list[at - 1], "Previous", "prev"), link(list[at + 1], "Next", "next"))),
    el("h1", {}, e.prompt ? `“${e.prompt}”` : task(e.task)),
    el("p", { class: "lead" }, `${e.policy} · ${e.split} · ${task(e.task)}, episode ${e.episode}`),
    el("div", { class: "episode" }, el("div", {}, e.film ? player(e, Number(query.get("t")) || 0) : el("p", { class: "empty" }, "No frame was recorded.")), facts(e)));
}

function facts(e) {
  const rows = [
    ["Outcome", e.status === "ok" ? (e.success ? "success" : e.success_ever ? "succeeded for a while, not at the end" : "no success") : el("span", { class: "warn" }, e.status.replace("_", " "))],
    ["Progress", `${number(e.progress)}${e.reached.length ? ` (${e.reached.join(", ")})` : ""}`],
    ["Length", `${seconds(e.length, e.hz)} of ${seconds(e.horizon, e.hz)}, ${plural(e.queries, "query").replace("querys", "queries")}`],
    e.prompt && e.prompt !== e.instruction ? ["Own instruction", e.instruction] : null,
    ["Latency", e.latency === null ? "unknown" : `${number(e.latency, 3)} s a query (median), ${e.execution}`],
    WHOLE.includes(e.factor) ? null : ["Factor", e.factor],
    ["Seed", String(e.seed)],
    ["Scene", e.spec_hash],
    ["Run", e.id.split("/")[0]],
    e.error ? ["Error", el("span", { class: "warn" }, e.error)] : null,
  ].filter(Boolean);
  return el("div", {},
    el("dl", {}, rows.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    attributionOf(e),
    e.command ? [el("h2", {}, "Play it again"), command(e.command),
      el("p", { class: "soft small" }, e.changed ? "The split has changed since this was played: the command plays its present version. " : "",
        e.episode ? `Plays episodes 0 to ${e.episode} of this task; the last one is this.` : "")] : null);
}

function attributionOf(e) {
  const a = e.attribution;
  if (!a) return null;
  const tag = (name) => el("span", { class: "tag" }, el("i", { style: `background:${D.verdict_colours[name] || "#999"}` }), name);
  const rows = Object.entries(a.verdicts).map(([key, said]) => [D.definitions[key], [tag(said.verdict), said.confidence === null ? "" : el("span", { class: "soft small" }, ` confidence ${number(said.confidence)}`)]]);
  if (a.behaviour) rows.push([capital(D.definitions.behaviour), a.behaviour]);
  const lost = D.parts.filter((part) => part.key in a.lost && Math.abs(a.lost[part.key]) > 0.0005);
  if (lost.length) rows.push(["Lost", lost.map((part) => `${part.label.replace("lost ", "")} ${number(a.lost[part.key])}`).join("; ")]);
  if (a.missing) rows.push(["Not known", a.missing]);
  if (a.error) rows.push(["Error", el("span", { class: "warn" }, a.error)]);
  return [el("h2", {}, "Why it failed"), el("dl", {}, rows.map(([name, value]) => [el("dt", {}, capital(name)), el("dd", {}, value)]))];
}

function command(text) {
  const button = el("button", { class: "button", type: "button", onclick: () => copy(text, button) }, "Copy");
  return el("div", { class: "command" }, el("code", {}, text), button);
}

function copy(text, button) {
  const done = () => { button.textContent = "Copied"; say("Copied"); setTimeout(() => (button.textContent = "Copy"), 1500); };
  if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(text).then(done, () => older());
  return older();
  function older() { // pages from disk may lack the clipboard
    const field = el("textarea", { class: "unseen" }, text);
    document.body.append(field);
    field.select();
    if (document.execCommand("copy")) done();
    field.remove();
  }
}

// The film with its controls. Frame i of the film is the observation of control step e.steps[i].
function player(e, start) {
  const frames = e.steps.length;
  const video = el("video", { src: e.film, width: e.size[0], height: e.size[1], preload: "auto", playsinline: true, tabindex: "-1", "aria-label": `Film of the episode: ${e.prompt}` });
  video.muted = true;
  const rate = () => (video.duration ? frames / video.duration : 5);
  const frame = () => Math.min(frames - 1, Math.max(0, Math.floor(video.currentTime * rate() + 0.01)));
  const go = (i) => { video.pause(); video.currentTime = (Math.min(frames - 1, Math.max(0, i)) + 0.5) / rate(); };
  const nearest = (step) => e.steps.reduce((best, s, i) => (Math.abs(s - step) < Math.abs(e.steps[best] - step) ? i : best), 0);
  const line = timeline(e, (step) => go(nearest(step)));
  const age = el("span", {});
  const when = el("span", { class: "when" });
  const slider = el("input", { type: "range", min: 0, max: frames - 1, step: 1, value: 0, "aria-label": "Moment", oninput: () => go(Number(slider.value)) });
  const play = el("button", { class: "button main", type: "button", onclick: () => toggle() }, "Play");
  const toggle = () => {
    if (!video.paused) return video.pause();
    if (video.ended || frame() === frames - 1) video.currentTime = 0;
    return video.play().catch(() => say("This browser does not play the film"));
  };
  const speed = el("button", { class: "button", type: "button", "aria-label": "Speed", onclick: () => { video.playbackRate = { 1: 2, 2: 0.5, 0.5: 1 }[video.playbackRate] || 1; speed.textContent = `${video.playbackRate}×`; } }, "1×");
  const share = el("button", { class: "button", type: "button", onclick: () => { remember({ t: (e.steps[frame()] / e.hz).toFixed(1) }); copy(location.href, share); } }, "Copy link");
  const show = () => {
    const i = frame();
    const step = e.steps[i];
    line.move(step);
    slider.value = i;
    slider.setAttribute("aria-valuetext", `${seconds(step, e.hz)}, progress ${number(progressAt(e, step))}`);
    when.textContent = `${seconds(step, e.hz)} / ${seconds(e.steps[frames - 1], e.hz)} · progress ${number(progressAt(e, step))}`;
    const asked = e.asked[i];
    age.textContent = !e.asked.length ? "" : asked === null || asked === undefined ? "nothing yet" : `${((step - asked) / e.hz).toFixed(1)} s before`;
  };
  const tick = () => { show(); if (!video.paused && video.isConnected) requestAnimationFrame(tick); };
  video.addEventListener("play", () => { play.textContent = "Pause"; tick(); });
  for (const name of ["pause", "seeked", "ended"]) video.addEventListener(name, () => { play.textContent = "Play"; if (name === "seeked" && !video.paused) play.textContent = "Pause"; show(); });
  video.addEventListener("loadedmetadata", () => { go(start ? nearest(start * e.hz) : Math.max(0, e.asked.findIndex((step) => step !== null))); show(); });
  video.addEventListener("click", toggle);
  video.addEventListener("error", () => {
    video.replaceWith(el("img", { src: e.poster, alt: "The last frame of the episode" }));
    [play, slider, speed].forEach((part) => (part.disabled = true));
    age.textContent = "";
    note.textContent = "This browser does not play the film (H.264), so this is its last frame.";
  });
  const keys = (event) => {
    if (event.target.matches("select, textarea, input[type=search]") || event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target.matches("button, a, summary");
    const actions = { " ": onButton ? null : toggle, k: toggle, ",": () => go(frame() - 1), ".": () => go(frame() + 1), j: () => go(frame() - 5), l: () => go(frame() + 5) };
    if (event.target === document.body || event.target.closest("main")) {
      if (event.target !== slider) Object.assign(actions, { ArrowLeft: () => go(frame() - 1), ArrowRight: () => go(frame() + 1), Home: () => go(0), End: () => go(frames - 1) });
      if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
    }
  };
  document.addEventListener("keydown", keys);
  leave.push(() => { document.removeEventListener("keydown", keys); video.pause(); });
  const note = el("p", { class: "warn small", role: "status" });
  const step = (by, text, label) => el("button", { class: "button", type: "button", "aria-label": label, onclick: () => go(frame() + by) }, text);
  show();
  return el("div", {},
    el("div", { class: `heads${e.asked.length ? "" : " single"}` }, el("span", {}, el("b", {}, "What came"), ` ${e.cameras.join(" above ")}`),
      e.asked.length ? el("span", {}, el("b", {}, "What was imagined"), " ", age) : null),
    el("div", { class: "film" }, video), note,
    el("div", { class: "time" }, line.node, slider),
    el("div", { class: "play" }, play, step(-1, "‹", "One frame back"), step(1, "›", "One frame on"), speed, share, when),
    el("p", { class: "soft small", style: "margin-top:.8rem" }, el("kbd", {}, "space"), " plays, ", el("kbd", {}, "←"), " ", el("kbd", {}, "→"), " step by a frame. ", e.asked.length ? "The right half is the newest prediction for the moment at the left." : "This policy imagines no video."));
}

function progressAt(e, step) {
  let value = e.curve.length ? 0 : e.progress;
  for (const [at, progress] of e.curve) if (at <= step) value = progress;
  return value;
}

// Progress over time, with stages, chunk boundaries, the chunk that lost the episode, and a line at the moment shown.
function timeline(e, seek) {
  const room = innerWidth > 820 ? Math.max(380, innerHeight - 544) : innerWidth - 40; // as in report.css
  const [W, top, H, left] = [Math.max(300, Math.min(560, room)), 34, 96, 26];
  const last = Math.max(e.steps[e.steps.length - 1], e.length, 1);
  const x = (step) => left + ((W - left - 6) * step) / last;
  const y = (value) => top + H * (1 - value);
  const label = `Progress over time: ${e.stages.map(([step, name, on]) => `${name} ${on ? "reached" : "undone"} at ${seconds(step, e.hz)}`).join(", ") || "no stage reached"}; ${plural(e.chunks.length, "query").replace("querys", "queries")}`;
  const chart = svg("svg", { viewBox: `0 0 ${W} ${top + H + 34}`, role: "img", "aria-label": label });
  for (const value of [0, 1]) chart.append(svg("line", { class: "axis", x1: left, x2: W - 6, y1: y(value), y2: y(value) }), svg("text", { x: left - 7, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  const lost = e.attribution && e.attribution.no_return >= 0 ? e.chunks[e.attribution.no_return] : undefined;
  e.chunks.forEach((step) => chart.append(svg("line", { class: "chunk", x1: x(step), x2: x(step), y1: y(0) + 4, y2: y(0) + 9 })));
  if (e.curve.length) {
    let path = `M${x(0)},${y(0)}`;
    e.curve.forEach(([step, value]) => (path += `H${x(step)}V${y(value)}`));
    path += `H${x(last)}`;
    chart.append(svg("path", { class: "under", d: `${path}V${y(0)}H${x(0)}Z` }), svg("path", { class: "curve", d: path }));
  }
  marksOf(e).forEach(({ step, text }, i) => chart.append(svg("line", { class: "stage", x1: x(step), x2: x(step), y1: top - 4 - 13 * (i % 2), y2: y(0) }),
    svg("text", { class: "mark", x: x(step), y: top - 8 - 13 * (i % 2), "text-anchor": x(step) > W - 90 ? "end" : x(step) < left + 40 ? "start" : "middle" }, text)));
  if (lost !== undefined) chart.append(svg("line", { class: "lost", x1: x(lost), x2: x(lost), y1: top, y2: y(0) + 9 }), svg("text", { class: "losttext", x: x(lost) + 5, y: y(0) - 6, "text-anchor": x(lost) > W - 90 ? "end" : "start", dx: x(lost) > W - 90 ? -10 : 0 }, "lost here"));
  for (const share of [0, 0.5, 1]) chart.append(svg("text", { x: x(last * share), y: y(0) + 28, "text-anchor": share === 1 ? "end" : share ? "middle" : "start" }, seconds(last * share, e.hz)));
  const now = svg("line", { class: "now", x1: left, x2: left, y1: top - 4, y2: y(0) + 9 });
  chart.append(now);
  const point = (event) => { const box = chart.getBoundingClientRect(); seek((((event.clientX - box.left) / box.width) * W - left) * (last / (W - left - 6))); };
  chart.addEventListener("pointerdown", (event) => { chart.setPointerCapture(event.pointerId); point(event); });
  chart.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
  return { node: chart, move: (step) => { now.setAttribute("x1", x(step)); now.setAttribute("x2", x(step)); } };
}

// Stages that change at one step share a mark.
function marksOf(e) {
  return unique(e.stages.map(([step]) => step)).map((step) => ({ step, text: e.stages.filter(([at]) => at === step).map(([, name, on]) => (on ? name : `${name} undone`)).join(", ") }));
}
