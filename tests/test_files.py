"""Photographs of every kind come in as people see them, and go out as they came."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from vrdir_plug.files import Photo, format_of, open_rgb, read_photo, write_photo

LIMIT = 10**6
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (20, 24), dtype=np.uint8)


def read(path: Path) -> Photo:
    return read_photo(path, LIMIT)


def again(path: Path) -> Image.Image:
    """What a file is after it was read and written."""
    out = path.with_name("out" + path.suffix)
    write_photo(read(path), out)
    with Image.open(out) as file:
        file.load()
        return file


def with_alpha() -> Image.Image:
    image = Image.fromarray(RGB)
    image.putalpha(Image.fromarray(ALPHA))
    return image


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_lossless_colours_come_back_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(RGB).save(tmp_path / f"a{suffix}")
    assert np.array_equal(read(tmp_path / f"a{suffix}").frames, RGB[None])
    assert np.array_equal(np.asarray(again(tmp_path / f"a{suffix}")), RGB)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_lossy_formats_stay_what_they_are(tmp_path: Path, suffix: str) -> None:
    smooth = np.linspace(0, 255, 24).astype(np.uint8)[None, :, None].repeat(20, 0).repeat(3, 2)
    Image.fromarray(smooth).save(tmp_path / f"a{suffix}")
    back = again(tmp_path / f"a{suffix}")
    assert back.format == format_of(Path(f"a{suffix}")) and back.mode == "RGB"
    assert np.abs(np.asarray(back).astype(int) - smooth).mean() < 3


def test_orientation_is_applied_once_and_the_other_exif_stays(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"  # turned by 90 degrees; its maker
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read(tmp_path / "a.png").frames[0], np.rot90(RGB, -1))
    back = again(tmp_path / "a.png")
    assert np.array_equal(np.asarray(back), np.rot90(RGB, -1))
    assert back.getexif().get(0x0112, 1) == 1 and back.getexif()[0x010F] == "a camera"


def test_alpha_and_colours_under_it_stay(tmp_path: Path) -> None:
    with_alpha().save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png").frames[0], RGB)
    assert np.array_equal(np.asarray(again(tmp_path / "a.png")), np.dstack([RGB, ALPHA]))


@pytest.mark.parametrize("alpha", [False, True])
def test_grey_stays_grey(tmp_path: Path, alpha: bool) -> None:
    image = Image.fromarray(ALPHA)
    if alpha:
        image.putalpha(Image.fromarray(RGB[..., 0]))
    image.save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png").frames[0], ALPHA[..., None].repeat(3, 2))
    back = again(tmp_path / "a.png")
    assert back.mode == image.mode and np.array_equal(np.asarray(back), np.asarray(image))


def test_colours_on_a_grey_photo_are_weighed_as_the_eye_does(tmp_path: Path) -> None:
    write_photo(Photo(RGB[None], grey=True), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        difference = np.asarray(file).astype(int) - np.asarray(Image.fromarray(RGB).convert("L"))
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_of_grey_stay(tmp_path: Path, suffix: str) -> None:
    values = RNG.integers(0, 65536, (20, 24), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    photo = read(tmp_path / f"a{suffix}")
    assert photo.frames.dtype == np.uint16 and not photo.reduced
    back = np.asarray(again(tmp_path / f"a{suffix}"))
    assert np.abs(back.astype(int) - values).max() <= 1 and back.dtype == np.uint16


def png(depth: int, kind: int, pixels: bytes) -> bytes:
    """A PNG of 24 x 20 by its specification: Pillow cannot write 16 bits of colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    rows = len(pixels) // 20
    lines = b"".join(b"\0" + pixels[i * rows : (i + 1) * rows] for i in range(20))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 20, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def test_sixteen_bits_of_colour_are_reduced_and_say_so(tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (20, 24, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png(16, 2, values.astype(">u2").tobytes()))
    photo = read(tmp_path / "a.png")
    assert photo.reduced and np.array_equal(photo.frames[0], values >> 8)


def test_five_bits_a_colour_are_not_mistaken_for_sixteen(tmp_path: Path) -> None:
    """A BMP of 16 bits a pixel, by its specification."""
    rows = RNG.integers(0, 2**15, (20, 24), dtype=np.uint16)
    head = struct.pack("<2sIHHI", b"BM", 54 + rows.nbytes, 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, 24, 20, 1, 16, 0, rows.nbytes, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(head + info + rows[::-1].tobytes())
    photo = read(tmp_path / "a.bmp")
    assert not photo.reduced
    red = (rows >> 10).astype(int) * 255 / 31
    assert np.abs(photo.frames[0, ..., 0] - red).max() <= 1


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(RGB).quantize(16)
    image.save(tmp_path / "a.png", transparency=3)
    photo, indices = read(tmp_path / "a.png"), np.asarray(image)
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha[0] == 0, indices == 3)
    palette = np.array(image.getpalette()).reshape(-1, 3)
    assert np.array_equal(photo.frames[0], palette[indices])


def test_cmyk_becomes_rgb_without_the_printers_profile(tmp_path: Path) -> None:
    Image.new("CMYK", (24, 20), (255, 0, 0, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read(tmp_path / "a.jpg").frames.astype(int) - [0, 255, 255]).max() < 8
    back = again(tmp_path / "a.jpg")
    assert back.mode == "RGB" and "icc_profile" not in back.info


def test_colour_profiles_stay(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RGB).save(tmp_path / "a.png", icc_profile=profile)
    assert again(tmp_path / "a.png").info["icc_profile"] == profile


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_animations_keep_frames_and_times(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (24, 20), colour) for colour in ("red", "lime", "blue")]
    times = [50, 60, 70]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=2)
    photo = read(path)
    assert photo.frames.shape == (3, 20, 24, 3)
    for frame, colour in zip(photo.frames, np.eye(3) * 255, strict=True):
        assert np.abs(frame.astype(int) - colour).max() < 30
    write_photo(photo, tmp_path / f"out{suffix}")
    again = read(tmp_path / f"out{suffix}")
    assert np.abs(again.frames.astype(int) - photo.frames).max() < 40
    assert again.meta["duration"] == times and again.meta["loop"] == 2


def test_holes_in_an_animation_do_not_show_the_frame_before(tmp_path: Path) -> None:
    frames = []
    for side in range(2):
        frame = np.zeros((20, 24, 4), np.uint8)
        frame[:, side * 12 : side * 12 + 12] = (255, 0, 0, 255)
        frames.append(frame)
    stack = np.stack(frames)
    photo = Photo(stack[..., :3], stack[..., 3], meta={"duration": [50, 50]})
    write_photo(photo, tmp_path / "a.gif")
    alpha = read(tmp_path / "a.gif").alpha
    assert alpha is not None and np.array_equal(alpha, stack[..., 3])


def several_pages(path: Path) -> None:
    pages = [Image.fromarray(RGB), Image.fromarray(RGB[::-1])]
    pages[0].save(path / "a.tif", save_all=True, append_images=pages[1:])


def truncated(path: Path) -> None:
    Image.fromarray(RGB).save(path / "b.jpg", quality=100)
    data = (path / "b.jpg").read_bytes()
    (path / "a.jpg").write_bytes(data[: len(data) // 2])


def not_an_image(path: Path) -> None:
    (path / "a.png").write_text("<html>404</html>")


def empty(path: Path) -> None:
    (path / "a.png").touch()


def of_floats(path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(path / "a.tif")


def of_32_bits(path: Path) -> None:
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(path / "a.tif")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (several_pages, "2 pages"),
        (truncated, "truncated"),
        (not_an_image, "cannot identify"),
        (empty, "cannot identify"),
        (of_floats, "mode F"),
        (of_32_bits, "mode I"),
    ],
)
def test_what_cannot_be_read_is_an_oserror(tmp_path: Path, make: object, words: str) -> None:
    assert callable(make)
    make(tmp_path)
    (path,) = tmp_path.glob("a.*")
    with pytest.raises(OSError, match=words):
        read(path)


@pytest.mark.parametrize("side", [2_000, 12_000, 40_000])
def test_decompression_bombs_are_refused_by_their_header(tmp_path: Path, side: int) -> None:
    """The bombs have no pixels at all: whoever tried to decode them would say so."""
    bomb = bytearray(png(8, 2, bytes(24 * 20 * 3)))
    bomb[16:24] = struct.pack(">II", side, side)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    (tmp_path / "a.png").write_bytes(bomb)
    with pytest.raises(OSError, match=r"megapixels|decompression bomb"):
        read(tmp_path / "a.png")


def test_animations_count_with_all_their_frames(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (24, 20), (index, 0, 0)) for index in range(0, 250, 50)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    read_photo(tmp_path / "a.gif", 24 * 20 * 5)
    with pytest.raises(OSError, match="megapixels"):
        read_photo(tmp_path / "a.gif", 24 * 20 * 5 - 1)


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("precious")
    with pytest.raises(OSError, match="RGBA"):
        write_photo(Photo(RGB[None], ALPHA[None]), tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_names_that_cannot_be_written_are_said() -> None:
    with pytest.raises(OSError, match=r"end in '\.docx'"):
        format_of(Path("a.docx"))


# --- fuzz: damaged images are refused with an OSError, whatever the decoder makes of them ------


def seed(kind: str) -> bytes:
    buffer, first = io.BytesIO(), Image.fromarray(RGB)
    more = (
        {"save_all": True, "append_images": [Image.fromarray(RGB[::-1])]} if kind == "GIF" else {}
    )
    first.save(buffer, kind, **more)
    return buffer.getvalue()


SEEDS = {kind: seed(kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP")}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(SEEDS)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
    length=st.floats(0, 1),
    cut=st.booleans(),
)
@pytest.mark.filterwarnings("ignore")
def test_fuzz_of_the_decoder(
    tmp_path: Path, kind: str, changes: list[tuple[float, int]], length: float, cut: bool
) -> None:
    data = bytearray(SEEDS[kind])
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    path = tmp_path / "a.bin"
    path.write_bytes(data[: int(length * len(data))] if cut else data)
    for read_it in (read, open_rgb):
        try:
            read_it(path)
        except OSError:
            continue
