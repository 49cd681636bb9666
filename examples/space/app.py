"""The Space: swap, reconstruct, interpolate and animate clips in a browser, or over `gradio_client`.

python examples/space/app.py
"""

import scratch  # isort: skip  (before Gradio, for which it sets the environment)
import decoding  # isort: skip  (before anything else that imports torch: ZeroGPU's own import must be first)
import endpoints
import gradio as gr
from decoding import MAX_GUIDANCE, MAX_SEED, MAX_STEPS
from endpoints import MAX_FRAMES, MAX_GRID
from pictures import EXAMPLE_FPS, draw_examples, preview
from uploads import MAX_BYTES, MAX_SECONDS


QUEUE_SIZE = 100
KEEP_SECONDS = 30 * 60  # for scripts that never say that they are gone
EXAMPLES = draw_examples(scratch.EXAMPLES)
CLIPS = ["video", "image"]  # a GIF is an image to a file chooser

CSS = """
.gradio-container { width: 100% !important; max-width: 1100px !important; margin: 0 auto !important; }
.preview figure { margin: 0; text-align: center; }
.preview img { display: block; width: 200px; margin: 0 auto; }
.preview img, .result img { image-rendering: pixelated; }
.result video, .result img { max-height: 60vh; object-fit: contain; }
.result [data-testid="block-label"] { position: relative; width: fit-content; margin-bottom: 6px; }
"""
INTRODUCTION = """# DiViD: this person, that motion
A clip is taken apart into **one token for who is seen** and **one token per frame for how it moves**; any two can be put
together again. Take the examples or upload your own: uploads are cropped to a square around their centre.
"""
NOTES = f"""Videos, GIFs and images of at most {MAX_BYTES >> 20} MB and {MAX_SECONDS} seconds. Uploads and results are deleted when you
leave. Use recordings only with the consent of the people in them, and label what you make as synthetic."""
ROUTING = """Every pixel attends to the identity token and to its frame's motion token: it takes more of the identity where the map is
**red**, more of the motion where it is **blue**. The tokens also reach the frame by roads that no map shows."""


def upload_box(label: str, name: str, kinds: list[str], value, count: str = "single") -> gr.File:
    box = gr.File(
        value,
        label=label,
        file_count=count,
        file_types=kinds,
        height=120 if count == "single" else 250,
        elem_id=name,
        interactive=True,
    )

    # Gradio's own leaves an empty file behind at every call, and judges a file by its name.
    def paths(payload):
        if payload is None or count == "single":
            return payload and payload.path
        return [file.path for file in payload.root]

    async def keep_or_refuse(path, keep=box.async_move_resource_to_block_cache):
        if path and str(path).lower().startswith(("http://", "https://")):
            raise gr.Error("Links are not followed here: download the clip and upload it.", print_exception=False)
        return await keep(path)

    box.preprocess, box.async_move_resource_to_block_cache = paths, keep_or_refuse
    return box


def clip_input(label: str, tab: str, first: int, still: bool = False) -> gr.File:
    """An upload, what the model sees of it, and examples, of which `first` stands there when the page opens."""
    name, spoken = f"{tab}_{label.lower().replace(' ', '_')}", label[0].lower() + label[1:]
    files = [example.image if still else example.clip for example in EXAMPLES]
    views = [
        preview(example.frames[:1] if still else example.frames, EXAMPLE_FPS, f"The {spoken}, as the model sees it")
        for example in EXAMPLES
    ]
    with gr.Column(min_width=280):
        box = upload_box(label, name, ["image"] if still else CLIPS, files[first])
        view = gr.HTML(views[first], elem_id=f"{name}_preview", elem_classes="preview")
        examples = gr.Dataset(
            components=[gr.Textbox(visible=False)], samples=[[example.name] for example in EXAMPLES], type="index",
            label=f"Examples: {label}", layout="gallery", elem_id=f"{name}_examples",
        )  # fmt: skip

    def uploaded(path, request: gr.Request):
        return endpoints.look(path, spoken, request)

    quiet = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    examples.click(lambda index: (files[index], views[index]), examples, [box, view], **quiet)
    box.upload(uploaded, box, view, concurrency_id="reading", concurrency_limit=2, api_visibility="private")
    box.clear(lambda: None, None, view, **quiet)
    return box


def advanced() -> list:
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        with gr.Row():
            frames = gr.Slider(
                2, MAX_FRAMES, 16, step=1, label="Frames", info="Of a longer clip, so many, evenly spaced."
            )
            steps = gr.Slider(1, MAX_STEPS, decoding.DEFAULT_STEPS, step=1, label="Steps", info="Of denoising.")
        with gr.Row():
            sampler = gr.Dropdown(list(decoding.SAMPLERS), value="DDIM", label="Sampler", info="How it denoises.")
            seed = gr.Number(0, precision=0, minimum=0, maximum=MAX_SEED, label="Seed", info="Of the start noise.")
        with gr.Row():
            guidance = [
                gr.Slider(
                    0, MAX_GUIDANCE, 1.0, step=0.1, label=f"{factor.capitalize()} guidance", interactive=possible,
                    info=f"Above 1: more of the {what}." if possible else "This checkpoint was not trained for it.",
                )
                for (factor, possible), what in zip(decoding.TAKES_GUIDANCE.items(), ("identity", "motion"))
            ]  # fmt: skip
    return [frames, sampler, steps, seed, *guidance]


def build() -> gr.Blocks:
    gr.set_static_paths([scratch.EXAMPLES])  # nobody's: served from where they are and never deleted
    wired = []

    def action(text: str, function, inputs: list, shows: str, picture: str | None = None) -> None:
        name = function.__name__
        button = gr.Button(text, variant="primary", elem_id=f"{name}_button")
        outputs = [
            gr.Video(
                label=shows, interactive=False, autoplay=True, loop=True, elem_id=f"{name}_result", elem_classes="result",
                buttons=["download"],
            )
        ]  # fmt: skip
        if picture:
            outputs.append(
                gr.Image(
                    label=picture,
                    interactive=False,
                    elem_id=f"{name}_picture",
                    elem_classes="result",
                    buttons=["download"],
                )
            )
        wired.append((button, function, inputs, outputs))

    with gr.Blocks(title="DiViD", analytics_enabled=False, delete_cache=(60, KEEP_SECONDS)) as demo:
        gr.Markdown(INTRODUCTION)
        with gr.Tab("Swap"):
            with gr.Row():
                inputs = [clip_input("Identity", "swap", 0), clip_input("Motion", "swap", 1)]
            action("Swap", endpoints.swap, inputs, "This person, that motion")
        with gr.Tab("Reconstruct"):
            inputs = [clip_input("Clip", "reconstruct", 2)]
            action("Reconstruct", endpoints.reconstruct, inputs, "Original and reconstruction")
        with gr.Tab("Swap grid"):
            with gr.Row():
                paths = [example.clip for example in EXAMPLES]
                people = upload_box(f"Identities, up to {MAX_GRID}", "grid_identities", CLIPS, paths[:3], "multiple")
                moves = upload_box(f"Motions, up to {MAX_GRID}", "grid_motions", CLIPS, paths[3:], "multiple")
            action("Swap all", endpoints.swap_grid, [people, moves], "Identities by motions")
        with gr.Tab("Interpolate"):
            with gr.Row():
                inputs = [clip_input("Clip A", "interpolate", 0), clip_input("Clip B", "interpolate", 3)]
            with gr.Row():
                inputs.append(gr.Radio(["identity", "motion"], value="identity", label="What changes", min_width=280))
                inputs.append(gr.Slider(0, 1, 0.5, step=0.05, label="From A (0) to B (1)", min_width=280))
            action("Interpolate", endpoints.interpolate, inputs, "A, the clip between, B")
        with gr.Tab("Animate an image"):
            with gr.Row():
                inputs = [
                    clip_input("Image", "animate", 2, still=True),
                    clip_input("Motion", "animate", 4),
                ]
            action("Animate", endpoints.animate, inputs, "The image, moved")
        with gr.Tab("What goes where"):
            gr.Markdown(ROUTING)
            with gr.Row():
                inputs = [clip_input("Identity", "routing", 0), clip_input("Motion", "routing", 1)]
            action(
                "Show", endpoints.what_goes_where, inputs, "Frame, map, both",
                picture="First, middle and last step",
            )  # fmt: skip
        options = advanced()
        gr.Markdown(NOTES)

        for button, function, inputs, outputs in wired:
            # One at a time: there is one model, and "what goes where" instruments it.
            button.click(
                function, [*inputs, *options], outputs, api_name=function.__name__, validator=endpoints.hold,
                concurrency_id="model", concurrency_limit=1, scroll_to_output=True,
            )  # fmt: skip
        demo.unload(endpoints.forget)
    return demo.queue(max_size=QUEUE_SIZE, api_open=False)  # no way past the queue


def main() -> None:
    build().launch(
        theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=CSS, max_file_size=MAX_BYTES, show_error=True, ssr_mode=False, footer_links=["api"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
