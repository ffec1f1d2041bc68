"""However a film is damaged, reading it ends in a picture or in a refusal, and so does writing a SEG for it."""

from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_films import chest, film, save, save_without_preamble
from made_segments import ALGORITHM, LUNG
from pydicom.pixels import get_encoder
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from clinibundle.dicom.header import read_header
from clinibundle.dicom.index import index_study
from clinibundle.dicom.radiograph import read_radiograph
from clinibundle.dicom.rules import DicomWishes, Rule
from clinibundle.dicom.seg import write_seg
from clinibundle.dicom.seg_check import SourceGrid
from clinibundle.dicom.select import choose
from clinibundle.errors import ClinibundleError
from clinibundle.volume import Volume

WISHES = DicomWishes(
    object="radiograph",
    rules=[
        Rule(name="modality", keywords=["Modality"], accept=["DX"]),
        Rule(name="words", keywords=["SeriesDescription", "PatientOrientation"], refuse_words=["lateral", "A"]),
    ],
)
KINDS = ["explicit", "no preamble", "deflated", RLELossless, JPEG2000Lossless, JPEGLSLossless]
# What a reader of DICOM may trip over: kinds of value, and lengths without end.
TRAPS = [b"SQ", b"UN", b"US", b"DS", b"IS", b"PN", b"OB", b"FD", b"UI", b"\xff\xff\xff\xff", b"\xfe\xff\xdd\xe0", b"\\"]


@cache
def sound(folder, kind):
    """A film as bytes, and where its pixels begin."""
    made, path = film(PixelPaddingValue=5, PatientAge="081Y"), folder / "sound"
    if kind == "no preamble":
        save_without_preamble(made, path)
    elif kind == "deflated":
        made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        save(made, path, implicit_vr=False, little_endian=True)
    elif kind == "explicit":
        save(made, path)
    else:
        if not get_encoder(kind).is_available:
            pytest.skip(f"no encoder for {kind.name} is installed")
        made.compress(kind, generate_instance_uid=False)
        save(made, path)
    content = path.read_bytes()
    return content, 400 if kind == "deflated" else len(content) - len(made.PixelData)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@st.composite
def damage(draw):
    """A function of bytes and the length of their header: some bytes are other, more or fewer, and it may break off."""
    edits = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["set", "set", "trap", "insert", "delete"]),
                st.booleans() | st.just(True),
                st.floats(0, 1, exclude_max=True),
                st.binary(min_size=1, max_size=4),
                st.sampled_from(TRAPS),
            ),
            min_size=1,
            max_size=6,
        )
    )
    cut = draw(st.none() | st.none() | st.none() | st.floats(0, 1))

    def apply(content, header):
        changed = bytearray(content)
        for what, in_header, place, some, trap in edits:
            at = int(place * min(header if in_header else len(changed), len(changed)))
            if what == "set":
                changed[at : at + len(some)] = some
            elif what == "trap":
                changed[at : at + len(trap)] = trap
            elif what == "insert":
                changed[at:at] = some
            else:
                del changed[at : at + len(some)]
        return bytes(changed if cut is None else changed[: int(cut * len(changed))])

    return apply


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=damage())
def test_a_damaged_film_is_read_or_refused(folder, kind, damage):
    path = folder / "film"
    path.write_bytes(damage(*sound(folder, kind)))
    index = index_study(path)
    assert len(index.instances) + len(index.skipped) == 1
    try:
        choice = choose(index, WISHES)
        volume = read_radiograph(choice.chosen.instance)
    except ClinibundleError as refusal:
        assert str(refusal)
        return
    assert isinstance(volume, Volume)
    assert volume.array.dtype == np.float32
    assert np.isfinite(volume.array).all()
    assert min(volume.array.shape) >= 64
    assert all(check.as_dict() for check in choice.chosen.checks())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=damage())
def test_a_seg_is_written_for_a_film_with_a_damaged_header_or_refused(folder, damage):
    content, header = sound(folder, "explicit")
    path = folder / "film"
    path.write_bytes(damage(content[:header], header) + content[header:])
    mask = (chest() > 2000)[np.newaxis].astype(np.uint8)
    for instance in index_study(path).instances:
        try:
            write_seg(folder / "seg.dcm", mask, SourceGrid([read_header(instance.path)]), [LUNG], ALGORITHM)
        except ClinibundleError as refusal:
            assert str(refusal)
