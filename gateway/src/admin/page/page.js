"use strict";
// Text from outside is only ever given to textContent.
const POLL_MS = 2000;
const byId = (id) => document.getElementById(id);

function el(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit++; }
  return (unit && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)) + " " + units[unit];
}

function time(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min";
  if (s < 172800) return Math.floor(s / 3600) + " h";
  return Math.floor(s / 86400) + " d";
}

function days(n) {
  const text = n < 0 ? "expired" : n === 1 ? "1 day" : n + " days";
  return el("span", text, n < 7 ? "down" : n < 30 ? "stale" : "live");
}

function targets(route) {
  const list = el("ul");
  for (const target of route.targets) {
    const item = el("li");
    const state = target.state === "live" ? "live" : "down";
    item.append(el("span", target.title, state), " ", el("span", target.address || "", "mono"));
    if (target.node) item.append(" ", el("span", "on " + target.node, "dim"));
    if (target.state !== "live") item.append(" ", el("span", "(" + target.state + ")", "dim"));
    list.append(item);
  }
  for (const loser of route.losers || []) {
    const item = el("li", undefined, "dim");
    item.append("not " + loser.title + (loser.node ? " on " + loser.node : "") + ": " + loser.reason);
    list.append(item);
  }
  return list;
}

const sum = (route, key) => route.targets.reduce((total, target) => total + (target[key] || 0), 0);

function killButton(tunnel) {
  const button = el("button", "End", "kill");
  button.type = "button";
  button.setAttribute("aria-label", "End tunnel " + tunnel.id);
  button.addEventListener("click", () => askToKill(tunnel));
  return button;
}

// A column: its title, the value that sorts and filters, and how it is shown.
const TABLES = {
  routes: [
    ["Route", (r) => (r.host || r.name) + (r.path && r.path !== "/" ? r.path : "")],
    ["State", (r) => r.state, (r) => el("span", r.state, r.state)],
    ["Targets", (r) => r.targets.map((t) => t.title + " " + (t.address || "") + " " + (t.node || "")).join(" "), targets],
    ["Requests", (r) => sum(r, "requests"), null, "number"],
    ["Tunnels", (r) => sum(r, "tunnels"), null, "number"],
  ],
  unrouted: [
    ["Container", (u) => u.title],
    ["Node", (u) => u.node],
    ["Why", (u) => u.reason],
  ],
  tunnels: [
    ["Client", (t) => t.identity || t.peer, (t) => {
      const cell = el("span", t.identity || t.peer);
      if (t.identity) cell.append(" ", el("span", t.peer, "dim"));
      return cell;
    }],
    ["To", (t) => t.route || t.upstream, (t) => {
      const cell = el("span", t.route || t.upstream);
      if (t.route) cell.append(" ", el("span", t.upstream, "dim"));
      return cell;
    }],
    ["Sent", (t) => t.bytes_up, (t) => el("span", size(t.bytes_up)), "number"],
    ["Received", (t) => t.bytes_down, (t) => el("span", size(t.bytes_down)), "number"],
    ["Age", (t) => t.age_ms, (t) => el("span", time(t.age_ms)), "number"],
    ["Idle", (t) => t.idle_ms, (t) => el("span", time(t.idle_ms)), "number"],
    ["", () => "", killButton],
  ],
  certificates: [
    ["Certificate", (c) => c.name],
    ["Names", (c) => (c.names || []).join(", ")],
    ["Left", (c) => c.days_left, (c) => days(c.days_left), "number"],
  ],
  sources: [
    ["Source", (s) => s.name],
    ["State", (s) => s.state, (s) => el("span", s.state, s.state === "live" ? "live" : "stale")],
    ["Since", (s) => s.since, (s) => el("span", s.since === undefined ? "" : time(s.since)), "number"],
  ],
};

const data = {};
const order = {};
const drawn = {};

function draw(name) {
  const columns = TABLES[name];
  const wanted = byId("filter").value.trim().toLowerCase();
  const [by, direction] = order[name] || [0, 1];
  const all = data[name] || [];
  const matches = (row) => columns.some(([, value]) => String(value(row) ?? "").toLowerCase().includes(wanted));
  const rows = (wanted ? all.filter(matches) : [...all]).sort((a, b) => {
    const [x, y] = [columns[by][1](a) ?? "", columns[by][1](b) ?? ""];
    return direction * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
  });
  byId(name + "-count").textContent = wanted ? rows.length + "/" + all.length : all.length;
  const section = byId(name);
  section.querySelector(".empty").hidden = all.length > 0;
  // A table that is drawn anew loses the focus and the selection of its reader.
  const now = JSON.stringify([rows, by, direction]);
  if (drawn[name] === now) return;
  drawn[name] = now;
  section.querySelector("table")?.remove();
  if (all.length === 0) return;
  const table = el("table");
  const head = table.createTHead().insertRow();
  columns.forEach(([title, , , className], at) => {
    const cell = el("th");
    if (className) cell.className = className;
    cell.scope = "col";
    if (title) {
      const button = el("button", title);
      button.addEventListener("click", () => {
        order[name] = [at, by === at ? -direction : 1];
        draw(name);
      });
      if (by === at) cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      cell.append(button);
    }
    head.append(cell);
  });
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const [title, value, show, className] of columns) {
      const cell = line.insertCell();
      if (className) cell.className = className;
      cell.dataset.label = title;
      cell.append(show ? show(row) : el("span", value(row) ?? ""));
    }
  }
  section.append(table);
}

const drawAll = () => Object.keys(TABLES).forEach(draw);

async function ask(path, options) {
  const response = await fetch(path, { cache: "no-store", ...options });
  if (!response.ok) throw new Error(response.status + " " + (await response.text()).trim());
  return response.json();
}

let lastError = null;

async function poll() {
  const status = byId("status");
  try {
    const [routes, tunnels, certificates] = await Promise.all(
      ["routes.json", "tunnels.json", "certificates.json"].map((path) => ask(path)));
    Object.assign(data, {
      routes: routes.routes, unrouted: routes.unrouted, sources: routes.sources,
      tunnels: tunnels.tunnels, certificates: certificates.certificates,
    });
    drawAll();
    const down = data.routes.filter((route) => route.state !== "live").length;
    status.textContent = lastError || (data.routes.length - down) + " of " + data.routes.length + " routes are live";
    status.className = lastError ? "lost" : "";
  } catch (error) {
    status.textContent = "The gateway does not answer; what is shown is old. " + error.message;
    status.className = "lost";
  }
  setTimeout(poll, document.hidden ? 5 * POLL_MS : POLL_MS);
}

function askToKill(tunnel) {
  const dialog = byId("confirm");
  byId("confirm-text").textContent =
    "End the tunnel of " + (tunnel.identity || tunnel.peer) + " to " + (tunnel.route || tunnel.upstream) + "?";
  byId("token").value = sessionStorage.getItem("token") || "";
  dialog.returnValue = "cancel";
  dialog.onclose = async () => {
    if (dialog.returnValue !== "kill") return;
    const token = byId("token").value;
    if (token) sessionStorage.setItem("token", token);
    const headers = {};
    if (token) headers.Authorization = "Bearer " + token;
    try {
      await ask("kill?tunnel=" + tunnel.id, { method: "POST", headers });
      lastError = null;
    } catch (error) {
      sessionStorage.removeItem("token");
      lastError = "The tunnel was not ended: " + error.message;
      byId("status").textContent = lastError;
      byId("status").className = "lost";
    }
  };
  dialog.showModal();
}

byId("filter").addEventListener("input", drawAll);
poll();
