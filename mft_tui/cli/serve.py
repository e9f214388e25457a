"""``mft-tui serve``: the app in a browser, on this machine alone unless told otherwise.

textual-serve gives every visitor a process of the app. Beyond loopback a token is demanded: whoever
reaches the app can start jobs.
"""

import hmac
import ipaddress
import secrets
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from mft_tui.cli.output import console
from runners.errors import UsageError

if TYPE_CHECKING:
    from aiohttp import web

_COOKIE = "mft_tui_token"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8765,
    token: Annotated[
        str | None,
        typer.Option(help="Token that visitors need; made up beyond loopback when left out."),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="Address that visitors use, behind a proxy.")
    ] = None,
) -> None:
    """Serve the app in a browser.

    Bound to this machine by default. On any other address a token is part of the link.

    \b
    Examples:
      mft-tui serve
      ssh -L 8765:localhost:8765 HOST mft-tui serve
      mft-tui serve --host 0.0.0.0 --port 9000
    """
    if token is not None and not token:
        raise UsageError("an empty token keeps nobody out", where="--token")
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    server = make_server(host, port, token=token, public_url=public_url)
    link = public_url or f"http://{host}:{port}"
    console.print(f"mft-tui is served at {link}{f'/?token={token}' if token else ''}", markup=False)
    console.print("Ctrl-C ends serving; jobs go on.")
    try:
        server.serve()
    except OSError as error:
        raise UsageError(
            f"cannot listen there ({error.strerror})",
            where=f"{host}:{port}",
            fix="Take another --port.",
        ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_server(host: str, port: int, *, token: str | None, public_url: str | None) -> Any:
    """A textual-serve server that asks for the token, if there is one, before anything else."""
    from textual_serve.server import Server

    class GuardedServer(Server):
        async def _make_app(self) -> "web.Application":
            app = await super()._make_app()
            app.middlewares.append(origin_guard(public_url))
            if token is None:
                app.middlewares.append(host_guard(public_url))
            if token is not None:
                app.middlewares.append(token_guard(token))
            return app

    command = shlex.join([sys.executable, "-m", "mft_tui"])
    server = GuardedServer(command, host=host, port=port, title="mft-tui", public_url=public_url)
    server.console = console  # it talks, and talk goes to stderr
    return server


def host_guard(public_url: str | None) -> Any:
    """A middleware that answers to this machine's own names only, and to the public one.

    A page of another site can have its own name lead to 127.0.0.1 after it has been loaded; its
    requests come with an ``Origin`` that is their ``Host`` then, and only that name tells them. A
    server with a token needs no such guard: the cookie belongs to the name it was given under.
    """
    from aiohttp import web

    public = urlsplit(public_url).hostname if public_url else None

    @web.middleware
    async def guard(request: "web.Request", handler: Any) -> "web.StreamResponse":
        asked = _hostname(request.host)
        if asked is None or not (is_loopback(asked) or asked == public):
            raise web.HTTPForbidden(
                text="Not by this name: open localhost, or name the address with --public-url."
            )
        response: web.StreamResponse = await handler(request)
        return response

    return guard


def _hostname(netloc: str) -> str | None:
    try:
        return urlsplit(f"//{netloc}").hostname
    except ValueError:
        return None


def origin_guard(public_url: str | None) -> Any:
    """A middleware that refuses pages of other sites.

    A browser lets any page open a web socket to this machine; only its ``Origin`` tells. Without
    this, a page the person happens to visit could start jobs through a server on loopback.
    """
    from aiohttp import web

    @web.middleware
    async def guard(request: "web.Request", handler: Any) -> "web.StreamResponse":
        origin = request.headers.get("Origin")
        if origin is not None and not _same_site(origin, request.host, public_url):
            raise web.HTTPForbidden(text="Not from another site.")
        response: web.StreamResponse = await handler(request)
        return response

    return guard


def _same_site(origin: str, host: str, public_url: str | None) -> bool:
    if public_url is not None and origin == public_url.rstrip("/"):
        return True
    theirs, ours = urlsplit(origin), urlsplit(f"//{host}")
    if theirs.netloc == ours.netloc:
        return True
    both_here = is_loopback(theirs.hostname or "") and is_loopback(ours.hostname or "")
    return both_here and theirs.port == ours.port


def token_guard(token: str) -> Any:
    """A middleware that lets in whoever has the token, in the link at first, then in a cookie."""
    from aiohttp import web

    def right(given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), token.encode())

    @web.middleware
    async def guard(request: "web.Request", handler: Any) -> "web.StreamResponse":
        if right(request.cookies.get(_COOKIE)):
            response: web.StreamResponse = await handler(request)
            return response
        if not right(request.query.get("token")):
            raise web.HTTPForbidden(text="This needs the token of the link that was printed.")
        entered = web.HTTPFound(request.path)
        entered.set_cookie(_COOKIE, token, httponly=True, samesite="Strict")
        return entered

    return guard
