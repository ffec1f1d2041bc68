"""Made-up tasks of volumes of 6 × 5 × 4 voxels, as a folder and as the tar that is given out."""

import gzip
import io
import json
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from clinibundle.console import Talk
from clinibundle.errors import DataFolderError, OutputError, UnreadableInput, UnsuitableInput
from clinibundle.workflows.check import check_data_folder
from clinibundle.workflows.prepare import prepare, task_tar

SHAPE = (6, 5, 4)
AFFINE = np.array([[-0.7, 0, 0, 10], [0, 0.7, 0, -20], [0, 0, 1.25, 30], [0, 0, 0, 1]])
NAMES = [f"lung_{number:03}" for number in (1, 3, 4, 5, 6, 9, 10)]


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def image(name):
    return np.random.default_rng(list(name.encode())).integers(-1000, 1000, SHAPE).astype(np.int16)


def label(value=1):
    made = np.zeros(SHAPE, np.uint8)
    made[2:4, 2:4, 1:3] = value
    return made


def write_list(root, names, **changes):
    rows = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    listing = {
        "name": "Lung",
        "licence": "CC-BY-SA 4.0",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "cancer"},
        "numTraining": len(rows),
        "training": rows,
        "test": ["./imagesTs/lung_002.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps({**listing, **changes}))


def task(root, names=NAMES):
    for name in names:
        save(root / f"imagesTr/{name}.nii.gz", image(name))
        save(root / f"labelsTr/{name}.nii.gz", label())
        (root / f"imagesTr/._{name}.nii.gz").write_bytes(b"\0\5\x16\7 what macOS leaves behind")
    save(root / "imagesTs/lung_002.nii.gz", image("test"))
    write_list(root, names)
    return root


def tar_of(folder, path):
    with tarfile.open(path, "w") as archive:
        archive.add(folder, "Task06_Lung")
    return path


def run(source, dest, **more):
    return prepare(["decathlon"], source, dest, False, Talk(quiet=True), **more)


def listing_of(dest):
    return json.loads((dest / "datalist.json").read_text())


def told(capsys):
    return sorted(line.removeprefix("error: ") for line in capsys.readouterr().err.splitlines())


@pytest.fixture
def source(tmp_path):
    return task(tmp_path / "given/Task06_Lung")


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "made" / "dest"


@pytest.mark.parametrize("form", ["folder", "folder above", "tar"])
def test_a_task_becomes_a_data_folder_byte_by_byte(source, dest, tmp_path, form):
    given = {"folder": source, "folder above": source.parent}.get(form) or tar_of(source, tmp_path / "task.tar")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    result = run(given, dest)
    assert (result.layout, result.cases, result.refused) == ("decathlon", len(NAMES), [])
    listing = listing_of(dest)
    # MONAI's own reader says which belong together.
    pairs = load_decathlon_datalist(source / "dataset.json")
    assert len(pairs) == len(listing["training"])
    for row, pair in zip(listing["training"], pairs, strict=True):
        name = row["group"]
        assert (row["image"], row["label"]) == (f"images/{name}.nii.gz", f"labels/{name}.nii.gz")
        assert row["spacing_mm"] == [0.7, 0.7, 1.25]
        for kind in ("image", "label"):
            assert (dest / row[kind]).read_bytes() == Path(pair[kind]).read_bytes()
    assert (listing["licence"], listing["modality"], listing["n_folds"]) == ("CC-BY-SA 4.0", "CT", 5)
    assert listing["label_values"] == {"0": "background", "1": "cancer"}
    assert len([path for path in dest.rglob("*") if path.is_file()]) == 2 * len(NAMES) + 1
    assert check_data_folder(dest, [{0, 1}]) == []
    assert before == {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    assert [path.name for path in dest.parent.iterdir()] == ["dest"]


def test_folds_are_balanced_and_the_same_from_folder_and_tar(source, dest, tmp_path):
    run(source, dest)
    run(tar_of(source, tmp_path / "task.tar"), tmp_path / "again")
    rows = listing_of(dest)["training"]
    assert rows == listing_of(tmp_path / "again")["training"]
    assert sorted(Counter(row["fold"] for row in rows).values()) == [1, 1, 1, 2, 2]


def test_what_has_no_counterpart_is_listed(source, dest):
    save(source / "imagesTr/extra.nii.gz", image("extra"))
    assert [tuple(remark) for remark in run(source, dest).left_out] == [
        ("imagesTr/extra.nii.gz", "dataset.json does not list it with a counterpart"),
        ("imagesTs", "its 1 images have no labels"),
    ]


@pytest.mark.parametrize("as_tar", [False, True])
def test_every_problem_of_every_case_is_told_and_nothing_is_written(source, dest, tmp_path, capsys, as_tar):
    (source / f"labelsTr/{NAMES[0]}.nii.gz").unlink()
    save(source / f"labelsTr/{NAMES[1]}.nii.gz", label(value=3))
    save(source / f"labelsTr/{NAMES[2]}.nii.gz", label()[:, :, :3])
    moved = AFFINE.copy()
    moved[2, 3] += 0.2
    save(source / f"labelsTr/{NAMES[3]}.nii.gz", label(value=2), moved)
    damaged = source / f"imagesTr/{NAMES[4]}.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    save(source / f"imagesTr/{NAMES[6]}.nii.gz", image(NAMES[5]))
    given = tar_of(source, tmp_path / "task.tar") if as_tar else source
    with pytest.raises(DataFolderError, match=r"the source has 7 errors, listed above.*nothing was written"):
        run(given, dest)
    shown = told(capsys)
    found = [
        (f"imagesTr/{NAMES[1]}", r"has the values {0, 3}, expected {0, 1}"),
        (f"imagesTr/{NAMES[2]}", "the image has 6 × 5 × 4 pixels, its label 6 × 5 × 3"),
        (f"imagesTr/{NAMES[3]}", "lie up to 0.2 mm apart by their headers (limit 0.1 mm)"),
        (f"imagesTr/{NAMES[3]}", r"has the values {0, 2}, expected {0, 1}"),
        (f"imagesTr/{NAMES[4]}", "cannot be read to its end"),
        (f"imagesTr/{NAMES[6]}", f"the same picture as 'imagesTr/{NAMES[5]}"),
        ("training[0]", f"names 'labelsTr/{NAMES[0]}.nii.gz', which is not there"),
    ]
    assert len(shown) == len(found)
    for case, words in found:
        assert any(line.startswith(case) and words in line for line in shown), (case, words)
    assert not dest.exists() and not list(dest.parent.glob("*"))


def test_headers_that_differ_by_rounding_are_no_problem(source, dest):
    moved = AFFINE.copy()
    moved[2, 3] += 0.05
    save(source / f"labelsTr/{NAMES[3]}.nii.gz", label(), moved)
    assert run(source, dest).cases == len(NAMES)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a.nii.gz", "expected an image and a label"),
        ({"image": "./imagesTr/lung_001.nii.gz"}, "expected an image and a label"),
        ({"image": ["a", "b"], "label": "c"}, "expected an image and a label"),
        ({"image": "../../x.nii.gz", "label": "./labelsTr/lung_001.nii.gz"}, "lies outside the task's folder"),
        ({"image": "/etc/x.nii.gz", "label": "./labelsTr/lung_001.nii.gz"}, "lies outside the task's folder"),
        ({"image": "dataset.json", "label": "./labelsTr/lung_001.nii.gz"}, "is no NIfTI by its ending"),
        ({"image": "imagesTr/lung_001.nii.gz", "label": "labelsTr/lung_001.nii.gz"}, "a second case is called"),
    ],
)
def test_a_row_that_is_no_pair_is_a_problem(source, dest, capsys, row, words):
    rows = json.loads((source / "dataset.json").read_text())["training"]
    write_list(source, NAMES, training=[*rows, row])
    with pytest.raises(DataFolderError, match="1 errors"):
        run(source, dest)
    (line,) = told(capsys)
    assert line.startswith(f"training[{len(NAMES)}]: ") and words in line


@pytest.mark.parametrize("text", ["{", "[]", '{"training": {}}', '{"training": ' + "[" * 100_000])
def test_an_unreadable_list_is_refused(source, dest, text):
    (source / "dataset.json").write_text(text)
    with pytest.raises(UnreadableInput, match=r"dataset\.json"):
        run(source, dest)


def test_a_list_of_no_case_is_refused(source, dest):
    write_list(source, [])
    with pytest.raises(DataFolderError, match="no case of the source can be used"):
        run(source, dest)
    assert not dest.exists()


@pytest.mark.parametrize("declared", [{"0": "background", "1": "a"}, {"background": 0, "a": 1}])
def test_the_bundle_says_which_values_it_takes_and_else_the_list(source, dest, declared):
    for name in NAMES:
        save(source / f"labelsTr/{name}.nii.gz", label(value=2))
    write_list(source, NAMES, labels=declared)
    with pytest.raises(DataFolderError):
        run(source, dest)
    assert run(source, dest, label_values=[{0, 1, 2}]).cases == len(NAMES)


def test_without_any_word_on_values_whole_numbers_are_taken(source, dest):
    save(source / f"labelsTr/{NAMES[0]}.nii.gz", label(value=77))
    write_list(source, NAMES, labels=None)
    assert run(source, dest).cases == len(NAMES)


@pytest.mark.parametrize("as_tar", [False, True])
def test_plain_nifti_is_compressed_without_a_change(source, dest, tmp_path, as_tar):
    name = NAMES[0]
    packed = source / f"imagesTr/{name}.nii.gz"
    plain = gzip.decompress(packed.read_bytes())
    packed.with_suffix("").write_bytes(plain)
    packed.unlink()
    text = (source / "dataset.json").read_text()
    (source / "dataset.json").write_text(text.replace(f"imagesTr/{name}.nii.gz", f"imagesTr/{name}.nii"))
    run(tar_of(source, tmp_path / "task.tar") if as_tar else source, dest)
    assert gzip.decompress((dest / f"images/{name}.nii.gz").read_bytes()) == plain


def test_voxels_of_no_size_are_a_problem(source, dest, capsys):
    flat = AFFINE.copy()
    flat[:, 2] = 0
    for kind, array in (("imagesTr", image("x")), ("labelsTr", label())):
        made = nibabel.Nifti1Image(array, None)
        made.header.set_sform(flat, 1)
        nibabel.save(made, source / kind / f"{NAMES[0]}.nii.gz")
    with pytest.raises(DataFolderError):
        run(source, dest)
    assert "voxels of no possible size" in told(capsys)[0]


# -- the tar of a stranger


def member(name, kind=tarfile.REGTYPE, content=b"x", **more):
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, len(content)
    for key, value in more.items():
        setattr(made, key, value)
    return made, io.BytesIO(content)


def tar_with(path, source, *members, first=False):
    with tarfile.open(path, "w") as archive:
        if not first:
            archive.add(source, "Task06_Lung")
        for made, content in members:
            archive.addfile(made, content)
        if first:
            archive.add(source, "Task06_Lung")
    return path


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("made", "words"),
    [
        (member("../escaped.nii.gz"), "may lead out of it"),
        (member("Task06_Lung/imagesTr/../../../escaped.nii.gz"), "may lead out of it"),
        (member("/srv/imagesTr/escaped.nii.gz"), "may lead out of it"),
        (member("Task06_Lung\\imagesTr\\a.nii.gz"), "may lead out of it"),
        (member("C:/imagesTr/a.nii.gz"), "may lead out of it"),
        (member("Task06_Lung/imagesTr/a.nii.gz", tarfile.SYMTYPE, b"", linkname="/etc/passwd"), "is a link"),
        (member("Task06_Lung/labelsTr", tarfile.SYMTYPE, b"", linkname="/srv"), "is a link"),
        (member("Task06_Lung/imagesTr/a.nii.gz", tarfile.LNKTYPE, b"", linkname="/etc/passwd"), "is a link"),
        (member("Task06_Lung/imagesTr/a.nii.gz", tarfile.CHRTYPE, b"", devmajor=1, devminor=5), "is a link, a device"),
        (member("Task06_Lung/imagesTr/a.nii.gz", tarfile.FIFOTYPE, b""), "is a link, a device"),
        (
            member("a", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "99999999", "GNU.sparse.name": "a"}),
            "with holes",
        ),
    ],
)
def test_a_dangerous_member_refuses_the_whole_tar(source, dest, tmp_path, made, words, first):
    made[1].seek(0)
    path = tar_with(tmp_path / "task.tar", source, made, first=first)
    with pytest.raises(UnreadableInput, match=words):
        run(path, dest)
    assert sorted(one.name for one in tmp_path.rglob("*escaped*")) == []
    assert not list(dest.parent.glob("*")) and not list(dest.parent.glob(".*"))


def test_two_members_of_one_name_are_refused(source, dest, tmp_path):
    path = tar_with(tmp_path / "task.tar", source, member(f"./Task06_Lung/imagesTr/{NAMES[0]}.nii.gz"))
    with pytest.raises(UnreadableInput, match="the name of an earlier one"):
        run(path, dest)


def test_only_what_training_needs_is_unpacked(source, dest, tmp_path, monkeypatch):
    (source / "virus.exe").write_bytes(b"x")
    seen = []
    write = task_tar._write
    monkeypatch.setattr(task_tar, "_write", lambda a, m, target: (seen.append(target.name), write(a, m, target)))
    run(tar_of(source, tmp_path / "task.tar"), dest)
    assert sorted(seen) == sorted([f"{name}.nii.gz" for name in NAMES] * 2 + ["dataset.json"])


def test_a_tar_beyond_the_limits_is_refused_before_anything_is_unpacked(source, dest, tmp_path, monkeypatch):
    path = tar_of(source, tmp_path / "task.tar")
    monkeypatch.setattr(task_tar, "_write", lambda *_: pytest.fail("it was unpacked"))
    monkeypatch.setattr(task_tar, "MAX_BYTES", 100)
    with pytest.raises(UnreadableInput, match="expected at most"):
        run(path, dest)
    monkeypatch.setattr(task_tar, "MAX_MEMBERS", 3)
    with pytest.raises(UnreadableInput, match="more than 3 members"):
        run(path, dest)
    monkeypatch.undo()
    monkeypatch.setattr(task_tar.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(OutputError, match="make room"):
        run(path, dest)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_a_tar_cut_off_is_refused(source, dest, tmp_path, share):
    path = tar_of(source, tmp_path / "task.tar")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    # By tarfile where a member is cut, by the list where whole members are lost.
    with pytest.raises((UnreadableInput, DataFolderError, UnsuitableInput)):
        run(path, dest)
    assert not list(dest.parent.glob("*")) and not list(dest.parent.glob(".*"))


def test_a_header_that_asks_for_gigabytes_is_not_read(dest, tmp_path):
    made = tarfile.TarInfo("././@PaxHeader")
    made.type, made.size = tarfile.XHDTYPE, 3 << 30
    with (tmp_path / "task.tar").open("wb") as stream:
        stream.write(made.tobuf(tarfile.USTAR_FORMAT))
        stream.truncate(made.size + 4096)
    tracemalloc.start()
    with pytest.raises(UnreadableInput, match="damaged or cut off"):
        run(tmp_path / "task.tar", dest)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_large_members_pass_in_small_pieces(tmp_path):
    (tmp_path / "task/imagesTr").mkdir(parents=True)
    with (tmp_path / "task/imagesTr/a.nii.gz").open("wb") as stream:
        stream.truncate(64 << 20)
    path = tar_of(tmp_path / "task", tmp_path / "task.tar")
    tracemalloc.start()
    with task_tar.unpacked_task(path, tmp_path / "dest", Talk(quiet=True)) as folder:
        peak = tracemalloc.get_traced_memory()[1]
        assert (folder / "Task06_Lung/imagesTr/a.nii.gz").stat().st_size == 64 << 20
    tracemalloc.stop()
    assert peak < 16 << 20
    assert not folder.exists()


@pytest.mark.parametrize("layouts", [["image_label_pairs"], []])
def test_a_tar_is_for_bundles_that_take_such_tasks(source, dest, tmp_path, layouts):
    path = tar_of(source, tmp_path / "task.tar")
    with pytest.raises(UnreadableInput, match="is no folder"):
        prepare(layouts, path, dest, False, Talk(quiet=True))


def test_a_folder_without_a_task_is_refused(tmp_path, dest):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnsuitableInput, match=r"decathlon \(dataset.json beside imagesTr/ and labelsTr/"):
        run(tmp_path / "empty", dest)
