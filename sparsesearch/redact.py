"""Leave passwords and tokens out of what is shown, logged or stored."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

_HIDDEN = "***"
_SECRET = (
    r"(?:ssl)?password|passwd|pwd|passphrase|(?:client_)?secret|api[_-]?key|(?:access|auth|refresh|tracking)_token"
)

_IN_DATABASE_URL = re.compile(
    r"(\bpostgres(?:ql)?(?:\+\w+)?://[^\s:/?#@'\"]*):[^@\n]*@(?:[^\s@'\"/]*@)*", re.IGNORECASE
)
"""Also with what should be percent-encoded in a URL, such as a slash or a space."""
_IN_URL = re.compile(
    r"([A-Za-z][\w+.-]{0,30}://[^\s:/?#@'\"]*):(?!\d{1,5}(?:[/?#\s'\"]|$))[^\s'\"@]*@(?:[^\s@'\"/]*@)*"
)
_ALONE_IN_URL = re.compile(r"(\bhttps?://)[^\s:/?#@'\"]+@", re.IGNORECASE)
_IN_QUERY = re.compile(rf"([?&;](?:{_SECRET}|token)=)[^&\s'\"#]+", re.IGNORECASE)
_KEYWORD = re.compile(
    rf"((?<![?&;])\b(?:{_SECRET})\s*=\s*)(?:'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|[^\s&'\",;)]+)", re.IGNORECASE
)
_ENTRY = re.compile(rf"(['\"](?:{_SECRET})['\"]\s*:\s*)(?:'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")", re.IGNORECASE)
_HEADER = re.compile(r"(\bAuthorization['\"]?\s*[:=]\s*['\"]?(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}")


def without_password(text: str) -> str:
    """Replace passwords in a text by `***`.

    Known are those of URLs (`scheme://user:PASSWORD@host`, `https://TOKEN@host`, `?password=...`, `&token=...`), of
    libpq's `password=...`, of documents (`"password": "..."`), and of HTTP's authorization headers.

    Args:
        text: A message, a traceback, a URL.
    """
    text = _IN_DATABASE_URL.sub(rf"\1:{_HIDDEN}@", text)
    text = _IN_URL.sub(rf"\1:{_HIDDEN}@", text)
    text = _ALONE_IN_URL.sub(rf"\1{_HIDDEN}@", text)
    for pattern in (_IN_QUERY, _KEYWORD, _ENTRY, _HEADER):
        text = pattern.sub(rf"\1{_HIDDEN}", text)
    return text


def passwords_in(url: str) -> tuple[str, ...]:
    """Return the password of a URL as it is written there and as it is sent; empty if it has none."""
    credentials, found, _ = url.partition("://")[2].rpartition("@")
    written = credentials.partition(":")[2] if found else ""
    return tuple(sorted({written, unquote_plus(written)} - {""}))
