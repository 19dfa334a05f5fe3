// Paired comparisons, time, attribution, and where the numbers come from.
"use strict";

function showCompare(main, { query }) {
  const places = unique(D.comparisons.map((table) => `${table.split} ${table.factor}`));
  const names = unique(D.comparisons.flatMap((table) => [table.a, table.b]));
  const asked = `${query.get("split")} ${query.get("factor")}`;
  const state = { place: places.includes(asked) ? asked : places[0], a: query.get("a"), b: query.get("b") };
  const controls = el("div", { class: "controls" });
  const body = el("div", {});
  const change = (changes) => {
    Object.assign(state, changes);
    draw();
    const [split, factor] = state.place.split(" ");
    remember({ split, factor, a: state.a, b: state.b });
  };
  const draw = () => {
    const tables = D.comparisons.filter((table) => `${table.split} ${table.factor}` === state.place);
    const there = names.filter((name) => tables.some((table) => table.a === name || table.b === name));
    if (!there.includes(state.a)) state.a = there[0];
    if (!there.includes(state.b) || state.b === state.a) state.b = there.find((name) => name !== state.a);
    controls.replaceChildren(...[
      choice("Split", places.map((name) => [name, placeLabel(name)]), state.place, (place) => change({ place })),
      choice("A", there.map((name) => [name, name]), state.a, (a) => change(a === state.b ? { a, b: state.a } : { a })),
      choice("B", there.map((name) => [name, name]), state.b, (b) => change(b === state.a ? { b, a: state.b } : { b })),
    ].filter(Boolean));
    const table = comparison(tables, state.a, state.b);
    body.replaceChildren(table ? comparisonTable(table) : el("p", { class: "empty" }, "These two share no episodes here."),
      ...(there.length > 2 ? [el("h2", {}, "Every pair"), matrix(tables, there, (a, b) => { change({ a, b }); main.scrollIntoView(); })] : []));
  };
  draw();
  main.replaceChildren(
    el("h1", {}, "Two policies, the same episodes"),
    el("p", { class: "lead" }, "Both play the same scenes, so what differs is the policy. A difference is A − B in mean progress over episodes that both played without error."),
    controls, body,
    el("p", { class: "note" }, "Intervals: 95 %, over scenes of the same tasks. p: two-sided sign-flip test, corrected over the lines of this table that are of different episodes (Holm), not over pairs. Detectable: the difference that this n finds with 80 % power at 5 %, uncorrected."),
  );
}

function placeLabel(name) {
  const [split, factor] = name.split(" ");
  return WHOLE.includes(factor) ? split : `${split}, ${factor} alone`;
}

// Returns the comparison of A with B, turned round if it was made the other way.
function comparison(tables, a, b) {
  const found = tables.find((table) => table.a === a && table.b === b);
  if (found) return found;
  const other = tables.find((table) => table.a === b && table.b === a);
  if (!other) return null;
  const minus = (value) => (value === null ? null : -value);
  const lines = other.lines.map((line) => ({ ...line, a: line.b, b: line.a, unpaired: [line.unpaired[1], line.unpaired[0]],
    difference: [minus(line.difference[0]), minus(line.difference[2]), minus(line.difference[1])] }));
  return { ...other, a, b, lines };
}

const isUnsure = ([, low, high]) => low === null || (low <= 0 && high >= 0);

function comparisonTable(table) {
  const first = table.lines[0];
  const far = Math.max(...table.lines.flatMap((line) => line.difference.map((value) => Math.abs(value ?? 0))));
  const edge = far > 0.5 ? 1 : far > 0.25 ? 0.5 : 0.25;
  const scale = { from: -edge, to: edge, form: signed };
  const columns = [
    { key: "group", label: "Episodes", kind: "", first: true, cell: (l) => (/-v\d+$/.test(l.group) ? task(l.group) : groupLabel(l.group)) },
    { key: "a", label: "A", kind: "number", off: true, cell: (l) => number(l.a) },
    { key: "b", label: "B", kind: "number", off: true, cell: (l) => number(l.b) },
    { key: "bar", label: "", kind: "scale", head: ticks(`−${edge}`, "0", `+${edge}`), cell: (l) => interval(l.difference, { ...scale, unsure: isUnsure(l.difference) }) },
    { key: "difference", label: "A − B", kind: "number", cell: (l) => meanCell(l.difference, signed) },
    { key: "p", label: "p (Holm)", kind: "number", cell: (l) => pValue(l.holm) },
    { key: "detectable", label: "Detectable", kind: "number", off: true, cell: (l) => number(l.detectable) },
    { key: "n", label: "n", kind: "number", cell: (l) => count(l.n) },
    { key: "errors", label: "Errors", kind: "number", off: true, cell: (l) => count(l.errors) },
  ];
  const left = first.unpaired[0] + first.unpaired[1];
  return el("div", {},
    el("div", { class: "verdictline" },
      el("p", { class: "big" }, signed(first.difference[0])),
      el("p", { class: "soft" }, `A, ${table.a}, ${number(first.a)}; B, ${table.b}, ${number(first.b)}. 95 % interval of the difference ${range(first.difference, 2, signed)}, n = ${first.n}${isUnsure(first.difference) ? "; it includes 0" : ""}.`),
      left ? el("p", { class: "soft small" }, `${plural(left, "episode")} that only one side played are in no number here.`) : null),
    sortable({ columns, rows: table.lines, label: `Difference of ${table.a} and ${table.b}` }));
}

function matrix(tables, names, chosen) {
  const cell = (a, b) => {
    if (a === b) return el("span", { class: "cell none" }, "");
    const line = comparison(tables, a, b)?.lines[0];
    if (!line || line.difference[0] === null) return el("span", { class: "cell none" }, "·");
    const value = line.difference[0];
    const text = `${a} minus ${b}: ${signed(value)} ${range(line.difference, 2, signed)}, n = ${line.n}`;
    const unsure = isUnsure(line.difference);
    const vars = { "--v": unsure ? 0 : Math.min(1, Math.abs(value)), "--tone": value > 0 ? "var(--accent)" : "#c96a1c" };
    return el("button", { type: "button", class: `cell${unsure ? " none" : ""}`, vars, title: text, "aria-label": text, onclick: () => chosen(a, b) }, signed(value));
  };
  return el("div", { class: "wide" }, el("table", { class: "heat matrix", "aria-label": "Difference of every two policies" },
    el("caption", {}, "Row minus column; coloured where the interval leaves 0 out. A field shows its pair above."),
    el("thead", {}, el("tr", {}, el("td", {}), names.map((name) => el("th", { scope: "col", title: name }, el("span", {}, name))))),
    el("tbody", {}, names.map((a) => el("tr", {}, el("th", { scope: "row" }, a), names.map((b) => el("td", {}, cell(a, b))))))));
}

// Executors: one tone and one dash each.
const EXECUTORS = { sync: ["var(--accent)", ""], async: ["#d2691e", "5 3"], rtc: ["#2a9d76", "2 3"], ensemble: ["#8a63b8", "8 3 2 3"] };

function showTime(main, { query }) {
  const state = { clock: query.get("clock") === "steps" ? "steps" : "time" };
  const body = el("div", {});
  const controls = el("div", { class: "controls" });
  const draw = () => {
    controls.replaceChildren(choice("Count", [["time", "equal wall-clock time: waiting costs"], ["steps", "equal steps: waiting is free"]], state.clock,
      (clock) => { state.clock = clock; remember({ clock }); draw(); }));
    const used = unique(D.sweeps.flatMap((one) => one.points.map((point) => point.execution)));
    body.replaceChildren(
      el("ul", { class: "legend" }, used.map((name) => el("li", {}, el("i", { style: `background:${tone(name)}` }), name))),
      el("div", { class: "charts" }, D.sweeps.map((one) => sweepChart(one, state.clock))),
      el("h2", {}, "In numbers"), sweepTable(state.clock));
  };
  draw();
  main.replaceChildren(el("h1", {}, "What latency costs"),
    el("p", { class: "lead" }, "Mean progress against the latency of every answer, for each way to play chunks. Bands are 95 % intervals."), controls, body);
}

const tone = (name) => (EXECUTORS[name] || ["#777777"])[0];

function sweepChart(one, clock) {
  const [W, H, left, bottom] = [320, 190, 28, 24];
  const most = Math.max(...D.sweeps.flatMap((s) => s.points.map((p) => p.latency)), 0.1);
  const x = (latency) => left + ((W - left - 8) * latency) / most;
  const y = (value) => 8 + (H - bottom - 8) * (1 - value);
  const text = one.points.map((p) => `${p.execution}, ${p.latency} s: ${number(p[clock][0])}`).join("; ");
  const chart = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${one.policy}: ${text}` });
  for (const value of [0, 0.5, 1]) {
    chart.append(svg("line", { class: "axis", x1: left, x2: W - 8, y1: y(value), y2: y(value) }), svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  for (const share of [0, 0.5, 1]) chart.append(svg("text", { x: x(most * share), y: H - 6, "text-anchor": "middle" }, `${+(most * share).toFixed(2)}${share === 1 ? " s" : ""}`));
  if (one.own !== null && one.own <= most) chart.append(svg("line", { class: "stage", x1: x(one.own), x2: x(one.own), y1: y(1), y2: y(0) }));
  for (const name of unique(one.points.map((point) => point.execution))) {
    const points = one.points.filter((p) => p.execution === name && p[clock][0] !== null).sort((a, b) => a.latency - b.latency);
    if (!points.length) continue;
    const vars = { "--tone": tone(name) };
    const sure = points.filter((p) => p[clock][1] !== null);
    const edge = [...sure.map((p) => `${x(p.latency)},${y(p[clock][2])}`), ...[...sure].reverse().map((p) => `${x(p.latency)},${y(p[clock][1])}`)];
    chart.append(svg("polygon", { class: "band", points: edge.join(" "), vars }),
      svg("polyline", { class: "line", points: points.map((p) => `${x(p.latency)},${y(p[clock][0])}`).join(" "), "stroke-dasharray": (EXECUTORS[name] || ["", ""])[1], vars }),
      ...points.map((p) => svg("circle", { class: "dot", cx: x(p.latency), cy: y(p[clock][0]), r: 3.5, vars }, svg("title", {}, `${name}, ${p.latency} s: ${number(p[clock][0])} ${range(p[clock])}, n = ${p.n}`))));
  }
  return el("figure", {}, el("figcaption", {}, one.policy, one.own === null ? null : el("span", { class: "sub" }, `its own latency: ${number(one.own, 3)} s (dashed)`)), chart);
}

function sweepTable(clock) {
  const rows = D.sweeps.flatMap((one) => one.points.map((point) => ({ policy: one.policy, ...point })));
  const columns = [
    { key: "policy", label: "Policy", kind: "", first: true, cell: (r) => r.policy },
    { key: "execution", label: "Execution", kind: "", cell: (r) => r.execution },
    { key: "latency", label: "Latency", kind: "number", cell: (r) => `${number(r.latency)} s` },
    { key: "progress", label: "Progress", kind: "number", cell: (r) => meanCell(r[clock]) },
    { key: "n", label: "n", kind: "number", cell: (r) => count(r.n) },
    { key: "errors", label: "Errors", kind: "number", cell: (r) => count(r.errors) },
  ];
  return el("details", {}, el("summary", {}, plural(rows.length, "point")), sortable({ columns, rows, label: "Progress by latency" }));
}

function showAttribution(main) {
  const used = D.parts.filter((part) => D.attributions.some((one) => (one.parts[part.key]?.[0] ?? 0) > 0.0005));
  main.replaceChildren(
    el("h1", {}, "What lost the progress"),
    el("p", { class: "lead" }, "Every bar is the whole of what could be reached. What was lost is shared between video and action by four rollouts of the same episode (intervention, Shapley). The instrument may fail too, and says where."),
    D.attributions.length ? el("ul", { class: "legend" }, used.map((part) => el("li", {}, el("i", { style: `background:${part.colour}` }), part.label))) : "",
    el("div", { class: "bars" }, D.attributions.map((one) => bar(one, used))),
    ...(D.attributions.length ? [el("h2", {}, "In numbers"), attributionTable(used), el("h2", {}, "Verdicts of each definition"), verdictTable(), agreement(D.attributions.map((one) => ({ ...one, name: one.policy, split: one.split })))] : []),
    ...D.self_tests.flatMap(selfTest),
  );
}

function bar(one, used) {
  const shown = used.map((part) => ({ ...part, estimate: one.parts[part.key] })).filter((part) => part.estimate && part.estimate[0] > 0);
  const total = shown.reduce((sum, part) => sum + part.estimate[0], 0);
  const text = shown.map((part) => `${part.label} ${number(part.estimate[0])} ${range(part.estimate)}`).join("; ");
  return el("div", {},
    el("div", { class: "of" }, el("span", {}, el("b", {}, one.policy), el("span", { class: "soft" }, ` · ${one.split}`)),
      el("span", { class: "soft" }, `n = ${one.n}, rollouts for ${one.attributed} of ${plural(one.failed, "failure")}`)),
    el("div", { class: "stack", role: "img", "aria-label": text }, shown.map((part) =>
      el("span", { style: `width:${(100 * part.estimate[0]) / total}%;background:${part.colour};color:${inkOn(part.colour)}`, title: `${part.label}: ${number(part.estimate[0])} ${range(part.estimate)}` }, part.estimate[0] > 0.06 ? number(part.estimate[0]) : ""))));
}

// Black or white, whichever is read better on a colour #rrggbb.
function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.21 * r + 0.72 * g + 0.07 * b > 0.2 ? "#14161a" : "#ffffff";
}

function attributionTable(used) {
  const columns = [
    { key: "policy", label: "Policy", kind: "", first: true, cell: (r) => [r.policy, el("span", { class: "sub" }, r.split)] },
    ...used.map((part) => ({ key: part.key, label: part.label, kind: "number", cell: (r) => (r.parts[part.key] ? meanCell(r.parts[part.key]) : "–") })),
  ];
  return sortable({ columns, rows: D.attributions, label: "Progress reached and lost" });
}

function verdictTable() {
  const columns = [
    { key: "policy", label: "Policy", kind: "", look: "who", first: true, cell: (r) => [r.policy, el("span", { class: "sub" }, r.split)] },
    ...Object.entries(D.definitions).map(([key, name]) => ({ key, label: capital(name), kind: "",
      cell: (r) => Object.entries(r.verdicts[key]).map(([verdict, n]) => `${verdict} ${n}`).join(", ") || "–" })),
  ];
  return sortable({ columns, rows: D.attributions, label: "Verdicts" });
}

function agreement(ones) {
  const rows = ones.flatMap((one) => one.kappa.filter((k) => k.n).map((k) => ({ one, ...k })));
  if (!rows.length) return "";
  const columns = [
    { key: "policy", label: "Episodes of", kind: "", first: true, cell: (r) => [r.one.name, r.one.split ? el("span", { class: "sub" }, r.one.split) : null] },
    { key: "of", label: "Definitions", kind: "", cell: (r) => r.of.map((key) => D.definitions[key]).join(" and ") },
    { key: "kappa", label: "Cohen's kappa", kind: "number", cell: (r) => meanCell(r.kappa) },
    { key: "n", label: "n", kind: "number", cell: (r) => count(r.n) },
  ];
  return el("details", {}, el("summary", {}, "Do the definitions agree?"), sortable({ columns, rows, label: "Agreement" }));
}

function selfTest(test) {
  const keys = Object.keys(test.right);
  const columns = [
    { key: "fault", label: "Planted", kind: "", first: true, cell: (r) => [r.fault, el("span", { class: "sub" }, `right: ${r.truth}`)] },
    ...keys.map((key) => ({ key, label: `${D.definitions[key]}: right in ${number(test.right[key].share[0])} ${range(test.right[key].share)}, n = ${test.right[key].n}`, kind: "",
      cell: (r) => Object.entries(r.verdicts[key]).map(([verdict, n], i) => [i ? ", " : "", verdict === r.truth ? el("b", {}, `${verdict} ${n}`) : `${verdict} ${n}`]).flat() })),
  ];
  return [el("h2", {}, "Is the instrument right? Planted faults"),
    el("p", { class: "soft" }, "Policies built on the expert with one fault known by construction; right answers are bold."),
    sortable({ columns, rows: test.faults, label: "Self-test" }), agreement([{ ...test, split: "" }])];
}

function showAbout(main) {
  const versions = (run) => Object.entries(run.versions).filter(([name]) => ["wambench", "mujoco", "robosuite", "torch"].includes(name)).map(([name, v]) => `${name} ${v}`).join(", ");
  const columns = [
    { key: "name", label: "Run", kind: "", first: true, value: (r) => r.name, cell: (r) => [r.name, el("span", { class: "sub" }, r.policies.join(", "), " on ", r.splits.join(", "))] },
    { key: "n", label: "Episodes", kind: "number", value: (r) => r.n, cell: (r) => count(r.n) },
    { key: "errors", label: "Errors", kind: "number", value: (r) => r.errors, cell: (r) => count(r.errors) },
    { key: "weights", label: "Weights", kind: "", cell: (r) => [r.weights_hash || "none", r.corpus ? el("span", { class: "sub" }, `trained on ${r.corpus}`) : null] },
    { key: "made", label: "Made", kind: "", value: (r) => r.date || "", cell: (r) => [(r.date || "unknown").slice(0, 10), el("span", { class: "sub" }, versions(r), r.commit ? `, commit ${r.commit.slice(0, 10)}` : "")] },
    { key: "where", label: "Renderer, device", kind: "", off: true, cell: (r) => [r.renderer || "unknown", el("span", { class: "sub" }, r.device || "")] },
  ];
  const body = el("div", {});
  const draw = (sort, down) => body.replaceChildren(sortable({ columns, rows: D.runs, sort, down, sorted: draw, label: "Runs" }));
  draw("name", false);
  main.replaceChildren(el("h1", {}, "Where the numbers come from"),
    el("p", { class: "lead" }, `${plural(D.runs.length, "run")}, made into this page on ${D.date} by wambench ${D.version}.`),
    ...(D.notes.length ? [el("h2", {}, "What is left out here"), el("ul", {}, D.notes.map((note) => el("li", {}, note)))] : []),
    ...(D.runs.length ? [el("h2", {}, "Runs"), body] : []));
}
