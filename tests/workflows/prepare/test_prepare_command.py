"""`clinibundle prepare` as a user meets it: the choice of outlines, and how it ends where a case was refused."""

import numpy as np
import pytest
import yaml
from test_dicom_outlines import BOX, OTHER, contours, mask_of, rows_of, stored, write_ct, write_rt


@pytest.fixture
def place(tmp_path, toy_bundle, monkeypatch):
    path = toy_bundle / "configs" / "data.yaml"
    described = {"layouts": ["image_label_pairs", "dicom_outlines"], "outline_names": ["GTV*"]}
    path.write_text(yaml.safe_dump(described))
    series = write_ct(tmp_path / "source/ct")
    write_rt(tmp_path / "source/rt", series, [("GTV-1", contours(BOX)), ("Node", contours(OTHER))])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "boxes"),
    [([], [BOX]), (["--roi", "node"], [OTHER]), (["--roi", "node", "--roi", "gtv-?"], [BOX, OTHER])],
)
def test_the_bundle_or_the_user_chooses_the_outlines(place, clinibundle, options, boxes):
    run = clinibundle("prepare", "toy_bright", "source", "dest", *options)
    assert run.code == 0
    assert run.out.startswith("1 cases (dicom_outlines) in dest; 0 files left out")
    np.testing.assert_array_equal(stored(place / "dest" / rows_of(place / "dest")[0]["label"])[0], mask_of(*boxes))


def test_a_refused_case_is_told_and_makes_the_exit_code_1(place, clinibundle):
    series = write_ct(place / "source/lost", 2)
    write_rt(place / "source/lost_rt", series, [("GTV", [*contours(BOX), *contours(BOX, off_mm=1)])])
    run = clinibundle("prepare", "toy_bright", "source", "dest", "--quiet")
    assert run.code == 1
    assert run.out.startswith("1 cases (dicom_outlines) in dest")
    assert run.err.startswith(f"refused: series …{series[0].SeriesInstanceUID[-8:]}: 2 of 4 contours lie on no slice")
    assert len(rows_of(place / "dest")) == 1
