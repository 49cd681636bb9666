"""Colours and places. Text keeps the contrast of WCAG 2.1 AA, 4.5 to 1, on a light page and on a dark one."""

import gradio as gr


CSS = """
.dark { --color-accent: var(--primary-400); }
.gradio-container { width: 100% !important; max-width: 1180px !important; margin: 0 auto !important; }
.preview .html-container, .examples .html-container { padding: 0; }
.preview .prose, .examples [role=group] { display: flex; flex-wrap: wrap; gap: 4px; justify-content: center; }
.preview .prose > * { margin: 0; }
.preview img { width: 200px; image-rendering: pixelated; }
.preview img:not(:only-of-type) { width: 80px; }
.refusal, .remark { width: 100%; padding-left: 8px; border-left: 4px solid #d97706; font-size: .9rem; text-align: left; }
.refusal { border-color: #dc2626; }
.examples button { padding: 0; border: 2px solid transparent; border-radius: 4px; cursor: pointer; }
.examples button:hover, .examples button:focus-visible { border-color: var(--color-accent); }
.examples img { display: block; width: 36px; height: 36px; image-rendering: pixelated; }
.result video, .result img { max-height: 50vh; object-fit: contain; image-rendering: pixelated; }
.result .error { display: none; }  /* the bare word: the sentence stands in its own box */

@media (max-width: 640px) {  /* both donors, the buttons and the result on one screen of a phone */
    .column, .row { gap: 6px !important; }
    #introduction h1 { font-size: 1.1rem; margin: 0 0 4px; }
    #introduction p { font-size: .85rem; line-height: 1.3; margin: 0; }
    .tab-container button { padding: 4px 9px !important; font-size: .85rem !important; }
    .tab-wrapper { padding: 0 !important; }
    .tabitem { padding: 6px 0 0 !important; }
    .upload { height: auto !important; }
    .upload .file-preview, .upload .file, .upload .file td { padding: 1px 3px !important; }
    .upload .file-preview-holder { margin-top: 0 !important; }
    .upload .download { display: none; }
    .preview img { width: 104px; }
    .preview img:not(:only-of-type) { width: 50px; }
    .examples [role=group] { gap: 3px; }
    .examples img { width: 32px; height: 32px; }
    .result video, .result img { max-height: 27vh; }
}
"""
# Gradio makes a picture a button without a name.
NAMES = """() => new MutationObserver(() => {
    for (const button of document.querySelectorAll(".result button:has(> .image-frame):not([aria-label])"))
        button.setAttribute("aria-label", button.closest(".result").querySelector("[data-testid=block-label]")?.innerText || "Result");
}).observe(document.body, {childList: true, subtree: true})"""
THEME = gr.themes.Soft(
    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
).set(
    color_accent="*primary_600",
    body_text_color_subdued="*neutral_600",
    block_info_text_color="*neutral_600",
    block_label_text_color="*primary_700",
    block_title_text_color="*primary_700",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    checkbox_label_background_fill_selected="*primary_600",
    link_text_color_dark="*primary_400",
    link_text_color_hover_dark="*primary_300",
    link_text_color_visited_dark="*primary_400",
    link_text_color_active_dark="*primary_400",
)  # fmt: skip
