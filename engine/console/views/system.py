"""/console/system: whether the day can begin, each check with its mend; queues, actors, versions."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.console.dialogs import Dialog
from engine.console.forms import Field
from engine.console.pages import action, page, sentence
from engine.console.views.overview import flat, stores
from engine.console.visit import Refused, Visit
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/system"
_DOCTOR = "/system/readiness"
_TONES = {"ok": "good", "warn": "warn", "fail": "bad"}
_WORST_FIRST = ("fail", "warn", "ok")
_PLAIN_NAMES = {"accounts": "Accounts", "engine": "Engine", "account": "Account", "source": "Source"}


@page(PATH, Permission.ADMIN)
async def system_page(visit: Visit) -> Raw:
    """The engine itself. The checks ask every broker, take a while, and come after the page."""
    if visit.part == "checks":
        return visit.render("system.html", doctor=await _doctor(visit))
    found = await visit.gather(
        health=visit.get("/system/health"),
        ready=visit.get("/system/ready"),
        tree=visit.get("/system/actors"),
        queues=visit.listing("/system/queues"),
        metrics=visit.get("/system/metrics"),
        flags=visit.listing("/system/flags"),
        settings=visit.get("/system/settings"),
    )
    return visit.render(
        "system.html",
        version=found["health"]["version"],
        ready=found["ready"],
        actors=list(flat(found["tree"])),
        queues=found["queues"].items,
        stores=stores(found["metrics"]),
        metrics=found["metrics"],
        flags=found["flags"].items,
        sections=sections_of(found["settings"]["settings"]),
        doctor=None,
    )


@page(PATH + "/override", Permission.ADMIN)
async def override_form(visit: Visit) -> Raw:
    """The dialog that asks why entries shall go through in spite of what failed."""
    return _override().shown(visit)


@action(PATH + "/override", Permission.ADMIN)
async def override(visit: Visit) -> Raw:
    """Lets entries through until the next morning."""
    _, again = await _override().answered(visit, lambda body: visit.send("POST", f"{_DOCTOR}/override", body))
    return again or visit.redirect(PATH)


async def _doctor(visit: Visit) -> dict[str, Any]:
    """Return the checks of the morning; those of the plain readiness where the API offers no others."""
    try:
        found = await visit.get(_DOCTOR)
    except KeyError:
        found = await visit.get("/system/ready")
    except Refused as refused:
        return {"problem": sentence(refused), "checks": [], "gate": None, "state": "fail", "checkedAt": None}
    checks = checks_of(found)
    states = {each["state"] for each in checks}
    return {
        "problem": "",
        "checks": checks,
        "gate": found.get("gate"),
        "state": next((state for state in _WORST_FIRST if state in states), "ok"),
        "checkedAt": found.get("checkedAt"),
    }


def sections_of(settings: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the settings by section, each as text, those that differ from what stands in no file told apart."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in settings:
        found.setdefault(each["section"], []).append({**each, "text": _text(each)})
    return list(found.items())


def _text(setting: Mapping[str, Any]) -> str:
    if setting["isSecret"]:
        return "set" if setting["isSet"] else "not set"
    value = setting["value"]
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {each}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def checks_of(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the checks of a readiness answer, the worst first: a list of them, or plain ones by name."""
    given = found.get("checks") or []
    if isinstance(given, Mapping):
        given = [
            {"code": name, "state": "ok" if each["ok"] else "fail", "found": each["detail"]}
            for name, each in given.items()
        ]
    made = [
        {
            "code": each["code"],
            "about": " ".join(filter(None, (_PLAIN_NAMES.get(each.get("scope", ""), ""), each.get("name", "")))),
            "state": each["state"],
            "tone": _TONES.get(each["state"], "quiet"),
            "found": each.get("found", ""),
            "mend": each.get("mend", ""),
        }
        for each in given
    ]
    return sorted(made, key=lambda each: _WORST_FIRST.index(each["state"]) if each["state"] in _WORST_FIRST else 0)


def _override() -> Dialog:
    return Dialog(
        path=PATH + "/override",
        title="Let entries through all the same?",
        text="Until the next morning's report. It goes on the audit log and is told as an alert.",
        submit="Let them through",
        kind="danger",
        keep="Keep them back",
        fields=(Field("reason", "Why it is safe", required=True),),
    )
