// Next to the picture: the list of steps, the overview of the whole run, filters, the legend.

const $ = (id) => document.getElementById(id);
const LIST_ROW = 21;

// ---- the list of steps: only the rows in sight exist ----

let listed = [], following = true, listIsUsed = false;

const GROUP = {
  writing: "writes", durable: "writes", queued: "queued works", write_failed: "writes", proposed: "clients", answered: "clients",
  chosen: "chosen", delivered: "delivered", noted: "notes", role: "leadership", crashed: "crashes", started: "crashes", rebuilt: "crashes", suspended: "crashes",
  paused: "pauses", resumed: "pauses", fault: "faults", healed: "faults", sent: "messages sent", received: "messages received", dropped: "lost messages", duplicated: "lost messages",
};

function refilter() {
  listed = [];
  view.found = view.needle ? Uint8Array.from(events, (event) => event.words.toLowerCase().includes(view.needle)) : null;
  events.forEach((event, at) => {
    if (isOff(GROUP[event.event]) || isOff(`node ${event.node}`)) return;
    const name = event.name ?? model.messages.get(event.id)?.name;
    if (name && isOff(`message ${name}`)) return;
    if (view.found && !matches(at)) return;
    listed.push(at);
  });
  // Browsers do not lay out elements of any height.
  $("spacer").style.height = `${Math.min(12_000_000, listed.length * LIST_ROW)}px`;
  $("find").classList.toggle("on", Boolean(view.needle));
  listRows();
}

function listRows() {
  const box = $("steps"), all = listed.length * LIST_ROW;
  const stretch = Math.max(1, all / 12_000_000);
  const first = Math.max(0, Math.min(listed.length - 1, Math.floor((box.scrollTop * stretch) / LIST_ROW)));
  const count = Math.ceil(box.clientHeight / LIST_ROW) + 2;
  const rows = listed.slice(first, first + count).map(listRow);
  if (listed.length === 0) rows.push(element("p", "  No step has these words."));
  $("rows").style.top = `${stretch === 1 ? first * LIST_ROW : box.scrollTop}px`;
  $("rows").replaceChildren(...rows);
}

function listRow(at) {
  const { at_us, node, words, event } = events[at];
  const row = element("div");
  row.className = `row${view.selected?.at === at ? " main" : view.selected?.all.has(at) ? " related" : ""}${["violation", "crashed", "write_failed"].includes(event) ? " bad" : ""}`;
  const chip = element("i", node || "·");
  chip.style.color = node ? nodeColour(node) : "inherit";
  row.append(element("time", timeText(at_us)), chip, element("span", words));
  row.title = words;
  row.onclick = () => { pin(at); show(at); };
  return row;
}

// The list follows the picture, unless someone is reading it.
function followList(at, centre) {
  const box = $("steps"), stretch = Math.max(1, (listed.length * LIST_ROW) / 12_000_000);
  const top = (lowerBound(listed, at) * LIST_ROW - (centre ? box.clientHeight / 2 : 0)) / stretch;
  if (Math.abs(box.scrollTop - top) > 2) box.scrollTop = top;
}

window.onDrawn = () => {
  if (!listIsUsed && !view.selected) followList(eventAt(view.top + 8 / view.scale), false);
  drawOverview();
};

// ---- the overview: the whole run, event by event, with the part that is seen ----

let overviewImage = null;

function drawOverview() {
  const canvas = $("overview"), box = canvas.getBoundingClientRect(), dense = devicePixelRatio || 1;
  if (box.height === 0) return;
  const key = `${box.height} ${dense} ${isDark()} ${[...view.off]}`;
  if (overviewImage?.key !== key) overviewImage = { key, image: paintOverview(box, dense) };
  canvas.width = overviewImage.image.width;
  canvas.height = overviewImage.image.height;
  const context = canvas.getContext("2d");
  context.drawImage(overviewImage.image, 0, 0);
  context.scale(dense, dense);
  const place = (at) => (at / Math.max(1, events.length - 1)) * box.height;
  const top = place(eventAt(view.top)), bottom = place(eventAt(view.top + room() / view.scale));
  context.fillStyle = colours.accent;
  context.globalAlpha = 0.16;
  context.fillRect(0, top, box.width, Math.max(3, bottom - top));
  context.globalAlpha = 1;
  context.strokeStyle = colours.accent;
  context.strokeRect(0.5, top + 0.5, box.width - 1, Math.max(3, bottom - top) - 1);
}

function paintOverview(box, dense) {
  const image = document.createElement("canvas");
  image.width = Math.round(box.width * dense);
  image.height = Math.round(box.height * dense);
  const context = image.getContext("2d");
  context.scale(dense, dense);
  const place = (at) => ((at < 0 ? events.length - 1 : at) / Math.max(1, events.length - 1)) * box.height;
  const lane = (box.width - 14) / trace.nodes;
  const fill = (colour, alpha, x, from, width, to, least = 1) => {
    context.globalAlpha = alpha;
    context.fillStyle = colour;
    context.fillRect(x, place(from), width, Math.max(least, place(to) - place(from)));
  };
  model.faults.forEach((fault) => fill(colours.fault, 0.7, 0, fault.start, 5, fault.end));
  for (const band of model.bands) {
    const x = 10 + (band.node - 1) * lane;
    if (band.kind === "up") fill(colours.faint, 1, x, band.start, lane - 3, band.end);
    if (band.kind === "paused" || band.kind === "suspended") fill(colours.soft, 0.8, x, band.start, lane - 3, band.end);
  }
  for (const band of model.bands) {
    const x = 10 + (band.node - 1) * lane;
    if (band.role === "leader") fill(nodeColour(band.node), 0.9, x, band.start, lane - 3, band.end);
    if (band.kind === "down") fill(colours.bad, 1, x, band.start, lane - 3, band.start, 2);
  }
  model.violations.forEach((at) => fill(colours.bad, 1, 0, at, box.width, at, 3));
  return image;
}

// ---- filters, legend ----

const chipOf = new Map();

function makeChips() {
  const groups = [
    ["nodes", Array.from({ length: trace.nodes }, (_, i) => [`node ${i + 1}`, `node ${i + 1}`, `--node${(i % 8) + 1}`])],
    ["messages", [...model.names.keys()].map((name) => [`message ${name}`, name, `--${family(name)}`])],
    ["", [["lost messages", "lost", "--bad"], ["messages to itself", "to itself", "--other"]]],
    ["events", [["writes", "writes", "--write"], ["chosen", "chosen", "--good"], ["delivered", "delivered", "--good"], ["clients", "clients", "--client"], ["leadership", "roles", "--accent"], ["notes", "notes", "--soft"], ["crashes", "crashes", "--bad"], ["faults", "faults", "--fault"]]],
    ["list", [["messages sent", "sent", "--soft"], ["messages received", "received", "--soft"], ["queued works", "queued", "--soft"]]],
  ];
  view.off.add("queued works");
  for (const [title, chips] of groups) {
    if (title) $("chips").append(element("b", title));
    for (const [key, text, colour] of chips) {
      const chip = element("button", text);
      chip.style.setProperty("--colour", `var(${colour})`);
      const say = () => { chip.classList.toggle("off", isOff(key)); chip.setAttribute("aria-pressed", String(!isOff(key))); };
      chip.title = "click: on or off; double click: this one alone of its group";
      const set = () => { chips.forEach(([other]) => chipOf.get(other)()); $("filters").classList.toggle("on", view.off.size > 1); refilter(); redraw(); };
      chip.onclick = () => { if (!view.off.delete(key)) view.off.add(key); set(); };
      chip.ondblclick = () => { chips.forEach(([other]) => view.off.add(other)); view.off.delete(key); set(); };
      chipOf.set(key, say);
      say();
      $("chips").append(chip);
    }
  }
}

function toggleChips() {
  $("chips").hidden = !$("chips").hidden;
}

const LEGEND = [
  ["a message, from send to receive", () => { line(1, 4, 26, 12, colours.replicate, 1.4); head(1, 4, 27, 12, colours.replicate, 7); }],
  ["one that is lost", () => { pen.setLineDash([4, 3]); line(1, 4, 22, 10, colours.bad, 1.4); pen.setLineDash([]); cross(22, 10, colours.bad, 4); }],
  ["a second copy", () => { pen.setLineDash([2, 3]); line(1, 4, 26, 12, colours.replicate, 1.4); pen.setLineDash([]); head(1, 4, 27, 12, colours.replicate, 7); }],
  ["a write, until it is durable (red: failed)", () => { pen.fillStyle = colours.write; pen.fillRect(12, 1, 6, 13); line(4, 14, 18, 14, colours.write, 2); }],
  ["leads, under the ballot next to it", () => { pen.globalAlpha = 0.35; pen.fillStyle = nodeColour(1); pen.fillRect(6, 0, 18, 16); pen.globalAlpha = 1; line(15, 0, 15, 16, colours.ink, 1.6); }],
  ["every index up to this one is known to be chosen", () => ring(15, 8, 3.2, colours.good)],
  ["delivered to the application", () => diamond(15, 8, 5, colours.good)],
  ["a client proposes, is answered", () => { line(3, 4, 22, 4, colours.client, 1.6); head(3, 4, 26, 4, colours.client, 6); line(26, 12, 8, 12, colours.client, 1.6); head(26, 12, 4, 12, colours.client, 6); }],
  ["ends; is down", () => { cross(15, 4, colours.bad, 4); pen.setLineDash([2, 3]); line(15, 8, 15, 16, colours.bad, 1.5); pen.setLineDash([]); }],
  ["paused, or waits for its disk", () => { pen.setLineDash([1, 4]); line(15, 0, 15, 16, colours.soft, 5); pen.setLineDash([]); }],
  ["a fault, as long as it lasts", () => { pen.globalAlpha = 0.15; pen.fillStyle = colours.fault; pen.fillRect(0, 0, 30, 16); pen.globalAlpha = 1; pen.fillRect(0, 0, 4, 16); }],
];

function makeLegend(box) {
  const legend = element("div");
  legend.id = "legend";
  for (const [text, paint] of LEGEND) {
    const canvas = element("canvas"), dense = devicePixelRatio || 1;
    [canvas.width, canvas.height] = [30 * dense, 16 * dense];
    const mine = pen;
    pen = canvas.getContext("2d");
    pen.scale(dense, dense);
    paint();
    pen = mine;
    legend.append(canvas, element("span", text));
  }
  box.append(legend);
  const families = [...new Set([...model.names.keys()].map(family))];
  const names = (one) => [...model.names.keys()].filter((name) => family(name) === one).join(", ");
  for (const one of families) {
    const words = element("p", names(one));
    words.style.color = `var(--${one})`;
    box.append(words);
  }
}

// ---- helpers ----

function lowerBound(list, value) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < value) low = middle + 1; else high = middle;
  }
  return low;
}

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}
