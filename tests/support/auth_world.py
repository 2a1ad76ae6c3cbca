"""The sign-in endpoints, served for a module of tests: real HTTP and PostgreSQL, a clock that is moved by hand.

The server runs on a thread of its own, so the tests are plain ones. Whoever calls may come from any address: the
loopback is a trusted proxy here.
"""

import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from queue import Queue
from typing import Any

import httpx
import msgspec
import outcome
import pyotp
import trio

from engine.config import Config
from engine.domain.enums import Role
from engine.http.endpoint import ApiRequest, Registry, endpoint
from engine.http.permissions import Permission
from engine.http.ratelimit import RateLimits
from engine.http.routes import api_tokens, auth, second_factor, sessions
from engine.http.sign_in import reload_auth
from engine.ids import uuid7
from engine.runtime.asyncio_bridge import open_aio
from engine.security.passwords import hash_password
from engine.security.sessions import UserRecord
from engine.store import users as store
from engine.store.database import Database
from engine.store.migrate import migrate
from tests.support.api import ApiServices, running_api
from tests.support.servers import TestServers
from tests.support.trio_thread import TrioThread

PASSWORD = "correct horse battery staple"
OTHER = "violet kite over the pier"
HASH = hash_password(PASSWORD)
LOGIN_PER_MINUTE = 5
_numbers = itertools.count(1)


def _probe(path: str, permission: Permission, *, fresh: bool = False) -> Any:
    async def probe(request: ApiRequest) -> dict[str, str]:
        return {"role": request.user.role.value}

    return endpoint("POST", path, permission=permission, summary="Probe", fresh=fresh)(probe)


PROBES = Registry(
    [
        *(
            _probe(f"/probe/{each.value.lower()}", each)
            for each in Permission
            if each.value not in ("PUBLIC", "WEBHOOK")
        ),
        _probe("/probe/fresh", Permission.READ, fresh=True),
    ]
)


class Signed:
    """Somebody's tokens, and calls with them."""

    def __init__(self, world: "AuthWorld", user: UserRecord, tokens: dict[str, Any]) -> None:
        self.world = world
        self.user = user
        self.access: str = tokens["accessToken"]
        self.refresh: str = tokens.get("refreshToken", "")

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Call the API with the access token."""
        return self.world.call(method, path, body, token=self.access, **options)

    def works(self) -> bool:
        """Tell whether the access token is taken."""
        return self.call("GET", "/auth/me").status_code == 200


class AuthWorld:
    """What tests of signing in work with; every user has `PASSWORD` unless they are told another."""

    def __init__(self, thread: TrioThread, services: ApiServices, base_url: str, jobs: Any) -> None:
        self.thread = thread
        self._jobs = jobs
        self.services = services
        self.clock = services.clock
        self.http = httpx.Client(base_url=f"{base_url}/api/v1", timeout=20)

    def run(self, unit: Any) -> Any:
        """Run a unit of work in the store."""
        return self._done(lambda: self.services.database.run(unit, timeout_s=10))

    def _done(self, work: Callable[[], Awaitable[Any]]) -> Any:
        answer: Queue[outcome.Outcome[Any]] = Queue()
        # by the server's own task: the store needs the asyncio loop that runs around that one
        self.thread.call_sync(self._jobs.send_nowait, (work, answer))
        return answer.get(timeout=30).unwrap()

    def sql(self, statement: str, *args: Any) -> list[Any]:
        """Return the rows of a statement."""
        return list(self.run(lambda connection: connection.fetch(statement, *args)))

    def reload(self) -> None:
        """Bring what is in memory up to date, as the engine does every few seconds."""
        self._done(lambda: reload_auth(self.services))

    def user(self, role: Role = Role.TRADER, *, password_hash: str = HASH) -> UserRecord:
        """Add a user."""
        user_id, email, now = uuid7(), f"asha.{next(_numbers)}@desk.example", self.clock.now()

        async def unit(connection: Any) -> UserRecord | None:
            return await store.insert_user(
                connection, user_id=user_id, email=email, name="Asha", role=role, password_hash=password_hash, now=now
            )

        user: UserRecord = self.run(unit)
        self.services.users.put(user)
        return user

    def call(
        self, method: str, path: str, body: Any = None, *, token: str = "", ip: str = "", **headers: str
    ) -> httpx.Response:
        """Call the API, from *ip* if that is given."""
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"X-Forwarded-For": ip} if ip else {}
        return self.http.request(method, path, json=body, headers=headers)

    def try_login(
        self, user: UserRecord | str, password: str = PASSWORD, *, ip: str = "", **more: Any
    ) -> httpx.Response:
        """Try to sign in; *more* is what else the body holds."""
        email = user if isinstance(user, str) else user.email
        return self.call("POST", "/auth/login", {"email": email, "password": password, **more}, ip=ip)

    def login(self, user: UserRecord, password: str = PASSWORD, **options: Any) -> Signed:
        """Sign in."""
        answer = self.try_login(user, password, **options)
        assert answer.status_code == 200, answer.text
        return Signed(self, user, answer.json()["data"])

    def refresh(self, token: str) -> httpx.Response:
        """Spend a refresh token."""
        return self.call("POST", "/auth/refresh", {"refreshToken": token})

    def refreshed(self, signed: Signed) -> Signed:
        """Renew a session."""
        answer = self.refresh(signed.refresh)
        assert answer.status_code == 200, answer.text
        return Signed(self, signed.user, answer.json()["data"])

    def code(self, seed: str, *, steps: int = 0) -> str:
        """Return the code that an app shows now, or some steps of 30 s away."""
        return str(pyotp.TOTP(seed).at(int(self.clock.now().timestamp()) + 30 * steps))

    def enrol(self, signed: Signed) -> tuple[str, list[str]]:
        """Enrol a second factor; return its seed and the recovery codes. A step later the next code is good."""
        begun = signed.call("POST", "/auth/mfa/enroll")
        assert begun.status_code == 200, begun.text
        seed: str = begun.json()["data"]["secret"]
        done = signed.call("POST", "/auth/mfa/confirm", {"otp": self.code(seed)})
        assert done.status_code == 200, done.text
        self.clock.advance(30)
        return seed, done.json()["data"]["recoveryCodes"]

    def audited(self, action: str, user: UserRecord | None = None) -> list[Any]:
        """Return the audit records of an action, about a user if one is given."""
        return [
            draft
            for draft in self.services.ledger.drafts
            if draft.action == action and (user is None or draft.subject == f"user:{user.id}")
        ]


@contextmanager
def auth_world(servers: TestServers, name: str, **security: Any) -> Iterator[AuthWorld]:
    """Serve the endpoints on a database of its own; *security* are keys of that section."""
    url = servers.create_database(name)
    config = Config(
        security=msgspec.structs.replace(Config().security, **security),
        limits=msgspec.structs.replace(Config().limits, login_per_minute=LOGIN_PER_MINUTE),
        server=msgspec.structs.replace(Config().server, trusted_proxies=("127.0.0.1",)),
    )
    services = ApiServices(config=config)
    services.rate_limits = RateLimits(
        login_per_minute=LOGIN_PER_MINUTE,
        webhook_per_minute=1,
        api_per_minute=100_000,
        time=lambda: services.clock.now().timestamp(),
    )
    registry = Registry([*Registry.of(auth, second_factor, sessions, api_tokens), *PROBES])

    jobs, to_do = trio.open_memory_channel[Any](1)

    async def serve(*, task_status: trio.TaskStatus[str]) -> None:
        async with open_aio(lambda _report: None):
            await migrate(url)
            database = Database(url, role="engine_app")
            await database.open()
            services.database = database
            try:
                async with running_api(services, registry) as api:
                    task_status.started(str(api.client.base_url))
                    async for work, answer in to_do:
                        answer.put(await outcome.acapture(work))
            finally:
                with trio.CancelScope(shield=True):
                    await database.close()

    with TrioThread() as thread:
        world = AuthWorld(thread, services, thread.start(serve), jobs)
        with world.http:
            yield world
    servers.drop_database(name)
