"""The page: what is on it, and what happens when something is clicked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import gradio as gr

from esc_arch.common.errors import UserError
from esc_arch.pictures.formats import FORMATS, WRITTEN
from esc_arch.web.work import BOX, LONGEST, TIMES, WEIGHTS, Outcome, Wish, Workshop
from esc_arch.weights.loading import bundled_names

AUTOMATIC, KEEP = "", ""
SIZES = [
    ("as the weights do", WEIGHTS),
    ("so many times", TIMES),
    ("to fit into a box", BOX),
    ("to a longer side", LONGEST),
]
KINDS = [(kind, next(suffix for suffix, name in FORMATS.items() if name == kind)) for kind in WRITTEN]


def build(workshop: Workshop, checkpoints: list[str], waiting: int) -> gr.Blocks:
    """Build the page.

    Args:
        workshop: what enlarges.
        checkpoints: paths that can be chosen besides the weights of the package.
        waiting: how many visitors may wait for their turn.
    """
    running: set[str | None] = set()  # sessions of which pictures are enlarged; and those that want no more of it
    stopped: set[str | None] = set()
    limits = workshop.limits

    def stop(request: gr.Request) -> None:
        stopped.update(running & {request.session_hash})

    def enlarge(
        pictures: list[str] | None,
        weights: str,
        own: str | None,
        way: str,
        scale: float | None,
        width: float | None,
        height: float | None,
        longest: float | None,
        kind: str,
        quality: float | None,
        metadata: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  how gradio finds out that there is progress
    ) -> Iterator[tuple[Any, ...]]:
        session = request.session_hash
        wish = Wish(
            pictures or [],
            own or weights or None,
            way,
            scale,
            width,
            height,
            longest,
            kind or None,
            quality,
            metadata,
        )
        yield _shown(Outcome(["Working ..."]))
        running.add(session)
        try:
            for outcome in workshop.enlarge(wish, progress, lambda: session in stopped):
                yield _shown(outcome)
        except UserError as error:
            yield _shown(Outcome([str(error)]))
        finally:
            running.discard(session)
            stopped.discard(session)

    with gr.Blocks(
        title="Enlarge pictures", analytics_enabled=False, delete_cache=(600, int(workshop.lasting))
    ) as page:
        gr.Markdown(
            "# Enlarge pictures\n"
            f"At most {limits.files} pictures at a time, of {limits.upload / 1e6:g} MB and {limits.pixels / 1e6:g} "
            f"megapixels each; results of up to {limits.result / 1e6:g} megapixels."
        )
        with gr.Row():
            with gr.Column():
                pictures = gr.File(label="Pictures", file_count="multiple", type="filepath", elem_id="pictures")
                names = [("those that get there in the fewest steps", AUTOMATIC)]
                names += [(os.path.basename(name), name) for name in [*bundled_names(), *checkpoints]]
                weights = gr.Dropdown(names, value=AUTOMATIC, label="Weights", elem_id="weights")
                with gr.Accordion("A checkpoint of your own", open=False):
                    own = gr.File(
                        label="Taken in place of the weights; .pth, .safetensors", type="filepath", elem_id="checkpoint"
                    )
                way = gr.Radio(SIZES, value=WEIGHTS, label="Enlarge", elem_id="way")
                scale = gr.Number(2, label="Times", minimum=1, visible=False, elem_id="scale")
                with gr.Row(visible=False) as box:
                    width = gr.Number(None, label="Width in pixels", minimum=0, precision=0, elem_id="width")
                    height = gr.Number(None, label="Height in pixels", minimum=0, precision=0, elem_id="height")
                longest = gr.Number(
                    None, label="Longer side in pixels", minimum=0, precision=0, visible=False, elem_id="longest"
                )
                with gr.Accordion("Result", open=False):
                    kind = gr.Dropdown([("as the picture", KEEP), *KINDS], value=KEEP, label="Format", elem_id="format")
                    quality = gr.Number(None, label="Quality of JPEG, WebP and AVIF, 1 to 100 (95)", elem_id="quality")
                    metadata = gr.Checkbox(True, label="Keep metadata", elem_id="metadata")
                with gr.Row():
                    start = gr.Button("Enlarge", variant="primary", elem_id="start")
                    end = gr.Button("Stop", elem_id="stop")
            with gr.Column():
                state = gr.Textbox(label="State", lines=2, max_lines=20, interactive=False, elem_id="state")
                chosen = gr.Dropdown([], label="Picture", visible=False, elem_id="chosen")
                slider = gr.ImageSlider(
                    label="Before and after",
                    type="filepath",
                    interactive=False,
                    buttons=["fullscreen"],
                    elem_id="slider",
                )
                results = gr.File(label="Results", file_count="multiple", interactive=False, elem_id="results")
        pairs = gr.State({})

        way.change(
            lambda way: [gr.update(visible=way == name) for name in (TIMES, BOX, LONGEST)],
            way,
            [scale, box, longest],
            show_progress="hidden",
            api_visibility="private",
        )
        start.click(
            enlarge,
            [pictures, weights, own, way, scale, width, height, longest, kind, quality, metadata],
            [state, chosen, slider, results, pairs],
            concurrency_limit=1,
            concurrency_id="network",
            show_progress_on=state,
            api_visibility="private",
        )
        chosen.input(
            lambda name, pairs: pairs.get(name),
            [chosen, pairs],
            slider,
            show_progress="hidden",
            api_visibility="private",
        )
        end.click(stop, None, None, queue=False, api_visibility="private")
        page.unload(stop)
    return page.queue(max_size=waiting)


def _shown(outcome: Outcome) -> tuple[Any, ...]:
    """Return the values of state, choice, slider, results and pairs."""
    names = list(outcome.pairs)
    last = names[-1] if names else None
    choice = gr.update(choices=names, value=last, visible=len(names) > 1)
    pairs = {name: tuple(pair) for name, pair in outcome.pairs.items()}
    return "\n".join(outcome.lines), choice, pairs[last] if last else None, outcome.files or None, pairs
