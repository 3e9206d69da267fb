"""`serve` and `controller`: the service."""

from __future__ import annotations

import ipaddress
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import DatabaseOption
from sparsesearch.console.streams import program, say
from sparsesearch.errors import MissingExtraError, SpecError
from sparsesearch.files.user_path import user_path
from sparsesearch.study.spec import DispatcherName


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others than this machine need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 8000,
    data_root: Annotated[
        list[Path] | None,
        typer.Option(
            "--data-root",
            metavar="FOLDER",
            help="Folder whose files submitted studies may read; may be repeated. [default: $SPARSESEARCH_DATA_ROOTS]",
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second that a token may make, on average.")] = 200.0,
    mlflow_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of MLflow's pages, for links on the pages.")
    ] = None,
    allow_private_webhooks: Annotated[
        bool, typer.Option("--allow-private-webhooks", help="Send webhooks to addresses that are not public as well.")
    ] = False,
    https: Annotated[
        bool,
        typer.Option("--https", help="Pages are reached over HTTPS, through a proxy: cookies are only sent there."),
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder into which controllers write the files of finished studies (controller --results): the pages "
            "then offer their models and pictures.",
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address or network of a proxy in front of the service, whose X-Forwarded-For is believed; may be "
            "repeated. Without it, all who come through a proxy share the limits of one address.",
        ),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """Serve the REST API and the pages: submit studies, watch fronts, get recipes.

    It only reads and writes the study database; studies are run by `sparsesearch controller`, anywhere that reaches the
    same database and storage. Every request needs a token of `sparsesearch token create`.

    For example:

    sparsesearch token create me --scope admin

    sparsesearch serve --data-root /data --results /results

    sparsesearch serve --host 0.0.0.0 --port 8000 --data-root /data
    """
    try:
        from sparsesearch.service.app import create_app
        from sparsesearch.service.server import server, write_logs
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "h11", "uvicorn", "jinja2"):
            raise
        raise MissingExtraError(
            f"the service needs {error.name}; install it with: pip install 'sparsesearch[service]'"
        ) from error
    from sparsesearch.app.workspace import Workspace
    from sparsesearch.service.options import ServiceOptions

    roots = tuple(user_path(str(root)).resolve() for root in data_root or []) or ServiceOptions.roots_of_environment()
    missing = [root for root in roots if not root.is_dir()]
    if missing:
        raise SpecError(f"--data-root {missing[0]} is not a folder; create it, or leave it out")
    for one in proxy or []:
        try:
            ipaddress.ip_network(one)
        except ValueError as error:
            raise SpecError(f"--proxy {one}: {error}; give an address or a network, as 10.0.0.0/8") from error
    workspace = Workspace.open(database)
    if not _is_loopback(host) and not workspace.store.tokens.any_valid():
        raise SpecError(
            f"refusing to listen on {host} without a token, since other machines could reach the service; create one "
            f"first: {program()} token create NAME --scope admin"
        )
    options = ServiceOptions(
        data_roots=roots,
        rate=rate,
        mlflow_url=mlflow_url,
        allow_private_webhooks=allow_private_webhooks,
        secure_cookies=https,
        results=None if results is None else user_path(str(results)).resolve(),
        proxies=tuple(proxy or ()),
    )
    write_logs()
    say(f"sparsesearch: http://{host}:{port} (press Ctrl-C to stop); tokens: {program()} token list")
    with suppress(KeyboardInterrupt):
        server(create_app(workspace, options), host=host, port=port, proxies=options.proxies).run()


def controller(
    studies: Annotated[
        int | None,
        typer.Option(
            "--studies",
            min=1,
            help="How many studies run at once.",
            show_default="one for each GPU of this machine, or for each four cores",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write best.yaml, front.png and report.html of finished studies into FOLDER/STUDY.",
        ),
    ] = None,
    dispatcher: Annotated[
        DispatcherName, typer.Option(help="ray: trials in parallel; inline: one after the other in one process.")
    ] = "ray",
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Ray cluster on which the trials of all studies run: HOST:PORT, or auto. "
            "[default: $SPARSESEARCH_RAY_ADDRESS, else each study starts its own on this machine]",
        ),
    ] = None,
    mlflow: Annotated[bool, typer.Option("--mlflow/--no-mlflow", help="Log studies to MLflow.")] = True,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Address of the pages of `serve` in browsers, to which MLflow's runs then lead. "
            "[default: $SPARSESEARCH_SERVICE_URL]",
        ),
    ] = None,
    allow_private_webhooks: Annotated[
        bool, typer.Option("--allow-private-webhooks", help="Send webhooks to addresses that are not public as well.")
    ] = False,
    database: DatabaseOption = None,
) -> None:
    """Run the studies that are submitted to the service, by priority, then fair between owners, then by age.

    Several controllers may use one database; each study is run by one of them. On Ctrl-C or SIGTERM the studies under
    way are saved and go back to the queue. If a controller is killed, the others go on with its studies within a minute
    or two.

    For example:

    sparsesearch controller --studies 2 --results /results

    sparsesearch controller --ray-address ray-head:6379 --studies 8
    """
    from sparsesearch.app.workspace import Workspace
    from sparsesearch.artifacts.output_files import check_folder
    from sparsesearch.service.controller import Controller, ControllerOptions, default_slots

    workspace = Workspace.open(database)
    workspace.store.set_patience(5.0)
    options = ControllerOptions(
        slots=studies or default_slots(),
        results=None if results is None else check_folder(results).resolve(),
        dispatcher=dispatcher,
        ray_address=ray_address or os.environ.get("SPARSESEARCH_RAY_ADDRESS") or None,
        mlflow=mlflow,
        service_url=url or os.environ.get("SPARSESEARCH_SERVICE_URL", ""),
        allow_private_webhooks=allow_private_webhooks,
    )
    found = Controller(workspace, options, say=say)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: found.stop())
    found.run()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
