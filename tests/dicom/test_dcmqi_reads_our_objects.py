"""dcmqi (DCMTK and ITK, C++) as a referee that shares no code with us: `pip install -e '.[referees]'` brings it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
from made_segments import ALGORITHM, HEART, LUNG

from clinibundle.console import Talk
from clinibundle.dicom.header import read_header
from clinibundle.dicom.index import index_study
from clinibundle.dicom.seg import write_seg
from clinibundle.dicom.seg_check import SourceGrid
from clinibundle.geometry import turn_lps_ras
from clinibundle.phantoms.chest_ct import make_chest_ct
from clinibundle.phantoms.dicom_ct import write_ct_series
from clinibundle.workflows.convert import ConvertOptions, read_series

dcmqi = pytest.importorskip("dcmqi", reason="an extra of 140 MB; the figures in docs/clinic.md were read with it")
pytestmark = pytest.mark.slow
TURNED = np.array([[0.96, 0.28, 0.0], [-0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("rotation", [None, TURNED], ids=["axial", "turned"])
@pytest.mark.parametrize("kind", ["binary", "fractional"])
def test_dcmqi_finds_every_voxel_at_its_place(tmp_path: Path, rotation: np.ndarray | None, kind: str) -> None:
    ct = make_chest_ct(3, shape=(12, 40, 48), spacing_mm=(20.0, 8.0, 8.0), rotation=rotation)
    write_ct_series(tmp_path / "ct", ct.hounsfield, ct.affine_lps, 3)
    volume = read_series(index_study(tmp_path / "ct"), ConvertOptions(), Talk(quiet=True))
    label_map = np.where(volume.array > 200, 2, np.where(volume.array < -500, 1, 0)).astype(np.uint8).T
    grid = SourceGrid([read_header(path) for path in volume.source.paths], (), volume.affine_lps)
    probability = {label: (label_map == label).astype(np.float32) for label in (1, 2)}
    write_seg(tmp_path / "seg.dcm", label_map, grid, [LUNG, HEART], ALGORITHM, kind, probability)
    for label, read in enumerate(read_by_dcmqi(tmp_path / "seg.dcm", tmp_path), start=1):
        for voxel in np.argwhere(np.asarray(read.dataobj) > 0)[::101]:
            place = read.affine @ [*voxel, 1]
            x, y, z = np.linalg.solve(turn_lps_ras(volume.affine_lps), place)[:3]
            np.testing.assert_allclose([x, y, z], np.rint([x, y, z]), atol=1e-3)
            assert label_map[round(z), round(y), round(x)] == label
        assert np.count_nonzero(read.dataobj) == np.count_nonzero(label_map == label)


def read_by_dcmqi(seg: Path, folder: Path) -> list[nibabel.Nifti1Image]:
    """A volume per segment."""
    out = folder / "read"
    out.mkdir()
    program = Path(dcmqi.__file__).parent / "bin" / "segimage2itkimage"
    program.chmod(0o755)
    command = [program, "--inputDICOM", seg, "--outputDirectory", out, "--outputType", "nii"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return [nibabel.load(path) for path in sorted(out.glob("*.nii.gz"))]
