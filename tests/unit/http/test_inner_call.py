"""What a linked user asks for in a chat is held to the rules of every other caller."""

from typing import Any

import msgspec
import pytest

from engine.domain.enums import Role
from engine.errors import ForbiddenError
from engine.http.endpoint import ApiRequest, Registry, endpoint
from engine.http.inner_call import InnerCalls
from engine.http.permissions import Permission
from tests.support.api import ApiServices


@endpoint("POST", "/positions/close", permission=Permission.TRADE, summary="Close")
async def close(request: ApiRequest) -> str:
    return "closed"


@endpoint("POST", "/stop", permission=Permission.KILL, summary="Stop")
async def stop(request: ApiRequest) -> str:
    return "stopped"


async def test_policy_of_the_second_factor_holds_in_a_chat_too_and_stopping_goes() -> None:
    services: Any = ApiServices()
    security = msgspec.structs.replace(services.config.security, require_mfa="all")
    services.config = msgspec.structs.replace(services.config, security=security)
    calls = InnerCalls(services, Registry([close, stop]))
    user, enrolled = services.add_user(Role.TRADER), services.add_user(Role.TRADER, mfa=True)
    with pytest.raises(ForbiddenError) as refused:
        await calls(user, "POST", "/positions/close", origin="telegram:1", request_id="r")
    assert refused.value.code == "MFA_REQUIRED"
    assert await calls(enrolled, "POST", "/positions/close", origin="telegram:1", request_id="r") == "closed"
    assert await calls(user, "POST", "/stop", origin="telegram:1", request_id="r") == "stopped"
