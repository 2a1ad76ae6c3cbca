"""Spans as OTLP over HTTP (opentelemetry.io/docs/specs/otlp): made by OpenTelemetry's own library, an extra.

Imported only where traces are configured: without the extra that is refused at start.
"""

from collections.abc import Sequence
from datetime import datetime

from engine.domain.spans import Span
from engine.errors import ConfigError
from engine.notify.channel import call
from engine.secret import Secret

try:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, TraceFlags
    from opentelemetry.trace.status import Status, StatusCode
except ImportError as error:
    raise ConfigError("tracing.otlp_url: needs the extra: pip install '.[otel]'") from error


class OtlpTraces:
    """Posts spans to *url*, with *authorization* as the header of that name if it is given."""

    def __init__(self, url: str, authorization: Secret, *, version: str) -> None:
        self._url = url
        self._authorization = authorization
        self._resource = Resource({"service.name": "trading-engine", "service.version": version})

    def encode(self, spans: Sequence[Span]) -> bytes:
        """Return *spans* as the protobuf message; for a thread, it takes some CPU."""
        readable = [self._readable(span) for span in spans]
        return bytes(encode_spans(readable).SerializeToString())

    async def post(self, content: bytes) -> str:
        """Post an encoded message; return the answer. Raises ChannelFailed."""
        headers = {"Content-Type": "application/x-protobuf"}
        if self._authorization:
            headers["Authorization"] = self._authorization.reveal()
        return await call(self._url, content=content, headers=headers)

    def _readable(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id),
            parent=_context(span.trace_id, span.parent_id) if span.parent_id else None,
            resource=self._resource,
            attributes=dict(span.attributes),
            status=Status(StatusCode.ERROR, span.failed) if span.failed else Status(StatusCode.OK),
            start_time=_ns(span.start),
            end_time=_ns(span.end),
        )


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id=trace_id, span_id=span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _ns(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000
