"""Calls of the API from inside: a chat is one more client, with the same permissions, limits and rules as any other."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import trio

from engine.domain.enums import Role
from engine.domain.grants import NOTHING, Granted
from engine.http.authentication import require_fresh
from engine.http.endpoint import BASE_PATH, ApiRequest, Registry, Reply
from engine.http.json_body import decode_body, decode_query
from engine.http.permissions import Principal, require, require_enrolled
from engine.http.services import Services
from engine.http.walls import seen_by
from engine.security.sessions import UserRecord

_NEVER = datetime.fromtimestamp(0, UTC)
_NO_SESSION = uuid.UUID(int=0)


def principal_of(user: UserRecord, granted: Granted = NOTHING) -> Principal:
    """Return *user* as a caller who gave no password: whatever asks for a recent sign-in refuses it.

    *granted* is what others let it read.
    """
    return Principal(
        user_id=user.id,
        email=user.email,
        name=user.name,
        role=user.role,
        session_id=_NO_SESSION,
        signed_in_at=_NEVER,
        mfa=user.mfa,
        granted_users=granted.users,
        granted_accounts=granted.accounts,
    )


class InnerCalls:
    """Calls endpoints of *registry* in the name of a user."""

    def __init__(self, services: Services, registry: Registry) -> None:
        self._services = services
        self._endpoints = {(item.method, item.path): item for item in registry}

    async def __call__(
        self,
        user: UserRecord,
        method: str,
        path: str,
        *,
        origin: str,
        request_id: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what the endpoint answers; *path* is without the base path, *origin* stands as the caller's address.

        Raises what the endpoint raises, ForbiddenError, RateLimitError, ValidationError; KeyError for no endpoint.
        """
        item = self._endpoints[method, BASE_PATH + path]
        request = ApiRequest(
            services=self._services,
            endpoint=item,
            method=method,
            headers={},
            request_id=request_id,
            client_ip=origin,
            draining=trio.Event(),
        )
        granted = self._services.users.grants.of(user.id) if user.role is Role.VIEWER else NOTHING
        request.principal = principal_of(user, granted)
        require(item.permission, request.principal)
        require_enrolled(item.permission, request.principal, self._services.config.security.require_mfa)
        if item.fresh:
            require_fresh(request.principal, self._services.clock.now())
        self._services.rate_limits.charge(item.rate, user.id)
        request.services = seen_by(self._services, request.principal)
        if item.query is not None:
            request.query = decode_query({name: [text] for name, text in (query or {}).items()}, item.query)
        if item.body is not None and body is not None:
            request.body = decode_body(msgspec.json.encode(body), item.body)
        answer = await item(request)
        return answer.value if isinstance(answer, Reply) else answer
