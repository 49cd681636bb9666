"""What people have (files, URLs, PIL, NumPy, torch) becomes the same model input, and comes back as they want it."""

import http.server
import os
import struct
import threading

import av
import numpy as np
import pytest
import torch
from PIL import Image

from divid_diffusers.clips import download as clip_download
from divid_diffusers.clips import reading as clip_reading
from divid_diffusers.clips.processor import ClipProcessor, crop_and_resize, load_clip
from divid_diffusers.clips.writing import export_clip
from divid_diffusers.pipelines.pipeline_output import DiViDPipelineOutput


processor = ClipProcessor()
ONE_STEP = 1 / 255


@pytest.fixture
def clip():
    """(5, 32, 32, 3) uint8 noise: any wrong axis, channel order or scale shows."""
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def smooth_clip():
    """(6, 64, 64, 3) uint8: colour ramps that move, which a lossy codec keeps."""
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    return np.stack([np.stack([3 * x + 8 * i, 3 * y + 20, 200 - 2 * x], -1) for i in range(6)]).astype(np.uint8)


def expected(clip):
    """(N, H, W, C) uint8 to (N, C, H, W) in [-1, 1]."""
    return torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 255 * 2 - 1


def images_of(clip):
    return [Image.fromarray(frame) for frame in clip]


def write_video(path, clip, codec, pix_fmt, **options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], pix_fmt
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


# ---------------------------------------------------------------------------------------------------- what goes in


def test_every_lossless_input_gives_the_same_tensor(clip, tmp_path):
    images, channels_first = images_of(clip), torch.from_numpy(clip).permute(0, 3, 1, 2)
    (tmp_path / "frames").mkdir()
    for i, image in enumerate(images):
        image.save(tmp_path / "frames" / f"{i + 8}.png")  # 8, 9, 10: not in alphabetical order
    (tmp_path / "frames" / "notes.txt").write_text("not a frame")
    for name, options in {"clip.apng": {"format": "PNG"}, "clip.webp": {"lossless": True}, "clip.tiff": {}}.items():
        first, *rest = images_of(clip)  # anew: Pillow leaves a format's options on what it saved
        first.save(tmp_path / name, save_all=True, append_images=rest, **options)
    opened = Image.open(tmp_path / "clip.apng")
    opened.seek(3)  # wherever it stands, a single image is given for all its frames
    write_video(tmp_path / "clip.mkv", clip, "ffv1", "bgr0")
    inputs = {
        "PIL": images,
        "tuple": tuple(images),
        "uint8 NumPy": clip,
        "reversed strides": clip[::-1].copy()[::-1],
        "float32 NumPy": clip.astype(np.float32) / 255,
        "big-endian float64": (clip / 255).astype(">f8"),
        "uint16 NumPy": clip.astype(np.uint16) * 257,
        "list of NumPy": list(clip),
        "uint8 torch": channels_first,
        "uint16 torch": torch.from_numpy(clip.transpose(0, 3, 1, 2).astype(np.uint16) * 257),
        "float torch": channels_first.float() / 255,
        "list of torch": list(channels_first),
        "opened file": opened,
        "folder": tmp_path / "frames",
        "str": str(tmp_path / "frames"),
        **{name: tmp_path / name for name in ("clip.apng", "clip.webp", "clip.tiff", "clip.mkv")},
    }
    for name, given in inputs.items():
        (tensor,) = processor.preprocess(given, 32)
        assert tensor.dtype == torch.float32, name
        torch.testing.assert_close(tensor, expected(clip), rtol=0, atol=1e-6, msg=lambda m: f"{name}: {m}")  # noqa: B023


@pytest.mark.parametrize(
    "name, codec, pix_fmt",
    [
        ("clip.mp4", "libx264", "yuv420p"),
        ("clip.avi", "mpeg4", "yuv420p"),
        ("clip.webm", "libvpx-vp9", "yuv420p"),
        ("clip.mov", "mjpeg", "yuvj420p"),
    ],
)
def test_lossy_videos_are_read_within_their_compression_error(smooth_clip, tmp_path, name, codec, pix_fmt):
    path = write_video(tmp_path / name, smooth_clip, codec, pix_fmt, b="2000000")
    (tensor,) = processor.preprocess(path, 64)
    assert tensor.shape == (6, 3, 64, 64)
    assert (tensor - expected(smooth_clip)).abs().mean() < 4 * ONE_STEP


def test_grey_gif_is_exact(tmp_path):
    grey = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 1), dtype=np.uint8)
    images_of(grey[..., 0])[0].save(tmp_path / "a.gif", save_all=True, append_images=images_of(grey[1:, ..., 0]))
    (tensor,) = processor.preprocess(tmp_path / "a.gif", 16, num_channels=1)
    torch.testing.assert_close(tensor, expected(grey), rtol=0, atol=1e-6)


def test_a_filmed_sideways_video_is_turned_upright(tmp_path):
    frames = np.zeros((2, 256, 512, 3), np.uint8)
    frames[:, :128, :256] = 255  # top left
    data = export_clip(frames, tmp_path / "a.mp4").read_bytes()
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    clockwise = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 256 << 16, 0, 1 << 30)
    at = data.index(identity, data.index(b"tkhd"))
    (tmp_path / "b.mp4").write_bytes(data[:at] + clockwise + data[at + 36 :])
    image = np.asarray(load_clip(tmp_path / "b.mp4")[0])
    assert image.shape == (512, 256, 3)
    assert image[64, 192].min() > 250 and image[64, 64].max() < 5  # top right, top left


def test_negative_torch_floats_are_taken_to_be_in_minus_one_to_one(clip):
    wanted = expected(clip)
    torch.testing.assert_close(processor.preprocess(wanted, 32)[0], wanted, rtol=0, atol=1e-6)
    # The range is that of the whole input: a clip without a negative value is read like its neighbours.
    bright = wanted.abs()
    first = processor.preprocess([bright, wanted], 32)[0]
    torch.testing.assert_close(first, bright, rtol=0, atol=1e-6)
    torch.testing.assert_close(processor.preprocess(torch.stack([bright, wanted]), 32)[0], bright, rtol=0, atol=1e-6)


def test_rounding_below_zero_does_not_change_the_range():
    frames = torch.full((1, 3, 8, 8), 0.5)
    frames[0, 0, 0, 0] = -1e-6
    assert processor.preprocess(frames, 8)[0].abs().mean() < 0.01


def test_one_clip_or_a_batch(clip):
    images, array, tensor = images_of(clip), clip, torch.from_numpy(clip).permute(0, 3, 1, 2)
    for one in (images, array, tensor, list(array), list(tensor)):
        assert [t.shape for t in processor.preprocess(one, 32)] == [(5, 3, 32, 32)]
        assert [t.shape for t in processor.preprocess([one], 32)] == [(5, 3, 32, 32)]
        assert [t.shape for t in processor.preprocess([one, one[:2]], 32)] == [(5, 3, 32, 32), (2, 3, 32, 32)]
    assert len(processor.preprocess(np.stack([array] * 3), 32)) == 3
    assert len(processor.preprocess(torch.stack([tensor] * 3), 32)) == 3
    assert [t.shape for t in processor.preprocess(images[0], 32)] == [(1, 3, 32, 32)]


def test_a_batch_of_paths_may_mix_kinds_and_lengths(clip, tmp_path):
    images_of(clip)[0].save(tmp_path / "a.png")
    write_video(tmp_path / "b.mkv", clip, "ffv1", "bgr0")
    shapes = [t.shape[0] for t in processor.preprocess([tmp_path / "a.png", str(tmp_path / "b.mkv"), clip], 32)]
    assert shapes == [1, 5, 5]


# ------------------------------------------------------------------------------------------------ channels and sizes


def test_grey_and_colour_convert_into_each_other(clip):
    (grey,) = processor.preprocess(clip, 32, num_channels=1)
    luma = np.stack([np.asarray(image.convert("L")) for image in images_of(clip)])[..., None]
    assert (grey - expected(luma)).abs().max() <= 1.01 * ONE_STEP  # PIL rounds to 8 bits
    (colour,) = processor.preprocess(luma, 32, num_channels=3)
    torch.testing.assert_close(colour, expected(luma).expand(-1, 3, -1, -1), rtol=0, atol=1e-6)
    assert torch.equal(colour, processor.preprocess(list(luma[..., 0]), 32)[0])  # 2-D frames are grey


def test_transparency_is_laid_on_black():
    image = Image.new("RGBA", (8, 8), (255, 0, 255, 51))
    wanted = torch.tensor([-0.6, -1, -0.6]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    for given in (image, np.asarray(image)[None], torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]):
        torch.testing.assert_close(processor.preprocess(given, 8)[0], wanted, rtol=0, atol=1e-6)


def test_palettes_bits_and_16_bit_grey(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "depth.png")
    (tensor,) = processor.preprocess(tmp_path / "depth.png", 8, num_channels=1)
    torch.testing.assert_close(tensor[0, 0], torch.from_numpy(ramp / 65535 * 2 - 1).float(), rtol=0, atol=1e-6)
    red = Image.new("RGB", (8, 8), (255, 0, 0)).quantize(2)
    assert processor.preprocess(red, 8)[0][0, :, 0, 0].tolist() == [1, -1, -1]
    assert processor.preprocess(Image.new("1", (8, 8), 1), 8)[0].min() == 1


def test_camera_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert load_clip(tmp_path / "a.jpg")[0].size == (8, 16)


def test_the_crop_is_the_largest_centred_rectangle():
    wide = np.zeros((1, 32, 96, 3), np.uint8)
    wide[:, :, 32:64] = 255  # exactly the central square
    assert processor.preprocess(wide, 32)[0].min() == 1
    assert processor.preprocess(wide, 16)[0].min() == 1
    assert processor.preprocess(wide.transpose(0, 2, 1, 3), 16)[0].min() == 1
    assert processor.preprocess(wide[:, :16], (16, 32))[0].min() == 1  # 96x16 cropped to 32x16, not squashed
    assert crop_and_resize(torch.zeros(2, 3, 45, 80), 7, 100).shape == (2, 3, 7, 100)
    assert crop_and_resize(torch.zeros(3, 1, 1000), 64, 64).shape == (3, 64, 64)


def test_resizing_is_antialiased_and_stays_in_range():
    # Of every 4 columns the middle two are white: plain bilinear sampling by 4 would see only those.
    stripes = np.tile(np.array([0, 255, 255, 0], np.uint8), (1, 64, 16))[..., None]
    (tensor,) = processor.preprocess(stripes, 16, num_channels=1)
    assert tensor[..., 2:-2].abs().max() < 0.01
    assert processor.preprocess(np.full((1, 97, 101, 3), 255, np.uint8), 64)[0].max() == 1  # not 1.0000005


# ----------------------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("num_channels", [1, 3])
def test_round_trip(clip, num_channels):
    clip = clip[..., :num_channels]
    frames = torch.stack(processor.preprocess([clip, clip[::-1]], 32, num_channels))
    images = processor.postprocess(frames, "pil")
    assert [len(images), len(images[0]), images[0][0].mode] == [2, 5, "L" if num_channels == 1 else "RGB"]
    for output_type in ("pil", "np", "pt"):
        output = processor.postprocess(frames, output_type)
        again = torch.stack(processor.preprocess(output, 32, num_channels))
        assert (again - frames).abs().max() <= ONE_STEP, output_type


def test_outputs_have_diffusers_layouts_and_ranges():
    frames = torch.tensor([-3.0, -1, 0, 1, 3]).view(1, 5, 1, 1, 1).expand(1, 5, 3, 4, 6)
    array, tensor = processor.postprocess(frames, "np"), processor.postprocess(frames.bfloat16(), "pt")
    assert (array.shape, array.dtype) == ((1, 5, 4, 6, 3), np.float32)
    assert (tensor.shape, tensor.dtype) == ((1, 5, 3, 4, 6), torch.float32)
    assert array[0, :, 0, 0, 0].tolist() == tensor[0, :, 0, 0, 0].tolist() == [0, 0, 0.5, 1, 1]


# ---------------------------------------------------------------------------------------------------------- bad input


def frames(*shape, value=0.5, dtype=np.float32):
    return np.full(shape, value, dtype)


@pytest.mark.parametrize(
    "given, error, message",
    [
        ("no/such/clip.mp4", FileNotFoundError, "no file or folder 'no/such/clip.mp4'"),
        ("", ValueError, "The path of the clip is empty"),
        ([""], ValueError, "The path of the clip is empty"),
        ([], ValueError, "list of frames or clips is empty"),
        ([[], []], ValueError, "clip 0 of the batch has no frames"),
        (frames(0, 8, 8, 3), ValueError, "the clip has no frames"),
        (frames(0, 2, 8, 8, 3), ValueError, r"batch of shape \(0, 2, 8, 8, 3\) has no clips"),
        (frames(8, 8, 3), ValueError, r"4 dimensions \(frames, H, W, channels\), but has shape \(8, 8, 3\)"),
        ([frames(1, 1, 8, 8, 3)], ValueError, "clip 0 of the batch must have 4 dimensions"),
        (frames(2, 3, 8, 8), ValueError, r"frame 0 of the clip must be \(H, W, channels\).*shape \(3, 8, 8\)"),
        (torch.rand(2, 8, 8, 3), ValueError, r"frame 0 of the clip must be \(channels, H, W\).*\(8, 8, 3\)"),
        (frames(2, 0, 8, 3), ValueError, "frame 0 of the clip must be"),
        ([Image.new("L", (8, 8)), Image.new("L", (9, 8))], ValueError, "one size.*8x8 and frame 1 is 8x9"),
        (frames(2, 8, 8, 3, value=np.nan), ValueError, "frame 0 of the clip holds NaN"),
        ([frames(1, 8, 8, 3), frames(1, 8, 8, 3, value=np.inf)], ValueError, "frame 0 of clip 1 of the batch holds"),
        (frames(2, 8, 8, 3, value=255), ValueError, "values from 255 to 255.*use uint8"),
        (frames(2, 8, 8, 3, value=-0.5), ValueError, "values from -0.5 to -0.5"),
        (torch.full((2, 3, 8, 8), -7.0), ValueError, "values from -7 to -7"),
        (frames(2, 8, 8, 3, dtype=np.int64), TypeError, "frame 0 of the clip has type int64"),
        (torch.ones(2, 3, 8, 8, dtype=torch.bool), TypeError, "has type torch.bool"),
        (frames(2, 8, 8, 3, dtype=object), TypeError, "has type object"),
        ([Image.new("L", (8, 8)), frames(8, 8)], TypeError, "only PIL images.*holds 2-D NumPy arrays and PIL images"),
        ([Image.new("L", (8, 8)), "a.png"], TypeError, "holds PIL images and str"),
        ([["a.png", "b.png"]], TypeError, "clip 0 of the batch must be a list of only PIL images"),
        ({"frames": 1}, TypeError, "the clip must be a path, URL, .* but is a dict"),
        ([None], TypeError, "clip 0 of the batch must be a path"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(given, error, message):
    with pytest.raises(error, match=message) as caught:
        processor.preprocess(given, 8)
    assert "\n" not in str(caught.value)


def test_bad_files_are_named(clip, tmp_path):
    (tmp_path / "text.mp4").write_text("This is not a video.\n" * 100)
    (tmp_path / "text.txt").write_text("This is not a video.\n" * 100)
    (tmp_path / "empty.mp4").touch()
    # A playlist would have FFmpeg open another file.
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nclip.ts\n#EXT-X-ENDLIST\n")
    whole = write_video(tmp_path / "clip.ts", clip, "mpeg2video", "yuv420p").read_bytes()
    (tmp_path / "noise.mpg").write_bytes(np.random.default_rng(3).bytes(5000))
    export_clip(clip, tmp_path / "whole.mp4")
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:200])
    images_of(clip)[0].save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    (tmp_path / "nothing").mkdir()
    assert len(whole) > 0 and len(load_clip(tmp_path / "clip.ts")) == 5
    for name in ("text.mp4", "text.txt", "empty.mp4", "list.m3u8", "noise.mpg", "cut.mp4", "cut.png", "nothing"):
        with pytest.raises(ValueError, match=name):
            processor.preprocess(tmp_path / name, 8)


def test_a_video_cut_short_is_refused_where_ffmpeg_would_play_what_there_is(clip, tmp_path):
    # With the index in front, as `export_clip` writes it, the frames before the cut can be decoded.
    whole = export_clip(clip, tmp_path / "whole.mp4").read_bytes()
    assert len(load_clip(tmp_path / "whole.mp4")) == 5
    (tmp_path / "cut.mp4").write_bytes(whole[:-5])
    with pytest.raises(ValueError, match="cut.mp4' is cut short: copy or download it again"):
        load_clip(tmp_path / "cut.mp4")


def test_a_video_without_frames_and_a_file_without_video(tmp_path):
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        stream.layout = "mono"
        container.mux(stream.encode(sound))
    with pytest.raises(ValueError, match="sound.mkv' has no video in it"):
        load_clip(tmp_path / "sound.mkv")
    with av.open(str(tmp_path / "none.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuvj420p"
        container.start_encoding()
    with pytest.raises(ValueError, match="none.avi' (has no frames|is not a video)"):
        load_clip(tmp_path / "none.avi")


def test_bad_arguments(clip):
    for arguments, message in [
        ({"size": 0}, "`size` must be positive"),
        ({"size": 8, "num_channels": 4}, "`num_channels` must be 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            processor.preprocess(clip, **arguments)
    with pytest.raises(ValueError, match="`output_type` must be"):
        processor.postprocess(torch.zeros(1, 2, 3, 8, 8), "latent")
    with pytest.raises(ValueError, match=r"but has shape \(2, 3, 8, 8\)"):
        processor.postprocess(torch.zeros(2, 3, 8, 8))


# --------------------------------------------------------------------------------------------------------------- URLs


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves tmp_path; `/short` promises more bytes than it sends."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def do_GET(self):
            if self.path != "/short":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_urls(server, clip, tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mkv", clip, "ffv1", "bgr0")
    torch.testing.assert_close(processor.preprocess(f"{server}/clip.mkv?x=1", 32)[0], expected(clip))
    (tmp_path / "page.html").write_text("<html>Not found, but with status 200</html>")
    with pytest.raises(ValueError, match="page.html' is not a video or image"):
        load_clip(f"{server}/page.html")
    with pytest.raises(ValueError, match="Could not download .*/none.mp4': .*404"):
        load_clip(f"{server}/none.mp4")
    with pytest.raises(ValueError, match="ended after 10 of 1000 bytes"):
        load_clip(f"{server}/short")
    with pytest.raises(ValueError, match="Could not download 'http://127.0.0.1:9/a.mp4'"):
        load_clip("http://127.0.0.1:9/a.mp4")
    monkeypatch.setattr(clip_download, "MAX_DOWNLOAD_BYTES", 100)
    with pytest.raises(ValueError, match="clip.mkv.* is larger than 100 bytes"):
        load_clip(f"{server}/clip.mkv")


@pytest.mark.parametrize(
    "url",
    ["http://[::1/a.mp4", "http:///a.mp4", "http://127.0.0.1:port/a.mp4", "https://a..b/é.mp4", "http://é..b/a.mp4"],
)
def test_a_url_that_is_none_is_named(url):
    with pytest.raises(ValueError, match="Could not download '" + url.replace("[", r"\[")):
        load_clip(url)


def test_a_url_with_letters_and_spaces_is_sent_as_browsers_do(server, clip, tmp_path):
    write_video(tmp_path / "Zoë läuft 1%.mkv", clip, "ffv1", "bgr0")
    for name in ("Zoë läuft 1%25.mkv?ä=ö#é", "Zo%C3%AB%20l%C3%A4uft%201%25.mkv"):
        assert len(load_clip(f"{server}/{name}")) == 5
    request = clip_download._in_ascii("https://bücher.example:8000/é b?q=ü&p=%20#x")
    assert request == "https://xn--bcher-kva.example:8000/%C3%A9%20b?q=%C3%BC&p=%20#x"


def test_a_url_is_fetched_once_for_frames_and_time(server, clip, tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mkv", clip, "ffv1", "bgr0")
    asked, download = [], clip_reading.download
    monkeypatch.setattr(clip_reading, "download", lambda url, path: asked.append(url) or download(url, path))
    file = clip_reading.ClipFile(f"{server}/clip.mkv")
    assert len(load_clip(file)) == 5 and file.fps == 10 and len(list(file.at_rate(5))) == 2 and len(asked) == 1


# ------------------------------------------------------------------------------------------------------------- export


def test_png_is_a_strip(clip, tmp_path):
    path = export_clip(images_of(clip), tmp_path / "strip.png")
    assert np.array_equal(np.asarray(Image.open(path)), np.concatenate(list(clip), axis=1))


def test_gif_keeps_grey_exactly_and_colour_closely(clip, smooth_clip, tmp_path):
    (grey,) = processor.preprocess(export_clip(clip[..., :1], tmp_path / "grey.gif"), 32, num_channels=1)
    torch.testing.assert_close(grey, expected(clip[..., :1]), rtol=0, atol=1e-6)
    path = export_clip(smooth_clip, tmp_path / "colour.gif", fps=20)
    assert Image.open(path).info["duration"] == 50 and Image.open(path).info["loop"] == 0
    assert np.abs(np.stack(load_clip(path)).astype(int) - smooth_clip).mean() < 6


@pytest.mark.parametrize("held", [[0] * 6 + [1] * 6, [0] * 12, [0, 1, 1, 1, 0, 0]], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_keeps_frames_that_are_held(clip, tmp_path, held, channels):
    path = export_clip(clip[held][..., :channels], tmp_path / "a.gif", fps=12)
    read = np.stack([np.asarray(image) for image in load_clip(path)])
    assert len(read) == len(held) and abs(clip_reading.ClipFile(path).fps - 12) < 0.4
    for i in range(1, len(held)):
        assert np.array_equal(read[i], read[i - 1]) == (held[i] == held[i - 1])


@pytest.mark.parametrize(
    "name, fps",
    [("a.mp4", fps) for fps in (0.01, 0.3, 12.5, 23.976, 29.97, 60, 1000)]
    + [("a.gif", fps) for fps in (0.01, 0.3, 7, 24, 29.97, 45, 50)],
)
def test_a_clip_plays_at_the_rate_asked_for(tmp_path, name, fps):
    frames = np.repeat(np.arange(40, dtype=np.uint8)[:, None, None, None] * 6, 16, axis=1).repeat(16, axis=2)
    path = export_clip(frames if fps > 0.1 else frames[:3], tmp_path / name, fps=fps)
    # A GIF rounds the end of each frame to a hundredth of a second, not its length.
    assert clip_reading.ClipFile(path).fps == pytest.approx(fps, rel=0.01)


@pytest.mark.parametrize(
    "height, width, size",
    [(64, 64, (256, 256)), (24, 40, (288, 480)), (63, 65, (316, 326)), (256, 300, (256, 300)), (270, 301, (270, 302))],
)
def test_mp4_plays_in_browsers(tmp_path, height, width, size):
    ramp = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (4, height, width))
    path = export_clip(torch.from_numpy(ramp.copy())[:, None], tmp_path / "a.mp4", fps=12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 12.5
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # can start before it is loaded
    images = load_clip(path)
    assert (len(images), images[0].size) == (4, size[::-1])
    factor = size[0] // height
    centres = np.asarray(images[0])[factor // 2 : height * factor : factor, factor // 2 : width * factor : factor, 0]
    assert np.abs(centres.astype(int) - ramp[0]).mean() < 4
    assert np.asarray(images[0])[:, -1].min() > 240  # where the size was odd, the edge is repeated


def test_mp4_keeps_colours(smooth_clip, tmp_path):
    (tensor,) = processor.preprocess(export_clip(smooth_clip, tmp_path / "a.mp4"), 64)
    assert (tensor - expected(smooth_clip)).abs().mean() < 4 * ONE_STEP


def test_outputs_of_the_processor_export_as_they_are(clip, tmp_path):
    frames = expected(clip)[None]
    strips = []
    for output_type in ("pil", "np", "pt"):
        path = export_clip(processor.postprocess(frames, output_type)[0], tmp_path / f"{output_type}.png")
        strips.append(path.read_bytes())
    assert strips[0] == strips[1] == strips[2]


@pytest.mark.parametrize("name", ["a.gif", "a.mp4", "a.png"])
def test_export_is_all_or_nothing(clip, tmp_path, monkeypatch, name):
    path = export_clip(clip, tmp_path / name)
    before = path.read_bytes()
    assert os.listdir(tmp_path) == [name]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask  # readable by whom the user lets read

    def fail(source, target):
        assert os.path.getsize(source) > 0
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        export_clip(clip[:2], path)
    assert os.listdir(tmp_path) == [name] and path.read_bytes() == before


def test_export_refuses(clip, tmp_path):
    for arguments, error, message in [
        ((clip, tmp_path / "a.xyz"), ValueError, "must end in .gif, .mp4 or .png"),
        ((clip, tmp_path / "a.mp4", 0), ValueError, "`fps` is 0, but a .mp4 takes from 0.01 to 1000"),
        ((clip, tmp_path / "a.mp4", 0.001), ValueError, "`fps` is 0.001"),
        ((clip, tmp_path / "a.gif", 0.001), ValueError, "`fps` is 0.001, but a .gif takes from 0.01 to 50"),
        ((clip, tmp_path / "a.gif", 51), ValueError, "`fps` is 51"),
        ((clip, tmp_path / "a.mp4", float("nan")), ValueError, "`fps` is nan"),
        ((clip, "/proc/a.mp4"), OSError, "Cannot write into the folder '/proc'"),
        (("none.mp4", "/proc/a.mp4"), OSError, "Cannot write"),  # before the clip is looked at
        (
            ([images_of(clip)], tmp_path / "a.mp4"),
            TypeError,
            r"a batch of clips, pass one of them, such as `frames\[0\]`",
        ),
        ((clip[None], tmp_path / "a.mp4"), ValueError, r"such as `frames\[0\]`"),
        ((torch.zeros(2, 3, 3, 8, 8), tmp_path / "a.mp4"), ValueError, r"such as `frames\[0\]`"),
        ((["a.mp4", "b.mp4"], tmp_path / "a.mp4"), TypeError, "a batch of clips"),
        ((DiViDPipelineOutput([images_of(clip)]), tmp_path / "a.mp4"), TypeError, r"such as `.frames\[0\]`"),
        ((clip, tmp_path / "none" / "a.mp4"), FileNotFoundError, "no folder '.*none' to write 'a.mp4'"),
        (([], tmp_path / "a.mp4"), ValueError, "has no frames"),
    ]:
        with pytest.raises(error, match=message):
            export_clip(*arguments)
    assert os.listdir(tmp_path) == []
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(IsADirectoryError, match="folder.mp4' is a folder: name a file in it"):
        export_clip("none.mp4", tmp_path / "folder.mp4")
