"""Dispatchers, which execute trials."""

import os

# Under `uv run`, Ray would copy the working directory and install everything anew for its workers. Workers use the
# interpreter of this process. Ray reads this when it is imported.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
