// The leaderboard and the heat map of progress by task.
"use strict";

const WHOLE = ["all", "none"];
const FACTORS = ["camera", "lighting", "background", "table", "object", "distractors", "robot"];

function groupLabel(name) {
  if (name === "all") return "the whole split";
  return FACTORS.includes(name) ? `factor: ${name} alone` : `novelty: ${name}`;
}

function splitChoices(lines, every) {
  const there = D.splits.filter((split) => lines.some((line) => line.split === split.name)).map((s) => [s.name, s.name]);
  return every && there.length > 1 ? [...there, ["*", "all splits"]] : there;
}

function chosenSplit(query, choices) {
  const asked = query.get("split");
  return choices.some(([name]) => name === asked) ? asked : choices.length ? choices[0][0] : "";
}

function showLeaderboard(main, { query }) {
  const splits = splitChoices(D.rates, true);
  const state = {
    split: chosenSplit(query, splits),
    group: query.get("group") || "all",
    robot: query.get("robot") || "",
    policy: query.get("policy") || "",
    sort: query.get("sort") || "progress",
    down: query.get("order") !== "up",
  };
  const controls = el("div", { class: "controls", role: "search", "aria-label": "Filters" });
  const about = el("p", { class: "lead" });
  const body = el("div", {});
  const change = (changes, again) => {
    Object.assign(state, changes);
    remember({ split: state.split, group: state.group === "all" ? "" : state.group, robot: state.robot, policy: state.policy, sort: state.sort, order: state.down ? "" : "up" });
    if (again) draw();
    update(true);
  };
  const draw = () => {
    const own = D.rates.filter((line) => state.split === "*" || line.split === state.split);
    const groups = unique(own.map((line) => line.group));
    if (!groups.includes(state.group)) state.group = groups.includes("all") ? "all" : groups[0];
    const robots = unique(own.map((line) => line.robot)).sort();
    controls.replaceChildren(...[
      choice("Split", splits, state.split, (split) => change({ split }, true)),
      choice("Episodes", groups.map((name) => [name, groupLabel(name)]), state.group, (group) => change({ group })),
      choice("Robot", [["", "every robot"], ...robots.map((name) => [name, name])].slice(robots.length < 2 ? 1 : 0), state.robot, (robot) => change({ robot })),
      search("Policy", state.policy, (policy) => change({ policy })),
    ].filter(Boolean));
  };
  const update = (tell) => {
    const word = state.policy.toLowerCase();
    const rows = D.rates.filter((line) =>
      (state.split === "*" || line.split === state.split) && line.group === state.group &&
      (!state.robot || line.robot === state.robot) && line.policy.toLowerCase().includes(word));
    const split = D.splits.find((one) => one.name === state.split);
    about.textContent = split ? capital(split.about) + (split.about ? "." : "") : "Every split, one line for each policy and split.";
    body.replaceChildren(rows.length ? leaderboardTable(rows, state, change) : el("p", { class: "empty" }, "No policy fits these filters."));
    if (tell) say(`${plural(rows.length, "row")}`);
  };
  draw();
  update();
  main.replaceChildren(
    el("h1", {}, "Leaderboard"), about, controls, body,
    el("p", { class: "note" }, "Progress is the share of a task's stages that were reached. Dots are means, bars 95 % intervals over scenes of the same tasks: of progress for bounded values within tasks, of success Wilson's. Errors are no failures; they are in no rate. Seeds are trainings of one policy: progress of the worst to the best. Video skill is that of imagined video 0.4 s ahead: 0 is a kept frame, 1 is what came."),
  );
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function leaderboardTable(rows, state, change) {
  const columns = [
    { key: "rank", label: "", kind: "rank", off: true, cell: (_, i) => String(i + 1) },
    { key: "policy", label: "Policy", kind: "", look: "who", first: true, value: (r) => r.policy, cell: policyCell },
    ...(state.split === "*" ? [{ key: "split", label: "Split", kind: "", value: (r) => r.split, cell: (r) => r.split }] : []),
    { key: "bar", label: "", kind: "scale", head: ticks("0", "½", "1"), cell: (r) => interval(r.progress) },
    { key: "progress", label: "Progress", kind: "number", value: (r) => r.progress[0], cell: (r) => meanCell(r.progress) },
    { key: "endbar", label: "", kind: "scale", off: true, head: ticks("0", "½", "1"), cell: (r) => interval(r.end) },
    { key: "end", label: "Success at end", kind: "number", off: true, value: (r) => r.end[0], cell: (r) => meanCell(r.end) },
    ...(rows.some((r) => r.skill[0] !== null) ? [{ key: "skill", label: "Video skill", kind: "number", off: true, value: (r) => r.skill[0], cell: (r) => meanCell(r.skill) }] : []),
    { key: "n", label: "n", kind: "number", value: (r) => r.n, cell: (r) => count(r.n) },
    { key: "errors", label: "Errors", kind: "number", value: (r) => r.errors, cell: (r) => (r.errors ? el("span", { class: "warn" }, count(r.errors)) : el("span", { class: "soft" }, "0")) },
  ];
  return sortable({ columns, rows, sort: state.sort, down: state.down, label: "Leaderboard", sorted: (sort, down) => change({ sort, down }) });
}

function policyCell(row) {
  const parts = [];
  if (row.seeds[0] > 1) parts.push(`${row.seeds[0]} seeds, ${number(row.seeds[1])} to ${number(row.seeds[2])}`);
  if (unique(D.rates.map((line) => line.robot)).length > 1) parts.push(row.robot);
  if (unique(D.rates.map((line) => line.versions)).length > 1) parts.push(`tasks ${row.versions}`);
  const seen = recordings({ policy: row.policy, split: row.split }).length;
  const link = seen ? el("a", { href: address("episodes", [], { policy: row.policy, split: row.split }) }, plural(seen, "recording")) : null;
  return [row.policy, parts.length || link ? el("span", { class: "sub" }, parts.join(" · "), parts.length && link ? " · " : "", link) : null];
}

function showTasks(main, { query }) {
  const splits = splitChoices(D.task_rates, false);
  const state = { split: chosenSplit(query, splits), factor: query.get("factor") || "", sort: query.get("sort") || "" };
  const controls = el("div", { class: "controls" });
  const body = el("div", {});
  const change = (changes, again) => {
    Object.assign(state, changes);
    remember(state);
    if (again) draw();
    update();
  };
  const draw = () => {
    const own = D.task_rates.filter((line) => line.split === state.split);
    const factors = unique(own.map((line) => factorOf(line.group)));
    if (!factors.includes(state.factor)) state.factor = factors[0];
    controls.replaceChildren(...[
      choice("Split", splits, state.split, (split) => change({ split }, true)),
      choice("Episodes", factors.map((name) => [name, name ? groupLabel(name) : "the whole split"]), state.factor, (factor) => change({ factor })),
    ].filter(Boolean));
  };
  const update = () => body.replaceChildren(heatMap(state, (sort) => change({ sort })));
  draw();
  update();
  main.replaceChildren(
    el("h1", {}, "Progress by task"),
    el("p", { class: "lead" }, "Mean progress of every policy on every task. A name above a column sorts the tasks by it; a coloured field leads to its recorded episodes where there are any."),
    controls, body,
  );
}

const factorOf = (group) => (group.includes(": ") ? group.split(": ")[0] : "");
const taskOf = (group) => group.split(": ").pop();

function heatMap({ split, factor, sort }, sorted) {
  const lines = D.task_rates.filter((line) => line.split === split && factorOf(line.group) === factor);
  const cells = new Map(lines.map((line) => [`${line.policy}\n${taskOf(line.group)}`, line]));
  const value = (policy, id) => cells.get(`${policy}\n${id}`)?.progress[0] ?? null;
  const mean = (values) => { const known = values.filter((v) => v !== null); return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null; };
  const tasks = unique(lines.map((line) => taskOf(line.group)));
  const policies = unique(lines.map((line) => line.policy));
  policies.sort((a, b) => order(mean(tasks.map((t) => value(a, t))), mean(tasks.map((t) => value(b, t))), true));
  const by = policies.includes(sort) ? (t) => value(sort, t) : (t) => mean(policies.map((p) => value(p, t)));
  tasks.sort((a, b) => order(by(a), by(b), true));
  const head = policies.map((policy) => el("th", { scope: "col", title: policy, "aria-sort": policy === sort ? "descending" : null },
    el("button", { class: "sort", type: "button", onclick: () => sorted(policy === sort ? "" : policy) }, policy)));
  const body = tasks.map((id) => el("tr", {}, el("th", { scope: "row" }, task(id)), policies.map((policy) => el("td", {}, heatCell(cells.get(`${policy}\n${id}`), policy, id, split)))));
  return el("div", { class: "wide" }, el("table", { class: "heat", "aria-label": "Mean progress by task and policy" },
    el("thead", {}, el("tr", {}, el("td", {}), head)), el("tbody", {}, body)));
}

function heatCell(line, policy, id, split) {
  if (!line || line.progress[0] === null) return el("span", { class: "cell none", title: `${policy}, ${id}: ${line ? `${line.errors} errors` : "not played"}` }, line ? "✕" : "·");
  const text = `${policy}, ${id}: progress ${number(line.progress[0])} ${range(line.progress)}, n = ${line.n}${line.errors ? `, ${line.errors} errors` : ""}`;
  const value = line.progress[0];
  const given = { class: `cell${value > 0.85 ? " strong" : value > 0.7 ? " half" : ""}`, vars: { "--v": value }, title: text, "aria-label": text };
  if (!recordings({ policy, split, task: id }).length) return el("span", { ...given, role: "img" }, number(value));
  return el("a", { ...given, href: address("episodes", [], { policy, split, task: id }) }, number(value));
}
