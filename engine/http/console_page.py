"""The page that tells a person how a login at the broker ended: plain HTML in the console's style, without a script."""

from html import escape

from engine.http.endpoint import Raw

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def result_page(*, title: str, text: str, is_good: bool, status: int) -> Raw:
    """Return the page that a browser is shown at the end of a login."""
    kind = "good" if is_good else "bad"
    body = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/console/static/console.css"></head><body class="outside">'
        f'<main><div class="sheet"><h1>{escape(title)}</h1><p class="result {kind}">{escape(text)}</p>'
        '<p><a href="/console">To the console</a></p></div></main></body></html>'
    )
    return Raw(body.encode(), "text/html; charset=utf-8", status, {"Content-Security-Policy": _POLICY})
