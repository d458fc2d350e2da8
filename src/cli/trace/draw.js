// The picture: draws the visible part of the model on a canvas, and finds what is under the mouse.

const HEAD = 40, AXIS = 92, ROW = 24;
// Events per pixel of height: above the first, arrows have no names; above the second, only what concerns a whole node
// is told apart.
const DENSE = 0.8, FAR = 3;
const picture = document.getElementById("picture");
let pen = picture.getContext("2d");
const view = { mode: "even", top: 0, scale: ROW, left: 0, width: 0, height: 0, selected: null, off: new Set(), needle: "", found: null, density: 0 };
let colours = {}, hits = [], labels = null, frame = 0;

const axisOf = () => (view.mode === "even" ? model.evenY : model.trueY);
const yOf = (at) => HEAD + (axisOf()[at] - view.top) * view.scale;
const columns = () => Math.max(150, (view.width - AXIS - 80) / trace.nodes);
const xOf = (node) => AXIS + 36 + (node - 0.5) * columns() - view.left;
const nodeColour = (node) => colours[`node${((node - 1) % 8) + 1}`] ?? colours.soft;

// The first event at or below a place on the axis.
function eventAt(axis) {
  const ys = axisOf();
  let low = 0, high = ys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ys[middle] < axis) low = middle + 1; else high = middle;
  }
  return low;
}

// Things with `start` and `end` (event numbers, end -1: none), in order of start, found by what is visible.
class Spans {
  constructor(items) {
    this.items = items;
    this.blocks = [];
    items.forEach((item, i) => {
      const block = (this.blocks[i >> 7] ??= { first: item.start, last: 0 });
      block.last = Math.max(block.last, item.end < 0 ? (item.fate === "open" && item.message ? item.start : events.length) : item.end);
    });
  }
  *within(first, last) {
    for (let b = 0; b < this.blocks.length && this.blocks[b].first <= last; b++) {
      if (this.blocks[b].last < first) continue;
      for (let i = b << 7; i < Math.min(this.items.length, (b + 1) << 7); i++) {
        const item = this.items[i];
        if (item.start <= last && (item.end < 0 || item.end >= first)) yield item;
      }
    }
  }
}
const spans = { arrows: new Spans(model.arrows), writes: new Spans(model.writes), bands: new Spans(model.bands), faults: new Spans(model.faults) };

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = "page paper ink soft faint hair accent bad good client write fault election replicate learn beat forward refuse other";
  colours = {};
  for (const name of [...names.split(" "), ...Array.from({ length: 8 }, (_, i) => `node${i + 1}`)]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

function redraw() {
  if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); });
}

function draw() {
  const dense = window.devicePixelRatio || 1;
  const box = picture.getBoundingClientRect();
  view.width = box.width;
  view.height = box.height;
  picture.width = Math.round(box.width * dense);
  picture.height = Math.round(box.height * dense);
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  pen.clearRect(0, 0, box.width, box.height);
  pen.fillStyle = colours.paper;
  pen.fillRect(0, 0, box.width, box.height);
  drawPart();
  window.onDrawn?.();
}

function drawPart() {
  hits = [];
  labels = new Labels(view.width, view.height);
  const slack = 40 / view.scale;
  const first = Math.max(0, eventAt(view.top - slack) - 1);
  const last = Math.min(events.length - 1, eventAt(view.top + (view.height - HEAD) / view.scale + slack));
  if (events.length > 0) {
    view.density = (last - first) / view.height;
    drawFaults(first, last);
    drawAxis(first, last);
    const arrows = [...spans.arrows.within(first, last)].filter(isShown);
    const far = view.density > FAR, named = view.density < DENSE;
    if (far) drawArrows(arrows, false);
    drawLanes(first, last);
    if (!far) drawArrows(arrows, named);
    drawWrites(first, last);
    nameFaults(first, last);
    drawMarks(first, last);
    if (named) arrows.forEach(labelArrow);
    model.violations.forEach(drawViolation);
  }
  drawHead();
}

// ---- what is shown ----

const isOff = (name) => view.off.has(name);
const matches = (at) => at >= 0 && view.found[at] === 1;

function isShown(arrow) {
  const { message } = arrow;
  if (isOff(`message ${message.name}`) || isOff(`node ${message.from}`) || isOff(`node ${message.to}`)) return false;
  if (isOff("messages to itself") && message.from === message.to) return false;
  return !(isOff("lost messages") && arrow.fate === "lost");
}

// 1 for what the search and the selection are about, less for all else.
function weight(ats) {
  let weight = 1;
  if (view.found && !ats.some(matches)) weight = 0.15;
  if (view.selected && view.selected.all.size > 1) weight = ats.some((at) => view.selected.all.has(at)) ? 1 : Math.min(weight, 0.22);
  return weight;
}

// ---- background: faults, axis ----

function drawFaults(first, last) {
  if (isOff("faults")) return;
  // All shades are drawn as one, however many faults there are at the same time.
  const shades = new Path2D();
  let strip = 0;
  for (const fault of spans.faults.within(first, last)) {
    const top = Math.max(HEAD, yOf(fault.start)), bottom = fault.end < 0 ? view.height : yOf(fault.end);
    const [x, width] = fault.node === 0 ? [AXIS, view.width] : [xOf(fault.node) - 32, 64];
    shades.rect(x, top, width, bottom - top);
    const left = fault.node === 0 ? AXIS - 6 + 3 * (strip++ % 5) : x;
    pen.fillStyle = colours.fault;
    pen.fillRect(left, top, 2, bottom - top);
    hits.push({ at: fault.start, rect: [left - 1, top, 4, bottom - top] });
  }
  pen.globalAlpha = 0.09;
  pen.fill(shades);
  pen.globalAlpha = 1;
}

function drawAxis(first, last) {
  pen.font = font(11);
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  if (view.mode === "true") return drawRuler();
  let lowest = -100;
  for (let at = first; at <= last; at++) {
    const gap = at === 0 ? 0 : events[at].at_us - events[at - 1].at_us;
    const y = yOf(at);
    if ((at > 0 && gap === 0) || y < HEAD + 6) continue;
    if (gap >= 8000 && (y - yOf(at - 1)) > 42) {
      pen.fillStyle = colours.soft;
      pen.globalAlpha = 0.75;
      pen.font = `italic ${font(10)}`;
      pen.fillText(`⋮ ${gapText(gap)}`, AXIS - 12, (y + yOf(at - 1)) / 2);
      pen.font = font(11);
      pen.globalAlpha = 1;
    }
    if (y - lowest < 26) continue;
    lowest = y;
    tick(y, timeText(events[at].at_us));
  }
}

// Round times, when the axis is true to scale.
function drawRuler() {
  const wanted = 70 / view.scale;
  const power = 10 ** Math.floor(Math.log10(Math.max(1, wanted)));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= wanted) ?? wanted;
  for (let us = Math.max(0, Math.ceil(view.top / step) * step); ; us += step) {
    const y = HEAD + (us - view.top) * view.scale;
    if (y > view.height) break;
    if (y > HEAD + 6) tick(y, step >= 1000 ? `${+(us / 1000).toFixed(3)} ms` : timeText(us));
  }
}

function tick(y, text) {
  line(AXIS - 4, y, view.width, y, colours.hair, 1);
  pen.fillStyle = colours.soft;
  pen.fillText(text, AXIS - 12, y);
}

function nameFaults(first, last) {
  if (isOff("faults")) return;
  for (const fault of spans.faults.within(first, last)) {
    const x = fault.node === 0 ? AXIS : xOf(fault.node) + 12;
    write(x + 10, Math.max(yOf(fault.start) + 9, HEAD + 12), fault.text, { colour: colours.fault, bold: true });
  }
}

// ---- a node's line ----

function drawLanes(first, last) {
  const kinds = { down: [], up: [], role: [], paused: [], suspended: [] };
  for (const band of spans.bands.within(first, last)) {
    if (!isOff(`node ${band.node}`)) kinds[band.kind]?.push(band);
  }
  for (const band of kinds.role) drawRole(band);
  for (const band of kinds.down) dashed(band, colours.bad, 0.55, [2, 5]);
  for (const band of kinds.up) {
    const [top, bottom] = extent(band);
    line(xOf(band.node), top, xOf(band.node), bottom, colours.ink, 1.6);
  }
  for (const band of [...kinds.paused, ...kinds.suspended]) drawStill(band);
}

const extent = (band) => [Math.max(HEAD, yOf(band.start)), band.end < 0 ? view.height : yOf(band.end)];

function drawRole(band) {
  if (band.role !== "leader" && band.role !== "candidate") return;
  const [top, bottom] = extent(band);
  const x = xOf(band.node), leads = band.role === "leader";
  pen.fillStyle = nodeColour(band.node);
  pen.globalAlpha = leads ? 0.32 : 0.13;
  pen.beginPath();
  pen.roundRect(x - 9, top, 18, Math.max(3, bottom - top), 5);
  pen.fill();
  pen.globalAlpha = 1;
  hits.push({ at: band.start, rect: [x - 9, top, 18, bottom - top] });
}

function dashed(band, colour, alpha, dash) {
  const [top, bottom] = extent(band);
  pen.setLineDash(dash);
  pen.globalAlpha = alpha;
  line(xOf(band.node), top, xOf(band.node), bottom, colour, 1.6);
  pen.globalAlpha = 1;
  pen.setLineDash([]);
}

// A process that is paused, or a state machine that waits for its disk.
function drawStill(band) {
  const [top, bottom] = extent(band);
  const x = xOf(band.node);
  line(x, top, x, bottom, colours.paper, 3);
  pen.setLineDash([1, 4]);
  line(x, top, x, bottom, colours.soft, 5);
  pen.setLineDash([]);
  hits.push({ at: band.start, rect: [x - 6, top, 12, bottom - top] });
  write(x + 24, Math.max(top + 8, HEAD + 12), band.kind, { colour: colours.soft, italic: true });
}

// ---- messages ----

// Both ends of an arrow on the screen.
function ends(arrow) {
  const { message, start, end, fate } = arrow;
  const [from, to] = [xOf(message.from), xOf(message.to)];
  const side = Math.sign(to - from);
  const y0 = yOf(start), y1 = end >= 0 ? yOf(end) : y0 + 14;
  if (fate === "open") return [from + 4 * side, y0, from + (to - from) * 0.3, y0 + 14];
  if (message.sent < 0) return [to - side * 46, y1 - 10, to - 4 * side, y1];
  if (fate !== "lost") return [from + 4 * side, y0, to - 4 * side, y1];
  // Lost immediately, or on its way, or at the door of the receiver.
  const atDoor = events[end].node === message.to;
  return atDoor ? [from + 4 * side, y0, to - 9 * side, y1] : [from + 4 * side, y0, from + (to - from) * 0.42, Math.max(y1, y0 + 16)];
}

function drawArrows(arrows, bold) {
  const drawn = new Set();
  const strengths = new Map(arrows.map((arrow) => [arrow, weight([arrow.start, arrow.end])]));
  const faint = bold ? 1 : 0.13 + 0.45 / (1 + view.density);
  const meant = Boolean(view.found) || view.selected?.all.size > 1;
  // What is meant is on top.
  const order = meant ? arrows.toSorted((a, b) => strengths.get(a) - strengths.get(b)) : arrows;
  for (const arrow of order) {
    const { message, fate } = arrow;
    const [x0, y0, x1, y1] = ends(arrow);
    if (!bold) {
      // Of several arrows on the same pixels only one is drawn.
      const place = ((Math.round(y0) * 65 + message.from) * 65 + message.to) * 2 + (fate === "lost" ? 1 : 0);
      if (drawn.has(place)) continue;
      drawn.add(place);
    }
    const strength = strengths.get(arrow);
    const colour = fate === "lost" ? colours.bad : colours[family(message.name)];
    pen.globalAlpha = strength === 1 && meant ? 1 : strength * faint * (family(message.name) === "beat" ? 0.75 : 1);
    pen.setLineDash(fate === "lost" || fate === "open" ? [5, 4] : fate === "again" ? [2, 3] : []);
    const thick = strength === 1 && meant ? 2.4 : bold ? 1.3 : 0.8;
    if (message.from === message.to) drawOwn(arrow, colour, thick, bold);
    else {
      line(x0, y0, x1, y1, colour, thick);
      pen.setLineDash([]);
      if (fate === "lost") cross(x1, y1, colour, bold ? 4 : 2);
      else if (bold || x1 !== x0) head(x0, y0, x1, y1, colour, bold ? 7 : 3);
      if (strength > 0.5) hits.push({ at: arrow.start, arrow, segment: [x0, y0, x1, y1] });
    }
    pen.setLineDash([]);
    pen.globalAlpha = 1;
  }
}

// A message to the node itself: a small bow next to the line.
function drawOwn(arrow, colour, thick, bold) {
  const x = xOf(arrow.message.from), y0 = yOf(arrow.start);
  const y1 = arrow.end >= 0 ? yOf(arrow.end) : y0 + 8;
  const bulge = 13 + Math.min(9, (y1 - y0) / 4);
  pen.strokeStyle = colour;
  pen.lineWidth = thick;
  pen.beginPath();
  pen.moveTo(x - 3, y0);
  pen.bezierCurveTo(x - bulge, y0, x - bulge, y1, x - 4, y1);
  pen.stroke();
  if (arrow.fate === "lost") cross(x - bulge, (y0 + y1) / 2, colour, 3);
  else if (bold) head(x - 12, y1 - 1, x - 3, y1, colour, 5);
  hits.push({ at: arrow.start, arrow, segment: [x - bulge * 0.8, y0, x - bulge * 0.8, y1] });
}

// The message on its arrow: as much of it as there is room for.
function labelArrow(arrow) {
  const { message, fate } = arrow;
  if (message.from === message.to || weight([arrow.start, arrow.end]) < 0.5) return;
  const [x0, y0, x1, y1] = ends(arrow);
  const length = Math.hypot(x1 - x0, y1 - y0), angle = Math.atan2(y1 - y0, x1 - x0);
  const colour = fate === "lost" ? colours.bad : colours[family(message.name)];
  const apart = columns(), room = Math.min(length, apart) - 46;
  pen.font = font(11);
  const text = shortened(message.text, room) || fitting(message.name, Math.min(length - 20, apart));
  if (!text) return;
  const words = fate === "again" ? `${text} (again)` : text;
  const width = pen.measureText(words).width;
  // In the gap that begins at the sender, else in a later one, else nearer to an end.
  const gaps = Math.max(1, Math.round(length / apart));
  const places = [];
  for (let gap = 0; gap < gaps; gap++) places.push((gap + 0.5) / gaps, (gap + 0.36) / gaps, (gap + 0.64) / gaps);
  for (const place of places) {
    const middle = Math.min(Math.max(place * length, width / 2 + 10), length - width / 2 - 6);
    if (middle < width / 2) continue;
    const flip = Math.abs(angle) > Math.PI / 2;
    const turned = flip ? angle - Math.PI * Math.sign(angle || 1) : angle;
    const cx = x0 + middle * Math.cos(angle) + 8 * Math.sin(turned);
    const cy = y0 + middle * Math.sin(angle) - 8 * Math.cos(turned);
    const [tx, ty] = [cx - (width / 2) * Math.cos(turned), cy - (width / 2) * Math.sin(turned)];
    if (ty < HEAD + 8 || !labels.claim(tx, ty, width, turned)) continue;
    pen.save();
    pen.translate(tx, ty);
    pen.rotate(turned);
    halo(words, 0, 0, colour);
    pen.restore();
    return;
  }
}

// A message that does not fit is first shortened by its lesser parts.
function shortened(text, room) {
  if (pen.measureText(text).width <= room) return text;
  return fitting(text.replace(/ (chosen|sent|promised|page|compacted)=\S+/g, ""), room);
}

// ---- writes ----

function drawWrites(first, last) {
  if (isOff("writes") || view.density > FAR) return;
  const drawn = new Set();
  for (const item of spans.writes.within(first, last)) {
    if (isOff(`node ${item.node}`)) continue;
    const x = xOf(item.node) + 8, top = Math.max(HEAD, yOf(item.start));
    const bottom = item.end < 0 ? Math.min(view.height, top + 30) : yOf(item.end);
    const place = (Math.round(top / 2) * 65 + item.node) * 2 + (item.fate === "durable" ? 1 : 0);
    if (drawn.has(place)) continue;
    drawn.add(place);
    const failed = item.fate === "failed" || item.fate === "cut";
    pen.globalAlpha = weight([item.start, item.end]) * (failed ? 0.9 : 0.6);
    pen.fillStyle = failed ? colours.bad : colours.write;
    pen.beginPath();
    pen.roundRect(x, top, 6, Math.max(2, bottom - top), 2);
    if (item.fate === "durable" || item.fate === "failed") pen.fill();
    else {
      pen.strokeStyle = pen.fillStyle;
      pen.lineWidth = 1;
      pen.stroke();
    }
    if (item.fate === "durable" && bottom - top > 5) line(x - 8, bottom, x + 6, bottom, colours.write, 2);
    if (item.fate === "failed") cross(x + 3, bottom, colours.bad, 5);
    pen.globalAlpha = 1;
    hits.push({ at: item.start, write: item, rect: [x - 2, top, 10, Math.max(4, bottom - top)] });
  }
}

// ---- what happens at one time at one node ----

const MARKS = {
  proposed: { group: "clients", draw: (e, x, y) => client(x, y, true, e.client, e.text || e.request) },
  answered: { group: "clients", draw: (e, x, y) => client(x, y, false, e.client, e.index ? `index ${e.index}` : e.text) },
  chosen: { group: "chosen", draw: (e, x, y) => { ring(x, y, 3.2, colours.good); write(x + 24, y, `chosen ≤ ${e.index}`, { colour: colours.good }); } },
  delivered: { group: "delivered", draw: (e, x, y) => { diamond(x, y, 4.5, colours.good); write(x + 24, y, `${e.index}: ${e.text || e.request}`, { colour: colours.good, bold: true, room: columns() * 0.6 }); } },
  noted: { group: "notes", draw: (e, x, y) => { dot(x, y, 1.8, colours.soft); write(x + 24, y, e.text, { colour: colours.soft, italic: true, room: columns() - 44 }); } },
  role: { group: "leadership", draw: drawRoleMark },
  started: { group: "crashes", draw: (e, x, y) => { dot(x, y, 4, colours.ink); write(x + 24, y, e.start > 1 ? `starts again (${e.start})` : "starts", { colour: colours.soft }); } },
  crashed: { group: "crashes", draw: (e, x, y) => { cross(x, y, colours.bad, 7); write(x + 24, y, `ends: ${e.why}`, { colour: colours.bad, bold: true }); } },
  rebuilt: { group: "crashes", draw: (e, x, y) => { ring(x, y, 5, colours.fault); write(x + 24, y, `rebuilt, generation ${e.generation}`, { colour: colours.fault, bold: true }); } },
  write_failed: { group: "writes", draw: (e, x, y) => write(x + 24, y, `${e.flush ? "flush" : "write"} failed: ${e.text}`, { colour: colours.bad, bold: true }) },
  healed: { group: "faults", draw: (e, x, y) => { if (e.node === 0) write(AXIS + 10, y - 7, e.text, { colour: colours.fault }); } },
};
const FIRST_LABELLED = ["role", "write_failed", "crashed", "rebuilt", "started", "healed", "noted", "proposed", "answered", "delivered", "chosen"];
const SEEN_FROM_FAR = new Set(["write_failed", "crashed", "rebuilt", "started", "role"]);

function drawMarks(first, last) {
  const drawn = new Set(), found = new Map(FIRST_LABELLED.map((kind) => [kind, []]));
  const far = view.density > FAR;
  for (let at = first; at <= last; at++) {
    const { event: kind, node, role } = events[at];
    const mark = MARKS[kind];
    if (!mark || (far && !SEEN_FROM_FAR.has(kind)) || (far && kind === "role" && role !== "leader") || isOff(mark.group) || isOff(`node ${node}`)) continue;
    const y = Math.round(yOf(at)), place = (y * 65 + node) * 64 + FIRST_LABELLED.indexOf(kind);
    if (y < HEAD + 2 || drawn.has(place)) continue;
    drawn.add(place);
    found.get(kind).push([at, y]);
  }
  for (const [kind, marks] of found) {
    for (const [at, y] of marks) {
      const x = events[at].node === 0 ? AXIS : xOf(events[at].node);
      pen.globalAlpha = weight([at]);
      MARKS[kind].draw(events[at], x, y);
      pen.globalAlpha = 1;
      hits.push({ at, rect: [x - 6, y - 6, 12, 12] });
    }
  }
}

function drawRoleMark(event, x, y) {
  const words = { leader: `leads, ballot ${event.ballot}`, candidate: "candidate", follower: "follows" }[event.role] ?? event.role;
  const leads = event.role === "leader";
  if (event.role === "follower" && event.ballot === "0.0") return;
  write(x + 24, y, words, { colour: leads ? nodeColour(event.node) : colours.soft, bold: leads });
}

// A client's proposal comes in from the left, its answer leaves there.
function client(x, y, comesIn, number, text) {
  line(x - (view.density > DENSE ? 22 : 34), y, x - 8, y, colours.client, 1.6);
  if (view.density > DENSE) return;
  if (comesIn) head(x - 34, y, x - 5, y, colours.client, 7); else head(x - 8, y, x - 38, y, colours.client, 7);
  write(x - 42, y, `${columns() < 220 ? "c" : "client "}${number}: ${text}`, { colour: colours.client, right: true, room: columns() * 0.55 });
}

function drawViolation(at) {
  const y = yOf(at);
  if (y < HEAD || y > view.height + 40) return;
  const { invariant, text, node } = events[at];
  line(AXIS, y, view.width, y, colours.bad, 3);
  pen.font = `bold ${font(12)}`;
  const words = `✕ ${invariant} does not hold${node ? ` at node ${node}` : ""}: ${text}`;
  const shown = fitting(words, view.width - AXIS - 60) || "✕ violation";
  const width = pen.measureText(shown).width + 20;
  pen.fillStyle = colours.bad;
  pen.beginPath();
  pen.roundRect(AXIS + 10, y - 12, width, 24, 5);
  pen.fill();
  pen.fillStyle = colours.paper;
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  pen.fillText(shown, AXIS + 20, y);
  hits.push({ at, rect: [AXIS, y - 12, view.width, 24] });
}

// ---- the nodes' names, always in sight ----

function drawHead() {
  pen.fillStyle = colours.paper;
  pen.fillRect(0, 0, view.width, HEAD);
  line(0, HEAD, view.width, HEAD, colours.faint, 1);
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  pen.font = font(11);
  pen.fillStyle = colours.soft;
  pen.fillText("time", AXIS - 12, HEAD / 2);
  pen.textAlign = "center";
  for (let node = 1; node <= trace.nodes; node++) {
    const x = xOf(node);
    pen.globalAlpha = isOff(`node ${node}`) ? 0.3 : 1;
    pen.fillStyle = nodeColour(node);
    pen.beginPath();
    pen.roundRect(x - 36, 8, 72, 24, 7);
    pen.fill();
    pen.fillStyle = colours.paper;
    pen.font = `bold ${font(13)}`;
    pen.fillText(`node ${node}`, x, 20.5);
    pen.globalAlpha = 1;
  }
}

// What is under a point: the nearest mark, write, arrow or band.
function hitAt(x, y) {
  let best = null, nearest = 7;
  for (const hit of hits) {
    let distance;
    if (hit.segment) distance = toSegment(x, y, hit.segment) + 0.5;
    else {
      const [left, top, width, height] = hit.rect;
      const inside = x >= left && x <= left + width && y >= top && y <= top + height;
      distance = !inside ? 99 : hit.write ? 1.5 : height > 16 ? 5 : 0;
    }
    if (distance < nearest) [best, nearest] = [hit, distance];
  }
  return best;
}

function toSegment(x, y, [x0, y0, x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const along = Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - x0 - along * dx, y - y0 - along * dy);
}
