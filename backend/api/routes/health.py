"""Whether the parts outside the process answer."""

from fastapi import APIRouter, Response

from backend.api.deps import TheContainer
from backend.api.schemas.common import Health

router = APIRouter(tags=["health"])


@router.get("/healthz", responses={503: {"model": Health}})
def healthz(container: TheContainer, response: Response) -> Health:
    trouble = container.health()
    well = not any(trouble.values())
    response.status_code = 200 if well else 503
    return Health(status="ok" if well else "unavailable", parts={name: said or "ok" for name, said in trouble.items()})
