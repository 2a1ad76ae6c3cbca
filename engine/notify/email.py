"""E-mail: one message over SMTP, by STARTTLS or TLS from the first byte (RFC 5321, RFC 8314).

The standard library's client runs in a thread of its own, which is left behind at the deadline.
"""

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

import trio

from engine.clock import Clock
from engine.config.alert_sections import EmailConfig
from engine.domain.alert_notice import Message
from engine.notify.channel import SEND_S, ChannelFailed

_PERMANENT = 500
_AT_ONCE = 2


class EmailChannel:
    """Sends to the people of ``[alerts.email]``, through the server named there and no other."""

    name = "email"

    def __init__(self, config: EmailConfig, *, clock: Clock, tls: ssl.SSLContext | None = None) -> None:
        self._config = config
        self._clock = clock
        self._tls = tls
        # threads of deadlines that have passed may hang on: few of them at a time
        self._limiter = trio.CapacityLimiter(_AT_ONCE)

    async def send(self, message: Message) -> str:
        """Send *message* within `SEND_S`. Raises ChannelFailed."""
        mail = self._mail(message)
        try:
            with trio.fail_after(SEND_S):
                return await trio.to_thread.run_sync(self._deliver, mail, abandon_on_cancel=True, limiter=self._limiter)
        except trio.TooSlowError:
            raise ChannelFailed(f"no answer within {SEND_S:g} s") from None

    def _mail(self, message: Message) -> EmailMessage:
        config = self._config
        mail = EmailMessage()
        mail["Subject"] = " ".join(message.title.split())
        mail["From"] = config.sender
        mail["To"] = ", ".join(config.to)
        mail["Date"] = format_datetime(self._clock.now())
        mail["Message-ID"] = make_msgid(domain=config.sender.rpartition("@")[2].rstrip(">") or "localhost")
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.body + "\n")
        return mail

    def _deliver(self, mail: EmailMessage) -> str:
        config = self._config
        try:
            with self._connect() as server:
                if config.tls == "starttls":
                    server.starttls(context=self._context())
                if config.user:
                    server.login(config.user, config.password.reveal())
                refused = server.send_message(mail)
        except smtplib.SMTPResponseException as error:
            said = (
                error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
            )
            raise ChannelFailed(f"answered {error.smtp_code} {said}", is_final=error.smtp_code >= _PERMANENT) from None
        except smtplib.SMTPRecipientsRefused as error:
            raise ChannelFailed(f"refused every recipient: {len(error.recipients)}", is_final=True) from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise ChannelFailed(f"cannot be reached: {type(error).__name__}: {error}") from None
        if refused:
            return f"accepted, {len(refused)} of {len(config.to)} recipients refused"
        return "accepted"

    def _connect(self) -> smtplib.SMTP:
        config = self._config
        if config.tls == "tls":
            return smtplib.SMTP_SSL(config.host, config.port, timeout=SEND_S, context=self._context())
        return smtplib.SMTP(config.host, config.port, timeout=SEND_S)

    def _context(self) -> ssl.SSLContext:
        return self._tls or ssl.create_default_context()
