"""Tell from Ray's messages that a machine of the cluster was lost, and not only a process."""

from __future__ import annotations

from sparsesearch.errors import InfrastructureError

_SIGNS = (
    "its node has died",
    "NodeDiedError",
    "the node it was running on",
    "Node was terminated",
    "The node specified via NodeAffinity",  # it has gone between two looks at the cluster
)


def lost_machine(text: str) -> InfrastructureError | None:
    """Return the fault that a message of Ray describes; None if it is about a process alone."""
    if any(sign in text for sign in _SIGNS):
        return InfrastructureError("a machine of the Ray cluster was lost; it stopped, or the network to it failed")
    return None
