"""A check that fails denies, and the code has no door for what the parsers must never meet (SEC-065, 067, 101, 103)."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

import engine
from engine.config import Config, SecurityConfig
from engine.domain.enums import Role
from engine.errors import ForbiddenError
from engine.http import dispatch, refusals
from engine.http.endpoint import ApiRequest, Registry, endpoint
from engine.http.inner_call import InnerCalls
from engine.http.permissions import Permission
from tests.support.api import ApiServices, RunningApi, running_api

ROOT = Path(engine.__file__).parent
ran: list[str] = []


@endpoint("POST", "/dangerous", permission=Permission.TRADE, summary="Dangerous")
async def dangerous(request: ApiRequest) -> str:
    ran.append(request.request_id)
    return "done"


REGISTRY = Registry([dangerous])


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    ran.clear()
    yield
    ran.clear()


async def post(api: RunningApi, role: Role = Role.TRADER) -> Any:
    headers = api.services.bearer(api.services.add_user(role))
    return await api.client.post("/api/v1/dangerous", headers=headers)


async def test_without_a_fault_it_runs() -> None:
    async with running_api(ApiServices(), REGISTRY) as api:
        assert (await post(api)).status_code == 200
        assert len(ran) == 1


@pytest.mark.parametrize("broken", ["authenticate", "require", "seen_by", "_path_values"])
async def test_sec_101_check_that_raises_denies(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("injected /srv/engine/secret.py")

    async with running_api(ApiServices(), REGISTRY) as api:
        monkeypatch.setattr(dispatch, broken, fail)
        answer = await post(api)
        assert answer.status_code == 500
        assert answer.json()["error"]["code"].startswith("INTERNAL")
        assert "injected" not in answer.text
        assert ran == []


async def test_sec_101_limits_gate_and_sessions_that_raise_deny(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("injected")

    async def gate(*_: Any) -> None:
        raise RuntimeError("injected")

    services = ApiServices()
    async with running_api(services, REGISTRY, gate=gate) as api:
        assert (await post(api)).status_code == 500
    for part, name in ((services.rate_limits, "charge"), (services.sessions, "is_revoked"), (services.users, "get")):
        with monkeypatch.context() as patch:
            async with running_api(services, REGISTRY) as api:
                patch.setattr(part, name, fail)
                assert (await post(api)).status_code == 500
    assert ran == []


async def test_sec_101_record_that_cannot_be_made_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    services = ApiServices()

    def fail(*_: Any) -> Any:
        raise RuntimeError("injected")

    async with running_api(services, REGISTRY) as api:
        monkeypatch.setattr(refusals.RefusalPace, "let", fail)
        assert (await post(api, Role.VIEWER)).status_code in (403, 500)
        assert ran == []


async def test_sec_011_chat_acts_for_nobody_who_lacks_the_factor_that_is_required() -> None:
    services = ApiServices(config=Config(security=SecurityConfig(require_mfa="all")))
    calls = InnerCalls(cast("Any", services), REGISTRY)
    without, enrolled = services.add_user(Role.TRADER), services.add_user(Role.TRADER, mfa=True)
    with pytest.raises(ForbiddenError) as refused:
        await calls(without, "POST", "/dangerous", origin="telegram", request_id="r1")
    assert refused.value.code == "MFA_REQUIRED"
    assert ran == []
    assert await calls(enrolled, "POST", "/dangerous", origin="telegram", request_id="r2") == "done"


async def test_sec_103_who_may_not_and_who_comes_too_often_is_on_record_at_a_bounded_pace() -> None:
    limits = msgspec.structs.replace(Config().limits, api_per_minute=5)
    services = ApiServices(config=Config(limits=limits))
    async with running_api(services, REGISTRY) as api:
        viewer, trader = services.add_user(Role.VIEWER), services.add_user(Role.TRADER)
        for _ in range(40):
            await api.client.post("/api/v1/dangerous", headers=services.bearer(viewer))
            await api.client.post("/api/v1/dangerous", headers=services.bearer(trader))
            await api.client.post("/api/v1/dangerous", headers={"Authorization": "Bearer a.b.c"})
            await api.client.post("/api/v1/dangerous")
        assert sorted(services.ledger.actions) == ["ACCESS_DENIED", "RATE_LIMITED", "TOKEN_REFUSED"]
        denied = next(draft for draft in services.ledger.drafts if draft.action == "ACCESS_DENIED")
        assert denied.actor == f"user:{viewer.id}"
        assert denied.subject == "POST /api/v1/dangerous"
        services.clock.advance(11)
        await api.client.post("/api/v1/dangerous", headers=services.bearer(viewer))
        assert services.ledger.drafts[-1].content["keptBackBefore"] > 30


# what the code may not contain


def nodes(words: str, *, under: str = "") -> Iterator[tuple[str, ast.AST]]:
    """The syntax of the modules in which one of *words* stands; taking all of them apart takes seconds."""
    some = re.compile(rf"\b(?:{words})\b")
    for path in (ROOT / under).rglob("*.py"):
        text = path.read_text()
        if some.search(text):
            yield from ((path.relative_to(ROOT).as_posix(), node) for node in ast.walk(ast.parse(text)))


def calls(words: str, *, under: str = "") -> Iterator[tuple[str, ast.Call, str]]:
    for module, node in nodes(words, under=under):
        if isinstance(node, ast.Call):
            yield module, node, ast.unparse(node.func)


def imports(words: str) -> Iterator[tuple[str, str]]:
    for module, node in nodes(words):
        if isinstance(node, ast.Import):
            yield from ((module, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield module, node.module


def test_sec_065_nothing_unpickles_evaluates_or_loads_yaml() -> None:
    loaders = {"pickle", "cPickle", "dill", "shelve", "marshal", "yaml", "jsonpickle", "xml", "lxml", "cloudpickle"}
    assert [(m, name) for m, name in imports("|".join(loaders)) if name.partition(".")[0] in loaders] == []
    forbidden = {"eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"}
    written = r"eval|exec|(?<!re\.)compile|__import__"
    assert [(module, name) for module, _, name in calls(written) if name in forbidden] == []


def test_sec_067_nothing_runs_a_shell() -> None:
    shells = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "commands.getoutput"}
    found = []
    for module, node, name in calls("shell|system|popen|getoutput|getstatusoutput"):
        shell = any(
            k.arg == "shell" and not (isinstance(k.value, ast.Constant) and not k.value.value) for k in node.keywords
        )
        if name in shells or shell:
            found.append((module, name))
    assert found == []


def test_sec_067_no_route_makes_a_path_of_the_file_system() -> None:
    opened = [
        (module, name)
        for module, _, name in calls("open|Path|open_file|write_text|read_bytes", under="http/routes")
        if (name in ("open", "Path", "trio.Path") or name.endswith((".open_file", ".write_text", ".read_bytes")))
    ]
    assert opened == []


def test_sec_063_rule_against_sql_out_of_strings_is_on() -> None:
    with (ROOT.parent / "pyproject.toml").open("rb") as file:
        lint = tomllib.load(file)["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert not [rule for rule in lint.get("ignore", ()) if rule in ("S", "S6", "S60", "S608")]
    # every exception says why, so that none is made without a thought
    silent = [
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "http").rglob("*.py")
        for line in path.read_text().splitlines()
        if "S608" in line
    ]
    assert silent == [], "SQL is made in engine/store, nowhere else"
