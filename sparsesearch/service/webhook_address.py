"""Addresses that webhooks may be sent to: public ones, so that nobody reaches internal services through this one."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from sparsesearch.errors import UserInputError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """A checked address.

    Attributes:
        scheme: `http` or `https`.
        host: Name or number in the URL.
        port: Port.
        ip: The address to connect to, which was checked: a name may resolve to another one the next time.
        target: Path and query.
    """

    scheme: str
    host: str
    port: int
    ip: str
    target: str


def check_address(url: str, *, allow_private: bool = False) -> Address:
    """Resolve the address of a webhook.

    Args:
        url: The URL.
        allow_private: Whether addresses that are not public are allowed.

    Raises:
        UserInputError: It is no HTTP URL, has a user name in it, does not resolve, or is not public.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UserInputError(f"invalid webhook URL ({error}); use https://HOST/PATH") from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None or any(c.isspace() for c in url):
        raise UserInputError("invalid webhook URL; use https://HOST/PATH, without a user name")
    port = port or _PORTS[parts.scheme]
    try:
        found = {info[4][0] for info in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise UserInputError(
            f"the host of the webhook, {parts.hostname[:200]!r}, does not resolve ({error})"
        ) from error
    if not allow_private and not all(_is_public(str(ip)) for ip in found):
        raise UserInputError(
            f"the host of the webhook, {parts.hostname[:200]!r}, is not at a public address; the operator may "
            "allow that with serve --allow-private-webhooks"
        )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.scheme, parts.hostname, port, str(sorted(map(str, found))[0]), target)


def _is_public(text: str) -> bool:
    ip = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    return ip.is_global and not ip.is_multicast and (mapped is None or _is_public(str(mapped)))
