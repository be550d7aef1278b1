# One image for the API, the workers, beat and the migration; docker-compose.yml says which it is.
FROM python:3.11.14-slim-bookworm

# cpu or cuda: which build of torch is installed.
ARG PREMASK_TORCH=cpu
ENV PYTHONUNBUFFERED=1 PATH=/app/.venv/bin:$PATH
WORKDIR /app

# The environment first, from the locks alone: it is built again only when they change. The packages' __init__ files stand
# for the sources, which the editable installation only points to.
COPY pyproject.toml requirements.lock README.md ./
COPY scripts/bootstrap.py scripts/
RUN mkdir backend workers integrations migrations \
    && touch backend/__init__.py workers/__init__.py integrations/__init__.py migrations/__init__.py \
    && PREMASK_TORCH=$PREMASK_TORCH python scripts/bootstrap.py \
    && rm -rf "$HOME/.cache"

COPY backend backend
COPY workers workers
COPY integrations integrations
COPY migrations migrations

RUN useradd --create-home premask
USER premask
CMD ["premask", "--help"]
