"""Jinja2 as the pages use it: everything is escaped, nothing undefined is let pass, figures have their filters."""

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from engine.console.formats import FILTERS, milliseconds
from engine.console.navigation import is_current
from engine.console.static_files import static_url
from engine.errors import NotFoundError
from engine.http.permissions import Permission
from engine.ids import uuid7


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates of the package."""
    made = Environment(
        loader=PackageLoader("engine.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(FILTERS)
    made.globals.update(
        static=static_url, Permission=Permission, milliseconds=milliseconds, is_current=is_current, once=uuid7
    )
    # macros of every page, as ui.NAME
    made.globals["ui"] = made.get_template("macros.html").module
    return made


def render(template: str, part: str, context: dict[str, Any]) -> str:
    """Return *template* filled in, or its block ``part_<part>`` alone. Raises NotFoundError for one it lacks."""
    found = environment().get_template(template)
    if not part:
        return found.render(context)
    block = found.blocks.get(f"part_{part}")
    if block is None:
        raise NotFoundError("this page has no such part")
    return "".join(block(found.new_context(context)))
