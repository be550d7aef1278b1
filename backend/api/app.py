"""The HTTP API: `uvicorn backend.api.app:create_app --factory`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI

from backend.api import errors
from backend.api.deps import require_api_key
from backend.api.routes import (
    datasets,
    events,
    health,
    interactive,
    layers,
    models,
    projects,
    retraining,
    reviews,
    runs,
    videos,
)
from backend.bootstrap import Container, bootstrap
from backend.logs import configure_logging


def create_app(container: Container | None = None) -> FastAPI:
    """The application over that container, or over one of the process's settings."""
    own = container is None
    parts = container or bootstrap()
    if own:
        configure_logging(parts.settings.log)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if own:
            parts.close()

    app = FastAPI(title="Premask", version="1", lifespan=lifespan, responses=errors.PROBLEM_RESPONSES)
    app.state.container = parts
    errors.install(app)
    app.include_router(health.router)
    app.include_router(interactive.router)
    v1 = APIRouter(prefix="/api/v1")
    v1.include_router(events.router)
    nouns = (projects, videos, runs, reviews, layers, datasets, models, retraining)
    for router in (noun.router for noun in nouns):
        v1.include_router(router, dependencies=[Depends(require_api_key)])
    app.include_router(v1)
    return app
