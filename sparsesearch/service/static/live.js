// Refreshes the parts of a page when its study changes, and shows the schedule of the mark that is pointed at.
// Pages work without it: they are then loaded again by hand or every few seconds, and marks are links.
"use strict";

(() => {
  const SOON_MS = 1000;
  const SLOW_MS = 4000;
  const AGAIN_MS = 3000;

  document.documentElement.classList.add("script");

  // ---- parts of a page ----

  const waiting = new Map();

  function refresh(part) {
    if (!waiting.has(part.id)) {
      const slow = part.dataset.slow !== undefined;
      waiting.set(part.id, setTimeout(() => {
        waiting.delete(part.id);
        const now = document.getElementById(part.id);
        // A menu that somebody has opened stays open.
        if (now && !now.querySelector("details.menu[open]")) htmx.trigger(now, "refresh");
      }, slow ? SLOW_MS : SOON_MS));
    }
  }

  // Nor is one closed by an answer that was asked for before it was opened.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, requestConfig } = event.detail;
    if (requestConfig.verb === "get" && target.querySelector("details.menu[open]")) event.detail.shouldSwap = false;
  });

  function refreshAll(event) {
    for (const part of document.querySelectorAll("[data-on]")) {
      if (event === null || part.dataset.on.split(" ").includes(event)) refresh(part);
    }
  }

  // ---- events of a study ----

  const live = document.querySelector("[data-events]");
  const connection = document.getElementById("connection");
  let stopped = null;
  let last = live === null ? "" : live.dataset.change;
  let state = live === null ? "" : live.dataset.state;
  let known = false;
  let over = false;

  function say(text) {
    if (connection !== null) {
      connection.textContent = text;
      connection.hidden = text === "";
    }
  }

  function take(block) {
    let kind = "message";
    let data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("event:")) kind = line.slice(6).trim();
      if (line.startsWith("data:")) data += line.slice(5);
      if (line.startsWith("id:")) last = line.slice(3).trim();
    }
    if (kind === "trial") refreshAll(kind);
    if (kind === "study") { // the first one says what the page already shows
      const found = JSON.parse(data).state;
      if (state !== found || known) refreshAll(kind);
      [state, known] = [found, true];
    }
    if (kind === "end") {
      over = true;
      refreshAll(null);
    }
  }

  // Not an EventSource, which cannot say from where on it wants to hear: it would be sent all trials first.
  async function listen(signal) {
    while (!over && !signal.aborted) {
      try {
        const headers = { "Last-Event-ID": last, Accept: "text/event-stream" };
        const answer = await fetch(live.dataset.events, { headers, signal, cache: "no-store" });
        if (answer.status === 401 || answer.status === 404) {
          location.reload();
          return;
        }
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        say("");
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        for (let part = await reader.read(); !part.done; part = await reader.read()) {
          text = (text + part.value).replace(/\r\n/g, "\n");
          const blocks = text.split("\n\n");
          text = blocks.pop();
          blocks.forEach(take);
        }
      } catch (error) {
        if (signal.aborted) return;
        say("The connection was lost; trying again.");
      }
      if (!over) await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  }

  function follow() {
    if (live === null || over) return;
    if (document.hidden) { // browsers allow only a few connections to a server
      if (stopped !== null) stopped.abort();
      stopped = null;
    } else if (stopped === null) {
      stopped = new AbortController();
      listen(stopped.signal);
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refreshAll(null);
    follow();
  });
  follow();

  for (const part of document.querySelectorAll("[data-every]")) {
    setInterval(() => {
      const now = document.getElementById(part.id);
      if (now && !document.hidden && !now.contains(document.activeElement)) htmx.trigger(now, "refresh");
    }, 1000 * Number(part.dataset.every));
  }

  // ---- the schedule of a mark, next to it ----

  const GAP = 12;
  const peek = document.createElement("div");
  peek.id = "peek";
  peek.setAttribute("role", "tooltip");
  peek.hidden = true;
  document.getElementById("main").append(peek);
  let mark = null;
  let pointing = 0;

  function place() {
    const at = mark.getBoundingClientRect();
    const { width, height } = peek.getBoundingClientRect();
    const right = at.right + GAP;
    const left = right + width <= innerWidth - GAP ? right : at.left - GAP - width;
    const beside = left >= GAP;
    const below = at.bottom + GAP + height <= innerHeight ? at.bottom + GAP : at.top - GAP - height;
    const top = beside ? (at.top + at.bottom - height) / 2 : below;
    peek.style.left = `${beside ? left : GAP}px`;
    peek.style.top = `${Math.max(GAP, Math.min(top, innerHeight - GAP - height))}px`;
  }

  function hide() {
    clearTimeout(pointing);
    if (mark !== null) mark.removeAttribute("aria-describedby");
    mark = null;
    peek.hidden = true;
  }

  async function show(link) {
    hide();
    mark = link;
    const title = link.querySelector("title");
    if (title !== null) { // the browser would show it as well
      link.setAttribute("aria-label", title.textContent);
      title.remove();
    }
    await htmx.ajax("GET", `${link.getAttribute("href")}?part=card`, { target: peek, swap: "innerHTML" });
    if (mark !== link) return;
    link.setAttribute("aria-describedby", peek.id);
    peek.hidden = false;
    place();
  }

  function point(event) {
    const on = event.target instanceof Element ? event.target : null;
    const link = on === null ? null : on.closest(".charts a[href]");
    if (mark !== null && (link === mark || peek.contains(on))) {
      clearTimeout(pointing);
      return;
    }
    clearTimeout(pointing);
    pointing = setTimeout(() => (link === null ? hide() : show(link)), link === null ? 250 : 80);
  }

  document.addEventListener("pointerover", point);
  document.addEventListener("focusin", point);
  document.addEventListener("scroll", () => { if (!peek.hidden) place(); }, { passive: true });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
})();
