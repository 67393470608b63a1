"use strict";
// Whatever comes from the daemon is put into the page as text (textContent) and never as markup; the page's policy forbids the latter.
const find = id => document.getElementById(id);
const StatusMilliseconds = 2000, HistoryMilliseconds = 5000, MapMilliseconds = 5000, FramesMilliseconds = 10000;
const RowsMax = 500, AreasMax = 100, Cells = 8192, Columns = 128, CellSize = 8, Skip = 5, Day = 86400;

// The token stands behind the '#' of the address, which is never sent. It is kept for this tab, by this origin, its port included, and taken out of the address.
const Kept = "samepage-token";
let token = sessionStorage.getItem(Kept) ?? "";
function takeToken() {
  if (location.hash.length > 1) {
    token = location.hash.slice(1);
    sessionStorage.setItem(Kept, token);
    history.replaceState(null, "", location.pathname);
  }
}

class Refused extends Error {
  constructor(status, why) { super(why); this.status = status; }
}

async function ask(path) {
  const answer = await fetch(path, { headers: { Authorization: "Bearer " + token }, cache: "no-store", credentials: "omit", redirect: "error" });
  const body = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, body.error);
  return body;
}

const count = n => n.toLocaleString("en-US");
function bytes(n) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (Math.abs(n) >= 1024 && unit < units.length - 1) { n /= 1024; unit++; }
  return (unit ? n.toFixed(1) : String(Math.round(n))) + " " + units[unit];
}

function make(tag, parent, text = "", attributes = {}) {
  const node = tag === "svg" || parent instanceof SVGElement ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  if (text !== "") node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent.append(node);
  return node;
}
function legend(id, entries) {
  for (const [color, name] of entries) {
    const item = make("span", find(id));
    make("i", item, "", { class: "swatch" }).style.background = `var(${color})`;
    item.append(name);
  }
}
function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Totals and domains.
const Totals = [
  ["profit_bytes", "saved, net of all costs", s => bytes(s.profit_bytes)],
  ["pages_sharing", "saved by sharing", s => bytes(s.pages_sharing * s.page_size)],
  ["zero_pages", "left to the zero page", s => bytes(s.zero_pages * s.page_size)],
  ["pages_shared", "frames in use", s => count(s.pages_shared)],
  ["processes", "processes", s => count(s.processes.length)],
  ["daemon", "memory of the daemon", s => bytes(s.daemon.rss_bytes)],
  ["share", "of a processor, now", (s, before) => before ? (100 * share(s, before)).toFixed(1) + " %" : "…"],
];
const share = (s, before) => Math.max(0, s.daemon.processor_seconds - before.daemon.processor_seconds) / Math.max(0.001, (s.seen - before.seen) / 1000);
const tiles = Totals.map(([id, name, tell]) => {
  const tile = make("div", find("tiles"), "", { class: "tile" });
  const value = make("b", tile, "", { id: "total-" + id });
  make("span", tile, name);
  return (status, before) => set(value, tell(status, before));
});

function heads(table, columns) {
  for (const column of columns) make("th", find(table).tHead.rows[0], column.title, { scope: "col", class: column.number ? "n" : "" });
}
function fill(row, columns, of) {
  columns.forEach((column, i) => {
    const cell = row.cells[i] ?? make("td", row, "", { class: column.style ?? (column.number ? "n" : "") });
    set(cell, column.show(of));
  });
}
function rows(table, columns, items) {
  const body = find(table).tBodies[0];
  while (body.rows.length > items.length) body.deleteRow(-1);
  items.forEach((item, i) => fill(body.rows[i] ?? body.insertRow(), columns, item));
}
const Domains = [
  { title: "domain", style: "text", show: d => d.name }, ...[["frames", d => d.frames], ["sharing", d => d.pages_sharing], ["tracked", d => d.pages_tracked], ["merged", d => d.pages_merged],
    ["zero", d => d.zero_pages], ["breaks", d => d.cow_breaks]].map(([title, of]) => ({ title, number: true, show: d => count(of(d)) })), { title: "profit", number: true, show: d => bytes(d.profit_bytes) },
];
heads("domains", Domains);

// Processes: one row each, kept as long as the process is there, so that what is focused stays so.
const state = p => p.settled && p.state !== "skipped" ? "settled" : p.state;
const Processes = [
  { title: "pid", key: "pid", number: true, of: p => p.pid, show: p => String(p.pid) },
  { title: "name", key: "name", style: "text", of: p => p.name },
  { title: "domain", key: "domain", style: "text", of: p => p.domain },
  { title: "state", key: "state", of: state },
  ...[["tracked", "pages_tracked"], ["merged", "pages_merged"], ["zero", "zero_pages"], ["written back", "pages_broken"]].map(([title, key]) => ({ title, key, number: true, of: p => p[key], show: p => count(p[key]) })),
  { title: "profit", key: "profit_bytes", number: true, of: p => p.profit_bytes, show: p => bytes(p.profit_bytes) },
];
const known = new Map();
let order = Processes.at(-1), falling = true, status = null, chosen = 0;
for (const column of Processes) {
  column.head = make("th", find("processes").tHead.rows[0], "", { scope: "col", class: column.number ? "n" : "" });
  make("button", column.head, column.title, { type: "button" }).addEventListener("click", () => {
    falling = order === column ? !falling : column.number === true;
    order = column;
    showProcesses();
  });
}
make("th", find("processes").tHead.rows[0], "why not", { scope: "col" });

function rowOf(process) {
  const row = document.createElement("tr"), cells = {};
  for (const column of Processes) {
    const cell = make("td", row, "", { class: column.style ?? (column.number ? "n" : ""), "data-figure": column.key });
    cells[column.key] = column.key === "name" ? make("button", cell, "", { type: "button", class: "text" }) : cell;
  }
  cells.reason = make("td", row, "", { class: "reason" });
  row.dataset.pid = process.pid;
  row.addEventListener("click", () => choose(process.pid));
  return { row, cells };
}
function showProcesses() {
  for (const column of Processes) {
    if (column === order) column.head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    else column.head.removeAttribute("aria-sort");
  }
  const wanted = find("filter").value.trim().toLowerCase(), sign = falling ? -1 : 1;
  const matching = status.processes.filter(p => !wanted || [p.name, String(p.pid), p.domain, state(p), p.reason].some(text => text.toLowerCase().includes(wanted)));
  matching.sort((a, b) => {
    const x = order.of(a), y = order.of(b);
    return sign * (typeof x === "number" ? x - y : x < y ? -1 : x > y ? 1 : 0) || a.pid - b.pid;
  });
  const body = find("processes").tBodies[0], focused = document.activeElement, live = new Set();
  matching.slice(0, RowsMax).forEach((process, i) => {
    live.add(process.pid);
    let entry = known.get(process.pid);
    if (!entry) known.set(process.pid, entry = rowOf(process));
    for (const column of Processes) set(entry.cells[column.key], (column.show ?? column.of)(process));
    set(entry.cells.reason, process.reason);
    if (process.name === "") set(entry.cells.name, "(no name)");
    entry.row.classList.toggle("chosen", process.pid === chosen);
    if (body.rows[i] !== entry.row) body.insertBefore(entry.row, body.rows[i] ?? null);
  });
  for (const [pid, entry] of known) {
    if (live.has(pid)) continue;
    entry.row.remove();
    known.delete(pid);
  }
  if (focused.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  set(find("shown-count"), `${count(Math.min(matching.length, RowsMax))} of ${count(status.processes.length)} processes`);
}
find("filter").addEventListener("input", () => status && showProcesses());

// Savings over time.
const Ranges = [["10 min", 600, 5], ["1 h", 3600, 4], ["24 h", Day, 4]], Lines = [["--net", "net of all costs"], ["--gross", "before costs"], ["--zeros", "zero pages"]];
const past = { now: 0, seen: 0, samples: [] };
let [, range, parts] = Ranges[0], cursor = -1;
legend("chart-legend", Lines);
for (const [name, seconds, steps] of Ranges) {
  make("button", find("ranges"), name, { type: "button", "aria-pressed": String(seconds === range) }).addEventListener("click", event => {
    [range, parts] = [seconds, steps];
    for (const button of find("ranges").children) button.setAttribute("aria-pressed", String(button === event.target));
    drawChart();
  });
  find("ranges").append(" ");
}
const Width = 1000, Height = 240, Left = 84, Right = 12, Top = 12, Bottom = 26;
const ago = seconds => seconds < 1 ? "now" : seconds < 120 ? `${Math.round(seconds)} s ago` : seconds < 7200 ? `${Math.round(seconds / 60)} min ago` : `${(seconds / 3600).toFixed(1)} h ago`;
const visible = () => past.samples.filter(s => s[0] >= past.now - range);
function drawChart() {
  const shown = visible(), values = shown.flatMap(s => s.slice(1)), low = Math.min(0, ...values), high = Math.max(1, ...values);
  let step = 4096;
  while ((high - low) / step > 5) step *= 2;
  const bottom = Math.floor(low / step) * step, top = Math.ceil(high / step) * step;
  const x = at => Left + (Width - Left - Right) * (1 - (past.now - at) / range), y = v => Top + (Height - Top - Bottom) * (top - v) / (top - bottom);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${Width} ${Height}`);
  for (let v = bottom; v <= top; v += step) {
    make("line", svg, "", { x1: Left, x2: Width - Right, y1: y(v), y2: y(v), stroke: "var(--line)", "stroke-width": v === 0 ? 2 : 1 });
    make("text", svg, bytes(v), { x: Left - 8, y: y(v) + 4, "text-anchor": "end" });
  }
  for (let i = 0; i <= parts; i++) make("text", svg, ago(range * (parts - i) / parts), { x: Left + (Width - Left - Right) * i / parts, y: Height - 6, "text-anchor": i === 0 ? "start" : i === parts ? "end" : "middle" });
  Lines.forEach(([color], line) => {
    let path = "";
    shown.forEach((sample, i) => { path += `${i && sample[0] - shown[i - 1][0] < 150 ? "L" : "M"}${x(sample[0]).toFixed(1)} ${y(sample[line + 1]).toFixed(1)}`; });
    if (path) make("path", svg, "", { d: path, fill: "none", stroke: `var(${color})`, "stroke-width": line === 0 ? 2.5 : 1.8, "stroke-linejoin": "round", "stroke-linecap": "round" });
  });
  const at = shown[cursor];
  if (at) {
    make("line", svg, "", { x1: x(at[0]), x2: x(at[0]), y1: Top, y2: Height - Bottom, stroke: "var(--dim)" });
    Lines.forEach(([color], line) => make("circle", svg, "", { cx: x(at[0]), cy: y(at[line + 1]), r: 4, fill: `var(${color})` }));
  }
  find("chart").replaceChildren(svg);
  const last = shown.at(-1), told = at ?? last;
  find("chart").setAttribute("aria-label", last ? `Savings over time, ${bytes(last[1])} net now. Left and right arrow keys move through the samples.` : "Savings over time; no samples yet.");
  // Read out while somebody moves through the samples, and not at each new one.
  find("chart-reading").setAttribute("aria-live", at ? "polite" : "off");
  set(find("chart-reading"), told ? `${new Date(past.seen - (past.now - told[0]) * 1000).toLocaleTimeString()}: ${Lines.map(([, name], line) => `${bytes(told[line + 1])} ${name}`).join(", ")}` : "No samples yet.");
}
find("chart").addEventListener("pointermove", event => {
  const box = find("chart").getBoundingClientRect(), at = past.now - range * (1 - ((event.clientX - box.left) / box.width * Width - Left) / (Width - Left - Right)), shown = visible();
  cursor = shown.reduce((best, sample, i) => best < 0 || Math.abs(sample[0] - at) < Math.abs(shown[best][0] - at) ? i : best, -1);
  drawChart();
});
find("chart").addEventListener("pointerleave", () => { cursor = -1; drawChart(); });
find("chart").addEventListener("blur", () => { cursor = -1; drawChart(); });
find("chart").addEventListener("keydown", event => {
  const last = visible().length - 1, from = cursor < 0 ? last + (event.key === "ArrowLeft" ? 1 : 0) : cursor;
  const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last }[event.key];
  if (to === undefined || last < 0) return;
  event.preventDefault();
  cursor = Math.max(0, Math.min(last, to));
  drawChart();
});

// The picture of a process's memory.
const Kinds = { M: ["--merged", "merged"], 0: ["--zero", "zero page"], u: ["--unique", "unique"], v: ["--volatile", "volatile"], b: ["--broken", "written back"], w: ["--waits", "waits"],
  f: ["--forked", "shared by fork"], a: ["--absent", "absent"], o: ["--left", "left alone"], ".": ["--none", "not tracked"] };
legend("map-legend", Object.values(Kinds));
const address = (area, index, reply) => BigInt("0x" + area.start) + BigInt(index) * BigInt(reply.pages_per_cell * reply.page_size);
let looked = "", drawn = [], mapAsked = 0;
function choose(pid) {
  chosen = pid;
  looked = "";
  find("map").hidden = false;
  set(find("map-title"), `Memory of process ${pid}`);
  find("areas").replaceChildren();
  set(find("map-reading"), "");
  drawn = [];
  showProcesses();
  refreshMap().then(() => find("map-title").focus(), wake);
}
function closeMap() {
  const entry = known.get(chosen);
  chosen = 0;
  find("map").hidden = true;
  showProcesses();
  if (entry) entry.cells.name.focus();
}
find("map-close").addEventListener("click", closeMap);
find("map-whole").addEventListener("click", () => { looked = ""; refreshMap().catch(wake); });
document.addEventListener("keydown", event => { if (event.key === "Escape" && chosen) closeMap(); });

async function refreshMap() {
  mapAsked = Date.now();
  const pid = chosen, part = looked;
  let reply;
  try {
    reply = await ask(`/v1/processes/${pid}/areas?cells=${Cells}${part}`);
  } catch (failed) {
    if (!(failed instanceof Refused) || failed.status === 401) throw failed;
    if (pid === chosen) { set(find("map-reading"), failed.message); find("areas").replaceChildren(); drawn = []; }
    return;
  }
  if (pid === chosen && part === looked) drawMap(reply);
}
function drawMap(reply) {
  const one = reply.pages_per_cell * reply.page_size;
  set(find("map-title"), `Memory of ${reply.name} (${reply.pid}): a point is ${count(reply.pages_per_cell)} ${reply.pages_per_cell === 1 ? "page" : "pages"}, ${bytes(one)}`);
  find("map-whole").hidden = looked === "";
  const tracked = reply.areas.filter(a => a.pages_tracked > 0 && a.start !== "");
  const areas = tracked.length <= AreasMax ? tracked : tracked.toSorted((a, b) => b.pages_tracked - a.pages_tracked).slice(0, AreasMax).sort((a, b) => tracked.indexOf(a) - tracked.indexOf(b));
  // Drawn into what is there as long as the areas are the same, so that what is focused stays so.
  if (drawn.length !== areas.length || drawn.some((d, i) => d.area.start !== areas[i].start || d.area.end !== areas[i].end)) {
    find("areas").replaceChildren();
    drawn = areas.map(area => frameOf(area));
    if (tracked.length > areas.length) make("p", find("areas"), `And ${count(tracked.length - areas.length)} smaller areas.`, { class: "dim" });
    if (!tracked.length) make("p", find("areas"), "No page of it is tracked.", { class: "dim" });
  }
  const style = getComputedStyle(document.documentElement), colors = Object.fromEntries(Object.entries(Kinds).map(([letter, [color]]) => [letter, style.getPropertyValue(color)]));
  drawn.forEach((entry, i) => {
    Object.assign(entry, { area: areas[i], reply, colors });
    const a = areas[i];
    const figures = [["merged", a.pages_merged], ["zero", a.zero_pages], ["unique", a.pages_unshared], ["volatile", a.pages_volatile], ["written back", a.pages_broken]].filter(([, n]) => n > 0).map(([name, n]) => `${count(n)} ${name}`);
    set(entry.text, `${a.start}-${a.end}${a.name ? " " + a.name : ""}: ${count(a.pages_tracked)} tracked${figures.length ? ", " + figures.join(", ") : ""}`);
    entry.canvas.setAttribute("aria-label", `Picture of ${entry.text.textContent}. Arrow keys move through it.`);
    entry.closer.hidden = reply.pages_per_cell === 1;
    drawArea(entry);
  });
}
function frameOf(area) {
  const head = make("div", find("areas"), "", { class: "area" }), text = make("h3", head, "", { class: "text" });
  const closer = make("button", head, "Closer", { type: "button" }), canvas = make("canvas", find("areas"), "", { tabindex: 0, role: "img" });
  const entry = { area, text, closer, canvas, at: -1, lines: [] };
  closer.addEventListener("click", () => { looked = `&start=${entry.area.start}&end=${entry.area.end}`; refreshMap().catch(wake); });
  canvas.addEventListener("pointermove", event => {
    const box = canvas.getBoundingClientRect(), px = (event.clientX - box.left) * canvas.width / box.width, py = (event.clientY - box.top) * canvas.height / box.height;
    const line = entry.lines.find(l => py >= l.y && py < l.y + CellSize);
    point(entry, line ? Math.min(entry.area.cells.length - 1, line.start + Math.min(Columns - 1, Math.max(0, Math.floor(px / CellSize)))) : -1);
  });
  canvas.addEventListener("pointerleave", () => point(entry, -1));
  canvas.addEventListener("blur", () => point(entry, -1));
  canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible") && entry.lines.length) point(entry, entry.lines[0].start); });
  canvas.addEventListener("keydown", event => {
    const line = Math.max(0, entry.lines.findIndex(l => entry.at >= l.start && entry.at < l.start + Columns)), column = entry.at < 0 ? 0 : entry.at - entry.lines[line].start;
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move || !entry.lines.length) return;
    event.preventDefault();
    let to = line + move[0], next = column + move[1];
    if (next < 0) { to--; next = Columns - 1; } else if (next >= Columns) { to++; next = 0; }
    if (to >= 0 && to < entry.lines.length && entry.lines[to].start + next < entry.area.cells.length) point(entry, entry.lines[to].start + next);
  });
  return entry;
}
function point(entry, at) {
  entry.at = at;
  drawArea(entry);
  const { area, reply } = entry;
  set(find("map-reading"), at < 0 ? "" : `${address(area, at, reply).toString(16)}, ${bytes(reply.pages_per_cell * reply.page_size)}: ${Kinds[area.cells[at]][1]}${reply.pages_per_cell > 1 ? " for the most part" : ""}`);
}
function drawArea(entry) {
  const { area, canvas, colors } = entry, cells = area.cells;
  // Whole lines of nothing are left out, and a gap says so.
  entry.lines = [];
  let y = 0, left = false;
  for (let start = 0; start < cells.length; start += Columns) {
    if (/^\.*$/.test(cells.slice(start, start + Columns))) { left = true; continue; }
    if (left && y > 0) y += Skip;
    left = false;
    entry.lines.push({ start, y });
    y += CellSize;
  }
  canvas.width = Math.min(Columns, cells.length) * CellSize;
  canvas.height = Math.max(1, y);
  const draw = canvas.getContext("2d");
  for (const line of entry.lines) {
    for (let i = line.start; i < Math.min(line.start + Columns, cells.length); i++) {
      draw.fillStyle = colors[cells[i]];
      draw.fillRect((i - line.start) * CellSize, line.y, CellSize - 1, CellSize - 1);
      if (i !== entry.at) continue;
      draw.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
      draw.lineWidth = 2;
      draw.strokeRect((i - line.start) * CellSize + 0.5, line.y + 0.5, CellSize - 2, CellSize - 2);
    }
  }
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  const last = drawn[0]?.reply;
  if (last) drawMap(last);
});

// The most shared contents: asked for only while somebody looks, for the daemon goes through its frames for it.
const Frames = [
  { title: "pages", number: true, show: f => count(f.users) }, { title: "saved", number: true, show: f => bytes(f.saved_bytes) }, { title: "domain", style: "text", show: f => f.domain },
  { title: "mapped by (pages)", style: "text many", show: f => f.processes.slice(0, 4).map(p => `${p.name} ${p.pid} (${count(p.pages)})`).join(", ") + (f.processes.length > 4 ? `, and ${count(f.processes.length - 4)} more` : "") },
  { title: "looks like", style: "text", show: f => f.looks }, { title: "as text", style: "text bytes", show: f => f.text }, { title: "first bytes", style: "bytes", show: f => f.hex.slice(0, 32) },
];
heads("frames", Frames);
let framesAsked = 0;
async function refreshFrames() {
  framesAsked = Date.now();
  const { frames } = await ask("/v1/frames?top=20");
  rows("frames", Frames, frames);
  find("frames").hidden = !frames.length;
  find("frames-none").hidden = frames.length > 0;
}
find("frames-details").addEventListener("toggle", () => { framesAsked = 0; wake(); });

// One question after the other, and none while nobody can see the answers.
async function refreshStatus() {
  const before = status;
  status = await ask("/v1/status");
  status.seen = Date.now();
  find("shown").hidden = false;
  tiles.forEach(show => show(status, before));
  rows("domains", Domains, status.domains);
  showProcesses();
  set(find("state"), `${["standing still", "scanning", "standing still, nothing merged"][status.run] ?? ""}, ${count(status.full_scans)} full scans`);
}
async function refreshHistory() {
  const reply = await ask(`/v1/history?since=${past.samples.at(-1)?.[0] ?? -1}`);
  past.now = reply.now;
  past.seen = Date.now();
  reply.at.forEach((at, i) => past.samples.push([at, reply.profit_bytes[i], reply.shared_bytes[i] + reply.zero_bytes[i], reply.zero_bytes[i]]));
  past.samples = past.samples.filter(s => s[0] >= past.now - Day);
  drawChart();
}
let timer = 0, running = false;
async function look() {
  if (running || document.hidden) return;
  running = true;
  clearTimeout(timer);
  try {
    find("gate").hidden = token !== "";
    if (token === "") { set(find("state"), ""); return; }
    await refreshStatus();
    if (Date.now() - past.seen >= HistoryMilliseconds) await refreshHistory();
    if (chosen && Date.now() - mapAsked >= MapMilliseconds) await refreshMap();
    if (find("frames-details").open && Date.now() - framesAsked >= FramesMilliseconds) await refreshFrames();
    find("trouble").hidden = true;
  } catch (failed) {
    const refused = failed instanceof Refused && failed.status === 401;
    set(find("trouble"), failed instanceof Refused ? `The daemon says: ${failed.message}` : "The daemon does not answer; what is shown is old. Asking again…");
    find("trouble").hidden = false;
    if (refused) {
      token = "";
      sessionStorage.removeItem(Kept);
      find("shown").hidden = true;
      find("gate").hidden = false;
      set(find("state"), "");
    }
  } finally {
    running = false;
    if (token !== "" && !document.hidden) timer = setTimeout(look, StatusMilliseconds);
  }
}
function wake() { clearTimeout(timer); look(); }
document.addEventListener("visibilitychange", wake);
addEventListener("hashchange", () => { takeToken(); wake(); });
takeToken();
look();
