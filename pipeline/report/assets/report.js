// The page of results: charts and the two tables that follow a choice.
"use strict";

const METHODS = Object.keys(data.methods);
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#b5579a", "#8c6d00", "#56a0d3", "#6b6b6b", "#a3413c"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "x", "pentagon"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash"];
const charts = [];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
// The method that is looked at has the first colour.
const RANKED = [data.method, ...METHODS.filter((method) => method !== data.method)];
const look = (method) => {
  const number = Math.max(0, RANKED.indexOf(method)), place = number % COLOURS.length;
  const round = Math.floor(number / COLOURS.length); // colours come again with other symbols and dashes
  return { color: COLOURS[place], symbol: SYMBOLS[(place + 3 * round) % SYMBOLS.length], dash: DASHES[(place + round) % DASHES.length] };
};
// Plotly reads a little markup in texts; a class may be named like it.
const narrow = matchMedia("(max-width: 46rem)");
const plain = (text, length = narrow.matches ? 16 : 34) => short(text, length).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const faint = (hex, opacity) => {
  const parts = [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  return `rgba(${parts.join(",")},${opacity})`;
};

/** Draw a chart now, and again when the colours of the page or a choice change. */
function chart(id, build) {
  const place = document.getElementById(id);
  if (!place) return () => {};
  const drawn = () => {
    const [traces, layout] = build();
    const height = parseInt(place.style.getPropertyValue("--height"), 10);
    Plotly.react(place, traces, styled(layout, height), { displayModeBar: false, responsive: true });
  };
  charts.push(drawn);
  drawn();
  return drawn;
}

function styled(layout, height) {
  const axis = { gridcolor: colour("line"), zerolinecolor: colour("muted"), linecolor: colour("line"), automargin: true };
  const own = { ...layout, xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis } };
  return {
    height, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { family: "system-ui, sans-serif", size: 13, color: colour("ink") },
    margin: { l: 10, r: 20, t: 14, b: 46 }, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal" },
    hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("muted"), font: { color: colour("ink") } },
    ...own,
  };
}

// --- Methods and pairs ---------------------------------------------------------------------------

function dots(rows, text) {
  return rows.map((row) => ({
    type: "scatter", mode: "markers", showlegend: false, x: [row.x], y: [data.methods[row.method]],
    error_x: { type: "data", symmetric: false, array: [row.high - row.x], arrayminus: [row.x - row.low],
      thickness: 2.5, width: 6, color: look(row.method).color },
    marker: { size: 12, color: look(row.method).color, symbol: look(row.method).symbol },
    hovertemplate: `%{y}: ${text(row)}<extra></extra>`,
  }));
}

chart("chart-methods", () => {
  const rows = data.accuracies.map((row) => (
    { method: row.method, x: 100 * row.top1, low: 100 * row.top1_ci_low, high: 100 * row.top1_ci_high }));
  const text = (row) => `${row.x.toFixed(2)} % (${row.low.toFixed(2)} to ${row.high.toFixed(2)})`;
  return [dots(rows, text), { xaxis: { title: { text: "top-1, %" } }, yaxis: { autorange: "reversed", type: "category" } }];
});

/** Differences from a method, whichever of the two a test names first. */
function differences(base) {
  return data.tests.filter((test) => test.a === base || test.b === base).map((test) => {
    const sign = test.b === base ? 1 : -1;
    const ends = [100 * sign * test.low, 100 * sign * test.high].sort((a, b) => a - b);
    return { method: sign > 0 ? test.a : test.b, x: 100 * sign * test.difference, low: ends[0], high: ends[1], p: test.p };
  });
}

const base = document.getElementById("base");
offer(base, Object.entries(data.methods), data.against);
const drawTests = chart("chart-tests", () => {
  const text = (row) => minus(`${row.x.toFixed(2)} points (${row.low.toFixed(2)} to ${row.high.toFixed(2)}), p ${row.p < 1e-4 ? "< 0.0001" : row.p.toFixed(4)}`);
  const zero = { type: "line", x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1, line: { color: colour("muted"), width: 1.5 } };
  const axis = { title: { text: `points of top-1 more than ${data.methods[base.value]}` }, zeroline: false };
  return [dots(differences(base.value), text), { shapes: [zero], xaxis: axis, yaxis: { autorange: "reversed", type: "category" } }];
});
base.addEventListener("change", drawTests);

// --- Classes -------------------------------------------------------------------------------------

const [gainA, gainB] = ["gain-a", "gain-b"].map((id) => document.getElementById(id));
offer(gainA, Object.entries(data.methods), data.method);
offer(gainB, Object.entries(data.methods), data.against);
const EACH = 12;
const gain = (i) => data.classes.top1[gainA.value][i] - data.classes.top1[gainB.value][i];

const drawGains = chart("chart-gains", () => {
  const order = data.classes.labels.map((_, i) => i).filter((i) => Math.abs(gain(i)) > 1e-9).sort((a, b) => gain(b) - gain(a));
  const shown = order.length > 2 * EACH ? [...order.slice(0, EACH), ...order.slice(-EACH)] : order;
  // Names may be equal, so a bar is placed by its number.
  const bar = {
    type: "bar", orientation: "h", x: shown.map((i) => 100 * gain(i)), y: shown.map((_, n) => n), width: Math.min(0.75, (shown.length + 1) / 12),
    marker: { color: shown.map((i) => colour(gain(i) > 0 ? "for" : "against")), pattern: { shape: shown.map((i) => (gain(i) > 0 ? "" : "/")), fillmode: "overlay", fgcolor: colour("page"), fgopacity: 0.5 } },
    customdata: shown.map((i) => [plain(data.classes.names[i]), data.classes.images[i]]),
    hovertemplate: "%{customdata[0]}: %{x:+.2f} points, %{customdata[1]} images<extra></extra>",
  };
  const names = { tickmode: "array", tickvals: shown.map((_, n) => n), ticktext: shown.map((i) => plain(data.classes.names[i])), autorange: "reversed", zeroline: false, showgrid: false };
  const none = shown.length ? [] : [{ text: "no class differs", showarrow: false, font: { size: 16 } }];
  return [[bar], { annotations: none, xaxis: { title: { text: `points of ${data.methods[gainA.value]} more than ${data.methods[gainB.value]}` } }, yaxis: names }];
});

/** Name a class; as a link to its crops if images of it are shown. */
function crops(label, name) {
  if (!data.shown.includes(label)) return words(name);
  return make("a", { href: `crops.html#class=${label}` }, words(name));
}

const table = document.getElementById("class-table");
const search = document.getElementById("class-search");
const ROWS = 300;
let sorted = { by: "gain", down: true };
const cells = () => [
  ["name", "Class", (i) => data.classes.names[i], words, (i) => crops(data.classes.labels[i], data.classes.names[i])],
  ["images", "Images", (i) => data.classes.images[i], whole],
  ...METHODS.map((m) => [m, `${data.methods[m]} %`, (i) => data.classes.top1[m][i], (v) => percent(v, 1)]),
  ["gain", `${data.methods[gainA.value]} − ${data.methods[gainB.value]}`, gain, (v) => points(v)],
];

function drawClasses() {
  const columns = cells();
  const value = (columns.find((column) => column[0] === sorted.by) || columns[0])[2];
  const wanted = search.value.trim().toLowerCase();
  const found = data.classes.labels.map((_, i) => i).filter((i) => data.classes.names[i].toLowerCase().includes(wanted));
  found.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : a - b) * (sorted.down ? -1 : 1));
  table.tHead.rows[0].replaceChildren(...columns.map(([id, title]) => heading(id, title)));
  table.tBodies[0].replaceChildren(...found.slice(0, ROWS).map((i) => make("tr", {}, ...columns.map(([id, , of, write, shown]) => (
    id === "name" ? make("th", { scope: "row" }, shown(i)) : make("td", {}, write(of(i))))))));
  const all = found.length > ROWS ? `, the first ${ROWS} are listed` : "";
  document.getElementById("class-count").textContent = `${whole(found.length)} of ${whole(data.classes.labels.length)} classes${all}`;
}

function heading(id, title) {
  const direction = sorted.by === id ? (sorted.down ? "descending" : "ascending") : null;
  const mark = { descending: " ↓", ascending: " ↑" }[direction] || "";
  const sort = () => {
    sorted = { by: id, down: sorted.by === id ? !sorted.down : id !== "name" };
    drawClasses();
    table.tHead.querySelector(`[data-by="${CSS.escape(id)}"]`).focus();
  };
  return make("th", { scope: "col", "aria-sort": direction }, make("button", { type: "button", onclick: sort, "data-by": id }, title + mark));
}

search.addEventListener("input", drawClasses);
for (const select of [gainA, gainB]) select.addEventListener("change", () => { drawGains(); drawClasses(); });
drawClasses();

// --- Calibration ---------------------------------------------------------------------------------

chart("chart-calibration", () => {
  const diagonal = { x: [0, 100], y: [0, 100], mode: "lines", line: { color: colour("muted"), dash: "dot", width: 1.5 }, name: "calibrated", hoverinfo: "skip" };
  const lines = METHODS.map((method) => {
    const bins = data.calibration[method];
    return {
      name: data.methods[method], mode: "lines+markers", x: bins.map((b) => 100 * b.confidence), y: bins.map((b) => 100 * b.top1),
      line: { color: look(method).color, dash: look(method).dash, width: method === data.method ? 3.5 : 1.8 },
      marker: { symbol: look(method).symbol, size: 8 }, customdata: bins.map((b) => [b.images, 100 * b.low, 100 * b.high]),
      hovertemplate: "%{fullData.name}: %{y:.1f} % right at %{x:.1f} % confidence<br>%{customdata[0]} images (%{customdata[1]:.1f} to %{customdata[2]:.1f})<extra></extra>",
    };
  });
  return [[diagonal, ...lines], { xaxis: { title: { text: "confidence, %" }, range: [0, 100] }, yaxis: { title: { text: "top-1, %" }, range: [0, 100] } }];
});

// --- Confusion -----------------------------------------------------------------------------------

const confusionOf = document.getElementById("confusion-method");
offer(confusionOf, Object.entries(data.methods), data.method);
const drawConfusion = chart("chart-confusion", () => {
  const found = data.confusions[confusionOf.value];
  const names = found.labels.map((label) => plain(data.names[label]));
  const shares = found.matrix.map((row, i) => row.map((count) => 100 * count / Math.max(1, found.of[i])));
  const places = names.map((_, i) => i);
  const shown = shares.map((row) => row.map((share) => (share >= 0.5 ? Math.round(share) : "")));
  const scale = [[0, colour("page")], [1, colour("for")]];
  const heat = {
    type: "heatmap", z: shares, x: places, y: places, zmin: 0, zmax: 100, colorscale: scale, showscale: false, xgap: 1, ygap: 1,
    text: shown, texttemplate: "%{text}", customdata: found.matrix.map((row, i) => row.map((count, j) => [names[i], names[j], count])),
    hovertemplate: "%{customdata[0]} as %{customdata[1]}: %{customdata[2]} images, %{z:.1f} %<extra></extra>",
  };
  const axis = { tickmode: "array", tickvals: places, ticktext: names, showgrid: false, zeroline: false };
  const none = names.length ? [] : [{ text: "no image is confused", showarrow: false, font: { size: 16 } }];
  return [[heat], { annotations: none, xaxis: { ...axis, title: { text: "predicted" }, tickangle: -40 }, yaxis: { ...axis, autorange: "reversed" } }];
});

function drawPairs() {
  const rows = data.confusions[confusionOf.value].pairs.map((pair) => make("tr", {},
    make("th", { scope: "row" }, crops(pair.label, data.names[pair.label])), make("td", { class: "text" }, words(data.names[pair.pred])),
    make("td", {}, whole(pair.images)), make("td", {}, percent(pair.images / pair.of, 1))));
  document.getElementById("confusion-table").tBodies[0].replaceChildren(...rows);
}
confusionOf.addEventListener("change", () => { drawConfusion(); drawPairs(); });
drawPairs();

// --- Lines over a setting ------------------------------------------------------------------------

chart("chart-crops", () => {
  const lines = data.curves.map(({ method, points: at }) => ({
    name: data.methods[method], mode: "lines+markers", x: at.map((p) => p.n), y: at.map((p) => 100 * p.top1),
    error_y: { type: "data", symmetric: false, array: at.map((p) => 100 * (p.high - p.top1)), arrayminus: at.map((p) => 100 * (p.top1 - p.low)), color: look(method).color, thickness: 1.5 },
    line: { color: look(method).color, dash: look(method).dash, width: 3 }, marker: { symbol: look(method).symbol, size: 9 },
    hovertemplate: "%{fullData.name}, N = %{x}: %{y:.2f} %<extra></extra>",
  }));
  const all = [...new Set(data.curves.flatMap(({ points: at }) => at.map((p) => p.n)))];
  return [lines, { showlegend: true, xaxis: { type: "log", title: { text: "N, crops of a branch" }, tickvals: all }, yaxis: { title: { text: "top-1, %" } } }];
});

const MARKED = 9; // values of a setting that the axis names, if there are no more

data.settled.forEach(({ rows }, number) => chart(`chart-settled-${number}`, () => {
  const parts = [["right", "for", "", (row) => Math.round(row.images * row.top1)], ["wrong", "against", "/", (row) => row.images - Math.round(row.images * row.top1)]];
  const bars = parts.map(([name, color, shape, of]) => ({
    type: "bar", name, x: rows.map((row) => String(row.crops)), y: rows.map(of), marker: { color: colour(color), pattern: { shape, fillmode: "overlay", fgcolor: colour("page"), fgopacity: 0.5 } },
    hovertemplate: "%{y} images %{fullData.name} after %{x} crops<extra></extra>",
  }));
  return [bars, { barmode: "stack", xaxis: { type: "category", title: { text: "crops taken" } }, yaxis: { title: { text: "images" } } }];
}));

data.sweeps.forEach((sweep, number) => chart(`chart-sweep-${number}`, () => {
  const seen = new Map();
  const traces = sweep.lines.flatMap((line) => {
    const { color, symbol } = look(line.method);
    const turn = seen.get(line.method) || 0;
    seen.set(line.method, turn + 1);
    const name = data.methods[line.method] || line.method;
    const y = line.top1.map((value) => 100 * value);
    const sigma = line.sigma.map((value) => 100 * (value || 0));
    const group = `${line.method} ${line.with}`;
    const band = {
      x: [...line.x, ...line.x.slice().reverse()], y: [...y.map((v, i) => v + sigma[i]), ...y.map((v, i) => v - sigma[i]).reverse()],
      fill: "toself", fillcolor: faint(color, 0.16), line: { width: 0 }, mode: "lines", hoverinfo: "skip", showlegend: false, legendgroup: group,
    };
    const middle = {
      x: line.x, y, mode: "lines+markers", name: plain(line.with ? `${name}, ${line.with}` : name), legendgroup: group,
      line: { color, dash: DASHES[turn % DASHES.length], width: 2.5 }, marker: { symbol, size: 8 },
      text: line.x.map((x, i) => plain(`${y[i].toFixed(2)} %${line.seeds > 1 ? ` ± ${sigma[i].toFixed(2)}` : ""} at ${x}${line.crops[i] === null ? "" : `, ${line.crops[i].toFixed(1)} crops an image`}`, 80)),
      hovertemplate: "%{fullData.name}: %{text}<extra></extra>",
    };
    return line.seeds > 1 ? [band, middle] : [middle];
  });
  const values = [...new Set(sweep.lines.flatMap((line) => line.x))];
  const ticks = sweep.axis !== "category" && values.length <= MARKED ? { tickvals: values } : {};
  return [traces, { showlegend: true, xaxis: { type: sweep.axis, ...ticks, title: { text: sweep.over } }, yaxis: { title: { text: "top-1, %" } } }];
}));

// --- Time ----------------------------------------------------------------------------------------

chart("chart-time", () => {
  const parts = [["read", "#8a8f98", "/"], ["compute", "#0072b2", ""], ["write", "#d55e00", "x"]];
  const bars = parts.map(([part, color, shape]) => ({
    type: "bar", orientation: "h", name: part, x: data.seconds.map((row) => row[part]), y: data.seconds.map((row) => row.stage),
    marker: { color, pattern: { shape, fillmode: "overlay", fgcolor: colour("page"), fgopacity: 0.5 } }, hovertemplate: "%{y}, %{fullData.name}: %{x:.1f} s<extra></extra>",
  }));
  return [bars, { barmode: "stack", xaxis: { title: { text: "seconds of all units" } }, yaxis: { autorange: "reversed", type: "category" } }];
});

for (const query of [narrow, matchMedia("(prefers-color-scheme: dark)")]) {
  query.addEventListener("change", () => charts.forEach((drawn) => drawn()));
}
