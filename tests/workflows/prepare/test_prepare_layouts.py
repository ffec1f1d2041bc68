import numpy as np
import pytest
from PIL import Image

from clinibundle.console import Talk
from clinibundle.errors import BundleError, UnreadableInput, UnsuitableInput
from clinibundle.workflows.prepare import LAYOUTS, prepare


def release(root):
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(root / kind / "MCUCXR_0001_0.png")


@pytest.mark.parametrize(
    "order", [["montgomery_shenzhen", "image_label_pairs"], ["image_label_pairs", "montgomery_shenzhen"]]
)
def test_the_first_kind_that_fits_is_taken(tmp_path, order):
    release(tmp_path / "source")
    assert prepare(order, tmp_path / "source", tmp_path / "dest", False, Talk(quiet=True)).layout == order[0]


def test_a_later_kind_is_tried(tmp_path):
    release(tmp_path / "source")
    for path in (tmp_path / "source").rglob("*.png"):
        path.rename(path.with_name("film.png"))
    result = prepare(list(LAYOUTS), tmp_path / "source", tmp_path / "dest", False, Talk(quiet=True))
    assert result.layout == "image_label_pairs"


def test_what_no_kind_takes_is_refused_with_all_that_was_expected(tmp_path):
    (tmp_path / "source/pictures").mkdir(parents=True)
    with pytest.raises(UnsuitableInput, match=r"ManualMask.*; or image_label_pairs \(images/ beside labels/"):
        prepare(list(LAYOUTS), tmp_path / "source", tmp_path / "dest", False, Talk(quiet=True))
    assert not (tmp_path / "dest").exists()


def test_an_unknown_kind_is_the_bundles_fault(tmp_path):
    with pytest.raises(BundleError, match="did you mean 'image_label_pairs'"):
        prepare(["image_label_pair"], tmp_path, tmp_path.parent / "dest", False, Talk(quiet=True))


def test_a_source_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(UnreadableInput, match="is no folder"):
        prepare(list(LAYOUTS), tmp_path / "absent.zip", tmp_path / "dest", False, Talk(quiet=True))
