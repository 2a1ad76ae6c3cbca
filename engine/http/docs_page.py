"""The page that lists the API: plain HTML, no script, one style sheet from the same host."""

from html import escape
from typing import Any

import msgspec

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

STYLE = """\
:root { color-scheme: light dark; --line: #8884; --quiet: #888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); text-transform: capitalize; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
code, pre { font: 14px/1.4 ui-monospace, monospace; }
pre { overflow-x: auto; background: #8881; padding: .6rem; border-radius: 4px; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); }
.method { display: inline-block; min-width: 4.5rem; font-weight: 600; }
.quiet { color: var(--quiet); }
"""


def render(document: dict[str, Any]) -> str:
    """Return the page of an OpenAPI *document*."""
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for tag in operation.get("tags") or ["other"]:
                groups.setdefault(tag, []).append(_operation(method.upper(), path, operation))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(parts)}" for tag, parts in sorted(groups.items()))
    schemas = "".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_schema(schema)}</details>'
        for name, schema in sorted(document["components"]["schemas"].items())
    )
    title = escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/docs/style.css"></head><body>'
        f'<h1>{title} <span class="quiet">{escape(document["info"]["version"])}</span></h1>'
        f"<p>{escape(document['info']['description'])}</p>"
        '<p>The machine-readable form is <a href="/openapi.json">openapi.json</a>.</p>'
        f"{body}<h2>Shapes</h2>{schemas}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    return (
        f'<details><summary><span class="method">{escape(method)}</span><code>{escape(path)}</code> '
        f'<span class="quiet">{escape(operation["summary"])}</span></summary>'
        f"<p>{escape(operation['description'])}</p>"
        f"{_parameters(operation)}{_request_body(operation)}{_responses(operation)}</details>"
    )


def _parameters(operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(item['name'])}</code></td><td>{escape(item['in'])}</td>"
        f"<td>{'required' if item['required'] else ''}</td><td>{_kind(item['schema'])}</td></tr>"
        for item in operation["parameters"]
    )
    return f"<table><tr><th>parameter</th><th>in</th><th></th><th>type</th></tr>{rows}</table>"


def _request_body(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    return "".join(
        f"<p>Body, {escape(kind)}: {_kind(entry['schema'])}</p>{_example(entry)}" for kind, entry in content.items()
    )


def _example(entry: dict[str, Any]) -> str:
    if "example" not in entry:
        return ""
    text = escape(msgspec.json.format(msgspec.json.encode(entry["example"])).decode())
    # an address in an example is no place that the page takes anything from, and does not look like one
    return f"<pre>{text.replace('//', '&#47;&#47;')}</pre>"


def _responses(operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(status)}</code></td><td>{escape(response['description'])}</td>"
        f"<td>{''.join(_kind(entry['schema']) for entry in response['content'].values())}</td></tr>"
        for status, response in operation["responses"].items()
    )
    shown = "".join(
        _example(entry) for response in operation["responses"].values() for entry in response["content"].values()
    )
    return f"<table><tr><th>answer</th><th></th><th>type</th></tr>{rows}</table>{shown}"


def _schema(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{_kind(inner)}</td>"
        f"<td>{'required' if name in required else ''}</td></tr>"
        for name, inner in schema.get("properties", {}).items()
    )
    description = escape(schema.get("description", ""))
    return f"<p>{description}</p><table>{rows}</table>" if rows else f"<p>{description} {_kind(schema)}</p>"


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if "data" in schema.get("properties", {}):
        return _kind(schema["properties"]["data"])
    kind = schema.get("type", "any")
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return escape(f"{text} ({schema['format']})" if "format" in schema else text)
