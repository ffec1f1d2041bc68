"""A wrong command line ends with 2, says what was meant, and does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Program, files_in, write_squares


@pytest.fixture
def place(tmp_path: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a bundle, data, and two files that are no overlays."""
    (tmp_path / "bundles").mkdir()
    toy_bundle.rename(tmp_path / "bundles" / "toy_bright")
    write_squares(tmp_path / "data", "ab")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    (tmp_path / "mistyped.yaml").write_text("epoch: 3")
    (tmp_path / "cuda.yaml").write_text("device: $torch.device('cuda:99')")
    monkeypatch.chdir(tmp_path)
    return tmp_path


SEGMENT = "segment toy_bright data/images/a.png -o out"
EVALUATE = "evaluate toy_bright --dataset-dir data -o out"
TRAIN = "train toy_bright --dataset-dir data -o out"
WRONG = {
    "command": ("sgment x", "Did you mean 'segment'?"),
    "option": ("segment toy_bright data --ouput-dir out", "--output-dir"),
    "argument missing": ("segment", "BUNDLE"),
    "option missing": ("segment toy_bright data", "--output-dir"),
    "option without value": (f"{SEGMENT} --set", "--set"),
    "bundle in show": ("show toy_brigth", "no bundle 'toy_brigth' (did you mean 'toy_bright'?)"),
    "bundle in segment": ("segment toy_brigth data -o out", "did you mean 'toy_bright'?"),
    "bundle in train": ("train toy_brigth --dataset-dir data", "did you mean 'toy_bright'?"),
    "bundle in evaluate": ("evaluate toy_brigth --dataset-dir data -o out", "did you mean 'toy_bright'?"),
    "bundle in check": ("check toy_brigth --dataset-dir data", "did you mean 'toy_bright'?"),
    "bundle in phantom": ("phantom toy_brigth out", "did you mean 'toy_bright'?"),
    "bundle in prepare": ("prepare toy_brigth data out", "did you mean 'toy_bright'?"),
    "overlay in segment": (
        f"{SEGMENT} --overlay hardware/cpx",
        "no overlay 'hardware/cpx' (did you mean 'hardware/cpu'?)",
    ),
    "overlay in evaluate": (f"{EVALUATE} --overlay hardware/cpx", "did you mean 'hardware/cpu'?"),
    "overlay in train": (f"{TRAIN} --overlay hardware/cpx", "did you mean 'hardware/cpu'?"),
    "overlay that is a list": (f"{TRAIN} --overlay list.yaml", "'list.yaml' is no overlay"),
    "overlay that is a picture": (f"{TRAIN} --overlay data/images/a.png", "'a.png' is no config"),
    "id in an overlay": (
        f"{TRAIN} --overlay mistyped.yaml",
        "mistyped.yaml: the config has no id 'epoch' (did you mean 'epochs'?)",
    ),
    "id in train": (f"{TRAIN} --set epoch=3", "--set: the config has no id 'epoch' (did you mean 'epochs'?)"),
    "id in segment": (f"{SEGMENT} --set infererr=3", "did you mean 'inferer'?"),
    "id in evaluate": (f"{EVALUATE} --set wights=x", "did you mean 'weights'?"),
    "setting without value": (f"{TRAIN} --set epochs", "expected id=value, as in --set epochs=10"),
    "setting that is no yaml": (f"{TRAIN} --set epochs=[1", "the value is no YAML"),
    "device in segment": (f"{SEGMENT} --device cuda:99", "--device cuda:99: this machine has"),
    "device in evaluate": (f"{EVALUATE} --device gpu", "--device 'gpu' is unknown"),
    "device in train": (f"{TRAIN} --device cuda:99", "--device cuda:99: this machine has"),
    "device in an overlay of train": (f"{TRAIN} --overlay cuda.yaml", "--device cuda:99: this machine has"),
    "seed of phantom": ("phantom toy_bright out --seed -1", "--seed"),
    "seed of train": (f"{TRAIN} --seed -1", "--seed"),
    "no cases": ("phantom toy_bright out --cases 0", "--cases"),
    "no epochs": (f"{TRAIN} --epochs 0", "--epochs"),
    "nothing to resume": (f"{TRAIN} --resume", "no run to resume below 'out/toy_bright'"),
    "resume and overwrite": (f"{SEGMENT} --resume --overwrite", "use one of the two"),
    "segment into its input": ("segment toy_bright data/images -o data/images/out", "never written to"),
    "evaluate into its input": ("evaluate toy_bright --dataset-dir data -o data/out", "never written to"),
    "train into its input": ("train toy_bright --dataset-dir data -o data/runs", "never written to"),
    "prepare into its input": ("prepare toy_bright data data/out", "never written to"),
    "segment over its input": ("segment toy_bright data/images/a.png -o data/images --overwrite", "would be replaced"),
    "segment all over its input": ("segment toy_bright data/images -o data --overwrite", "would be replaced"),
    "evaluate over its input": (
        "evaluate toy_bright --dataset-dir data/images -o data --overwrite",
        "would be replaced",
    ),
    "prepare over its input": ("prepare toy_bright data . --overwrite", "would be replaced"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_usage_is_told_and_nothing_is_done(place: Path, clinibundle: Program, line: str, words: str) -> None:
    before = files_in(place)
    run = clinibundle(*line.split())
    assert run.code == 2
    # Typer draws a frame and breaks lines within.
    assert words in " ".join(run.err.replace("│", " ").split())
    assert run.out == ""
    assert files_in(place) == before
