import struct
import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from made_films import COLUMNS, ROWS, chest, film, instance, save
from PIL import Image
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_encoder
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from clinibundle.dicom.codestream import coded_size
from clinibundle.dicom.radiograph import read_radiograph
from clinibundle.errors import UnreadableInput

WHERE_THE_SIZE_STANDS = {JPEG2000Lossless: (b"\xff\x51", 6, ">II"), JPEGLSLossless: (b"\xff\xf7", 5, ">HH")}


def stream(syntax):
    if not get_encoder(syntax).is_available:
        pytest.skip(f"no encoder for {syntax.name} is installed")
    made = film()
    made.compress(syntax, generate_instance_uid=False)
    return made, get_frame(made.PixelData, 0, number_of_frames=1)


@pytest.mark.parametrize("syntax", WHERE_THE_SIZE_STANDS, ids=lambda syntax: syntax.keyword)
def test_rows_and_columns_of_medical_streams_are_found(syntax):
    assert coded_size(stream(syntax)[1]) == (ROWS, COLUMNS)


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"comment": b"of a film"}, {"restart_marker_rows": 1}])
def test_rows_and_columns_of_jpeg_are_found(how):
    written = BytesIO()
    Image.fromarray((chest() >> 4).astype(np.uint8)).save(written, format="JPEG", **how)
    assert coded_size(written.getvalue()) == (ROWS, COLUMNS)


def test_an_image_off_the_corner_of_its_jpeg_2000_grid_has_its_own_size():
    grid = struct.pack(">2s2s2H4I", b"\xff\x4f", b"\xff\x51", 41, 0, 110, 220, 10, 20)
    assert coded_size(grid) == (200, 100)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xda\0\x02",
        b"\xff\xd8" + b"\xff" * 50,
        b"\xff\xd8\xff\xe0\xff\xff",
        b"\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\x50",
        b"\xff\x4f\xff\x51\0\x29\0\0\0\0",
        b"\0" * 64,
    ],
)
def test_a_stream_that_does_not_tell_its_size_has_none(content):
    assert coded_size(content) is None


@pytest.mark.parametrize("syntax", WHERE_THE_SIZE_STANDS, ids=lambda syntax: syntax.keyword)
def test_a_stream_that_asks_for_gigabytes_is_refused_before_memory_is_taken(tmp_path, syntax):
    made, sound = stream(syntax)
    marker, offset, form = WHERE_THE_SIZE_STANDS[syntax]
    bomb = bytearray(sound)
    struct.pack_into(form, bomb, bomb.index(marker) + offset, 60_000, 60_000)
    made.PixelData = encapsulate([bytes(bomb)])
    made["PixelData"].is_undefined_length = True
    found = instance(save(made, tmp_path / "film"))
    tracemalloc.start()
    try:
        with pytest.raises(
            UnreadableInput, match=r"a compressed picture of \(60000, 60000\), its header says \(96, 80"
        ):
            read_radiograph(found)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("syntax", WHERE_THE_SIZE_STANDS, ids=lambda syntax: syntax.keyword)
def test_a_header_with_rows_and_columns_exchanged_is_refused(tmp_path, syntax):
    made, _ = stream(syntax)
    made.Rows, made.Columns = COLUMNS, ROWS
    with pytest.raises(UnreadableInput, match=r"\(96, 80\), its header says \(80, 96\)"):
        read_radiograph(instance(save(made, tmp_path / "film")))
