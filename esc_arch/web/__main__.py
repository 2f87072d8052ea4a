"""Enlarge pictures in a browser: `python -m esc_arch.web [--port N] [--weights CHECKPOINT ...] [...]`.

The page is served to this machine alone, unless another `--host` is named, and needs no network.
"""

from __future__ import annotations

import argparse
import os
import socket
import tempfile

from esc_arch.common import machine
from esc_arch.common.arguments import positive
from esc_arch.common.errors import UserError, one_sentence, printable
from esc_arch.web.work import Limits, Workshop

# read by gradio when it is imported: no reports, no look for newer versions
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}


@one_sentence
def main(argv: list[str] | None = None) -> None:
    """Serve the page until it is told to stop."""
    args = _parse(argv)
    device = machine.choose_device(args.device)
    for file in args.weights:
        if not os.path.isfile(file):
            raise UserError(f"--weights: {printable(file)} does not exist; name checkpoints.")
    with tempfile.TemporaryDirectory(prefix="esc-web-") as folder, _bound(args.host, args.port) as listening:
        os.environ.update(QUIET, GRADIO_TEMP_DIR=os.path.join(folder, "gradio"))
        try:
            import gradio  # noqa: F401
        except ImportError as error:
            raise UserError(f"The page needs gradio ({error}); pip install 'esc_arch[web]'.") from error
        from esc_arch.web.interface import build
        from esc_arch.web.server import application, serve

        limits = Limits(args.max_upload * 1_000_000, args.max_files, args.max_pixels, args.max_result)
        page = build(Workshop(folder, device, limits), [os.path.abspath(file) for file in args.weights], args.waiting)
        app = application(page, args.host, limits.upload, limits.files)
        port = listening.getsockname()[1]
        print(f"The page is at http://{_shown(args.host)}:{port} (Ctrl-C ends it).", flush=True)
        serve(app, listening)


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address, so that nothing is loaded for a page that nobody reaches."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{printable(host)}, port {port}, cannot be listened at ({reason}); take another --port."
        ) from error


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _parse(argv: list[str] | None) -> argparse.Namespace:
    limits = Limits()
    parser = argparse.ArgumentParser("python -m esc_arch.web", description="Enlarge pictures in a browser.")
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to serve at; 0.0.0.0 is reached from other machines (%(default)s)")
    add("--port", type=int, default=7860, help="0 for any that is free (%(default)s)")
    add(
        "--weights",
        nargs="+",
        default=[],
        metavar="FILE",
        help="checkpoints to choose besides the weights of the package",
    )
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(%(default)s)")
    add("--max-upload", type=positive, default=limits.upload // 1_000_000, metavar="MB", help="of a file (%(default)s)")
    add("--max-files", type=positive, default=limits.files, metavar="N", help="pictures at a time (%(default)s)")
    add("--max-pixels", type=positive, default=limits.pixels, metavar="N", help="of a picture (%(default)s)")
    add("--max-result", type=positive, default=limits.result, metavar="N", help="pixels of a result (%(default)s)")
    add("--waiting", type=positive, default=20, metavar="N", help="how many may wait for their turn (%(default)s)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
