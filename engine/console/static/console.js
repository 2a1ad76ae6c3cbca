// What every page does: live parts, dialogs, toasts, proving again who one is, light and dark. No page state lives here.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

  // every change shows the token of its page
  document.addEventListener("htmx:configRequest", (event) => {
    event.detail.headers["X-Page-Token"] = meta("page-token");
  });

  // toasts
  function toast(text, kind = "") {
    const box = $("toasts");
    if (!box) return;
    const item = document.createElement("div");
    item.className = `toast ${kind}`;
    const words = document.createElement("p");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "×";
    close.setAttribute("aria-label", "Dismiss");
    close.addEventListener("click", () => item.remove());
    item.append(words, close);
    box.append(item);
    while (box.children.length > 4) box.firstElementChild.remove();
    // what went wrong stays until a person has read it
    if (kind !== "bad") setTimeout(() => item.remove(), 6000);
  }
  document.addEventListener("console:toast", (event) => toast(event.detail.text, event.detail.kind));
  document.addEventListener("htmx:sendError", () => toast("The engine cannot be reached", "bad"));

  // dialogs: a button with data-dialog opens it with the template that it names, or with what the server answers
  function open(dialog) {
    if (!dialog.open) dialog.showModal();
  }
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-dialog]");
    if (opener) {
      const dialog = $(opener.dataset.dialog);
      const form = $(opener.dataset.template ?? "");
      if (form) {
        dialog.firstElementChild.replaceChildren(form.content.cloneNode(true));
        htmx.process(dialog.firstElementChild);
      }
      open(dialog);
    }
    if (event.target.closest("[data-close]")) event.target.closest("dialog")?.close();
    const menu = document.querySelector(".menu[open]");
    if (menu && !menu.contains(event.target)) menu.open = false;
    if (event.target.closest("#drawer-button")) {
      const isOpen = $("side").classList.toggle("open");
      $("drawer-button").setAttribute("aria-expanded", isOpen);
    } else if (!event.target.closest("#side")) {
      $("side")?.classList.remove("open");
      $("drawer-button")?.setAttribute("aria-expanded", "false");
    }
  });
  document.addEventListener("keydown", (event) => {
    const menu = document.querySelector(".menu[open]");
    if (event.key === "Escape" && menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "dialog-body") open($("dialog"));
    if (event.detail.target.id === "kill-body") open($("kill-dialog"));
  });
  document.addEventListener("console:close", () => $("dialog")?.close());
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("close", () => {
      if (dialog.id !== "step-up") dialog.firstElementChild.replaceChildren();
    });
  }

  // a refusal that asks for the password again: prove it, then send the same once more
  let pending = null;
  document.addEventListener("htmx:beforeOnLoad", (event) => {
    if (!(event.detail.xhr.getResponseHeader("HX-Trigger") ?? "").includes("console:step-up")) return;
    const { verb, path, parameters } = event.detail.requestConfig;
    pending = { verb, path, values: { ...parameters }, source: event.detail.elt, target: event.detail.target };
  });
  document.addEventListener("console:step-up", () => {
    const dialog = $("step-up");
    dialog.querySelector("form").reset();
    open(dialog);
  });
  document.addEventListener("console:stepped-up", () => {
    $("step-up").close();
    const again = pending;
    pending = null;
    if (again) htmx.ajax(again.verb, again.path, { source: again.source, target: again.target, values: again.values });
  });

  // light and dark
  $("theme")?.addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    const next = dark ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    document.cookie = `console_theme=${next}; Path=/console; Max-Age=31536000; SameSite=Strict`;
    document.dispatchEvent(new CustomEvent("console:theme"));
  });

  // live parts: an element with data-live names the kinds of events after which it is read anew
  const QUIET_MS = { pnl: 2000, position: 2000 };
  // a part is read anew at most this often, so that a busy engine does not use up the person's own rate of calls
  const APART_MS = 1500;
  const due = new Map();
  const readAt = new Map();
  function refresh(kinds, isOwn = false) {
    for (const part of document.querySelectorAll("[data-live]")) {
      const wanted = part.dataset.live.split(" ").filter((kind) => kinds.includes(kind));
      if (!wanted.length && !kinds.includes("*")) continue;
      if (due.has(part.id) && !isOwn) continue;
      clearTimeout(due.get(part.id));
      const soon = Math.min(...wanted.map((kind) => QUIET_MS[kind] ?? 300), 2000);
      const wait = Math.max(soon, (readAt.get(part.id) ?? -Infinity) + APART_MS - performance.now());
      due.set(part.id, setTimeout(() => {
        due.delete(part.id);
        if (!isOwn) readAt.set(part.id, performance.now());
        const now = $(part.id);
        if (now) htmx.trigger(now, "live");
      }, isOwn ? 0 : wait));
    }
  }
  // what the person did itself shows at once
  document.addEventListener("console:changed", (event) => refresh(event.detail.kinds.split(" "), true));

  // the stream: it goes on where the page before this one stopped, so that no alert is lost by going to another page
  const KINDS = ["intent", "order", "fill", "position", "pnl", "killswitch"];
  const LAST = "console-last-event";
  let source = null;
  let hiddenTimer = null;
  function say(state, text) {
    const box = $("link-state");
    if (!box) return;
    box.dataset.state = state;
    box.title = text;
    box.firstElementChild.textContent = text;
  }
  function took(event) {
    if (event.lastEventId) sessionStorage.setItem(LAST, event.lastEventId);
  }
  function connect() {
    if (source || !meta("stream-from")) return;
    const after = sessionStorage.getItem(LAST) || meta("stream-from");
    source = new EventSource(`/console/stream?after=${encodeURIComponent(after)}`);
    source.addEventListener("hello", (event) => { took(event); say("on", "Live"); });
    source.addEventListener("reset", (event) => { took(event); refresh(["*"]); });
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        took(event);
        refresh([kind]);
        document.dispatchEvent(new CustomEvent(`console:${kind}`, { detail: JSON.parse(event.data) }));
      });
    }
    source.addEventListener("alert", (event) => {
      took(event);
      toast(JSON.parse(event.data).text, "warn");
      refresh(["alert"]);
    });
    source.addEventListener("error", () => {
      say("off", "Reconnecting");
      if (source.readyState !== EventSource.CLOSED) return;
      source = null;
      // a session that has ended answers this with the way to the sign-in page
      htmx.ajax("GET", "/console/kill/bar", { target: "#kill-bar", swap: "outerHTML" });
      setTimeout(connect, 3000);
    });
  }
  function disconnect() {
    source?.close();
    source = null;
  }
  // a tab that nobody looks at keeps no connection; what it missed comes when it is looked at again
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = setTimeout(disconnect, 30000);
    else connect();
  });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);
  document.addEventListener("DOMContentLoaded", connect);
})();
