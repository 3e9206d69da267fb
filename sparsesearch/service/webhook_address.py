"""Addresses that webhooks may be sent to: public ones, so that nobody reaches internal services through this one."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from sparsesearch.errors import UserInputError

DEFAULT_PORTS = {"http": 80, "https": 443}
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses as networks without IPv4 write them."""
_UNICAST = ipaddress.IPv6Network("2000::/3")


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
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or parts.username is not None or not _is_plain(url):
        raise UserInputError("invalid webhook URL; use https://HOST/PATH in ASCII, without a user name")
    port = port or DEFAULT_PORTS[parts.scheme]
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)]
    except (OSError, ValueError) as error:
        raise UserInputError(
            f"the host of the webhook, {parts.hostname[:200]!r}, does not resolve ({error})"
        ) from error
    if not allow_private and not all(map(_is_public, found)):
        raise UserInputError(
            f"the host of the webhook, {parts.hostname[:200]!r}, is not at a public address; the operator may "
            "allow that with serve --allow-private-webhooks"
        )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.scheme, parts.hostname, port, found[0], target)  # the one that is best reached from here


def _is_plain(url: str) -> bool:
    """Whether a URL is what HTTP can carry."""
    return all("!" <= character <= "~" for character in url)


def _is_public(text: str) -> bool:
    ip = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if ip in _TRANSLATED:
        mapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    elif ip.version == 6 and ip not in _UNICAST:
        return False
    return ip.is_global and not ip.is_multicast and (mapped is None or _is_public(str(mapped)))
