"""Hides what must not reach a log or a terminal.

That is: the secrets of this process's settings, recognized by their value wherever another program repeats them; other
secrets, recognized by their key; credentials inside a text; the content of a notification; and characters that control
a terminal. In doubt it hides: a hidden word costs one more look elsewhere, a leaked key costs a new key.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

HIDDEN = "***"
MAX_TEXT_CHARS = 4_000
# Control characters, line separators of Unicode, text-direction overrides, halves of surrogate pairs.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MAX_ITEMS = 50
_MAX_DEPTH = 5

_SECRET_KEY = re.compile(
    r"secret|passw|pwd|token|api_?key|private_?key|access_?key|credential|authorization|cookie|dsn"
    r"|(database|db|conn)\w*_?(url|info)|^(payload|overrides|conninfo|headers|body)$"
)
_CREDENTIALS: list[tuple[re.Pattern[str], str]] = [
    # A URL's password may contain an unescaped @, so everything up to the last @ of the word is hidden.
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)\S*@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    (re.compile(r"\b(ApiKey|Bearer|Basic)\s+[\w+/=.~-]+", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"""(\b[\w-]*(?:passw(?:or)?d|secret(?:_?key)?|api[_-]?key|token)["']?\s*[=:]\s*)"""
            r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,;&}\])]+)""",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    # PostgreSQL repeats the refused row, key, parameter or line of JSON, which may be content of the notification.
    (re.compile(r"((?:^|\n)(?:DETAIL|CONTEXT):)(?! *\*{3}).*", re.DOTALL), rf"\1 {HIDDEN}"),
    (re.compile(r"(Failing row contains \((?!\*{3}\))).*", re.DOTALL), rf"\1{HIDDEN})"),
    (re.compile(r"(parameter \$\d+ = (?!\*{3})).*", re.DOTALL), rf"\1{HIDDEN}"),
]


class SecretValues:
    """The secrets of this process, in every form in which another program may repeat them."""

    def __init__(self) -> None:
        self.forms: list[str] = []

    def set(self, secrets: Iterable[str]) -> None:
        """Hide these values from now on, instead of those set before."""
        forms = {form for secret in secrets for form in forms_of(secret)}
        self.forms = sorted(forms, key=len, reverse=True)  # a secret may contain a shorter one

    def hide(self, text: str) -> str:
        """Return `text` with each value replaced. It must not have been cut: half a value is not recognized."""
        for form in self.forms:
            text = text.replace(form, HIDDEN)
        return text


def forms_of(secret: str) -> set[str]:
    """Return the secret as it is, and as a part of JSON and of a URL, and in base64."""
    in_json = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, *in_json, quote(secret), quote(secret, safe=""), encoded.rstrip("=")}


process_secrets = SecretValues()
"""The instance of this process. It is filled as soon as the settings are loaded."""
hide_values = process_secrets.hide


def redact(value: Any, clean: Callable[[str], str] = str, depth: int = 0) -> Any:
    """Return a copy of `value` for a log: secrets hidden, sizes limited, every text passed through `clean`.

    `depth` is the nesting level of `value`; everything deeper than level 5 is replaced by "…".
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        pairs = list(value.items())[:_MAX_ITEMS]
        return {clean(str(key)): _entry(str(key), inner, clean, depth) for key, inner in pairs}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(inner, clean, depth + 1) for inner in list(value)[:_MAX_ITEMS]]
    return clean(redact_text(str(value)))


def redact_text(text: str) -> str:
    """Return `text` with credentials hidden, cut after `MAX_TEXT_CHARS`."""
    text = hide_values(text)
    # Cut first, so that the patterns have at most one line of text to match. If a credential is cut in two, its first
    # part is still hidden, because every pattern matches up to the end of the text.
    short = text[:MAX_TEXT_CHARS]
    for pattern, replacement in _CREDENTIALS:
        short = pattern.sub(replacement, short)
    return short if len(text) <= MAX_TEXT_CHARS else f"{short}…"


def escaped(text: str) -> str:
    """Return `text` with line breaks and terminal control characters written as visible escapes."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _entry(key: str, value: Any, clean: Callable[[str], str], depth: int) -> Any:
    if _SECRET_KEY.search(key.lower().replace("-", "_")) and value is not None and not isinstance(value, bool):
        return HIDDEN
    return redact(value, clean, depth + 1)
