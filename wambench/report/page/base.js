// What the views share: elements, numbers, the state in the address, tables and intervals.
// Text of the data is only ever put into text nodes and attributes, so that a name with "<" in it is a name.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const D = WAMBENCH;

// Returns an element. `given` are attributes; "on..." are listeners; null and false are left out; children are nodes or text.
function el(name, given = {}, ...children) {
  return fill(document.createElement(name), given, children);
}

function svg(name, given = {}, ...children) {
  return fill(document.createElementNS(SVG, name), given, children);
}

function fill(node, given, children) {
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "vars") for (const [name, v] of Object.entries(value)) node.style.setProperty(name, v);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const signed = (value, digits = 2) => (value === null ? "–" : (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits));
const range = ([, low, high], digits = 2, form = number) =>
  low === null ? "" : `[${form(low, digits)}, ${form(high, digits)}]`;
const count = (n) => n.toLocaleString("en");
const plural = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;
const task = (id) => id.replace(/-v\d+$/, "").replace(/([a-z])([A-Z])/g, "$1 $2");
const seconds = (step, hz) => `${(step / hz).toFixed(1)} s`;
const unique = (values) => [...new Set(values)];
const pValue = (p) => (p === null ? "–" : p < 0.0001 ? "< 0.0001" : p.toFixed(4));

// The address: #/view/rest?name=value. Filters replace the entry of the history, links add one.
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map((part) => decodeURIComponent(part));
  return { view: parts[0] || "", rest: parts.slice(1), query: new URLSearchParams(query) };
}

function address(view, rest = [], query = {}) {
  const words = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const path = [view, ...rest].map(encodeURIComponent).join("/");
  return `#/${path}${words.length ? `?${new URLSearchParams(words)}` : ""}`;
}

let shown = ""; // the name of the view on the screen, which an empty address does not tell

function remember(changes) {
  const { rest, query } = place();
  const now = { ...Object.fromEntries(query), ...changes };
  history.replaceState(null, "", address(shown, rest, now));
}

function say(text) {
  document.getElementById("said").textContent = text;
}

let fields = 0;

function field(label, input) {
  input.id = `field-${(fields += 1)}`;
  return el("div", { class: "field" }, el("label", { for: input.id }, label), input);
}

// A labelled choice. `options` are [value, label] pairs; one with a single option is not worth asking and is left out.
function choice(label, options, value, changed) {
  if (options.length < 2) return null;
  const select = el("select", { onchange: (event) => changed(event.target.value) });
  select.append(...options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)));
  return field(label, select);
}

function search(label, value, changed) {
  return field(label, el("input", { type: "search", value, oninput: (event) => changed(event.target.value) }));
}

// An interval on a scale from `from` to `to`; `unsure` greys a difference that includes nothing.
function interval(estimate, { from = 0, to = 1, unsure = false, form = number } = {}) {
  const [mean, low, high] = estimate;
  if (mean === null) return el("span", { class: "soft" }, "–");
  const at = (value) => 100 * Math.min(1, Math.max(0, (value - from) / (to - from)));
  const label = `${form(mean)}, 95 % interval ${low === null ? "unknown" : `${form(low)} to ${form(high)}`}`;
  const node = el("div", { class: `interval${unsure ? " unsure" : ""}`, role: "img", "aria-label": label, title: label });
  if (low !== null) node.append(el("i", { style: `left:${at(low)}%;width:${at(high) - at(low)}%` }));
  node.append(el("b", { style: `left:${at(mean)}%` }));
  return node;
}

const meanCell = (estimate, form = number) => [form(estimate[0]), " ", el("span", { class: "soft" }, range(estimate, 2, form))];

// A table that sorts by its columns: {key, label, cell(row), value(row), kind: "number" | "scale" | "", look, head, first}.
// Without `value` a column cannot be sorted by. The first column with `first` is the header of its row.
function sortable({ columns, rows, sort, down, sorted, caption, label }) {
  const chosen = columns.find((column) => column.key === sort && column.value);
  const ordered = chosen ? [...rows].sort((a, b) => order(chosen.value(a), chosen.value(b), down)) : rows;
  const head = columns.map((column) => {
    const on = chosen === column;
    const text = column.value
      ? el("button", { class: "sort", type: "button", onclick: () => sorted(column.key, on ? !down : column.kind !== "") }, column.label)
      : column.label;
    const state = on ? (down ? "descending" : "ascending") : null;
    return el("th", { scope: "col", class: classes(column), "aria-sort": state }, text, column.head || null);
  });
  const body = ordered.map((row, i) =>
    el("tr", {}, columns.map((column) =>
      el(column.first ? "th" : "td", { class: classes(column), scope: column.first ? "row" : null }, column.cell(row, i)))));
  return el("div", { class: "wide" },
    el("table", { "aria-label": label }, caption ? el("caption", {}, caption) : null,
      el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
}

function classes(column) {
  return [column.kind, column.look, column.off ? "phone-off" : ""].filter(Boolean).join(" ") || null;
}

// Orders numbers and texts; what is unknown stands last either way.
function order(a, b, down) {
  if (a === null || b === null) return (a === null) - (b === null);
  const by = typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return down ? -by : by;
}

const ticks = (...texts) => el("span", { class: "ticks", "aria-hidden": "true" }, texts.map((text) => el("span", {}, text)));
const recordings = (filter) => D.episodes.filter((e) => Object.entries(filter).every(([key, value]) => e[key] === value));
