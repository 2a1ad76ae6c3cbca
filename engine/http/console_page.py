"""The page on which a person logs kite accounts in and approves signals, and the one that tells how a login ended.

Plain HTML with one style sheet and one script, all from this host: the policy lets nothing else in. The
access token lives in the script's memory only, so closing the page signs out of it.
"""

from html import escape

from engine.http.endpoint import Raw

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_RESULT_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

STYLE = """\
:root { color-scheme: light dark; --line: #8884; --ground: #f4f6f8; --sheet: #fff; --ink: #1c2430; --quiet: #687586;
  --bad: #b3261e; --good: #1b7f3b; --act: #1f5fbf; --on-act: #fff; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181d; --sheet: #1c222a; --ink: #dfe5ec; --quiet: #93a0b0;
  --bad: #ff8a80; --good: #6fd08c; --act: #7fb0ff; --on-act: #10151b; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2.5rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--ground); }
h1 { font-size: 1.5rem; margin: 0 0 1rem; }
form, table, .sheet { background: var(--sheet); border: 1px solid var(--line); border-radius: .5rem; }
form > p, .sheet > p:first-child { margin-top: 0; }
form, .sheet { max-width: 24rem; padding: 1.2rem 1.4rem; }
label { display: block; margin: .8rem 0; }
input { font: inherit; color: inherit; background: var(--ground); display: block; box-sizing: border-box; width: 100%;
  margin-top: .2rem; padding: .4rem .6rem; border: 1px solid var(--line); border-radius: .3rem; }
button { font: inherit; padding: .35rem .9rem; margin: 0 .5rem .3rem 0; cursor: pointer; white-space: nowrap;
  border: 0; border-radius: .3rem; color: var(--on-act); background: var(--act); }
button:focus-visible, input:focus-visible { outline: 2px solid var(--act); outline-offset: 2px; }
a { color: var(--act); }
table { border-collapse: separate; border-spacing: 0; width: 100%; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: .7rem 1rem; }
tr + tr td, thead + tbody td { border-top: 1px solid var(--line); }
td p { margin: .2rem 0 0; font-size: .9rem; overflow-wrap: anywhere; }
.quiet { color: var(--quiet); }
.bad { color: var(--bad); }
.good { color: var(--good); }
"""

PAGE = """\
<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Log in to Zerodha</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/console/login.css"><script src="/console/login.js" defer></script></head><body>
<h1>Log in to Zerodha</h1>
<noscript><p class="bad">This page needs JavaScript. Without it: <code>engine login ACCOUNT</code>.</p></noscript>
<form id="sign-in" autocomplete="on">
<p class="quiet">Sign in to the engine first.
Never type your Zerodha password or code here: they belong on Zerodha's own page.</p>
<label>E-mail <input name="email" type="text" autocomplete="username" required maxlength="256"></label>
<label>Password of the engine
<input name="password" type="password" autocomplete="current-password" required maxlength="1024"></label>
<button type="submit">Sign in</button>
</form>
<p id="message" role="status"></p>
<table id="accounts" hidden><thead><tr><th>Account</th><th>State</th><th></th></tr></thead><tbody></tbody></table>
<section id="waiting" hidden><h2>Signals that wait for you</h2>
<table aria-label="Signals that wait for you"><thead><tr><th>Signal</th><th>Until</th><th></th></tr></thead>
<tbody></tbody></table></section>
</body></html>
"""

SCRIPT = """\
"use strict";
const base = "/api/v1";
let token = null;
let timer = null;
let awaited = null;
let shown = "";
let asked = "";
const message = document.getElementById("message");
const table = document.getElementById("accounts");
const waiting = document.getElementById("waiting");
const form = document.getElementById("sign-in");

function say(text, kind) {
  message.textContent = text;
  message.className = kind || "";
}

async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = "Bearer " + token;
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(base + path, {
    method, headers, body: body ? JSON.stringify(body) : undefined, credentials: "omit", cache: "no-store",
  });
  const content = await answer.json();
  if (!content.success) {
    const error = new Error(content.error.message);
    error.status = answer.status;
    throw error;
  }
  return content;
}

function signedOut(text) {
  token = null;
  clearTimeout(timer);
  table.hidden = true;
  waiting.hidden = true;
  form.hidden = false;
  say(text, "bad");
}

async function allAccounts() {
  const found = [];
  let cursor = null;
  do {
    const page = await call("GET", "/accounts?limit=200" + (cursor ? "&cursor=" + encodeURIComponent(cursor) : ""));
    found.push(...page.data);
    cursor = page.page.nextCursor;
  } while (cursor);
  return found.filter((account) => account.broker === "kite");
}

function row(account) {
  const line = document.createElement("tr");
  const name = document.createElement("td");
  name.textContent = account.label + (account.brokerUserId ? " (" + account.brokerUserId + ")" : "");
  const state = document.createElement("td");
  const word = document.createElement("strong");
  word.textContent = account.status;
  word.className = account.status === "ACTIVE" ? "good" : "bad";
  state.append(word);
  if (account.statusReason) {
    const reason = document.createElement("p");
    reason.textContent = account.statusReason;
    state.append(reason);
  }
  const action = document.createElement("td");
  action.append(button("Log in to Zerodha", () => logIn(account)));
  if (account.status === "ORDERS_BLOCKED") action.append(button("Unblock", () => unblock(account)));
  line.append(name, state, action);
  return line;
}

function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

function signalRow(intent) {
  const line = document.createElement("tr");
  const what = document.createElement("td");
  const side = intent.positionSize === null
    ? intent.transactionType + " " + intent.quantity : "to " + intent.positionSize;
  what.textContent = side + " " + intent.exchange + ":" + intent.symbol + " " + intent.orderType + " " +
    intent.productType + (intent.price === null ? "" : " @ " + intent.price);
  const seen = document.createElement("p");
  if (intent.seenPrice !== null) seen.textContent = "the price was " + intent.seenPrice + " when it came";
  what.append(seen);
  const until = document.createElement("td");
  until.textContent = intent.expiresAt === null ? "" :
    new Date(intent.expiresAt).toLocaleTimeString("en-IN", { timeZone: "Asia/Kolkata" }) + " IST";
  const action = document.createElement("td");
  action.append(button("Approve", () => answer(intent, "approve")), button("Reject", () => answer(intent, "reject")));
  line.append(what, until, action);
  return line;
}

async function answer(intent, word) {
  try {
    const came = (await call("POST", "/signals/intents/" + encodeURIComponent(intent.id) + "/" + word)).data;
    const why = came.reason ? ": " + came.reason : ".";
    say(intent.symbol + " is " + came.status + why, came.status.startsWith("EXECUT") ? "good" : "");
  } catch (error) {
    if (error.status === 401) return signedOut("Signed out: sign in again.");
    say(error.message, "bad");
  }
  await show();
}

async function showWaiting() {
  const intents = (await call("GET", "/signals/intents?status=PENDING_APPROVAL&limit=50")).data;
  const wanted = JSON.stringify(intents);
  if (wanted !== asked) waiting.querySelector("tbody").replaceChildren(...intents.map(signalRow));
  asked = wanted;
  waiting.hidden = intents.length === 0;
}

async function unblock(account) {
  try {
    await call("POST", "/accounts/" + encodeURIComponent(account.id) + "/unblock");
    say(account.label + " may order again; the next order shows whether the broker agrees.", "good");
    await show();
  } catch (error) {
    if (error.status === 401) signedOut("Signed out: sign in again.");
    else say(error.message, "bad");
  }
}

async function show() {
  try {
    const accounts = await allAccounts();
    // rows that say the same stay: a button made anew under a finger or a pointer loses its press
    const wanted = JSON.stringify(accounts);
    if (wanted !== shown) table.tBodies[0].replaceChildren(...accounts.map(row));
    shown = wanted;
    table.hidden = accounts.length === 0;
    await showWaiting();
    const came = awaited && accounts.find((a) => a.id === awaited.id && a.loggedInAt !== awaited.loggedInAt);
    if (came) {
      awaited = null;
      say(came.label + " is logged in.", "good");
    }
    if (accounts.length === 0 && waiting.hidden) {
      say("There is no kite account yet; add one with POST /api/v1/accounts.");
    }
  } catch (error) {
    if (error.status === 401) signedOut("Signed out: sign in again.");
    else say(error.message, "bad");
  }
}

// the next reading waits for this one: a slow answer never piles up requests
async function follow() {
  await show();
  if (token) timer = setTimeout(follow, 2000);
}

async function logIn(account) {
  // opened in the click itself, or the browser would keep it from opening
  const tab = window.open("", "_blank");
  try {
    const link = (await call("GET", "/accounts/" + encodeURIComponent(account.id) + "/login-url")).data;
    if (tab) {
      tab.opener = null;
      tab.location.replace(link.url);
      awaited = account;
      say("Finish the login of " + account.label + " in the other tab; this page follows.");
    } else {
      window.location.assign(link.url);
    }
  } catch (error) {
    if (tab) tab.close();
    if (error.status === 401) signedOut("Signed out: sign in again.");
    else say(error.message, "bad");
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(form);
  const body = { email: fields.get("email"), password: fields.get("password") };
  try {
    token = (await call("POST", "/auth/login", body)).data.accessToken;
    form.reset();
    form.hidden = true;
    say("Signed in.", "good");
    await follow();
  } catch (error) {
    say(error.message, "bad");
  }
});
"""


def login_page() -> Raw:
    """Return the page itself: it holds nothing of anybody."""
    return Raw(PAGE.encode(), "text/html; charset=utf-8", headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


def result_page(*, title: str, text: str, is_good: bool, status: int) -> Raw:
    """Return the page that a browser is shown at the end of a login; without a script."""
    kind = "good" if is_good else "bad"
    body = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/console/login.css"></head><body>'
        f'<h1>{escape(title)}</h1><div class="sheet"><p class="{kind}">{escape(text)}</p>'
        '<p><a href="/console/login">All accounts</a></p></div></body></html>'
    )
    return Raw(body.encode(), "text/html; charset=utf-8", status, {"Content-Security-Policy": _RESULT_POLICY})
