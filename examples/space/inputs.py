"""What people give: an upload, what the model sees of it, and examples to choose from."""

import decoding
import endpoints
import gradio as gr
import scratch
from endpoints import MAX_FRAMES
from pictures import preview, read_examples, thumbnails
from samples import OWN_FILE, example_behind


EXAMPLES = read_examples(decoding.DOMAIN.examples, scratch.EXAMPLES, decoding.SIZE, MAX_FRAMES)
FILES = {path for example in EXAMPLES for path in (example.clip, example.image)}
CLIPS = ["video", "image"]  # a GIF is an image to a file chooser
QUIET = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
CHOOSE = """element.addEventListener("click", event => {
    const button = event.target.closest("button");
    if (button) trigger("click", {index: Number(button.dataset.index)});
})"""


def upload_box(label: str, name: str, kinds: list[str], value, sample: str | None, count: str) -> gr.File:
    box = gr.File(
        value, label=label, file_count=count, file_types=kinds, height=92 if count == "single" else 190, elem_id=name,
        elem_classes="upload", interactive=True,
    )  # fmt: skip

    # Gradio's own leaves an empty file behind at every call, and judges a file by its name.
    def paths(payload):
        if payload is None or count == "single":
            return payload and payload.path
        return [file.path for file in payload.root]

    async def keep_or_refuse(path, keep=box.async_move_resource_to_block_cache):
        if path and str(path).lower().startswith(("http://", "https://")):
            path = example_behind(str(path), FILES)
            if path is None:
                raise gr.Error("Links are not followed here: download the clip and upload it.", print_exception=False)
        return await keep(path)

    def payload():
        if sample is None:  # it may be left empty, and is in samples
            return None
        file = {"path": sample, "url": sample, "meta": {"_type": "gradio.FileData"}}
        return file if count == "single" else [file]

    box.preprocess, box.async_move_resource_to_block_cache, box.example_payload = paths, keep_or_refuse, payload
    return box


def clip_input(label: str, tab: str, first: int | list[int] | None, still: bool = False) -> gr.File:
    """
    An upload, what the model sees of it, and examples, of which `first`, or none, stands there when the page opens.
    """
    name, spoken = f"{tab}_{label.lower().replace(' ', '_')}", label[0].lower() + label[1:]
    many = isinstance(first, list)
    files = [example.image if still else example.clip for example in EXAMPLES]
    views = [
        preview(each.frames[:1] if still else each.frames, each.fps, f"The {spoken}: {each.name}") for each in EXAMPLES
    ]
    chosen = [index % len(files) for index in (first if many else [first]) if index is not None] if files else []
    value = [files[index] for index in chosen]
    with gr.Column(min_width=150, elem_classes="given"):
        box = upload_box(
            label, name, ["image"] if still else CLIPS, (value if many else value[0]) if value else None,
            files[chosen[0]] if chosen else None if first is None else OWN_FILE, "multiple" if many else "single",
        )  # fmt: skip
        view = gr.HTML("".join(views[index] for index in chosen), elem_id=f"{name}_preview", elem_classes="preview")
        thumbs = gr.HTML(
            thumbnails(EXAMPLES, label), js_on_load=CHOOSE, elem_id=f"{name}_examples", elem_classes="examples",
            visible=bool(EXAMPLES),
        )  # fmt: skip

    def look(paths, request: gr.Request):
        kept, shown = endpoints.look(paths, spoken, request)
        # Written only where something was refused: it would count as another input, and stop what was just asked for.
        return gr.skip() if kept == paths else kept, shown

    def remark_on(paths, shown, request: gr.Request):
        remarks = endpoints.remarks(paths, spoken, request)
        return (shown or "") + remarks if remarks else gr.skip()  # what was refused is still said

    def choose(before, event: gr.EventData, request: gr.Request):
        if many:
            return endpoints.look([*(before or []), files[event.index]], spoken, request)
        return files[event.index], views[event.index]

    sent = box.upload(
        look, box, [box, view], concurrency_id="reading", concurrency_limit=2, api_visibility="private",
    )  # fmt: skip
    if decoding.DOMAIN.least_snr is not None:
        check = sent.success(
            remark_on, [box, view], view, concurrency_id="model", concurrency_limit=1, show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip
        gr.on([thumbs.click, box.clear, box.delete], None, cancels=check, **QUIET)  # before what these do, see app.py
    thumbs.click(choose, box, [box, view], **QUIET)
    box.clear(None, None, view, js="() => null", **QUIET)
    if many:
        box.delete(look, box, [box, view], **QUIET)
    return box
