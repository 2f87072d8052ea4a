"""Serves the page, and lets it reach nothing else."""

from __future__ import annotations

import ipaddress
import logging
import socket
from importlib.resources import files as files_of
from types import FrameType
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# gradio's page has its settings in scripts and styles of its own, between the lines; all of it comes from here
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'none'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}
SLACK = 1_000_000  # bytes of a request beside its files


class OwnOrigin:
    """Tells browsers to fetch nothing from elsewhere, whatever the page says."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [(name, value) for name, value in message["headers"] if name.lower() not in HEADERS]
                message = {**message, "headers": [*others, *HEADERS.items()]}
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def application(page: gr.Blocks, host: str, upload: int, files: int) -> FastAPI:
    """Return what is to be served.

    Args:
        page: the page.
        host: the address it is served at; at one of this machine alone, requests that come by another name are refused,
            as a foreign page might send them.
        upload: the most bytes of a file.
        files: how many files come in one request.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, max_body_size=upload * files + SLACK)
    app.add_middleware(OwnOrigin)
    if is_loopback(host):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[host, "localhost", "127.0.0.1", "[::1]"])
    _close(page)
    plain: Any = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=host,
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size=upload,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=plain,
        head=f"<script>{(files_of('esc_arch.web') / 'keys.js').read_text(encoding='utf-8')}</script>",
    )


def _close(page: gr.Blocks) -> None:
    """Let requests name no files but those that were uploaded.

    gradio looks at that only for pages that are launched, not for mounted ones, and would read any file that a request
    names; from addresses of other machines it downloads.
    """
    page.has_launched = page.is_running = True
    for block in page.blocks.values():
        _refuse_addresses(block)


def _refuse_addresses(block: Any) -> None:
    move = block.async_move_resource_to_block_cache

    async def move_own(file: Any) -> str | None:
        if str(file).lower().startswith(("http:", "https:")):
            raise gr.Error("Pictures are uploaded; addresses are not read.", print_exception=False)
        return await move(file)

    block.async_move_resource_to_block_cache = move_own


class _Server(uvicorn.Server):
    """Ends quietly: pages that are open hold connections, and to cancel those is no fault."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().handle_exit(sig, frame)


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Serve until the process is told to stop."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    _Server(config).run(sockets=[listening])


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
