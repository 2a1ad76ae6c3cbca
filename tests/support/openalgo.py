"""API tokens for OpenAlgo's client, and the client itself."""

from typing import Any
from uuid import uuid4

import openalgo

from tests.support.engine import EngineProcess


def api_token(by: Any, *scopes: str, **fields: Any) -> str:
    """Make an API token of whoever *by* signs in as: the engine's first administrator, or a person."""
    body = {"name": f"openalgo {uuid4().hex[:8]}", "scopes": list(scopes)} | fields
    made = by.request("POST", "/auth/tokens", json=body)
    assert made.status_code == 201, made.text
    token: str = made.json()["data"]["token"]
    return token


def client_of(engine: EngineProcess, token: str) -> Any:
    """Return OpenAlgo's client for the engine."""
    return openalgo.api(api_key=token, host=engine.base_url, timeout=30)
