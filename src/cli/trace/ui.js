// Mouse and keys: which part is seen, what lies under the mouse, what is pinned.

const MIN_SCALE = { even: 0.002, true: 1e-7 }, MAX_SCALE = { even: 400, true: 20 };

function start() {
  const us = events.length ? events[events.length - 1].at_us : 0;
  document.title = `seed ${trace.seed}`;
  document.querySelector("h1").textContent = `spaxos · seed ${trace.seed}`;
  const skipped = trace.skipped ? ` (after ${trace.skipped.toLocaleString("en")} that were not kept)` : "";
  const about = document.querySelector("#about p");
  about.textContent = `${trace.nodes} nodes · ${events.length.toLocaleString("en")} events${skipped} · ${gapText(us)} · T = ${trace.election_ms} ms · faults: ${trace.faults || "none"} · ${trace.version} · trace ${trace.hash}`;
  about.title = about.textContent;
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
  if (trace.failure) {
    $("violation").hidden = false;
    $("violation").textContent = `✕ ${trace.failure.invariant} does not hold`;
    $("violation").title = `${trace.failure.text} — key: v`;
  }
  makeChips();
  makeKeys();
  listen();
  pin(null);
  refilter();
  home();
}

// ---- what part is seen ----

const range = () => {
  const ys = axisOf();
  return [ys[0] ?? 0, ys[ys.length - 1] ?? 1];
};
const room = () => picture.getBoundingClientRect().height - HEAD;

// The beginning, large enough to read; all of it if it is short.
function home() {
  const [low, high] = range();
  view.scale = view.mode === "even" ? Math.max(ROW, Math.min(40, (room() - 40) / (high - low + 1))) : room() / Math.max(1, Math.min(high - low, 20_000));
  view.top = low - 14 / view.scale;
  redraw();
}

function fit() {
  const [low, high] = range();
  view.scale = (room() - 40) / Math.max(1e-9, high - low);
  view.top = low - 16 / view.scale;
  limit();
}

function limit() {
  const [low, high] = range(), seen = room() / view.scale;
  view.scale = Math.min(MAX_SCALE[view.mode], Math.max(MIN_SCALE[view.mode], view.scale));
  view.top = Math.min(high - seen * 0.3, Math.max(low - Math.min(seen * 0.3, 60 / view.scale), view.top));
  const wide = Math.max(0, AXIS + 36 + columns() * trace.nodes + 20 - picture.getBoundingClientRect().width);
  view.left = Math.min(wide, Math.max(0, view.left));
  redraw();
}

function zoom(factor, y = HEAD + room() / 2) {
  const at = view.top + (y - HEAD) / view.scale;
  view.scale = Math.min(MAX_SCALE[view.mode], Math.max(MIN_SCALE[view.mode], view.scale * factor));
  view.top = at - (y - HEAD) / view.scale;
  limit();
}

function pan(pixels) {
  view.top += pixels / view.scale;
  limit();
}

// Brings an event into the middle, if it is not well in sight.
function show(at, readable = false) {
  if (readable && view.mode === "even") view.scale = Math.max(view.scale, ROW);
  const y = yOf(at);
  if (readable || y < HEAD + 30 || y > HEAD + room() - 60) view.top = axisOf()[at] - room() / 2 / view.scale;
  limit();
}

// The events in sight stay in sight.
function switchScale() {
  const last = Math.max(0, Math.min(events.length, eventAt(view.top + room() / view.scale)) - 1);
  const first = Math.max(0, Math.min(eventAt(view.top), last - 10));
  view.mode = view.mode === "even" ? "true" : "even";
  const ys = axisOf();
  view.scale = (room() - 60) / (ys[last] - ys[first] || 1);
  view.top = ys[first] - 30 / view.scale;
  sayScale();
  limit();
}

const sayScale = () => ($("scale").textContent = view.mode === "even" ? "idle time compressed" : "true to scale");

// ---- mouse and keys ----

function listen() {
  sayScale();
  let drag = null;
  picture.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? event.deltaY * 18 : event.deltaY;
    if (event.ctrlKey || event.metaKey || event.altKey) return zoom(Math.exp(-pixels / 300), event.offsetY);
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      view.left += event.deltaX || event.deltaY;
      return limit();
    }
    pan(pixels);
  }, { passive: false });
  picture.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, moved: false };
    picture.setPointerCapture(event.pointerId);
  });
  picture.addEventListener("pointermove", (event) => {
    if (!drag) return hover(event.offsetX, event.offsetY);
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    drag.moved = true;
    picture.classList.add("drag");
    $("tip").hidden = true;
    [drag.x, drag.y] = [event.clientX, event.clientY];
    view.left -= dx;
    pan(-dy);
  });
  picture.addEventListener("pointerup", (event) => {
    picture.classList.remove("drag");
    if (drag && !drag.moved) {
      const hit = hitAt(event.offsetX, event.offsetY);
      pin(hit ? hit.at : null);
      $("tip").hidden = true;
    }
    drag = null;
  });
  picture.addEventListener("pointercancel", () => (drag = null));
  picture.addEventListener("pointerleave", () => ($("tip").hidden = true));
  picture.addEventListener("dblclick", (event) => zoom(2, event.offsetY));
  new ResizeObserver(redraw).observe($("diagram"));
  listenToTools();
  document.addEventListener("keydown", onKey);
  window.addEventListener("beforeprint", beforePrint);
  window.addEventListener("afterprint", afterPrint);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => setTheme(event.matches));
}

function listenToTools() {
  $("fit").onclick = fit;
  $("zoom-in").onclick = () => zoom(1.5);
  $("zoom-out").onclick = () => zoom(1 / 1.5);
  $("scale").onclick = switchScale;
  $("filters").onclick = () => toggleChips();
  $("theme").onclick = () => setTheme(!isDark());
  $("help").onclick = () => $("keys").showModal();
  $("keys").onclick = () => $("keys").close();
  $("violation").onclick = toViolation;
  $("find").oninput = () => { view.needle = $("find").value.trim().toLowerCase(); refilter(); redraw(); };
  $("steps").onscroll = () => { following = false; listRows(); };
  $("steps").onpointerenter = () => (listIsUsed = true);
  $("steps").onpointerleave = () => (listIsUsed = false);
  const overview = $("overview");
  const jump = (event) => {
    const [low, high] = [0, events.length - 1];
    const at = Math.round(low + (event.offsetY / overview.getBoundingClientRect().height) * (high - low));
    view.top = axisOf()[Math.min(high, Math.max(0, at))] - room() / 2 / view.scale;
    limit();
  };
  overview.onpointerdown = (event) => { overview.setPointerCapture(event.pointerId); jump(event); };
  overview.onpointermove = (event) => { if (event.buttons) jump(event); };
}

const KEYS = [
  [["ArrowDown", "j"], "forward in time", () => pan(60)], [["ArrowUp", "k"], "back in time", () => pan(-60)],
  [["PageDown", " "], "a page forward", () => pan(room() * 0.9)], [["PageUp"], "a page back", () => pan(-room() * 0.9)],
  [["ArrowRight"], "to the right", () => { view.left += 60; limit(); }], [["ArrowLeft"], "to the left", () => { view.left -= 60; limit(); }],
  [["+", "="], "larger", () => zoom(1.3)], [["-"], "smaller", () => zoom(1 / 1.3)],
  [["f", "0"], "all of it", fit], [["Home"], "the beginning", home], [["End"], "the end", () => { view.top = range()[1] - (room() * 0.9) / view.scale; limit(); }],
  [["t"], "idle time compressed, or true to scale", switchScale],
  [["n"], "the next step of the list", () => nextStep(1)], [["p"], "the step before", () => nextStep(-1)],
  [["v"], "to the violation", toViolation], [["c"], "choose what is shown", () => toggleChips()],
  [["/"], "find", () => $("find").focus()], [["Escape"], "let go", () => { $("find").value = view.needle = ""; refilter(); pin(null); }],
  [["?"], "these keys", () => $("keys").showModal()],
];

function onKey(event) {
  if (event.target.tagName === "INPUT") {
    if (event.key === "Escape") { event.target.blur(); KEYS.find(([keys]) => keys[0] === "Escape")[2](); }
    if (event.key === "Enter") nextStep(1);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  if (event.target.tagName === "BUTTON" && event.key === " ") return;
  const found = KEYS.find(([keys]) => keys.includes(event.key));
  if (!found) return;
  event.preventDefault();
  found[2]();
}

function makeKeys() {
  const table = element("table");
  const add = (keys, words) => {
    const row = table.insertRow();
    const cell = row.insertCell();
    keys.forEach((key) => cell.append(element("kbd", key === " " ? "space" : key), " "));
    row.insertCell().textContent = words;
  };
  add(["wheel"], "forward and back in time; with Ctrl or Alt: larger, smaller");
  add(["drag"], "moves the picture");
  add(["click"], "pins a message, write or event and shows its cause and effect");
  KEYS.forEach(([keys, words]) => add(keys, words));
  $("keys").append(table);
}

// ---- hover and pin ----

function hover(x, y) {
  const hit = hitAt(x, y), tip = $("tip");
  picture.classList.toggle("hit", Boolean(hit));
  tip.hidden = !hit;
  if (!hit) return;
  tip.textContent = describe(hit.at, hit.arrow);
  const box = $("diagram").getBoundingClientRect();
  const size = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, box.width - size.width - 8))}px`;
  tip.style.top = `${y + 18 + size.height > box.height ? y - size.height - 10 : y + 18}px`;
}

const who = (at) => (events[at].node ? `node ${events[at].node}` : "cluster");

// One event in words, with what became of it.
function describe(at, arrow) {
  const event = events[at], lines = [`${timeText(event.at_us)}  ${who(at)}: ${event.words}`];
  const fates = arrow ? [arrow] : (model.arrowOf.get(at) ?? []).filter((other) => other.start === at);
  for (const { end, start, fate, message } of fates) {
    if (fate === "open") lines.push("still under way at the end");
    else if (end !== start) lines.push(`${fate === "lost" ? `lost: ${events[end].why}` : fate === "again" ? "its copy arrives" : "arrives"} after ${gapText(events[end].at_us - events[start].at_us)}`);
    if (event.event === "sent" && fate !== "again") lines.push(message.early ? "Left before the write of its step: it promises nothing." : "Left only after the write before it was durable.");
  }
  const write = model.writeOf.get(at);
  if (write && write.start === at && write.end >= 0) lines.push(`${write.fate === "durable" ? "durable" : write.fate === "failed" ? "failed" : "cut short"} after ${gapText(events[write.end].at_us - event.at_us)}`);
  return [...new Set(lines)].join("\n");
}

function pin(at) {
  view.selected = null;
  const box = $("pinned");
  box.replaceChildren();
  if (at === null || at === undefined) makeLegend(box);
  else {
    const { causes, effects } = related(at);
    const all = new Set([at, ...causes, ...effects]);
    (model.arrowOf.get(at) ?? []).forEach(({ start, end }) => { all.add(start); if (end >= 0) all.add(end); });
    const write = model.writeOf.get(at);
    if (write) { all.add(write.start); if (write.end >= 0) all.add(write.end); }
    view.selected = { at, all };
    const [first, ...rest] = describe(at).split("\n");
    box.append(element("h2", first), element("p", rest.join("\n")));
    addLinks(box, isExact ? "caused by" : "caused by, judging by the times", causes);
    addLinks(box, isExact ? "led to" : "led to, judging by the times", effects);
  }
  listRows();
  if (view.selected && !listIsUsed) followList(at, true);
  redraw();
}

function addLinks(box, title, ats) {
  if (ats.length === 0) return;
  box.append(element("h3", title));
  for (const at of ats.slice(0, 40)) {
    const link = element("a", `${timeText(events[at].at_us)}  ${who(at)}: ${events[at].words.slice(0, 200)}`);
    link.onclick = () => { pin(at); show(at); };
    box.append(link);
  }
  if (ats.length > 40) box.append(element("p", `and ${ats.length - 40} more`));
}

function toViolation() {
  const at = model.violations.at(-1);
  if (at === undefined) return;
  pin(at);
  show(at, true);
  view.top -= (room() * 0.25) / view.scale;
  limit();
}

function nextStep(by) {
  if (listed.length === 0) return;
  const from = view.selected ? view.selected.at : Math.max(0, eventAt(view.top) - 1);
  let place = lowerBound(listed, from);
  place = listed[place] === from ? place + by : by > 0 ? place : place - 1;
  const at = listed[Math.min(listed.length - 1, Math.max(0, place))];
  pin(at);
  show(at);
}

// ---- look ----

function isDark() {
  return document.documentElement.dataset.theme === "dark";
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  readColours();
  if (!view.selected) pin(null);
  redraw();
}

let wasDark = false;

// On paper: light, and as high as a sheet, from where the screen begins.
function beforePrint() {
  wasDark = isDark();
  setTheme(false);
  [picture.style.width, picture.style.height] = ["1000px", "1330px"];
  draw();
}

function afterPrint() {
  picture.style.width = picture.style.height = "";
  setTheme(wasDark);
}

start();
