"""The channels that a configuration asks for."""

from engine.clock import Clock
from engine.config.alert_sections import AlertsConfig
from engine.notify.channel import Channel
from engine.notify.email import EmailChannel
from engine.notify.push import AppriseChannel, NtfyChannel
from engine.notify.webhook import WebhookChannel


def channels_of(config: AlertsConfig, *, clock: Clock) -> list[Channel]:
    """Return every channel of *config* that has an address; Telegram is none of them. Raises ConfigError."""
    found: list[Channel] = []
    if config.email.host:
        found.append(EmailChannel(config.email, clock=clock))
    if config.webhook.url:
        found.append(WebhookChannel(config.webhook.url, config.webhook.secret, clock=clock))
    if config.ntfy.url:
        found.append(NtfyChannel(config.ntfy.url, config.ntfy.token))
    if config.apprise.url:
        found.append(AppriseChannel(config.apprise.url))
    return found
