"""The web console: pages for people, made on the server, kept live by events, under ``/console``.

A page is a client of the API. It shows what API handlers answer, and acts by sending what a program would send: in
this process, as the signed-in person, through every check of the API (`engine.http.self_calls`). The console decides
nothing itself and reaches no actor and no store.

How a page is made: one module, one template, one line
------------------------------------------------------

1. ``views/NAME.py``: coroutines that get a `Visit`, declared with `engine.console.pages`::

       @page("/console/strategies", Permission.READ)
       async def strategies_page(visit: Visit) -> Raw:
           found = await visit.gather(strategies=visit.listing("/strategies", cursor=visit.query.get("cursor")))
           return visit.render("strategies.html", strategies=found["strategies"].items, ...)

       @action("/console/strategies/{id}/disable", Permission.TRADE)
       async def disable(visit: Visit) -> Raw:
           await visit.send("PATCH", "/strategies/{id}", {"enabled": False}, values=visit.request.path)
           return visit.done("Strategy disabled", changed="strategy")

   - ``visit.get`` / ``listing`` / ``send`` name endpoints as they are declared, without ``/api/v1``; they return plain
     dicts with the API's camelCase names, numbers as int or Decimal (never float), times as ISO text.
   - What the API refuses comes as `Refused`. Let it go, and a page shows it, an action makes a toast of it, and
     STEP_UP_REQUIRED asks for the password and then sends the same once more. Catch it only to show a form again with
     ``refused.fields`` (answer 422: the page swaps it in). Let STEP_UP_REQUIRED go even then.
   - What the role may not do is not offered: ``{% if can(Permission.TRADE) %}`` around every button. The API refuses
     it anyway.
   - An action answers ``visit.done(text, changed="kinds")`` (a toast; dialogs close; live parts of these kinds are read
     anew), ``visit.fragment`` (into a dialog) or ``visit.redirect``. Pages are GET, everything else is POST.

2. ``templates/NAME.html``: extends ``base.html``, fills ``title`` and ``main``, takes its pieces from
   ``macros.html``, which every template has as ``ui``: table, filters, pager, empty, field, select, time, day_time,
   money, badge, side, opens (a button that opens a dialog made by the server), confirm (the inside of one).

   - What must stay live is a block ``part_NAME`` around one element that carries
     ``{{ ui.live(visit, "NAME", "kinds of events") }}``; the same address with ``?_part=NAME`` answers that block
     alone, and the page morphs it in place: focus, scroll and open menus stay. Kinds are those of the stream (intent,
     order, fill, position, pnl, killswitch, alert) and whatever words ``done(changed=)`` uses.
   - A block that is a part imports what it needs inside itself, for it is rendered without the rest.
   - Rows of tables have an ``id``, so that morphing knows them again; cells have ``data-label`` for the phone.
   - No ``<script>`` or ``<style>`` with content, no ``style=`` or ``on...=``: the policy of the pages refuses them.
   - Every list has an empty state that says what to do next.
   - A dialog that asks is a table of fields (`engine.console.forms`) in an `engine.console.dialogs.Dialog`,
     which draws itself, reads what was typed, sends what differs and shows again what the API refuses.
   - What is shown once carries ``data-keep`` (only its own button closes it) and ``copied`` of form_macros.html; its
     page adds ``static("copy.js")``.

3. One line in `engine.console.navigation.PAGES`, and the module in ``_MODULES`` below.

Styles are in ``static/console.css`` (colours only by its variables), scripts in ``static/console.js``; a page with a
script of its own adds it in its ``scripts`` block by ``static(NAME)``. Vendored files: ``static/vendor/VENDORED.md``.
"""

from collections.abc import Iterable

from engine.console import static_files
from engine.console.views import (
    accounts,
    audit,
    drills,
    intents,
    kill,
    letters,
    limits,
    live,
    orders,
    overview,
    own,
    people,
    pnl,
    positions,
    search,
    send_signal,
    sign_in,
    sources,
    start,
    strategies,
    system,
    trades,
)
from engine.http.endpoint import Endpoint, Registry

_MODULES = (
    *(static_files, sign_in, live, overview, orders, kill),
    *(intents, send_signal, trades, positions, pnl, search, audit, letters),
    *(limits, drills, accounts, strategies, sources, own, people, system, start),
)


def pages() -> Iterable[Endpoint]:
    """Return everything that the console serves."""
    return Registry.of(*_MODULES)
