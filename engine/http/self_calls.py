"""Calls of the API that a handler makes as its own caller's client: the console's pages ask for all they show this way.

Such a call goes through the dispatcher like one from outside: who asks, whether it may, how often, the gate of an
engine on standby, what is kept under an Idempotency-Key, and the record of what was refused. It differs in one thing
alone: no bytes travel.
"""

from collections.abc import Mapping

from engine.http.dispatch import Dispatcher, Incoming, Outgoing
from engine.http.endpoint import BASE_PATH, ApiRequest, Registry
from engine.http.guard import REQUEST_ID_KEY


class SelfCalls:
    """Sends calls to the endpoints of *registry* through *dispatcher*."""

    def __init__(self, dispatcher: Dispatcher, registry: Registry) -> None:
        self._dispatcher = dispatcher
        self._endpoints = {(item.method, item.path): item for item in registry}

    async def send(
        self,
        request: ApiRequest,
        method: str,
        path: str,
        *,
        values: Mapping[str, str],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Outgoing:
        """Return what the endpoint declared at *path* (without the base path) answers; *values* fill its parameters.

        The call has the request id and the client of *request*, and of its headers none but *headers*. A refusal is an
        answer too. Raises KeyError for a path that nothing is declared at.
        """
        item = self._endpoints[method, BASE_PATH + path]
        own = {"content-length": str(len(body)), "content-type": "application/json"} if body else {}
        scope = {
            "method": method,
            "client": (request.client_ip, 0),
            "headers": [(name.encode(), text.encode("latin-1")) for name, text in {**own, **headers}.items()],
            REQUEST_ID_KEY: request.request_id,
        }

        async def read_body() -> bytes:
            return body

        wanted = {name: [text] for name, text in query.items()}
        incoming = Incoming(scope=scope, path=values, query=lambda: wanted, read_body=read_body)
        return await self._dispatcher.serve(item, incoming)
