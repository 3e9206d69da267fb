"""Send the messages of the outbox to webhooks, signed as Standard Webhooks lay down."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import logging
import random
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from sparsesearch.errors import SparseSearchError, one_line
from sparsesearch.service.news import with_best
from sparsesearch.service.webhook_address import DEFAULT_PORTS, Address, check_address
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.notification import Delivery, Webhook

logger = logging.getLogger(__name__)

PAUSES_S = (5.0, 30.0, 120.0, 600.0, 3600.0, 4 * 3600.0, 12 * 3600.0)
"""Seconds between attempts; after the last one, a message is given up."""

_TIMEOUT_S = 10.0
_AT_ONCE = 20


def deliver_due(store: SqlStore, *, allow_private: bool = False) -> int:
    """Send the messages that are due; return how many were tried."""
    webhooks = store.webhooks
    due = [(with_best(store, delivery), hook) for delivery, hook in webhooks.due(limit=_AT_ONCE)]
    if not due:
        return 0

    def deliver(one: tuple[Delivery, Webhook]) -> None:
        delivery, hook = one
        error = _attempt(delivery, hook, allow_private=allow_private)
        if error is None:
            webhooks.settle(delivery, status="delivered", next_at=None)
            return
        is_last = delivery.attempts >= len(PAUSES_S)
        pause = None if is_last else PAUSES_S[delivery.attempts] * random.uniform(0.8, 1.2)
        logger.warning("webhook %s: %s%s", hook.id, error, "; given up" if is_last else "")
        webhooks.settle(delivery, status=error, next_at=None if pause is None else time.time() + pause)

    # All at once: a server that does not answer keeps no others waiting.
    with ThreadPoolExecutor(len(due), thread_name_prefix="webhook") as threads:
        for _ in threads.map(deliver, due):
            pass
    return len(due)


def signature(hook: Webhook, *, message_id: str, timestamp: int, body: str) -> str:
    """The header `webhook-signature` of a message."""
    key = base64.b64decode(hook.secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode()


def _attempt(delivery: Delivery, hook: Webhook, *, allow_private: bool) -> str | None:
    """Send a message; return what went wrong, None if nothing did."""
    timestamp = int(time.time())
    headers = {
        "content-type": "application/json",
        "user-agent": "sparsesearch",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(hook, message_id=delivery.id, timestamp=timestamp, body=delivery.body),
    }
    try:
        address = check_address(hook.url, allow_private=allow_private)
        status = _post(address, delivery.body.encode(), headers)
    except SparseSearchError as error:
        return one_line(error)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"not delivered: {one_line(error) or type(error).__name__}"
    return None if 200 <= status < 300 else f"answered with status {status}"


def _post(address: Address, body: bytes, headers: dict[str, str]) -> int:
    """Post to the address that was checked, without following redirects."""
    connection = _Connection(address)
    timer = threading.Timer(_TIMEOUT_S, connection.cut)
    timer.daemon = True
    timer.start()
    try:
        connection.request("POST", address.target, body=body, headers=headers)
        return connection.getresponse().status
    finally:
        timer.cancel()
        connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to a checked address, whose certificate is that of the name in the URL."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.host, address.port, timeout=_TIMEOUT_S)
        self.default_port = DEFAULT_PORTS[address.scheme]
        self._address = address

    def cut(self) -> None:
        """End a connection to a server that takes too long, also if it always sends a little more."""
        if self.sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def connect(self) -> None:
        """Connect to the address that was checked."""
        self.sock = socket.create_connection((self._address.ip, self._address.port), timeout=_TIMEOUT_S)
        if self._address.scheme == "https":
            found = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self._address.host, do_handshake_on_connect=False
            )
            self.sock = found
            found.do_handshake()
