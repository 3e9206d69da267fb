"""The pages: their routes, and the files that they load."""

from __future__ import annotations

from fastapi import FastAPI

from sparsesearch.service.pages import assets, login, studies, study, trials
from sparsesearch.service.pages.fronts import FrontCache


def add_pages(app: FastAPI) -> None:
    """Add the pages to the application."""
    app.state.fronts = FrontCache()
    for router in (login.router, studies.router, study.router, study.actions, trials.router, assets.router):
        app.include_router(router, include_in_schema=False)
    app.mount("/static", assets.files(), name="static")
