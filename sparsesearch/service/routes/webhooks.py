"""Webhooks: addresses that are told when a study starts, ends, fails, or has a new best schedule."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, ConfigDict, Field

from sparsesearch.service.access import Submitter, actor
from sparsesearch.service.parts import OptionsOf, WorkspaceOf
from sparsesearch.service.problems import responses
from sparsesearch.service.webhook_address import check_address
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.access import Scope, Token
from sparsesearch.study.notification import Delivery, NotifiedEvent, Webhook

router = APIRouter(tags=["webhooks"])
WebhookId = Annotated[str, Path(pattern=r"^wh_[0-9a-f]{32}$")]


class NewWebhook(BaseModel):
    """A webhook that is to be added."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2000, examples=["https://hooks.example.org/sparsesearch"])
    events: list[NotifiedEvent] = Field(
        default=[NotifiedEvent.FINISHED, NotifiedEvent.FAILED, NotifiedEvent.CANCELLED], min_length=1
    )


class ShownWebhook(BaseModel):
    """A webhook without its secret."""

    id: str
    url: str
    events: list[NotifiedEvent]
    owner: str
    created_at: float

    @classmethod
    def of(cls, hook: Webhook) -> ShownWebhook:
        """That of a stored one."""
        return cls(**hook.model_dump(exclude={"secret"}))


class CreatedWebhook(ShownWebhook):
    """A new webhook with the key of its signatures, which is shown once."""

    secret: str


@router.post("/webhooks", status_code=201, responses=responses())
def add(new: NewWebhook, token: Submitter, workspace: WorkspaceOf, options: OptionsOf) -> CreatedWebhook:
    """Add a webhook. Messages are signed as in Standard Webhooks (webhook-id, webhook-timestamp, webhook-signature)."""
    check_address(new.url, allow_private=options.allow_private_webhooks)
    hook = workspace.store.webhooks.add(new.url, events=set(new.events), by=actor(token))
    return CreatedWebhook(**hook.model_dump())


@router.get("/webhooks", responses=responses())
def list_webhooks(token: Submitter, workspace: WorkspaceOf) -> list[ShownWebhook]:
    """List webhooks: one's own, or all with the scope admin."""
    return [ShownWebhook.of(hook) for hook in _own(workspace.store, token)]


@router.get("/webhooks/{webhook_id}/deliveries", responses=responses(404))
def deliveries(webhook_id: WebhookId, token: Submitter, workspace: WorkspaceOf) -> list[Delivery]:
    """The last messages to a webhook, newest first, and how they were answered."""
    _check(webhook_id, token, workspace.store)
    return list(workspace.store.webhooks.deliveries(webhook_id))


@router.delete("/webhooks/{webhook_id}", status_code=204, responses=responses(404))
def delete(webhook_id: WebhookId, token: Submitter, workspace: WorkspaceOf) -> None:
    """Remove a webhook."""
    _check(webhook_id, token, workspace.store)
    workspace.store.webhooks.delete(webhook_id, by=actor(token))


def _own(store: SqlStore, token: Token) -> list[Webhook]:
    return [hook for hook in store.webhooks.all() if token.scope is Scope.ADMIN or hook.owner == token.name]


def _check(webhook_id: str, token: Token, store: SqlStore) -> None:
    if not any(hook.id == webhook_id for hook in _own(store, token)):
        raise HTTPException(404, f"no webhook {webhook_id!r} of token {token.name!r}")
