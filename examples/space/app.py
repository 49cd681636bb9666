"""The Space: swap, reconstruct, interpolate, edit and animate clips in a browser, or over `gradio_client`.

python examples/space/app.py
"""

import scratch  # isort: skip  (before Gradio, for which it sets the environment)
import decoding  # isort: skip  (before anything else that imports torch: ZeroGPU's own import must be first)
import functools

import endpoints
import gradio as gr
from decoding import DOMAIN, MAX_AMOUNT, MAX_GUIDANCE, MAX_SEED, MAX_STEPS, MOST_MADE_UP, SLIDER_LABELS, SLIDERS
from endpoints import MAX_FRAMES, MAX_GRID, PACE
from first_results import first_results
from inputs import FILES, QUIET, clip_input
from looks import CSS, NAMES, THEME
from samples import name_own_examples
from uploads import MAX_BYTES, MAX_SECONDS
from waiting import UPDATE_SECONDS, predict_by_work


QUEUE_SIZE = 100
KEEP_SECONDS = 30 * 60  # for scripts that never say that they are gone

KNOWS = f"It knows {DOMAIN.domain}, and nothing else." if DOMAIN.domain else "It does not say what it was trained on."
INTRODUCTION = f"""# DiViD: this person, that motion
**{DOMAIN.name}** takes clips apart into **who is seen** and **how it moves**, and puts any two together. {KNOWS}
"""
NOTES = f"""Videos, GIFs and images of at most {MAX_BYTES >> 20} MB and {MAX_SECONDS} seconds are taken, and cropped to a square around
their centre. Uploads and results are deleted when you leave. Use recordings only with the consent of the people in them, and label what
you make as synthetic."""
ROUTING = """Every pixel attends to the identity token and to its frame's motion token: it takes more of the identity where the map is
**red**, more of the motion where it is **blue**. The tokens also reach the frame by roads that no map shows."""

EDITING = """A slider moves the clip's identity (static) or motion (dynamic) token along a direction in which training clips differ, by so
many standard deviations. Behind the colon stands the label that tells most of where a clip lies along it."""
MAKING_UP = """With an identity alone, new motions for it; with a motion alone, new people for it; with neither, both are made up. Another seed
(under "Advanced") makes up others."""
ABOUT = {"what_goes_where": ROUTING, "edit": EDITING, "make_up": MAKING_UP}


def slider(name: str) -> gr.Slider:
    return gr.Slider(
        -MAX_AMOUNT, MAX_AMOUNT, 0, step=0.1, label=SLIDER_LABELS.get(name, name), elem_classes="amount",
        visible=name in SLIDER_LABELS,
    )  # fmt: skip


def advanced() -> list:
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        with gr.Row():
            frames = gr.Slider(
                2,
                MAX_FRAMES,
                16,
                step=1,
                label="Frames",
                info="Of a longer clip, this many evenly spaced frames are used.",
            )
            steps = gr.Slider(
                1,
                MAX_STEPS,
                decoding.DEFAULT_STEPS,
                step=1,
                label="Steps",
                info="More steps of denoising take longer.",
            )
        with gr.Row():
            sampler = gr.Dropdown(
                list(decoding.SAMPLERS),
                value="DDIM",
                label="Sampler",
                info="This is the rule by which noise is removed.",
            )
            seed = gr.Number(
                0, precision=0, minimum=0, maximum=MAX_SEED, label="Seed", info="Another seed starts from other noise."
            )
        with gr.Row():
            guidance = [
                gr.Slider(
                    0, MAX_GUIDANCE, 1.0, step=0.1, label=f"{factor.capitalize()} guidance", interactive=possible,
                    info=f"Above 1, the {what} weighs more." if possible else "This checkpoint was not trained for it.",
                )
                for (factor, possible), what in zip(decoding.TAKES_GUIDANCE.items(), ("identity", "motion"))
            ]  # fmt: skip
    return [frames, sampler, steps, seed, *guidance]


def result(shows: str, name: str, first: list[str], picture: str | None = None) -> tuple[list, list]:
    """The buttons, and what they answer; `first` stands there when the page opens."""
    with gr.Row(elem_classes="buttons"):
        start = gr.Button(BUTTONS[name], variant="primary", elem_id=f"{name}_button", min_width=120, scale=3)
        stop = gr.Button("Stop", elem_id=f"{name}_stop", min_width=80, scale=1)
    outputs = [
        gr.Video(
            first[0] if first else None, label=shows, interactive=False, autoplay=True, loop=True,
            elem_id=f"{name}_result", elem_classes="result", buttons=["download"],
        )
    ]  # fmt: skip
    if picture:
        outputs.append(
            gr.Image(
                first[1] if first else None, label=picture, interactive=False, elem_id=f"{name}_picture",
                elem_classes="result", buttons=["download"],
            )
        )  # fmt: skip
    return [start, stop], outputs


BUTTONS = {
    "swap": "Swap",
    "reconstruct": "Reconstruct",
    "swap_grid": "Swap all",
    "interpolate": "Interpolate",
    "edit": "Edit",
    "animate": "Animate",
    "make_up": "Make up",
    "what_goes_where": "Show",
}


def build() -> gr.Blocks:
    gr.set_static_paths([scratch.EXAMPLES])  # nobody's: served from where they are and never deleted
    first, wired = first_results(), []

    with gr.Blocks(title="DiViD", analytics_enabled=False, delete_cache=(60, KEEP_SECONDS)) as demo:
        gr.Markdown(INTRODUCTION, elem_id="introduction")
        with gr.Tabs(overflow_behavior="wrap"):

            def tab(title: str, name: str, shows: str, donors, *more, picture: str | None = None) -> None:
                with gr.Tab(title):
                    if name in ABOUT:
                        gr.Markdown(ABOUT[name])
                    with gr.Row(elem_classes="stage"):
                        inputs = donors()
                        with gr.Column(min_width=300, scale=2):
                            inputs += [make() for make in more]
                            wired.append((name, inputs, *result(shows, name, first.get(name), picture)))

            tab(
                "Swap", "swap", "This person, that motion",
                lambda: [clip_input("Identity", "swap", 0), clip_input("Motion", "swap", 1)],
            )  # fmt: skip
            tab(
                "Reconstruct", "reconstruct", "Original and reconstruction",
                lambda: [clip_input("Clip", "reconstruct", 2)],
            )  # fmt: skip
            tab(
                "Grid", "swap_grid", "Identities by motions",
                lambda: [
                    clip_input(f"Identities, up to {MAX_GRID}", "grid", [0, 1]),
                    clip_input(f"Motions, up to {MAX_GRID}", "grid", [2, 3]),
                ],
            )  # fmt: skip
            tab(
                "Interpolate", "interpolate", "A, the clip between, B",
                lambda: [clip_input("Clip A", "interpolate", 0), clip_input("Clip B", "interpolate", 3)],
                lambda: gr.Radio(["identity", "motion"], value="identity", label="What changes"),
                lambda: gr.Slider(0, 1, 0.5, step=0.05, label="From A (0) to B (1)"),
            )  # fmt: skip
            if SLIDER_LABELS:
                tab(
                    "Edit", "edit", "Original and edited clip",
                    lambda: [clip_input("Clip", "edit", 3)],
                    *(functools.partial(slider, name) for name in SLIDERS),
                )  # fmt: skip
            tab(
                "Animate", "animate", "The image, moved",
                lambda: [clip_input("Image", "animate", 2, still=True), clip_input("Motion", "animate", 4)],
            )  # fmt: skip
            if MOST_MADE_UP:
                tab(
                    "Make up", "make_up", "What is given, and new clips",
                    lambda: [clip_input("Identity", "make_up", 0), clip_input("Motion", "make_up", None)],
                    lambda: gr.Slider(1, MAX_GRID, MAX_GRID, step=1, label="New clips"),
                )  # fmt: skip
            tab(
                "What goes where", "what_goes_where", "Frame, map, both",
                lambda: [clip_input("Identity", "routing", 0), clip_input("Motion", "routing", 1)],
                picture="First, middle and last step",
            )  # fmt: skip
        options = advanced()
        gr.Markdown(NOTES)

        for name, inputs, (start, stop), outputs in wired:
            # One at a time: there is one model, and "what goes where" instruments it.
            running = start.click(
                endpoints.ENDPOINTS[name], [*inputs, *options], outputs, api_name=name, validator=endpoints.hold,
                concurrency_id="model", concurrency_limit=1, scroll_to_output=True,
            )  # fmt: skip
            stop.click(None, cancels=running, **QUIET)
            # What another input answered is no answer to this one. In the browser, and the request first: what a page
            # does for one event it does in turn, so after a call of the server it would take back the next request.
            changes = [each.change for each in [*inputs, *options]]
            gr.on(changes, None, cancels=running, **QUIET)
            gr.on(changes, None, None, outputs, js=f"() => {'[null, null]' if len(outputs) > 1 else 'null'}", **QUIET)
            if name == "edit":
                wire_glimpse(inputs, options)
            if name == "reconstruct":  # for scripts; the page says it of every upload by itself
                gr.Button(visible=False).click(
                    endpoints.recognise, inputs, gr.Textbox(visible=False, label="Sentence"), api_name="recognise",
                    validator=endpoints.hold, concurrency_id="model", concurrency_limit=1,
                )  # fmt: skip
        demo.unload(endpoints.forget)
    demo.queue(max_size=QUEUE_SIZE, api_open=False, status_update_rate=UPDATE_SECONDS)  # no way past the queue
    predict_by_work(demo, PACE, endpoints.work)
    name_own_examples(demo, FILES)
    return demo


def wire_glimpse(inputs: list, options: list) -> None:
    """Letting go of a slider shows one frame of what "Edit" would make, below the clip."""
    clip, *sliders = inputs
    with clip.parent:
        shown = gr.HTML(elem_id="edit_glimpse", elem_classes="preview")
    gr.on(
        [each.release for each in sliders], endpoints.glimpse, [*inputs, *options], shown, trigger_mode="always_last",
        concurrency_id="model", concurrency_limit=1, show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    clip.change(None, None, shown, js="() => null", **QUIET)


def main() -> None:
    build().launch(
        theme=THEME, css=CSS, js=NAMES, max_file_size=MAX_BYTES, show_error=True, ssr_mode=False, footer_links=["api"]
    )


if __name__ == "__main__":
    main()
