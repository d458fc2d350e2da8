// The trace as things to draw: arrows, writes, bands and marks, each with the numbers of its events.
// An event's number is its place in `events`; nothing here knows of pixels.

const trace = JSON.parse(document.getElementById("trace").textContent);
const events = trace.events;

const FAMILY = {
  PreVote: "election", PreVoteReply: "election", Prepare: "election", Promise: "election",
  RequestPreVote: "election", RequestVote: "election", Vote: "election", TimeoutNow: "election",
  Accept: "replicate", Accepted: "replicate", Append: "replicate", Appended: "replicate", Mismatch: "replicate",
  Heartbeat: "beat", HeartbeatReply: "beat", Confirm: "beat", Confirmed: "beat",
  CatchUp: "learn", Learn: "learn", Forward: "forward", Read: "forward", ReadReply: "forward", Refuse: "refuse",
};
const family = (name) => (Object.hasOwn(FAMILY, name) ? FAMILY[name] : "other");

// Which event begins a band of what kind, and which ends it.
const BEGINS = { started: "up", paused: "paused", suspended: "suspended", role: "role", fault: "fault" };
const ENDS = { crashed: ["up", "paused", "suspended", "role"], resumed: ["paused"], rebuilt: ["suspended"], role: ["role"], healed: ["fault"], started: ["down"] };

const model = buildModel();

function buildModel() {
  const model = {
    messages: new Map(), arrows: [], arrowOf: new Map(), writes: [], writeOf: new Map(), inputsOf: new Map(),
    writeOfTurn: new Map(), bands: [], faults: [], violations: [], names: new Map(), kinds: new Map(),
    trueY: new Float64Array(events.length), evenY: new Float64Array(events.length),
  };
  addMessages(model);
  addWrites(model);
  addBands(model);
  addScales(model);
  return model;
}

// ---- messages ----

function addMessages(model) {
  events.forEach((event, at) => {
    model.kinds.set(event.event, (model.kinds.get(event.event) ?? 0) + 1);
    if (event.event === "sent") {
      model.messages.set(event.id, { sent: at, from: event.node, to: event.to, name: event.name, text: event.text || event.name, early: event.early, ends: 0 });
      model.names.set(event.name, (model.names.get(event.name) ?? 0) + 1);
    } else if (event.event === "received" || event.event === "dropped") {
      addArrow(model, event, at);
    }
  });
  for (const message of model.messages.values()) {
    if (message.ends === 0) pushArrow(model, { message, start: message.sent, end: -1, fate: "open" });
  }
  model.arrows.sort((a, b) => a.start - b.start);
}

function addArrow(model, event, at) {
  let message = model.messages.get(event.id);
  if (!message) {
    // Sent before the part of the run that was kept.
    const received = event.event === "received";
    if (!received) return;
    message = { sent: -1, from: event.from, to: event.node, name: event.name, text: event.name, early: false, ends: 0 };
    model.messages.set(event.id, message);
  }
  message.ends += 1;
  const fate = event.event === "dropped" ? "lost" : message.ends > 1 ? "again" : "received";
  pushArrow(model, { message, start: message.sent < 0 ? at : message.sent, end: at, fate });
}

function pushArrow(model, arrow) {
  model.arrows.push(arrow);
  for (const at of new Set([arrow.start, arrow.end])) {
    if (at < 0) continue;
    if (!model.arrowOf.has(at)) model.arrowOf.set(at, []);
    model.arrowOf.get(at).push(arrow);
  }
}

// ---- writes ----

// A write takes the oldest queued works of its node, so what a turn wants durable is found by counting.
function addWrites(model) {
  const queued = new Map(), open = new Map();
  events.forEach((event, at) => {
    const { node } = event;
    if (event.event === "queued") {
      if (!queued.has(node)) queued.set(node, []);
      queued.get(node).push(at);
    } else if (event.event === "writing") {
      const write = { node, start: at, end: -1, fate: "open", entries: event.entries };
      write.inputs = (queued.get(node) ?? []).splice(0, event.works);
      write.inputs.forEach((input) => model.writeOfTurn.set(input, write));
      model.writes.push(write);
      model.writeOf.set(at, write);
      open.set(event.write, write);
    } else if (event.event === "durable" || event.event === "write_failed") {
      // By its number, else the one that this node's only storage thread is writing.
      const key = open.has(event.write) ? event.write : [...open].findLast(([, write]) => write.node === node)?.[0];
      const write = open.get(key);
      open.delete(key);
      if (!write) return;
      write.end = at;
      write.fate = event.event === "durable" ? "durable" : "failed";
      model.writeOf.set(at, write);
    } else if (event.event === "crashed" || event.event === "rebuilt") {
      queued.set(node, []);
      for (const [key, write] of open) {
        if (write.node !== node) continue;
        Object.assign(write, { end: at, fate: "cut" });
        open.delete(key);
      }
    }
  });
}

// ---- what holds for a while: up, paused, suspended, roles, faults ----

function addBands(model) {
  const open = new Map();
  const key = (kind, event) => (kind === "fault" ? `fault ${event.fault}` : `${kind} ${event.node}`);
  const close = (name, at) => {
    const band = open.get(name);
    if (band) band.end = at;
    open.delete(name);
  };
  const begin = (kind, event, at, more) => {
    const band = { kind, node: event.node, start: at, end: -1, ...more };
    open.set(key(kind, event), band);
    (kind === "fault" ? model.faults : model.bands).push(band);
  };
  // In a run whose beginning was not kept, nodes are taken to be up.
  const first = new Map();
  events.forEach((event, at) => { if (event.node > 0 && !first.has(event.node)) first.set(event.node, at); });
  for (let node = 1; node <= trace.nodes; node++) {
    const at = first.get(node);
    if (at === undefined || events[at].event !== "started") begin("up", { node }, 0, {});
  }
  events.forEach((event, at) => {
    for (const kind of ENDS[event.event] ?? []) close(key(kind, event), at);
    // Fault 0 stands for all.
    if (event.event === "healed" && event.fault === 0) [...open.keys()].filter((name) => name.startsWith("fault ")).forEach((name) => close(name, at));
    const kind = BEGINS[event.event];
    if (kind && !(kind === "up" && open.has(key("up", event)))) begin(kind, event, at, { role: event.role, ballot: event.ballot, text: event.text });
    if (event.event === "crashed") begin("down", event, at, { text: event.why });
    if (event.event === "violation") model.violations.push(at);
  });
}

// ---- where an event is on the time axis ----

// `trueY` in microseconds. `evenY` in rows: idle time is compressed, and what a node says at one time
// is spread so that it can be read.
function addScales(model) {
  const READ = new Set(["noted", "role", "delivered", "proposed", "answered", "chosen", "fault", "healed", "violation"]);
  const used = new Map();
  let row = 0;
  events.forEach((event, at) => {
    const gap = at === 0 ? 0 : event.at_us - events[at - 1].at_us;
    if (gap > 0) {
      row += 0.3 + 0.4 * Math.log2(1 + gap / 40);
      used.clear();
    }
    if (READ.has(event.event)) {
      const next = (used.get(event.node) ?? -1) < row ? row : row + 0.62;
      row = next;
      used.set(event.node, row);
    }
    model.trueY[at] = event.at_us;
    model.evenY[at] = row;
  });
}

// ---- cause and effect ----

// The events of one step at one node: first what came in, then what that led to.
function turnOf(at) {
  const { step, node } = events[at];
  let first = at, last = at;
  while (first > 0 && events[first - 1].step === step) first--;
  while (last + 1 < events.length && events[last + 1].step === step) last++;
  const turn = [];
  for (let i = first; i <= last; i++) if (events[i].node === node) turn.push(i);
  return turn;
}

// Whether the trace says what led to what: it names the works that turns queue. Otherwise the nearest is taken.
const isExact = model.kinds.has("queued");

// What led to one event, or to the message of one arrow, and what it led to: the nearest on both sides.
function related(at) {
  return isExact ? relatedByStep(at) : relatedByTime(at);
}

function relatedByTime(at) {
  const arrow = model.arrowOf.get(at)?.[0], write = model.writeOf.get(at);
  const first = arrow ? arrow.message.sent : write ? write.start : at;
  const causes = first < 0 ? [] : before(first);
  const lasts = arrow ? model.arrowOf.get(arrow.start).filter(({ end, fate }) => end >= 0 && fate !== "lost").map(({ end }) => end) : [write?.end >= 0 ? write.end : at];
  const effects = lasts.flatMap(after);
  const sorted = (ats) => [...new Set(ats)].filter((other) => other !== at).sort((a, b) => a - b);
  return { causes: sorted(causes), effects: sorted(effects) };
}

const NEAR = 400;
const isInput = ({ event }) => event === "received" || event === "proposed";
const isOutput = ({ event, early }) => event === "noted" || event === "role" || event === "chosen" || (event === "sent" && early);

// The events of a node before or after one, up to `NEAR` events of the cluster away.
function* along(at, by) {
  for (let i = at + by; i >= 0 && i < events.length && Math.abs(i - at) <= NEAR; i += by) {
    if (events[i].node === events[at].node) yield i;
  }
}

// What a node took in just before it did this, or what the write before it wrote.
function before(at) {
  const event = events[at];
  if (event.event === "received") return [];
  const found = [];
  if ((event.event === "sent" && !event.early) || event.event === "durable") {
    const durable = event.event === "durable" ? at : along(at, -1).find((i) => events[i].event === "durable");
    const write = model.writeOf.get(durable);
    return write ? [durable, write.start, ...before(write.start)] : [];
  }
  for (const i of along(at, -1)) {
    if (event.event === "delivered" || event.event === "answered") {
      if (events[i].event === "chosen") return [i];
    } else if (isInput(events[i])) found.push(i);
    else if (found.length > 0 && (isOutput(events[i]) || events[i].event === "writing")) break;
  }
  return found.slice(0, 8);
}

// What a node did just after it took this in, and the write that followed.
function after(at) {
  const event = events[at], found = [];
  if (event.event === "durable") {
    for (const i of along(at, 1)) {
      if (events[i].event === "durable") break;
      if (events[i].event === "sent" && !events[i].early) found.push(i);
    }
  } else if (isInput(event)) {
    let write;
    for (const i of along(at, 1)) {
      if (isOutput(events[i])) found.push(i);
      else if (events[i].event === "writing") write ??= model.writeOf.get(i);
      else if (isInput(events[i]) && (found.length > 0 || write)) break;
    }
    if (write) found.push(write.start, ...(write.end < 0 ? [] : [write.end, ...after(write.end)]));
  } else if (event.event === "chosen") {
    for (const i of along(at, 1)) {
      if (events[i].event === "chosen") break;
      if (events[i].event === "delivered" || events[i].event === "answered") found.push(i);
    }
  }
  return found;
}

function relatedByStep(at) {
  const causes = new Set(), effects = new Set();
  const event = events[at];
  const arrow = model.arrowOf.get(at)?.[0];
  const startsTurn = (i) => ["received", "proposed", "started", "durable"].includes(events[i].event);
  const addCauses = (i) => {
    for (const j of turnOf(i)) {
      if (j >= i || !startsTurn(j)) continue;
      causes.add(j);
      if (events[j].event === "durable") behindWrite(model.writeOf.get(j)).forEach((k) => causes.add(k));
    }
  };
  const addEffects = (i) => {
    for (const j of turnOf(i)) {
      if (j <= i) continue;
      effects.add(j);
      const write = model.writeOfTurn.get(j);
      if (!write) continue;
      effects.add(write.start);
      if (write.end >= 0) turnOf(write.end).forEach((k) => effects.add(k));
    }
  };
  if (arrow) {
    if (arrow.message.sent >= 0) addCauses(arrow.message.sent);
    for (const other of model.arrowOf.get(arrow.start)) {
      if (other.end >= 0 && other.fate !== "lost") addEffects(other.end);
    }
  } else if (model.writeOf.has(at)) {
    const write = model.writeOf.get(at);
    behindWrite(write).forEach((i) => causes.add(i));
    if (write.end >= 0) addEffects(write.end);
  } else {
    addCauses(at);
    if (startsTurn(at)) addEffects(at);
  }
  return { causes: [...causes].sort((a, b) => a - b), effects: [...effects].sort((a, b) => a - b) };

  function behindWrite(write) {
    if (!write) return [];
    const found = [write.start];
    for (const input of write.inputs) found.push(...turnOf(input).filter((i) => i < input && startsTurn(i)));
    return found;
  }
}

function timeText(us) {
  if (us >= 10_000_000) return `${(us / 1e6).toFixed(3)} s`;
  return `${(us / 1000).toFixed(3)} ms`;
}

function gapText(us) {
  if (us < 1000) return `${us} µs`;
  if (us < 1e6) return `${+(us / 1000).toFixed(us < 10_000 ? 1 : 0)} ms`;
  return `${+(us / 1e6).toFixed(2)} s`;
}
