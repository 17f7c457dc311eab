// The page of crops. What is shown follows from the address: #image=7&crop=raw-3&group=errors.
"use strict";

const STRONGEST = 4;
const layers = { attention: true, raw: true, feature: true, all: false };
const gallery = document.getElementById("gallery");
const detail = document.getElementById("detail");
const main = document.getElementById("main");
const controls = Object.fromEntries(["search", "group", "class"].map((id) => [id, document.getElementById(id)]));
const narrow = matchMedia("(max-width: 46rem)");
const PREFIX = { image: "the image", raw: "raw", feature: "feature", squares: "square" };
const nameOf = (label) => data.names[label] ?? `class ${label}`;

// --- Address -------------------------------------------------------------------------------------

const asked = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

function address(change) {
  const wanted = { ...asked(), ...change };
  const kept = Object.entries(wanted).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return `#${new URLSearchParams(kept)}`;
}

/** Change the address in place: a crop or a filter is no step of the way back. */
function settle(change) {
  history.replaceState(null, "", address(change));
  render();
}

function go(change) {
  location.hash = address(change);
}

// --- Found images --------------------------------------------------------------------------------

function found() {
  const { search = "", group = "", class: label = "" } = asked();
  const wanted = search.trim().toLowerCase();
  return data.entries.filter((entry) => (
    (!group || entry.groups.includes(group) || group === (entry.correct ? "right" : "wrong"))
    && (label === "" || entry.label === Number(label))
    && (!wanted || [entry.id, nameOf(entry.label), nameOf(entry.pred)].some((text) => text.toLowerCase().includes(wanted)))));
}

function opened() {
  const { image } = asked();
  const entry = data.entries.find((each) => String(each.row) === image || each.id === image);
  return entry || (narrow.matches && data.entries.length > 1 ? undefined : found()[0]);
}

function offerFilters() {
  const groups = Object.entries(data.groups).map(([id, text]) => [id, text[0].toUpperCase() + text.slice(1)]);
  offer(controls.group, [["", "All"], ...groups, ["wrong", "Wrong"], ["right", "Right"]]);
  const labels = [...new Set(data.entries.map((entry) => entry.label))];
  labels.sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
  offer(controls.class, [["", "All"], ...labels.map((label) => [String(label), nameOf(label)])]);
  for (const [id, control] of Object.entries(controls)) {
    control.addEventListener(id === "search" ? "input" : "change", () => settle({ [id]: control.value, crop: null }));
  }
}

function drawGallery(current) {
  const entries = found();
  document.getElementById("count").textContent = `${entries.length} of ${data.entries.length} images`;
  gallery.replaceChildren(...entries.map((entry) => make("li", {}, make("a",
    { href: address({ image: entry.row, crop: null }), "aria-current": entry === current ? "true" : null },
    small(entry),
    make("span", {}, make("strong", {}, words(nameOf(entry.label))),
      make("small", {}, entry.correct ? "✓ right" : "✗ as ", entry.correct ? null : words(nameOf(entry.pred))))))));
  const chosen = gallery.querySelector("[aria-current]");
  if (chosen) reveal(chosen);
}

/** Scroll the list, and not the page, until one of its images is in sight. */
function reveal(chosen) {
  const [box, list] = [chosen.getBoundingClientRect(), gallery.getBoundingClientRect()];
  if (box.top < list.top) gallery.scrollTop -= list.top - box.top;
  else if (box.bottom > list.bottom) gallery.scrollTop += box.bottom - list.bottom;
}

function small(entry) {
  if (entry.picture.file) return make("img", { src: entry.picture.file, alt: "", loading: "lazy" });
  return make("span", { class: "gone" }, "no image");
}

// --- One image -----------------------------------------------------------------------------------

/** Every crop with its name, how much it moved the decision, and where it lies in the image. */
function cropsOf(entry) {
  return Object.entries(entry.branches).flatMap(([branch, { crops }]) => (crops || []).map((crop, place) => ({
    ...crop, branch, id: `${branch}-${place + 1}`, name: branch === "image" ? PREFIX.image : `${PREFIX[branch] || branch} ${place + 1}`,
    moved: crop.added[0] - (crop.added[1] ?? 0), at: inImage(entry, crop),
  })));
}

/** The box of a crop in pixels of the image; tokens lie where CLIP's own view of it does. */
function inImage(entry, { space, box }) {
  if (space !== "tokens") return box;
  if (!entry.seen) return null;
  const [left, top, right, bottom] = entry.seen;
  const size = [(right - left) / data.tokens, (bottom - top) / data.tokens];
  return box.map((end, i) => [left, top][i % 2] + end * size[i % 2]);
}

function drawDetail(entry) {
  document.body.classList.toggle("opened", Boolean(entry));
  if (!entry) {
    detail.replaceChildren(make("p", { class: "hint" }, "No image is found. Change the search or the filters."));
    return;
  }
  const crops = cropsOf(entry);
  const crop = crops.find((each) => each.id === asked().crop);
  detail.replaceChildren(
    make("a", { class: "back", href: address({ image: null, crop: null }) }, "← All images"),
    make("p", { class: "path" }, words(entry.id)),
    make("h1", {}, words(nameOf(entry.label))),
    verdict(entry),
    make("div", { class: "columns" },
      make("figure", {}, stage(entry, crops, crop), choices(entry), crops.length ? legend() : null, caption(entry)),
      make("div", { class: "beside" }, ...panels(entry, crops, crop)),
      scores(entry)));
  document.title = `${nameOf(entry.label)}: crops`;
}

function verdict(entry) {
  const mine = entry.methods[data.method];
  const said = entry.correct ? "✓ right" : "✗ wrong";
  return make("p", { class: "verdict" },
    make("span", { class: `tag ${entry.correct ? "right" : "wrong"}` }, `${data.methods[data.method]}: ${said}`),
    make("span", {}, "predicted ", make("strong", {}, words(nameOf(entry.pred))), ` at ${percent(mine.confidence, 1)} %`),
    entry.correct ? null : make("span", {}, `the label is no. ${mine.rank}`),
    entry.settled ? make("span", {}, settledAfter(entry.settled)) : null,
    ...entry.groups.map((group) => make("span", { class: "tag plain" }, data.groups[group])));
}

function settledAfter({ used, of, bound }) {
  if (used === of) return `took all ${of} crops`;
  return `settled after ${used} of ${of} crops (bound ${bound})`;
}

// --- The picture ---------------------------------------------------------------------------------

function stage(entry, crops, crop) {
  const { width, height } = entry;
  if (!entry.picture.file) {
    return make("div", { class: "stage" }, make("p", { class: "gone-box" }, "The image is not shown: ", words(entry.picture.gone)));
  }
  const unit = Math.max(width, height) / 480;
  const text = `${entry.id}, with ${layers.attention ? "its attention map and " : ""}the crops that moved the decision most`;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": text },
    draw("image", { href: entry.picture.file, width, height, preserveAspectRatio: "none" }));
  if (layers.attention && entry.attention) svg.append(veil(entry));
  if (layers.feature && entry.seen && crops.some((each) => each.space === "tokens")) svg.append(view(entry, unit));
  svg.append(...boxes(shown(crops, crop), crop, unit));
  return make("div", { class: "stage" }, svg);
}

/** Darken each patch by the attention that it lacks. */
function veil(entry) {
  const rows = entry.attention.length;
  const [width, height] = [entry.width / entry.attention[0].length, entry.height / rows];
  return draw("g", { id: "attention", "shape-rendering": "crispEdges" }, ...entry.attention.flatMap((row, y) => row.map((value, x) => (
    draw("rect", { x: x * width, y: y * height, width, height, "fill-opacity": (0.6 * (1 - value / 255)).toFixed(3) })))));
}

/** Frame what CLIP sees of the image. */
function view(entry, unit) {
  const [left, top, right, bottom] = entry.seen;
  const around = `M0 0H${entry.width}V${entry.height}H0Z`;
  const inside = `M${left} ${top}H${right}V${bottom}H${left}Z`;
  return draw("g", { id: "view" },
    draw("path", { d: around + inside, "fill-rule": "evenodd", fill: "#fff", "fill-opacity": 0.45 }),
    draw("path", { d: inside, fill: "none", stroke: "#fff", "stroke-width": 2.5 * unit }),
    draw("path", { d: inside, fill: "none", stroke: "#000", "stroke-width": 1.2 * unit, "stroke-dasharray": `${unit} ${3 * unit}` }));
}

/** The crops that are drawn: the strongest of each branch, or all; the chosen one always. */
function shown(crops, crop) {
  const count = {};
  return crops.filter((each) => {
    if (!each.at || each.branch === "image") return false;
    count[each.branch] = (count[each.branch] || 0) + 1;
    const on = layers[each.branch === "feature" ? "feature" : "raw"];
    return each.id === crop?.id || (on && (layers.all || count[each.branch] <= STRONGEST));
  }).sort((a, b) => area(b.at) - area(a.at));
}

const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);

function boxes(crops, chosen, unit) {
  const most = Math.max(...crops.map((each) => Math.abs(each.moved)), 1e-12);
  const order = chosen ? [...crops.filter((each) => each.id !== chosen.id), ...crops.filter((each) => each.id === chosen.id)] : crops;
  return order.map((each) => {
    const [left, top, right, bottom] = each.at;
    const strength = Math.abs(each.moved) / most;
    const on = each.id === chosen?.id;
    const color = each.moved >= 0 ? "#2f9bff" : "#ff7a1f";
    const place = { x: left, y: top, width: right - left, height: bottom - top, rx: each.space === "tokens" ? 12 * unit : 0 };
    const dashes = each.moved >= 0 ? null : `${7 * unit} ${4 * unit}`;
    const faded = chosen && !on ? 0.35 : 1;
    return draw("g", { class: "hit", "data-crop": each.id, opacity: faded, onclick: () => settle({ crop: each.id }) },
      draw("title", {}, `${each.name}: ${signed(each.moved)}`),
      draw("rect", { ...place, fill: color, "fill-opacity": (on || !chosen ? 0.02 + 0.13 * strength : 0).toFixed(3), stroke: "#000", "stroke-opacity": 0.55, "stroke-width": (on ? 6 : 1.6 + 2.4 * strength) * unit }),
      draw("rect", { ...place, fill: "none", stroke: color, "stroke-width": (on ? 4 : 0.8 + 2 * strength) * unit, "stroke-dasharray": dashes }));
  });
}

function choices(entry) {
  const tokens = Object.values(entry.branches).some(({ crops }) => (crops || []).some((crop) => crop.space === "tokens"));
  const pixels = Object.entries(entry.branches).some(([branch, { crops }]) => branch !== "image" && (crops || []).some((crop) => crop.space !== "tokens"));
  const offered = [
    ["attention", "Attention", Boolean(entry.attention)], ["raw", "Boxes in the image", pixels],
    ["feature", "Windows of tokens", tokens && Boolean(entry.seen)], ["all", `All, not only the strongest ${STRONGEST}`, pixels || tokens],
  ].filter(([, , there]) => there);
  return make("fieldset", { class: "layers", "aria-label": "Layers of the picture" }, ...offered.map(([id, text]) => make("label", {},
    make("input", { type: "checkbox", checked: layers[id], "data-layer": id, onchange: (event) => { layers[id] = event.target.checked; render(); refocus(`[data-layer=${id}]`); } }), text)));
}

function legend() {
  const line = (color, dashes) => draw("svg", { viewBox: "0 0 28 14", "aria-hidden": "true" },
    draw("rect", { x: 2, y: 2, width: 24, height: 10, fill: color, "fill-opacity": 0.2, stroke: color, "stroke-width": 2, "stroke-dasharray": dashes }));
  return make("p", { class: "legend" },
    make("span", {}, line("#2f9bff"), "for the prediction"),
    make("span", {}, line("#ff7a1f", "5 3"), "for the rival"),
    make("span", {}, "the stronger, the thicker"));
}

function caption(entry) {
  const parts = [];
  if (entry.attention) parts.push(`Bright patches have the attention of ${data.attention}. `);
  const tokens = Object.values(entry.branches).some(({ crops }) => (crops || []).some((crop) => crop.space === "tokens"));
  if (tokens && entry.seen) parts.push("The dotted frame is what CLIP sees of the image; windows of tokens (round corners) lie in it. ");
  else if (tokens) {
    parts.push("Windows of tokens are not drawn: the model is not known on the machine of the report, nor what it sees of an image. ");
  }
  return make("figcaption", {}, ...parts);
}

// --- Crops and descriptions ----------------------------------------------------------------------

function panels(entry, crops, crop) {
  if (entry.unexplained !== undefined) {
    return [make("div", { class: "panel" }, make("h2", {}, "Crops"), make("p", {}, words(entry.unexplained)))];
  }
  const panel = [moved(entry, crops, crop)];
  const looked = crop || crops[0];
  return looked ? [...panel, matched(entry, looked, Boolean(crop))] : panel;
}

function moved(entry, crops, crop) {
  const order = [...crops].sort((a, b) => Math.abs(b.moved) - Math.abs(a.moved));
  const most = Math.max(...order.map((each) => Math.abs(each.moved)), 1e-12);
  const total = crops.reduce((sum, each) => sum + each.moved, 0);
  const rival = entry.rival === null ? null : make("strong", {}, words(nameOf(entry.rival)));
  return make("section", { class: "panel", "aria-labelledby": "moved" },
    make("h2", { id: "moved" }, "What moved the decision"),
    make("p", { class: "hint" }, make("strong", {}, words(nameOf(entry.pred))), rival ? " over " : "", rival,
      `: ${signed(total)}, the sum of ${crops.length} distinct crops.`),
    make("ul", { class: "crop-list" }, ...order.map((each) => make("li", {}, make("button",
      { type: "button", "aria-pressed": String(each.id === crop?.id), "data-crop": each.id, onclick: () => { settle({ crop: each.id }); refocus(`button[data-crop="${each.id}"]`); } },
      make("span", {}, each.name + (each.count > 1 ? ` ×${each.count}` : "")), bar(each.moved / most), make("span", { class: "number" }, signed(each.moved)))))));
}

function bar(share) {
  const length = `width: ${(100 * Math.abs(share)).toFixed(1)}%`;
  return make("span", { class: "bar", "aria-hidden": "true" },
    make("span", { class: "less" }, share < 0 ? make("i", { style: length }) : null),
    make("span", { class: "plus" }, share >= 0 ? make("i", { style: length }) : null));
}

function matched(entry, crop, chosen) {
  const added = crop.texts.map(([number, weight, cosine, contribution]) => {
    const [label, text] = data.texts[number];
    const sign = label === entry.pred ? " · prediction" : label === entry.label ? " · label" : label === entry.rival ? " · rival" : "";
    return make("li", {}, words(text), make("small", {}, words(nameOf(label)), `${sign} · adds ${figure(contribution)} = weight ${figure(weight)} × cosine ${figure(cosine)}`));
  });
  return make("section", { class: "panel", "aria-labelledby": "matched" },
    make("h2", { id: "matched" }, `What ${crop.name} saw`, chosen ? "" : " (the strongest)"),
    make("div", { class: "saw" }, saw(entry, crop),
      make("div", {}, make("p", { class: "hint" }, explained(crop)), make("ol", { class: "matched" }, ...added))));
}

function explained(crop) {
  const times = crop.count === 1 ? "" : ` It counts ${crop.count} times.`;
  if (crop.space === "tokens") {
    return `A window of ${crop.box[2] - crop.box[0]} × ${crop.box[3] - crop.box[1]} of ${data.tokens ?? "?"} × ${data.tokens ?? "?"} tokens, stretched to the whole grid; tokens know what lies around them.${times}${prompted("feature")}`;
  }
  if (crop.branch === "image") return `The whole image, as CLIP's preprocessing shows it.${times}`;
  return `A box of ${Math.round(crop.box[2] - crop.box[0])} × ${Math.round(crop.box[3] - crop.box[1])} pixels, as CLIP's preprocessing shows it.${times}${prompted("raw")}`;
}

const prompted = (kind) => (data.prompts[kind] === "crop" ? "" : ` It was shown by the prompt ${data.prompts[kind]}, not cut out.`);

/** What a crop shows CLIP: a box goes through its preprocessing, a window is stretched. */
function saw(entry, crop) {
  if (!entry.picture.file || !crop.at) return make("p", { class: "hint" }, "No picture of it.");
  const [left, top, right, bottom] = crop.at;
  const fit = crop.space === "tokens" ? "none" : { shortest: "xMidYMid slice", longest: "xMidYMid meet", squash: "none" }[data.mode];
  return draw("svg", { viewBox: `${left} ${top} ${right - left} ${bottom - top}`, preserveAspectRatio: fit, role: "img", "aria-label": `What ${crop.name} shows` },
    draw("image", { href: entry.picture.file, width: entry.width, height: entry.height, preserveAspectRatio: "none" }));
}

// --- Scores --------------------------------------------------------------------------------------

function scores(entry) {
  const branches = Object.keys(entry.branches).filter((name) => Object.keys(entry.branches).length > 1);
  const others = Object.keys(data.methods).filter((name) => name !== data.method);
  const head = ["Class", ...branches.map((name) => `${name} crops`), data.methods[data.method], ...others.map((name) => data.methods[name])];
  const rows = entry.classes.map((label, i) => make("tr", { class: label === entry.label ? "mine" : null },
    make("th", { scope: "row" }, words(nameOf(label)), ...roles(entry, label)),
    ...branches.map((name) => make("td", {}, figure(entry.branches[name].sums[i]))),
    ...[data.method, ...others].map((name) => make("td", {}, figure(entry.scores[name][i])))));
  const predicted = make("tr", {}, make("th", { scope: "row" }, "predicted"), ...branches.map(() => make("td", {})),
    ...[data.method, ...others].map((name) => make("td", { class: "name" }, `${entry.methods[name].correct ? "✓" : "✗"} `, words(nameOf(entry.methods[name].pred)))));
  return make("section", { "aria-labelledby": "scores" }, make("h2", { id: "scores" }, "Scores of classes"),
    make("p", { class: "hint" }, "Scores of different methods have different scales; compare within a column."),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of scores" }, make("table", {},
      make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))), make("tbody", {}, ...rows, predicted))));
}

function roles(entry, label) {
  const said = [label === entry.label ? "label" : null, label === entry.pred ? "prediction" : null].filter(Boolean);
  return said.length ? [make("small", {}, ` (${said.join(", ")})`)] : [];
}

function figure(value) {
  const size = Math.abs(value);
  const digits = size === 0 ? 0 : size >= 100 ? 1 : size >= 0.1 ? 3 : 5;
  return minus(value.toFixed(digits));
}
const signed = (value) => (value > 0 ? "+" : "") + figure(value);

// --- Keys ----------------------------------------------------------------------------------------

const refocus = (selector) => detail.querySelector(selector)?.focus({ preventScroll: true });

function step(by) {
  const entries = found();
  const place = entries.indexOf(opened());
  const next = entries[Math.min(Math.max(place + by, 0), entries.length - 1)];
  if (next && next !== opened()) go({ image: next.row, crop: null });
}

function stepCrop(by) {
  const buttons = [...detail.querySelectorAll("button[data-crop]")];
  const place = buttons.findIndex((button) => button.getAttribute("aria-pressed") === "true");
  const next = buttons[Math.min(Math.max(place + by, 0), buttons.length - 1)];
  if (next) next.click();
}

function layer(id) {
  layers[id] = !layers[id];
  render();
}

const KEYS = {
  ArrowRight: () => step(1), ArrowLeft: () => step(-1), ArrowDown: () => stepCrop(1), ArrowUp: () => stepCrop(-1),
  "/": () => controls.search.focus(), 1: () => layer("attention"), 2: () => layer("raw"), 3: () => layer("feature"),
  Escape: () => (asked().crop ? settle({ crop: null }) : go({ image: null })),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input:not([type=checkbox]), select");
  if (typing && event.key === "Escape") event.target.blur();
  if (typing || event.target.closest(".scroll") || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

// --- Drawing -------------------------------------------------------------------------------------

let last;
function render() {
  const state = asked();
  for (const [id, control] of Object.entries(controls)) {
    if (control.value !== (state[id] || "")) control.value = state[id] || "";
  }
  const scrolled = detail.querySelector(".crop-list")?.scrollTop || 0;
  const entry = opened();
  drawGallery(entry);
  drawDetail(entry);
  const list = detail.querySelector(".crop-list");
  if (list && entry === last) list.scrollTop = scrolled;
  if (entry !== last && last !== undefined) window.scrollTo(0, 0);
  last = entry;
}

offerFilters();
addEventListener("hashchange", render);
narrow.addEventListener("change", render);
render();
