"""Deflated files grow to what they are, and not beyond what memory is for."""

import tracemalloc
import zlib
from io import BytesIO

import numpy as np
import pydicom
import pydicom.filereader
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_films import chest, film, save, save_without_preamble, with_pixels
from pydicom.filewriter import write_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from clinibundle.dicom import inflate
from clinibundle.dicom.inflate import inflated_bytes, is_deflated
from clinibundle.errors import UnreadableInput

MIB = 1 << 20
DEFLATED = DeflatedExplicitVRLittleEndian.encode()


def save_deflated(made, path):
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return save(made, path, implicit_vr=False, little_endian=True)


def with_data_set(path, start, data_set):
    """A deflated file of any data set behind the start of a sound one."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(start + deflater.compress(data_set) + deflater.flush())
    return path


@pytest.fixture(scope="module")
def deflated(tmp_path_factory):
    """A sound deflated film; not to be changed."""
    return save_deflated(film(), tmp_path_factory.mktemp("deflated") / "film")


@pytest.fixture(scope="module")
def start(deflated):
    """Preamble and file meta information of a deflated file."""
    content = deflated.read_bytes()
    length = pydicom.filereader.read_file_meta_info(deflated).FileMetaInformationGroupLength
    return content[: 132 + 12 + length]


def peak_mib(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


def test_a_deflated_file_becomes_the_same_file_in_explicit_vr(deflated):
    expected = pydicom.dcmread(deflated)
    found = pydicom.dcmread(BytesIO(inflated_bytes(deflated)))
    assert found == expected
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    expected.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    expected.file_meta.FileMetaInformationGroupLength = found.file_meta.FileMetaInformationGroupLength
    assert found.file_meta == expected.file_meta
    np.testing.assert_array_equal(found.pixel_array, chest())


def test_the_group_length_is_that_of_the_changed_file_meta_information(deflated):
    content = inflated_bytes(deflated)
    meta = pydicom.dcmread(BytesIO(content)).file_meta
    data_set = content[132 + 12 + meta.FileMetaInformationGroupLength :]
    assert data_set.startswith(b"\x08\x00")


def test_only_deflated_files_are_deflated(deflated, tmp_path):
    assert is_deflated(deflated)
    assert not is_deflated(save(film(), tmp_path / "explicit"))
    assert not is_deflated(save_without_preamble(film(), tmp_path / "implicit"))
    (tmp_path / "text").write_text("Dear colleague")
    (tmp_path / "empty").touch()
    assert not any(is_deflated(tmp_path / name) for name in ("text", "empty", "absent", "."))


def test_a_deflated_file_without_preamble_is_deflated(deflated, tmp_path):
    (tmp_path / "bare").write_bytes(deflated.read_bytes()[132:])
    assert is_deflated(tmp_path / "bare")
    assert pydicom.dcmread(BytesIO(inflated_bytes(tmp_path / "bare"))) == pydicom.dcmread(deflated)


def test_a_deflated_file_whose_file_meta_information_is_in_implicit_vr_is_deflated(deflated, start, tmp_path):
    meta = pydicom.filebase.DicomBytesIO()
    meta.is_little_endian, meta.is_implicit_VR = True, True
    write_dataset(meta, pydicom.filereader.read_file_meta_info(deflated))
    odd = tmp_path / "odd"
    odd.write_bytes(start[:132] + meta.getvalue() + deflated.read_bytes()[len(start) :])
    assert is_deflated(odd)
    assert pydicom.dcmread(BytesIO(inflated_bytes(odd))) == pydicom.dcmread(deflated)


class _InflatesIt(Exception):
    pass


def pydicom_inflates(path):
    """Whether pydicom would call zlib without a limit."""

    def inflate(*_):
        raise _InflatesIt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pydicom.filereader.zlib, "decompress", inflate)
        try:
            pydicom.dcmread(path, force=True, stop_before_pixels=True)
        except _InflatesIt:
            return True
        except Exception:  # noqa: BLE001 - any other end is one without inflating
            return False
    return False


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, 350), st.binary(min_size=1, max_size=4)), max_size=4),
    has_preamble=st.booleans(),
)
@pytest.mark.filterwarnings("ignore")
def test_however_its_start_is_damaged_a_file_that_pydicom_would_inflate_is_deflated(
    deflated, tmp_path, edits, has_preamble
):
    content = bytearray(deflated.read_bytes())
    for at, some in edits:
        content[at : at + len(some)] = some
    path = tmp_path / "damaged"
    path.write_bytes(content if has_preamble else content[132:])
    assert is_deflated(path) or not pydicom_inflates(path)


def test_the_judgement_of_pydicom_is_seen(deflated, tmp_path):
    assert pydicom_inflates(deflated)
    assert not pydicom_inflates(save(film(), tmp_path / "explicit"))


def test_a_file_that_is_not_deflated_is_refused(tmp_path):
    with pytest.raises(UnreadableInput, match="is not deflated; expected Deflated Explicit VR Little Endian"):
        inflated_bytes(save(film(), tmp_path / "explicit"))


def test_a_bomb_is_refused_before_it_fills_the_memory(start, tmp_path):
    bomb = with_data_set(tmp_path / "bomb", start, bytes(300 * MIB))
    assert bomb.stat().st_size < MIB

    def refused():
        with pytest.raises(UnreadableInput, match=r"grows beyond \d+ MiB, .* made to fill the memory"):
            inflated_bytes(bomb)

    unsuspected = inflate.UNSUSPECTED_BYTES / MIB
    assert unsuspected < peak_mib(refused) < 1.25 * unsuspected


def test_the_limit_is_a_ratio_where_that_allows_more(start, tmp_path, monkeypatch):
    monkeypatch.setattr(inflate, "UNSUSPECTED_BYTES", MIB)
    noise = np.random.default_rng(1).bytes(MIB)
    sound = with_data_set(tmp_path / "sound", start, noise + bytes(100 * MIB))
    assert len(inflated_bytes(sound)) > 101 * MIB
    bomb = with_data_set(tmp_path / "bomb", start, noise[: MIB // 4] + bytes(100 * MIB))
    with pytest.raises(UnreadableInput, match=r"grows beyond [67]\d MiB"):
        inflated_bytes(bomb)


def test_no_file_grows_beyond_the_largest_size(start, tmp_path, monkeypatch):
    noise = with_data_set(tmp_path / "noise", start, np.random.default_rng(1).bytes(3 * MIB))
    assert len(inflated_bytes(noise)) > 3 * MIB
    monkeypatch.setattr(inflate, "MAX_INFLATED_BYTES", 2 * MIB)
    with pytest.raises(UnreadableInput, match="grows beyond 2 MiB"):
        inflated_bytes(noise)


def test_an_empty_mask_of_ordinary_size_is_read(tmp_path):
    mask = with_pixels(film(), np.zeros((4096, 4096), np.uint8))
    path = save_deflated(mask, tmp_path / "mask")
    assert inflate.MAX_RATIO * path.stat().st_size < 4096**2
    assert not pydicom.dcmread(BytesIO(inflated_bytes(path))).pixel_array.any()


@pytest.mark.parametrize("size", [100, MIB - 1, MIB, MIB + 1, 3 * MIB])
def test_data_sets_of_all_sizes_are_complete(start, tmp_path, size):
    content = np.random.default_rng(size).integers(0, 4, size, np.uint8).tobytes()
    found = inflated_bytes(with_data_set(tmp_path / "file", start, content))
    assert found.endswith(content)
    assert len(found) < len(start) + size + 16


def test_a_long_run_at_the_end_is_complete_though_all_its_bytes_were_read(start, tmp_path):
    # All input is taken up before all output is given out.
    for size in range(2 * MIB - 300, 2 * MIB + 300, 7):
        found = inflated_bytes(with_data_set(tmp_path / "run", start, bytes(size)))
        assert found[-size:] == bytes(size)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_that_breaks_off_is_refused(deflated, start, tmp_path, cut):
    content = deflated.read_bytes()
    # The last byte may be padding.
    path = tmp_path / "cut"
    path.write_bytes(content[: len(start) + int(cut * (len(content) - 1 - len(start)))])
    with pytest.raises(UnreadableInput, match="is cut off"):
        inflated_bytes(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), some=st.binary(min_size=1, max_size=4))
def test_a_damaged_file_is_inflated_or_refused(deflated, start, tmp_path, at, some):
    content = bytearray(deflated.read_bytes())
    place = int(at * len(content))
    content[place : place + len(some)] = some
    path = tmp_path / "damaged"
    path.write_bytes(content)
    try:
        assert inflated_bytes(path)[128:132] == b"DICM"
    except UnreadableInput as refusal:
        assert str(refusal).startswith("its ")


def test_nothing_at_all_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UnreadableInput, match=r"is damaged \(FileNotFoundError\)"):
        inflated_bytes(tmp_path / "absent")
