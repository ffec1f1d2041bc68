"""Presentation states: their lines, filled by other means than ours, against the mask; grey scale; refusals."""

import numpy as np
import pydicom
import pytest
from highdicom.color import CIELabColor
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_ct import COLUMNS, ROWS, SLICES, ct_headers
from made_films import film, save
from made_segments import ALGORITHM, HEART, LUNG
from made_verdicts import dciodvfy_errors
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from skimage.measure import points_in_poly

from clinibundle.dicom import presentation
from clinibundle.dicom.header import quietly, read_header
from clinibundle.dicom.presentation import write_gsps
from clinibundle.dicom.seg_check import SourceGrid
from clinibundle.errors import OutputError

PATIENT = {"PatientName": "Kowalska^Jadwiga", "PatientID": "PID-98765", "PatientBirthDate": "19440215"}
KIND = "GrayscaleSoftcopyPresentationState"
RING = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
RING[2:4, 4:20, 5:25] = 1
RING[2:4, 8:16, 9:21] = 0
RING[3, 11:13, 14:16] = 2
FILM = np.zeros((1, 96, 80), np.uint8)
FILM[0, 30:60, 10:30] = 1


def written(folder, label_map=RING, headers=None, segments=(LUNG, HEART), algorithm=ALGORITHM, **more):
    """A presentation state as pydicom reads it, and the headers of its sources."""
    headers = headers or ct_headers()
    path = folder / "gsps.dcm"
    write_gsps(path, label_map, SourceGrid(headers), list(segments), algorithm, **more)
    return pydicom.dcmread(path), headers


def of_film(folder, label_map=FILM, **changes):
    """A presentation state of a film without pixels."""
    with quietly():
        source = film(**changes)
    del source.PixelData
    return written(folder, label_map, [source])[0]


def lines_of(state):
    """UID of the picture, layer, and points (points, 2), column and row, of each line."""
    for annotation in state.GraphicAnnotationSequence:
        for graphic in annotation.get("GraphicObjectSequence", ()):
            assert (graphic.GraphicType, graphic.GraphicAnnotationUnits) == ("POLYLINE", "PIXEL")
            points = np.array(graphic.GraphicData).reshape(-1, 2)
            assert len(points) == graphic.NumberOfGraphicPoints
            assert points[0].tolist() == points[-1].tolist()
            for image in annotation.ReferencedImageSequence:
                yield image.ReferencedSOPInstanceUID, annotation.GraphicLayer, points


def filled(state, headers, label_map):
    """The label map, by lines combined by exclusion; the first pixel's centre is at 0.5 (PS3.3 C.10.5.1.2)."""
    rows, columns = label_map.shape[1:]
    y, x = np.indices((rows, columns)) + 0.5
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    found = {label: np.zeros(label_map.shape, bool) for label in (1, 2)}
    places = {header.SOPInstanceUID: number for number, header in enumerate(headers)}
    for uid, layer, points in lines_of(state):
        assert (points >= 0).all()
        assert (points <= [columns, rows]).all()
        found[int(layer.removeprefix("LABEL_"))][places[uid]] ^= points_in_poly(centres, points).reshape(rows, columns)
    assert not (found[1] & found[2]).any()
    return found[1] + 2 * found[2]


label_maps = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 2]))
)


@example(label_map=np.ones((2, 3, 4), np.uint8))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label_map=label_maps)
def test_any_label_map_comes_back_by_other_means(tmp_path, label_map):
    slices, rows, columns = label_map.shape
    state, headers = written(tmp_path, label_map, ct_headers(Rows=rows, Columns=columns)[:slices])
    np.testing.assert_array_equal(filled(state, headers, label_map), label_map)


def test_a_line_too_long_for_an_explicit_vr_is_written_whole(tmp_path):
    # A comb with jagged teeth.
    comb = np.zeros((1, 120, 160), np.uint8)
    comb[0, :, ::4] = comb[0, 0] = comb[0, ::2, 1::4] = comb[0, 1::2, 3::4] = 1
    state, headers = written(tmp_path, comb, ct_headers(Rows=120, Columns=160)[:1])
    assert max(len(points) for _, _, points in lines_of(state)) > 8191
    np.testing.assert_array_equal(filled(state, headers, comb), comb)
    assert dciodvfy_errors(tmp_path / "gsps.dcm", KIND) == []


def test_only_slices_with_an_outline_are_shown(tmp_path):
    state, headers = written(tmp_path)
    (series,) = state.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == headers[0].SeriesInstanceUID
    shown = [(image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) for image in series.ReferencedImageSequence]
    assert shown == [(header.SOPClassUID, header.SOPInstanceUID) for header in headers[2:4]]
    assert {uid for uid, _, _ in lines_of(state)} == {header.SOPInstanceUID for header in headers[2:4]}


def texts_of(state):
    """Layer, words, and number of pictures of each text."""
    return [
        (annotation.GraphicLayer, words.UnformattedTextValue, len(annotation.ReferencedImageSequence))
        for annotation in state.GraphicAnnotationSequence
        for words in annotation.get("TextObjectSequence", ())
    ]


def test_names_and_a_notice_are_shown(tmp_path):
    state, _ = written(tmp_path)
    notice = "Research only, not for diagnostic use: lung_xray 0.3.1"
    assert texts_of(state) == [
        ("LABEL_1", "Lung", 1),
        ("LABEL_1", "Lung", 1),
        ("LABEL_2", "Heart", 1),
        ("NOTICE", notice, 2),
    ]


def test_without_an_outline_every_slice_says_so(tmp_path):
    state, _ = written(tmp_path, np.zeros_like(RING))
    assert texts_of(state) == [("NOTICE", "Research only, not for diagnostic use: lung_xray 0.3.1, no outline", SLICES)]
    assert list(lines_of(state)) == []
    assert dciodvfy_errors(tmp_path / "gsps.dcm", KIND) == []


def test_each_segment_has_a_layer_of_its_colour(tmp_path):
    state, _ = written(tmp_path, colours=[(10, 200, 30), (250, 0, 0)])
    layers = {layer.GraphicLayer: layer for layer in state.GraphicLayerSequence}
    assert [layers[name].GraphicLayerDescription for name in ("LABEL_1", "LABEL_2")] == ["Lung", "Heart"]
    for name, colour in (("LABEL_1", (10, 200, 30)), ("LABEL_2", (250, 0, 0))):
        stored = CIELabColor.from_dicom_value(layers[name].GraphicLayerRecommendedDisplayCIELabValue)
        np.testing.assert_allclose(stored.to_rgb(), colour, atol=2)
    assert len({layer.GraphicLayerOrder for layer in state.GraphicLayerSequence}) == 3


def test_the_object_says_whose_it_is_and_who_made_it(tmp_path):
    headers = ct_headers(PatientName="Müller^Änne", SpecificCharacterSet="ISO_IR 100")
    state, _ = written(tmp_path, headers=headers, segments=[LUNG.model_copy(update={"name": "Płuco"}), HEART])
    for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "StudyDate", "StudyID"):
        assert state[keyword].value == headers[0][keyword].value
    assert state.Modality == "PR"
    assert state.SeriesDescription == "lung_xray 0.3.1 outlines, research only"
    assert state.ContentDescription == "Płuco, Heart, lung_xray 0.3.1"
    assert state.DeviceSerialNumber == "ab" * 8


# -- how the pictures are shown


@pytest.mark.parametrize("center_width", [(40, 400), ([40, -500], [400, 1500])])
def test_the_first_window_of_all_slices_is_said_once(tmp_path, center_width):
    # DCMTK's dcmpschk fails what has several windows in one item.
    center, width = center_width
    state, _ = written(tmp_path, headers=ct_headers(WindowCenter=center, WindowWidth=width))
    (voi,) = state.SoftcopyVOILUTSequence
    assert (voi.WindowCenter, voi.WindowWidth) == (40, 400)
    assert "ReferencedImageSequence" not in voi


def test_windows_of_single_slices_are_said_of_these(tmp_path):
    headers = ct_headers(WindowCenter=40, WindowWidth=400)
    headers[3].WindowWidth = 350
    headers[4].WindowWidth = None
    label_map = np.ones_like(RING)
    state, _ = written(tmp_path, label_map, headers)
    found = {
        int(voi.WindowWidth): [image.ReferencedSOPInstanceUID for image in voi.ReferencedImageSequence]
        for voi in state.SoftcopyVOILUTSequence
    }
    uids = [header.SOPInstanceUID for header in headers]
    assert found == {400: [*uids[:3], uids[5]], 350: [uids[3]]}
    assert dciodvfy_errors(tmp_path / "gsps.dcm", KIND) == []


@pytest.mark.parametrize("width", [None, 0, 0.5, -3, [400, 300]])
def test_a_window_that_means_nothing_is_left_out(tmp_path, width):
    state, _ = written(tmp_path, headers=ct_headers(WindowCenter=40, WindowWidth=width))
    assert "SoftcopyVOILUTSequence" not in state


def table(entries):
    """A look-up table of 16 bits."""
    made = Dataset()
    made.add_new("LUTDescriptor", "US", [len(entries), 0, 16])
    made.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return made


@pytest.mark.parametrize("window", [None, 2000])
def test_a_table_is_taken_where_there_is_no_window(tmp_path, window):
    tables = [table(np.arange(4096) * 16), table(np.arange(4096))]
    source = film(WindowCenter=window, WindowWidth=window, VOILUTSequence=tables)
    source.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    save(source, tmp_path / "film.dcm")
    state, _ = written(tmp_path, FILM, [read_header(tmp_path / "film.dcm")])
    (voi,) = state.SoftcopyVOILUTSequence
    assert ("VOILUTSequence" in voi, "WindowCenter" in voi) == (window is None, window is not None)
    if window is None:
        (only,) = voi.VOILUTSequence
        stored = np.frombuffer(only.LUTData, "<u2")
        np.testing.assert_array_equal(stored, np.arange(4096) * 16)
    assert dciodvfy_errors(tmp_path / "gsps.dcm", KIND) == []


def test_tables_that_differ_in_one_entry_are_kept_apart(tmp_path):
    headers = ct_headers(VOILUTSequence=[table(np.arange(5000))])
    headers[2].VOILUTSequence = [table([*range(4999), 7])]
    state, _ = written(tmp_path, headers=headers)
    assert [len(voi.ReferencedImageSequence) for voi in state.SoftcopyVOILUTSequence] == [1, 1]


@pytest.mark.parametrize(("photometric", "shape"), [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")])
def test_films_keep_their_polarity(tmp_path, photometric, shape):
    assert of_film(tmp_path, PhotometricInterpretation=photometric).PresentationLUTShape == shape


def test_the_rescale_is_the_sources_own(tmp_path):
    state, _ = written(tmp_path)
    assert (state.RescaleSlope, state.RescaleIntercept, state.RescaleType) == (1, -1024, "HU")
    state, _ = written(tmp_path, headers=ct_headers(RescaleType=None))
    assert state.RescaleType == "US"
    state, _ = written(tmp_path, headers=ct_headers(RescaleSlope=None, RescaleIntercept=None, RescaleType=None))
    assert "RescaleSlope" not in state


@pytest.mark.parametrize(
    ("spacing", "ratio", "shown", "shown_ratio"),
    [
        ({"PixelSpacing": [0.2, 0.3]}, None, [0.2, 0.3], None),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.1, 0.1]}, None, [0.1, 0.1], None),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": None}, [4, 3], None, [4, 3]),
        ({"PixelSpacing": None, "ImagerPixelSpacing": None}, None, None, [1, 1]),
    ],
)
def test_pictures_keep_their_proportions(tmp_path, spacing, ratio, shown, shown_ratio):
    state = of_film(tmp_path, **spacing, PixelAspectRatio=ratio)
    (area,) = state.DisplayedAreaSelectionSequence
    assert area.get("PresentationPixelSpacing") == shown
    assert area.get("PresentationPixelAspectRatio") == shown_ratio
    assert list(area.DisplayedAreaBottomRightHandCorner) == [80, 96]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"PhotometricInterpretation": "MONOCHROME1", "PixelSpacing": None, "ImagerPixelSpacing": None},
        {"PatientAge": "81", "PatientSex": "male", "PatientID": None, "StudyDate": "2024.1.1"},
    ],
)
def test_dciodvfy_finds_no_error_on_films(tmp_path, changes):
    of_film(tmp_path, **changes)
    assert dciodvfy_errors(tmp_path / "gsps.dcm", KIND) == []


@pytest.mark.parametrize("algorithm", [ALGORITHM, None])
def test_dciodvfy_finds_no_error_on_slices(tmp_path, algorithm):
    written(tmp_path, algorithm=algorithm)
    assert dciodvfy_errors(tmp_path / "gsps.dcm", KIND) == []


def test_the_sources_stay_as_they_were(tmp_path):
    headers = ct_headers(WindowCenter=40, WindowWidth=400)
    before = [header.to_json() for header in headers]
    written(tmp_path, headers=headers)
    assert [header.to_json() for header in headers] == before


# -- refusals


def refusal(headers, label_map=RING, segments=(LUNG, HEART), frames=(), path=None):
    with pytest.raises(OutputError) as caught:
        write_gsps(path, label_map, SourceGrid(headers, frames), segments, ALGORITHM)
    said = str(caught.value)
    assert not [part for part in PATIENT.values() if part in said]
    return said


@pytest.mark.parametrize(("frames", "changes"), [((0, 1), {}), ((), {"NumberOfFrames": 6})])
def test_multi_frame_sources_are_refused(frames, changes):
    said = refusal(ct_headers(**PATIENT, **changes)[:1], frames=frames)
    assert "no presentation state is made for a multi-frame source" in said


@pytest.mark.parametrize(("keyword", "value"), [("RescaleSlope", 2), ("PhotometricInterpretation", "MONOCHROME1")])
def test_slices_of_different_grey_scales_are_refused(keyword, value):
    headers = ct_headers(**PATIENT)
    setattr(headers[5], keyword, value)
    assert "of different rescale (as of PET), polarity or size" in refusal(headers)


def test_colour_pictures_are_refused(tmp_path):
    headers = ct_headers(**PATIENT, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    assert "it is no grey picture" in refusal(headers, path=tmp_path / "gsps.dcm")


def test_a_source_without_identity_is_refused():
    headers = ct_headers(**PATIENT)
    del headers[3].SOPClassUID
    assert "no SOPClassUID" in refusal(headers)


def test_a_label_without_a_segment_is_refused():
    assert "label 2 has no row" in refusal(ct_headers(**PATIENT), segments=[LUNG])


@pytest.mark.parametrize(
    "worse",
    [
        lambda outlines: outlines[1:],
        lambda outlines: [outline + 1 for outline in outlines],
        lambda outlines: [outline[::3] for outline in outlines],
    ],
)
def test_what_reads_back_differently_is_refused(tmp_path, monkeypatch, worse):
    right = presentation.outlines_of
    monkeypatch.setattr(presentation, "outlines_of", lambda mask: worse(right(mask)))
    assert "its lines contain other pixels" in refusal(ct_headers(**PATIENT), path=tmp_path / "gsps.dcm")


def test_lines_that_are_not_closed_are_refused(tmp_path, monkeypatch):
    class Open(presentation.GraphicObject):
        def __init__(self, kind, points, units):
            super().__init__(kind, points[:-1], units)

    monkeypatch.setattr(presentation, "GraphicObject", Open)
    assert "a line is not closed" in refusal(ct_headers(**PATIENT), path=tmp_path / "gsps.dcm")


def test_a_damaged_header_is_refused_without_quoting_it(tmp_path, monkeypatch):
    def damaged(source):
        raise ValueError(f"not a valid value: {source.PatientName}")

    monkeypatch.setattr(presentation, "completed", damaged)
    said = refusal(ct_headers(**PATIENT), path=tmp_path / "gsps.dcm")
    assert "no presentation state can be made for this source (ValueError)" in said
