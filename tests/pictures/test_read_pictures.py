import gzip
import struct
import tracemalloc
import zlib

import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from clinibundle.errors import ClinibundleError, UnreadableInput, UnsuitableInput
from clinibundle.pictures.read import case_name, is_picture, read_picture

ROWS, COLUMNS = 30, 41
GREY = (np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 251).astype(np.uint8)
GREY_16 = GREY.astype(np.uint16) * 257
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
LUMA = RGB @ np.array([0.299, 0.587, 0.114])
EXIF_ORIENTATION = 274


def read(path, spatial_dims=2, channels=1):
    return read_picture(path, spatial_dims, channels)


def saved(path, pixels, mode=None, **how):
    picture = Image.fromarray(pixels)
    (picture if mode is None else picture.convert(mode)).save(path, **how)
    return path


def check_of(volume, name):
    found = [check for check in volume.checks if check.name == name]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("name", ["a.png", "A.PNG", "b.jpg", "b.JPEG", "c.bmp", "d.tif", "d.TIFF", "e.nii", "e.nii.gz"])
def test_pictures_are_known_by_their_ending_in_any_case(tmp_path, name):
    assert is_picture(tmp_path / name)
    assert case_name(tmp_path / f"film.1.{name[2:]}") == "film.1"


@pytest.mark.parametrize("name", ["film.dcm", "film", "png", "notes.txt", "volume.nii.txt", "film.png.zip"])
def test_other_endings_are_no_pictures(tmp_path, name):
    assert not is_picture(tmp_path / name)


@pytest.mark.parametrize("pixels", [GREY, GREY_16], ids=["8 bit", "16 bit"])
@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_grey_pictures_are_read_as_stored_with_the_columns_first(tmp_path, pixels, ending):
    if ending == "bmp" and pixels.dtype != np.uint8:
        pytest.skip("BMP has no 16 bit grey")
    volume = read(saved(tmp_path / f"film.{ending}", pixels))
    assert volume.array.shape == (COLUMNS, ROWS) == volume.spatial_shape
    assert volume.array.dtype == np.float32
    assert volume.array[7, 20] == pixels[20, 7]
    np.testing.assert_array_equal(volume.array.T, pixels)
    assert (volume.meaning, volume.affine_lps, volume.spacing_mm) == ("grey", None, None)
    assert (volume.source.kind, volume.source.case) == ("picture", "film")
    assert volume.source.family == ("tif" if ending == "tif" else "png")


def test_a_jpeg_is_read_nearly_as_stored_and_its_mask_will_be_a_png(tmp_path):
    smooth = np.add.outer(np.arange(ROWS) * 4, np.arange(COLUMNS) * 3).astype(np.uint8)
    volume = read(saved(tmp_path / "film.jpg", smooth, quality=95))
    assert np.abs(volume.array.T - smooth).max() <= 4
    assert volume.source.family == "png"


def test_a_picture_has_no_spacing_and_says_so(tmp_path):
    check = check_of(read(saved(tmp_path / "a.png", GREY, dpi=(300, 300))), "pixel_spacing")
    assert (check.status, check.value) == ("warning", None)


def test_a_palette_is_looked_up(tmp_path):
    picture = Image.fromarray((GREY % 3).astype(np.uint8), mode="P")
    picture.putpalette([10, 10, 10, 250, 250, 250, 90, 90, 90])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png").array.T, np.array([10, 250, 90])[GREY % 3])


def test_black_and_white_is_read_as_grey(tmp_path):
    volume = read(saved(tmp_path / "a.png", GREY > 100))
    np.testing.assert_array_equal(volume.array.T, (GREY > 100) * 255)


def test_three_equal_colours_are_one_grey(tmp_path):
    volume = read(saved(tmp_path / "a.png", np.stack([GREY] * 3, axis=-1)))
    np.testing.assert_array_equal(volume.array.T, GREY)
    assert (check_of(volume, "colour").status, volume.meaning) == ("fixed", "grey")


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_different_colours_become_brightness_with_a_warning(tmp_path, ending):
    volume = read(saved(tmp_path / f"a.{ending}", RGB))
    np.testing.assert_allclose(volume.array.T, LUMA, atol=1e-3)
    assert check_of(volume, "colour").status == "warning"


def test_a_network_for_colour_gets_colour_in_the_last_axis(tmp_path):
    volume = read(saved(tmp_path / "a.png", RGB), channels=3)
    np.testing.assert_array_equal(volume.array, RGB.transpose(1, 0, 2))
    assert (volume.meaning, volume.spatial_shape) == ("colour", (COLUMNS, ROWS))
    assert check_of(volume, "colour").status == "passed"


def test_a_network_for_colour_gets_grey_three_times_with_a_warning(tmp_path):
    volume = read(saved(tmp_path / "a.png", GREY), channels=3)
    np.testing.assert_array_equal(volume.array, np.stack([GREY.T] * 3, axis=-1))
    assert check_of(volume, "colour").status == "warning"


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_left_out(tmp_path, ending, channels):
    see_through = np.dstack([RGB, GREY])
    volume = read(saved(tmp_path / f"a.{ending}", see_through), channels=channels)
    wanted = RGB.transpose(1, 0, 2) if channels == 3 else LUMA.T
    np.testing.assert_allclose(volume.array, wanted, atol=1e-3)


def test_transparency_of_grey_is_left_out(tmp_path):
    volume = read(saved(tmp_path / "a.png", np.dstack([GREY, GREY[::-1]])))
    np.testing.assert_array_equal(volume.array.T, GREY)


def test_a_picture_that_viewers_turn_is_read_as_stored_with_a_warning(tmp_path):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    volume = read(saved(tmp_path / "a.png", GREY, exif=exif))
    np.testing.assert_array_equal(volume.array.T, GREY)
    check = check_of(volume, "exif_orientation")
    assert (check.status, check.value, check.limit) == ("warning", "6", "1")


@pytest.mark.parametrize(
    "pixels", [GREY, GREY_16, GREY.astype(np.int16) - 99, GREY > 100], ids=["8", "16", "signed", "1 bit"]
)
def test_minimum_is_white_is_turned_once(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    volume = read(tmp_path / "a.tif")
    wide = pixels.astype(np.int64)
    np.testing.assert_array_equal(volume.array.T, wide.max() + wide.min() - wide)
    assert check_of(volume, "photometric_interpretation").status == "fixed"


def test_float_tiff_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.float32) / 7)
    np.testing.assert_array_equal(read(tmp_path / "a.tif").array.T, GREY.astype(np.float32) / 7)


def test_tiff_with_the_colours_in_planes_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read(tmp_path / "a.tif", channels=3).array, RGB.transpose(1, 0, 2))


def test_tiff_with_a_palette_is_looked_up(tmp_path):
    table = np.zeros((3, 256), np.uint16)
    table[:, :251] = np.arange(251)[::-1] * 257
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="palette", colormap=table)
    np.testing.assert_array_equal(read(tmp_path / "a.tif").array.T, (250 - GREY.astype(int)) * 257)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_jpeg"])
def test_a_compression_that_needs_another_package_is_refused_by_name_or_read(tmp_path, compression):
    path = saved(tmp_path / "a.tif", GREY, compression=compression)
    try:
        volume = read(path)
    except UnreadableInput as refusal:
        assert "imagecodecs" in str(refusal)
        assert "PNG" in str(refusal)
    else:
        assert np.abs(volume.array.T - GREY).mean() < 30


@pytest.mark.parametrize("compression", ["zlib", "packbits"])
def test_compressed_tiff_is_read(tmp_path, compression):
    saved(tmp_path / "a.tif", GREY, compression={"zlib": "tiff_adobe_deflate"}.get(compression, compression))
    np.testing.assert_array_equal(read(tmp_path / "a.tif").array.T, GREY)


def test_a_stack_of_pages_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY] * 3), photometric="minisblack")
    with pytest.raises(UnsuitableInput, match=r"'a.tif' is a stack of 3 pages; this bundle takes single pictures"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("pixels", "how"),
    [
        (np.dstack([RGB, GREY]), {"photometric": "separated"}),
        (np.stack([GREY] * 2, axis=-1), {"photometric": "minisblack", "planarconfig": "contig"}),
        (np.stack([GREY] * 5, axis=-1), {"photometric": "minisblack", "planarconfig": "contig"}),
    ],
    ids=["printer's colours", "two channels", "five channels"],
)
def test_tiff_that_is_neither_grey_nor_rgb_is_refused(tmp_path, pixels, how):
    tifffile.imwrite(tmp_path / "a.tif", pixels, **how)
    with pytest.raises(UnsuitableInput, match="expected a grey or RGB picture"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "nii", "nii.gz"])
def test_a_picture_of_one_value_is_refused(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    if ending.startswith("nii"):
        nibabel.save(nibabel.Nifti1Image(np.full((8, 9), 3, np.int16), np.eye(4)), path)
    else:
        saved(path, np.full((8, 9), 3, np.uint8))
    with pytest.raises(UnsuitableInput, match=rf"'a.{ending}' shows nothing"):
        read(path)


def test_values_that_are_no_numbers_are_refused(tmp_path):
    odd = GREY.astype(np.float32)
    odd[3, 3] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", odd)
    nibabel.save(nibabel.Nifti1Image(odd, np.eye(4)), tmp_path / "a.nii")
    for name in ("a.tif", "a.nii"):
        with pytest.raises(UnsuitableInput, match="shows nothing"):
            read(tmp_path / name)


def test_a_flat_picture_is_refused_where_a_volume_is_wanted(tmp_path):
    with pytest.raises(UnsuitableInput, match=r"is a flat picture; this bundle takes volumes \(3 dimensions\)"):
        read(saved(tmp_path / "a.png", GREY), spatial_dims=3)


# NIfTI

AFFINE = np.array([[0, -0.7, 0, 3], [0.5, 0, 0, -20], [0, 0, 2, 9], [0, 0, 0, 1.0]])


def nifti(path, array, affine=AFFINE, unit="mm", **codes):
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("shape", [(30, 41), (30, 41, 1), (30, 41, 1, 1)])
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_flat_nifti_keeps_its_axes_and_its_place(tmp_path, shape, ending):
    volume = read(nifti(tmp_path / f"a.{ending}", GREY_16.reshape(shape)))
    np.testing.assert_array_equal(volume.array, GREY_16)
    assert volume.spatial_shape == (30, 41)
    assert volume.spacing_mm == pytest.approx((0.5, 0.7))
    np.testing.assert_allclose(volume.affine_lps, np.diag([-1, -1, 1, 1]) @ AFFINE)
    assert (volume.source.kind, volume.source.family, volume.source.case) == ("volume", "nii.gz", "a")
    assert check_of(volume, "voxel_size").status == "passed"


def test_a_nifti_volume_is_read_for_a_network_of_three_dimensions(tmp_path):
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    volume = read(nifti(tmp_path / "a.nii", array), spatial_dims=3)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.spacing_mm == pytest.approx((0.5, 0.7, 2))


@pytest.mark.parametrize(("shape", "dims"), [((6, 7, 2), 2), ((6, 7, 8, 2), 3), ((6, 7), 3)])
def test_a_nifti_of_other_dimensions_is_refused(tmp_path, shape, dims):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    with pytest.raises(UnsuitableInput, match=f"this bundle takes {dims} dimensions"):
        read(nifti(tmp_path / "a.nii", array), spatial_dims=dims)


def test_the_sform_goes_before_the_qform(tmp_path):
    image = nibabel.Nifti1Image(GREY, None)
    image.set_qform(np.diag([3, 3, 3, 1.0]), code=1)
    image.set_sform(AFFINE, code=2)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read(tmp_path / "a.nii").affine_lps, np.diag([-1, -1, 1, 1]) @ AFFINE)


def test_the_qform_counts_where_there_is_no_sform(tmp_path):
    image = nibabel.Nifti1Image(GREY, None)
    image.set_qform(np.diag([3, 4, 5, 1.0]), code=1)
    image.set_sform(None, code=0)
    nibabel.save(image, tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").spacing_mm == pytest.approx((3, 4))


def test_scaled_nifti_values_are_read_scaled(tmp_path):
    image = nibabel.Nifti1Image(GREY.astype(np.int16), AFFINE)
    image.header.set_slope_inter(2, -100)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(read(tmp_path / "a.nii").array, GREY * 2.0 - 100)


@pytest.mark.parametrize("unit", [0, "meter", "micron"])
def test_a_unit_other_than_mm_is_a_warning(tmp_path, unit):
    check = check_of(read(nifti(tmp_path / "a.nii", GREY, unit=unit)), "voxel_size")
    assert check.status == "warning"
    assert "mm is assumed" in check.detail


@pytest.mark.parametrize("odd", [np.diag([0, 0.7, 2, 1]), np.diag([np.nan, 0.7, 2, 1]), np.diag([np.inf, 0.7, 2, 1])])
def test_an_impossible_place_leaves_the_spacing_unknown(tmp_path, odd):
    path = nifti(tmp_path / "a.nii", GREY)
    content = bytearray(path.read_bytes())
    struct.pack_into("<12f", content, 280, *odd[:3].ravel())
    path.write_bytes(content)
    volume = read(path)
    assert (volume.spacing_mm, volume.affine_lps) == (None, None)
    check = check_of(volume, "voxel_size")
    assert (check.status, check.value) == ("warning", None)


# Damage


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "nii", "nii.gz"])
def test_text_with_the_ending_of_a_picture_is_refused(tmp_path, ending):
    (tmp_path / f"a.{ending}").write_text("Dear colleague,\nthe film follows.\n" * 30)
    with pytest.raises(UnreadableInput, match=rf"'a.{ending}' cannot be read as"):
        read(tmp_path / f"a.{ending}")


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "nii", "nii.gz"])
def test_an_empty_file_is_refused(tmp_path, ending):
    (tmp_path / f"a.{ending}").touch()
    with pytest.raises(UnreadableInput, match="cannot be read as"):
        read(tmp_path / f"a.{ending}")


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "nii", "nii.gz"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_that_breaks_off_is_refused(tmp_path, ending, share):
    path = tmp_path / f"a.{ending}"
    noise = np.random.default_rng(1).integers(0, 255, (120, 90)).astype(np.uint8)
    if ending.startswith("nii"):
        nifti(path, noise)
    elif ending == "tif":
        tifffile.imwrite(path, noise, compression="zlib")
    else:
        saved(path, noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableInput, match="cannot be read as"):
        read(path)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_a_stack_of_pages_renamed_to_a_flat_picture_is_refused(tmp_path, ending):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY] * 3), photometric="minisblack")
    (tmp_path / "a.tif").rename(tmp_path / f"a.{ending}")
    with pytest.raises(UnreadableInput, match="cannot be read as a picture"):
        read(tmp_path / f"a.{ending}")


def test_a_jpeg_named_png_is_read(tmp_path):
    saved(tmp_path / "a.jpg", GREY)
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    assert read(tmp_path / "a.png").spatial_shape == (COLUMNS, ROWS)


def png_that_declares(rows, columns):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">2I5B", columns, rows, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff_that_declares(rows, columns):
    tags = [(256, 4, 1, columns), (257, 4, 1, rows), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    tags += [(277, 3, 1, 1), (278, 4, 1, rows), (279, 4, 1, 1000)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0" * 4
    return b"II*\0" + struct.pack("<I", 1008) + b"\0" * 1000 + directory


def nifti_that_declares(*shape):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header["dim"][: len(shape) + 1] = [len(shape), *shape]
    header["magic"], header["vox_offset"] = b"n+1", 352
    return header.binaryblock + b"\0" * 1004


HUGE = {
    "20001.png": png_that_declares(20_001, 20_000),
    "billion.png": png_that_declares(2**31 - 1, 2**31 - 1),
    "20001.tif": tiff_that_declares(20_001, 20_000),
    "wraps.tif": tiff_that_declares(2**32 - 1, 2**32 - 1),
    "20001.nii": nifti_that_declares(20_001, 20_000),
    "wraps.nii": nifti_that_declares(*[32_767] * 7),
    "20001.nii.gz": gzip.compress(nifti_that_declares(20_001, 20_000)),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_declared_size_is_refused_before_memory_is_taken(tmp_path, name):
    (tmp_path / name).write_bytes(HUGE[name])
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableInput, match=rf"'{name}' declares .*(more than the limit|more pixels than)"):
            read(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def sound(folder, ending):
    path = folder / f"sound.{ending}"
    if ending.startswith("nii"):
        nifti(path, GREY_16)
    elif ending == "tif":
        tifffile.imwrite(path, GREY_16, photometric="miniswhite", compression="zlib")
    else:
        saved(
            path,
            GREY,
            **({"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"} if ending == "jpg" else {}),
        )
    return path.read_bytes()


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "nii", "nii.gz"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=5),
    early=st.booleans(),
)
def test_a_damaged_picture_is_read_or_refused(tmp_path, ending, edits, early):
    content = bytearray(sound(tmp_path, ending))
    for place, some in edits:
        at = int(place * (min(400, len(content)) if early else len(content)))
        content[at : at + len(some)] = some
    path = tmp_path / f"damaged.{ending}"
    path.write_bytes(content)
    try:
        volume = read(path)
    except ClinibundleError as refusal:
        assert f"damaged.{ending}" in str(refusal)
    else:
        assert np.isfinite(volume.array).all()
        assert volume.spacing_mm is None or all(0 < size < np.inf for size in volume.spacing_mm)
