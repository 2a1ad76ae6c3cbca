"""Webhook: alerts as JSON, signed as Standard Webhooks (standardwebhooks.com)."""

from hashlib import sha256

import msgspec

from engine.clock import Clock
from engine.domain.alert_notice import Message
from engine.notify.channel import call
from engine.secret import Secret
from engine.security.standard_webhooks import PREFIX, key_bytes, sign


class WebhookChannel:
    """Posts to ``[alerts.webhook] url``; the receiver proves it with the same secret."""

    name = "webhook"

    def __init__(self, url: Secret, secret: Secret, *, clock: Clock) -> None:
        self._url = url
        self._key = signing_key(secret)
        self._clock = clock

    async def send(self, message: Message) -> str:
        """Post *message*. Raises ChannelFailed."""
        now = self._clock.now()
        body = msgspec.json.encode(
            {
                "type": "engine.alert",
                "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "data": {
                    "title": message.title,
                    "text": message.body,
                    "severity": message.severity,
                    "alertIds": message.alert_ids,
                },
            }
        )
        # the same message tried again bears the same id, so that a receiver can tell a repeat
        named = sha256(f"{message.title}\x00{message.body}".encode()).hexdigest()[:32]
        message_id, timestamp = f"alert_{named}", str(int(now.timestamp()))
        headers = {"Content-Type": "application/json", "webhook-id": message_id, "webhook-timestamp": timestamp}
        if self._key:
            headers["webhook-signature"] = sign(self._key, message_id, timestamp, body)
        return await call(self._url.reveal(), content=body, headers=headers)


def signing_key(secret: Secret) -> bytes:
    """Return the bytes to sign with: those of a ``whsec_`` secret, or of any other text as it stands."""
    text = secret.reveal()
    if text.startswith(PREFIX):
        return key_bytes(text.removeprefix(PREFIX).replace("+", "-").replace("/", "_").rstrip("="))
    return text.encode()
