"""Push messages: ntfy (docs.ntfy.sh, publish as JSON) and Apprise's API (a server that speaks to a hundred others)."""

from urllib.parse import urlsplit, urlunsplit

import msgspec

from engine.domain.alert_notice import Message
from engine.domain.alert_rules import Severity
from engine.errors import ConfigError
from engine.notify.channel import call
from engine.secret import Secret

_PRIORITIES = {Severity.INFO: 2, Severity.WARNING: 3, Severity.CRITICAL: 5}
_TAGS = {Severity.INFO: "information_source", Severity.WARNING: "warning", Severity.CRITICAL: "rotating_light"}
_KINDS = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "failure"}
_NTFY_BYTES = 4000


class NtfyChannel:
    """Publishes to the topic that ``[alerts.ntfy] url`` ends in, such as https://ntfy.sh/my-topic."""

    name = "ntfy"

    def __init__(self, url: Secret, token: Secret) -> None:
        parts = urlsplit(url.reveal())
        base, _, self._topic = parts.path.rstrip("/").rpartition("/")
        if not self._topic:
            raise ConfigError("alerts.ntfy.url: must end in the topic, such as https://ntfy.sh/my-topic")
        self._base = Secret(urlunsplit((parts.scheme, parts.netloc, base + "/", "", "")))
        self._token = token

    async def send(self, message: Message) -> str:
        """Publish *message*. Raises ChannelFailed."""
        content = {
            "topic": self._topic,
            "title": message.title,
            # more than 4,096 bytes would become an attachment
            "message": message.body.encode()[:_NTFY_BYTES].decode(errors="ignore"),
            "priority": _PRIORITIES[message.severity],
            "tags": [_TAGS[message.severity]],
        }
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        return await call(self._base.reveal(), content=msgspec.json.encode(content), headers=headers)


class AppriseChannel:
    """Posts to an Apprise API server: ``[alerts.apprise] url`` is its address with /notify/KEY."""

    name = "apprise"

    def __init__(self, url: Secret) -> None:
        self._url = url

    async def send(self, message: Message) -> str:
        """Post *message*. Raises ChannelFailed."""
        content = {"title": message.title, "body": message.body, "type": _KINDS[message.severity], "format": "text"}
        headers = {"Content-Type": "application/json"}
        return await call(self._url.reveal(), content=msgspec.json.encode(content), headers=headers)
