"""A small check of source text without network: calls that run text, SQL made of text, and secrets written down."""

import ast
import math
import re
from collections import Counter
from collections.abc import Iterator

_CALLS = {
    "eval": "runs text",
    "exec": "runs text",
    "pickle.load": "runs what it reads",
    "pickle.loads": "runs what it reads",
    "marshal.load": "runs what it reads",
    "marshal.loads": "runs what it reads",
    "shelve.open": "runs what it reads",
    "yaml.load": "runs what it reads",
    "yaml.unsafe_load": "runs what it reads",
    "os.system": "goes through a shell",
    "os.popen": "goes through a shell",
    "subprocess.getoutput": "goes through a shell",
    "tempfile.mktemp": "names a file that another may make first",
}
_SQL_CALLS = frozenset({"execute", "executemany", "fetch", "fetchrow", "fetchval", "prepare", "cursor"})
# without any of these words in it there is nothing to look for: taking a file apart costs far more than a search
_WORDS = re.compile(
    r"\b(?:eval|exec|pickle|marshal|shelve|yaml|system|popen|getoutput|mktemp|shell|"
    rf"{'|'.join(sorted(_SQL_CALLS))})\b"
)
_REVIEWED = ("noqa: S608", "of constants alone")
_SECRETS = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}"),
    "cloud key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "token of a forge": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}\b"),
    "token of a Telegram bot": re.compile(r"\b[0-9]{8,10}:[A-Za-z0-9_-]{35}\b"),
}
_ASSIGNED = re.compile(r"[:=][ \t]*[\"']([A-Za-z0-9+/_=-]{24,})[\"']")
_NAME = re.compile(r"(?i)(?:secret|token|password|passwd|api_?key|master_?key)[a-z_]*[\"']?[ \t]*$")
_RANDOM_BITS = 3.8
_MADE_UP = re.compile(r"(?i)secret|token|example|canary|0123456789")


def dangerous_calls(source: str) -> Iterator[str]:
    """Yield what in *source*, Python, runs text, goes through a shell or builds SQL out of text, with its line."""
    if not _WORDS.search(source):
        return
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in _CALLS:
            yield f"line {node.lineno}: {name} {_CALLS[name]}"
        if any(k.arg == "shell" and getattr(k.value, "value", None) is not False for k in node.keywords):
            yield f"line {node.lineno}: {name} goes through a shell"
        if name.rpartition(".")[2] in _SQL_CALLS and node.args and _is_made(node.args[0]):
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            if not any(mark in text for mark in _REVIEWED):
                yield f"line {node.lineno}: {name} is given SQL that is made of text"


def _is_made(text: ast.expr) -> bool:
    if isinstance(text, ast.JoinedStr):
        parts = [part.value for part in text.values if isinstance(part, ast.FormattedValue)]
        # a name in capitals is a constant of the module
        return any(not (isinstance(part, ast.Name) and part.id.isupper()) for part in parts)
    if isinstance(text, ast.BinOp):
        return isinstance(text.op, ast.Mod) or _is_made(text.left) or _is_made(text.right)
    return isinstance(text, ast.Call) and ast.unparse(text.func).endswith(".format")


def written_secrets(text: str) -> Iterator[str]:
    """Yield what in *text* looks like a secret that somebody wrote down, with its line; never the secret."""
    for kind, pattern in _SECRETS.items():
        for found in pattern.finditer(text):
            yield f"{_line(text, found)}: a {kind}"
    for found in _ASSIGNED.finditer(text):
        name = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
        if _NAME.search(name) and _bits(found[1]) > _RANDOM_BITS and not _MADE_UP.search(found[1]):
            yield f"{_line(text, found)}: a value that looks random is called a secret"


def _line(text: str, found: re.Match[str]) -> str:
    return f"line {text.count(chr(10), 0, found.start()) + 1}"


def _bits(text: str) -> float:
    """Bits of entropy of a character of *text*, by how often each occurs."""
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
