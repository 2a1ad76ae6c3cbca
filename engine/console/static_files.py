"""The style sheets, scripts and icons of the pages: read once, named by their content, kept by browsers for good."""

import gzip
import hashlib
import mimetypes
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import msgspec

from engine.errors import NotFoundError
from engine.http.endpoint import ApiRequest, Raw, endpoint
from engine.http.permissions import Permission

PATH = "/console/static"
_FOR_GOOD = "public, max-age=31536000, immutable"
_SUFFIXES = (".css", ".js", ".svg")


class StaticFile(msgspec.Struct, frozen=True):
    """One file: its bytes, the same compressed, and its type."""

    body: bytes
    squeezed: bytes
    media_type: str


class StaticFiles(msgspec.Struct, frozen=True):
    """Every file by the name with its content's mark (``console.1a2b3c4d5e.css``); ``marked`` finds that name."""

    by_name: MappingProxyType[str, StaticFile]
    marked: MappingProxyType[str, str]


@lru_cache(maxsize=1)
def static_files() -> StaticFiles:
    """Read the files of the package."""
    by_name: dict[str, StaticFile] = {}
    marked: dict[str, str] = {}
    folder = files("engine.console") / "static"
    for entry in (*folder.iterdir(), *(folder / "vendor").iterdir()):
        if not entry.name.endswith(_SUFFIXES):
            continue
        body = entry.read_bytes()
        stem, _, suffix = entry.name.rpartition(".")
        name = f"{stem}.{hashlib.sha256(body).hexdigest()[:10]}.{suffix}"
        kind = mimetypes.guess_type(entry.name)[0] or "application/octet-stream"
        kind = kind if suffix == "svg" else f"{kind}; charset=utf-8"
        found = StaticFile(body, gzip.compress(body, 9, mtime=0), kind)
        by_name[name] = by_name[entry.name] = found
        marked[entry.name] = name
    return StaticFiles(MappingProxyType(by_name), MappingProxyType(marked))


def static_url(name: str) -> str:
    """Return the address of a file for templates. Raises KeyError for one that is not there."""
    return f"{PATH}/{static_files().marked[name]}"


@endpoint(
    "GET",
    PATH + "/{name:str}",
    root=True,
    listed=False,
    permission=Permission.PUBLIC,
    summary="A file of the console",
    response=Raw,
)
async def static_file(request: ApiRequest) -> Raw:
    """One file; by its plain name it is asked for anew each time."""
    name: Any = request.path["name"]
    files_ = static_files()
    found = files_.by_name.get(name)
    if found is None:
        raise NotFoundError("there is no such file")
    headers = {"Cache-Control": "no-cache" if name in files_.marked else _FOR_GOOD, "Vary": "Accept-Encoding"}
    if "gzip" in (request.header("accept-encoding") or ""):
        return Raw(found.squeezed, found.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Raw(found.body, found.media_type, headers=headers)
