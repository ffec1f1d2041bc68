import os
import random
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from made_films import film, save, save_without_preamble
from PIL import Image
from pydicom.fileset import FileSet

from clinibundle.dicom.header import looks_like_dicom, read_header
from clinibundle.dicom.index import index_study
from clinibundle.dicom.values import number, text
from clinibundle.errors import UnreadableInput


def names(index):
    return [instance.name for instance in index.instances]


def reasons(index):
    return {skipped.name: skipped.reason for skipped in index.skipped}


def test_films_are_found_in_subfolders_and_named_relative_to_the_input(tmp_path):
    for name in ("b.dcm", "a/deep/er/x", "a/y.ima"):
        save(film(), tmp_path / name)
    index = index_study(tmp_path)
    assert names(index) == ["a/deep/er/x", "a/y.ima", "b.dcm"]
    assert [i.path for i in index.instances] == [tmp_path / name for name in names(index)]
    assert index.skipped == ()


def test_a_single_file_is_named_by_its_own_name_only(tmp_path):
    assert names(index_study(save(film(), tmp_path / "deep/er/IM1"))) == ["IM1"]


def test_the_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    for name in ("c", "sub/a", "b", "a"):
        save(film(), tmp_path / name)
    expected = index_study(tmp_path)
    listed = Path.rglob

    def shuffled(self, pattern):
        found = list(listed(self, pattern))
        random.Random(3).shuffle(found)
        return iter(found)

    monkeypatch.setattr(Path, "rglob", shuffled)
    assert names(index_study(tmp_path)) == names(expected) == ["a", "b", "c", "sub/a"]


def test_headers_come_without_pixels(tmp_path):
    header = index_study(save(film(), tmp_path / "film")).instances[0].header
    assert "PixelData" not in header
    assert header.Modality == "DX"


def test_a_film_without_preamble_and_file_meta_is_found(tmp_path):
    made = film()
    path = save_without_preamble(made, tmp_path / "CR-old")
    assert path.read_bytes()[:2] == b"\x08\x00"
    assert looks_like_dicom(path)
    assert index_study(tmp_path).instances[0].header.SOPInstanceUID == made.SOPInstanceUID


def test_a_film_without_preamble_but_with_file_meta_is_found(tmp_path):
    made = film()
    path = save(made, tmp_path / "whole")
    (tmp_path / "cut").write_bytes(path.read_bytes()[132:])
    assert names(index_study(tmp_path / "cut")) == ["cut"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no DICOM file"),
        (b"Dear colleague, the films are on the other disc.\n" * 9, "no DICOM file"),
        (b"\x08\x00", "no DICOM file"),
        (b"\0" * 200, "no DICOM file"),
        (b"\0" * 128 + b"DICM", "lacks SOPClassUID or SOPInstanceUID"),
        (b"\0" * 128 + b"DICM" + b"nothing that DICOM knows, by far" * 9, "damaged"),
    ],
    ids=["empty", "text", "two bytes", "zeros", "preamble only", "rubbish after the preamble"],
)
def test_what_is_no_dicom_is_left_out_with_a_reason(tmp_path, content, words):
    (tmp_path / "odd").write_bytes(content)
    save(film(), tmp_path / "film.dcm")
    index = index_study(tmp_path)
    assert names(index) == ["film.dcm"]
    assert words in reasons(index)["odd"]


def test_pictures_beside_the_films_are_left_out(tmp_path):
    save(film(), tmp_path / "film.dcm")
    Image.fromarray(np.zeros((80, 80), np.uint8)).save(tmp_path / "preview.png")
    assert "no DICOM file" in reasons(index_study(tmp_path))["preview.png"]


def test_an_empty_folder_holds_nothing(tmp_path):
    index = index_study(tmp_path)
    assert (index.instances, index.skipped) == ((), ())


@pytest.mark.timeout(20)
def test_pipes_and_links_to_nothing_are_left_out_and_not_waited_for(tmp_path):
    save(film(), tmp_path / "film.dcm")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    (tmp_path / "round").symlink_to(tmp_path)
    index = index_study(tmp_path)
    assert names(index) == ["film.dcm"]
    assert reasons(index) == {"pipe": "it is no ordinary file", "link": "it is no ordinary file"}


def test_a_path_with_nothing_at_it_is_refused(tmp_path):
    with pytest.raises(UnreadableInput, match=r"there is nothing at .*name a file or folder that exists"):
        index_study(tmp_path / "forgotten")


def test_dicomdirs_serve_the_folders_below_as_well(tmp_path):
    for disc in ("first", "second"):
        files = FileSet()
        files.add(film())
        files.add(film())
        files.write(tmp_path / disc)
        assert (tmp_path / disc / "DICOMDIR").is_file()
    gone = next(p for p in sorted((tmp_path / "second").rglob("*")) if p.is_file() and p.name != "DICOMDIR")
    gone.unlink()
    for folder, count, missing in ((tmp_path / "first", 2, 0), (tmp_path, 3, 1)):
        index = index_study(folder)
        assert (len(index.instances), len(index.missing)) == (count, missing)
        assert list(reasons(index).values()) == ["the DICOMDIR lists it, and it is not there"] * missing


def test_a_film_that_comes_twice_is_taken_once(tmp_path):
    twin = film()
    for name in ("a", "b/copy", "c"):
        save(twin, tmp_path / name)
    save(film(), tmp_path / "other")
    index = index_study(tmp_path)
    assert names(index) == ["a", "other"]
    assert reasons(index) == {"b/copy": "a second copy of a", "c": "a second copy of a"}


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID"])
def test_a_header_without_its_identity_is_left_out(tmp_path, keyword):
    made = film()
    del made[keyword]
    pydicom.dcmwrite(tmp_path / "odd", made, enforce_file_format=False)
    assert "lacks SOPClassUID or SOPInstanceUID" in reasons(index_study(tmp_path))["odd"]


def test_a_header_that_breaks_off_is_left_out_or_read_as_far_as_it_goes(tmp_path):
    whole = save(film(), tmp_path / "whole").read_bytes()
    for length in (140, 300, 400, 700, 1000):
        path = tmp_path / "cut"
        path.write_bytes(whole[:length])
        index = index_study(path)
        assert len(index.instances) + len(index.skipped) == 1


@pytest.mark.parametrize("kind", [b"FD", b"ZZ"])
def test_a_value_that_cannot_be_read_is_as_good_as_absent(tmp_path, kind):
    whole = save(film(), tmp_path / "film").read_bytes()
    high_bit = b"\x28\x00\x02\x01%s\x02\x00\x0b\x00"
    assert high_bit % b"US" in whole
    (tmp_path / "film").write_bytes(whole.replace(high_bit % b"US", high_bit % kind))
    header = read_header(tmp_path / "film")
    assert "HighBit" not in header
    assert header.BitsStored == 12


def test_no_warning_of_the_library_is_left_to_quote_a_header(tmp_path, caplog):
    whole = save(film(AccessionNumber="A", InstanceNumber="77"), tmp_path / "film").read_bytes()
    (tmp_path / "film").write_bytes(whole.replace(b"IS\x02\x0077", b"IS\x02\x007A"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        header = index_study(tmp_path).instances[0].header
        assert number(header, "InstanceNumber") is None
        assert text(header, "InstanceNumber") == "7A"
        for element in read_header(tmp_path / "film"):
            str(element.value)
    assert [str(warning.message) for warning in caught] == []
    assert caplog.text == ""
