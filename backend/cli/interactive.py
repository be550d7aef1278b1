"""`premask interactive`: the process that draws masks for labelers' clicks."""

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from backend.bootstrap import Container, bootstrap
from backend.domain.errors import Misconfigured
from backend.logs import configure_logging

if TYPE_CHECKING:
    from workers.interactive.desk import MaskDesk

app = typer.Typer(no_args_is_help=True, help="Masks on demand, for labelers' clicks in Label Studio.")

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@app.callback()
def interactive() -> None:
    """Keeps `serve` a command of its own."""


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8020,
) -> None:
    """Draw masks for the API (interactive.service_url); until Ctrl-C."""
    container = bootstrap()
    configure_logging(container.settings.log)
    token = container.settings.interactive.service_token
    if token is None and host not in _LOOPBACK:
        raise Misconfigured(f"at {host} others can reach it: set interactive.service_token, here and for the API")
    from workers.interactive.service import Waiting, make_server

    waiting = Waiting()
    server = make_server(waiting, host, port, token=token.get_secret_value() if token else None)
    # It answers while the model is loaded; and a model that can't be loaded ends it, with the reason.
    serving = threading.Thread(target=server.serve_forever, name="premask-masks", daemon=True)
    serving.start()
    with suppress(KeyboardInterrupt):
        waiting.set(_desk(container).draw)
        print(f"masks are drawn at http://{host}:{server.server_address[1]}", flush=True)
        serving.join()


def _desk(container: Container) -> "MaskDesk":
    import torch

    from workers.interactive.desk import MaskDesk

    interactive = container.settings.interactive
    if container.profile.device == "cpu" and (threads := interactive.torch_threads or container.profile.cpu_threads):
        torch.set_num_threads(threads)
    desk = MaskDesk(container)
    desk.preload()
    return desk
