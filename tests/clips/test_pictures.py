"""Of a file with several pictures the frames are read, and no preview, thumbnail or stand-in; a held frame lasts."""

import numpy as np
import pytest
from media import number_of, numbered_frames
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter

from divid_diffusers import load_clip
from divid_diffusers.clips.reading import ClipFile


IMAGES = [Image.fromarray(frame) for frame in numbered_frames(30, 24, 32)]


def numbers(path):
    return [number_of(np.asarray(frame)) for frame in load_clip(path)]


def save(path, images, **options):
    first, *rest = (image.copy() for image in images)
    first.save(path, save_all=True, append_images=rest, **options)
    return path


@pytest.mark.parametrize("second", [IMAGES[9], IMAGES[9].resize((8, 6))], ids=["two views", "preview"])
def test_of_a_cameras_mpo_the_first_picture_is_read(tmp_path, second):
    path = save(tmp_path / "photo.jpg", [IMAGES[3], second], format="MPO")
    assert Image.open(path).format == "MPO" and numbers(path) == [3]


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("count", [1, 4])
def test_a_thumbnail_of_a_tiff_is_not_a_frame(tmp_path, marked, first, count):
    thumbnail = IMAGES[20].resize((24, 18) if marked else (16, 12))
    pages = [thumbnail, *IMAGES[:count]] if first else [*IMAGES[:count], thumbnail]
    with open(tmp_path / "a.tif", "w+b") as file, AppendingTiffWriter(file, new=True) as tiff:
        for page in pages:
            page.save(tiff, format="TIFF", tiffinfo={254: 1} if marked and page is thumbnail else {})
            tiff.newFrame()
    assert numbers(tmp_path / "a.tif") == list(range(count))


def test_pages_of_a_tiff_of_different_sizes_that_are_no_thumbnails_are_refused(tmp_path):
    path = save(tmp_path / "scan.tif", [IMAGES[0], IMAGES[1].resize((30, 20))])
    with pytest.raises(ValueError, match="All frames of a clip must have one size.*scan.tif"):
        load_clip(path)


def test_what_programs_without_animation_show_of_a_png_is_not_a_frame(tmp_path):
    path = save(tmp_path / "a.png", IMAGES[4:9], default_image=True, duration=50)
    assert numbers(path) == [5, 6, 7, 8] and ClipFile(path).fps == 20
    assert numbers(save(tmp_path / "b.png", IMAGES[4:9], duration=50)) == [4, 5, 6, 7, 8]


FORMATS = [("a.gif", {}), ("a.webp", {"lossless": True}), ("a.png", {})]


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_a_frame_that_is_held_comes_as_often_as_it_lasts(tmp_path, name, options):
    """Pillow's encoders merge equal neighbours."""
    held = [0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 4]
    path = save(tmp_path / name, [IMAGES[i] for i in held], duration=40, **options)
    assert Image.open(path).n_frames == 5
    assert numbers(path) == held and ClipFile(path).fps == 25


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_times_that_are_no_multiples_give_every_frame_once(tmp_path, name, options):
    path = save(tmp_path / name, IMAGES[:4], duration=[30, 40, 30, 100], **options)
    assert numbers(path) == [0, 1, 2, 3] and ClipFile(path).fps == 20
    # At a rate, each is there as long as it is shown.
    shown = [number_of(np.asarray(frame.convert("RGB"))) for frame in ClipFile(path).at_rate(100)]
    assert shown == [0] * 3 + [1] * 4 + [2] * 3 + [3] * 10


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_milliseconds_that_were_rounded_are_still_multiples(tmp_path, name):
    path = save(tmp_path / name, IMAGES[:3], duration=[33, 67, 33], lossless=True)
    assert numbers(path) == [0, 1, 1, 2]


def test_a_frame_that_is_held_for_ages_is_not_written_out(tmp_path):
    path = save(tmp_path / "a.webp", IMAGES[:2], duration=[100_000, 11], lossless=True)
    assert len(ClipFile(path).times[0]) == len(numbers(path))
    path = save(tmp_path / "b.webp", IMAGES[:2], duration=[10_000_000, 11], lossless=True)
    assert numbers(path) == [0, 1] and ClipFile(path).fps == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("duration", [None, 0, 10])
def test_an_animation_that_says_no_time_is_shown_as_browsers_do(tmp_path, duration):
    path = save(tmp_path / "a.gif", IMAGES[:5], **({} if duration is None else {"duration": duration}))
    assert numbers(path) == [0, 1, 2, 3, 4] and ClipFile(path).fps == 10


def test_a_gif_whose_frames_are_patches_is_drawn_as_it_is_shown(tmp_path):
    """Disposal: left, cleared, put back."""
    canvas = Image.new("RGB", (16, 16), (200, 200, 200))
    other = canvas.copy()
    other.paste((8, 8, 8), (0, 0, 8, 8))
    for disposal in (0, 1, 2, 3):
        path = save(tmp_path / "a.gif", [canvas, other, canvas], disposal=disposal, duration=100)
        frames = [np.asarray(frame) for frame in load_clip(path)]
        assert [int(frame[4, 4, 0]) for frame in frames] == [200, 8, 200]
        assert [int(frame[12, 12, 0]) for frame in frames] == [200, 200, 200]


@pytest.mark.parametrize("kind", ["raw", "text", "12 bits"])
def test_sixteen_bit_pgm_is_read_in_full_depth(tmp_path, kind):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for i in range(3):
        path = tmp_path / f"{i}.pgm"
        if kind == "raw":
            path.write_bytes(b"P5\n8 8\n65535\n" + ramp.astype(">u2").tobytes())
        elif kind == "text":
            path.write_text("P2\n8 8\n65535\n" + " ".join(map(str, ramp.reshape(-1))))
        else:
            path.write_bytes(b"P5\n8 8\n4095\n" + (ramp >> 4).astype(">u2").tobytes())
    frames = load_clip(tmp_path)
    assert len(frames) == 3
    assert np.abs(np.asarray(frames[1]).astype(int) - ramp / 257).max() < 1


def test_a_canvas_too_large_to_be_meant_is_refused_by_name(tmp_path, monkeypatch):
    IMAGES[0].save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="huge.png' cannot be decoded .*exceeds limit"):
        load_clip(tmp_path / "huge.png")


@pytest.mark.parametrize(("name", "options"), [*FORMATS, ("a.tif", {})])
def test_a_damaged_file_is_refused_by_name_or_read(tmp_path, name, options):
    whole = save(tmp_path / name, IMAGES[:12], **options).read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(60):
        content = bytearray(whole[: rng.integers(1, len(whole))] if trial % 2 else whole)
        for at in rng.integers(0, len(content), 6):
            content[at] = rng.integers(256)
        (tmp_path / f"bad_{name}").write_bytes(content)
        for use in (load_clip, lambda path: ClipFile(path).fps):
            try:
                use(tmp_path / f"bad_{name}")
            except ValueError as error:
                assert f"bad_{name}" in str(error)
