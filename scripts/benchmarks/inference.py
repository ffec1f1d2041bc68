"""Inference in seconds a picture once everything is loaded: ours, the bundle through MONAI, and a sliding window."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from numpy.typing import NDArray
from PIL import Image

from benchmarks.lanes import Effort, Lane, Measured, Ratio, Section, milliseconds_of_each, per_turn, take_turns
from clinibundle.bundle.configs import read_config
from clinibundle.bundle.description import Bundle
from clinibundle.bundle.predict import Predictor, as_meta_tensor
from clinibundle.phantoms.chest_radiograph import make_chest_radiograph
from clinibundle.pictures.read import read_picture
from clinibundle.pictures.write import write_label_map

Mask = NDArray[np.bool_]
OURS, SLIDING = "ours, array to mask", "sliding window, array to mask"
OURS_FILES, MONAI_FILES = "ours, file to file", "the bundle through monai.bundle, file to file"
SLIDING_FILES = "sliding window through monai.bundle, file to file"
SMALL = (512, 448)
_LARGE = 2000
SEEDS = (101, 102, 103)


@dataclass(frozen=True)
class Film:
    """A made-up picture in a folder of its own, and its truth with the axes (x, y)."""

    path: Path
    truth: Mask


def make_films(size: tuple[int, int], effort: Effort, folder: Path) -> list[Film]:
    """Writes made-up chest radiographs as PNG, 12 bits grey; a large one takes seconds to make, an enlarged none."""
    films = []
    for seed in SEEDS[: effort.films]:
        grey, truth = make_chest_radiograph(seed, SMALL if effort.enlarged else size)
        times = size[0] // grey.shape[0]
        grey, truth = grey.repeat(times, 0).repeat(times, 1), truth.repeat(times, 0).repeat(times, 1)
        path = folder / f"{size[0]}-{seed}" / "film.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(grey).save(path)
        films.append(Film(path, truth.T))
    return films


def measure_inference(
    bundle: Bundle, films: Sequence[Film], device: torch.device, turns: int, work: Path
) -> list[Section]:
    """Lets the ways of segmenting the films take turns; compares each with the truth."""
    rows, columns = films[0].truth.T.shape
    ways = _ways(bundle, films, device, work)
    dice: dict[str, list[float]] = {name: [] for name in ways}
    samples = take_turns({name: _timed(way, films, dice[name]) for name, way in ways.items()}, turns)
    measured = [Measured(name, values, "s") for name, values in samples.items()]
    measured += [Measured(f"{name}: Dice", values, "Dice") for name, values in dice.items() if name != OURS_FILES]
    # On small pictures there are only a few windows to be slower with.
    aim = 10 if rows >= _LARGE else None
    ratios = [
        Ratio("sliding window / ours, array to mask", per_turn(samples, SLIDING, OURS), aim),
        Ratio("the bundle through monai.bundle / ours, file to file", per_turn(samples, MONAI_FILES, OURS_FILES), 1),
        Ratio("sliding window / ours, file to file", per_turn(samples, SLIDING_FILES, OURS_FILES), aim),
    ]
    for name in (SLIDING, MONAI_FILES):
        gain = [a - b for a, b in zip(dice[OURS], dice[name], strict=True)]
        measured.append(Measured(f"Dice of ours less that of: {name.partition(',')[0]}", gain, "Dice"))
    how = (
        "Seconds a picture, all loaded before; array to mask takes the picture as an array, file to file reads and "
        "writes PNG. The sliding window is MONAI's usual way: 256 x 256, overlap 0.25, constant, over the film at its "
        "own size, with the same network. That network learnt on whole films, so the window's Dice is not what a "
        "network trained on patches would reach; its time is."
    )
    return [Section(f"Inference, {rows} x {columns}", how, measured, ratios), _steps(bundle, films[0], device, work)]


Way = Callable[[Film], tuple[float, Mask]]


def _timed(way: Way, films: Sequence[Film], dice: list[float]) -> Lane:
    def lane(turn: int) -> float:
        index = turn % len(films)
        seconds, mask = way(films[index])
        # The warming up comes first and scores the first film; each further film is scored at its first turn.
        if len(dice) < len(films) and index == len(dice):
            dice.append(float(2 * (mask & films[index].truth).sum() / (mask.sum() + films[index].truth.sum())))
        return seconds

    return lane


def _ways(bundle: Bundle, films: Sequence[Film], device: torch.device, work: Path) -> dict[str, Way]:
    predictor = Predictor(bundle, str(device))
    volumes = {film.path: read_picture(film.path, 2, bundle.channels) for film in films}
    evaluators = {
        (name, film.path): _Evaluator(bundle, film, device, name == SLIDING_FILES, work)
        for film in films
        for name in (MONAI_FILES, SLIDING_FILES)
    }
    window = evaluators[SLIDING_FILES, films[0].path]
    prepare = window.parser.get_parsed_content("preprocessing").transforms[2:]

    def ours(film: Film) -> tuple[float, Mask]:
        start = time.perf_counter()
        label_map = predictor(volumes[film.path]).label_map
        return time.perf_counter() - start, label_map > 0

    def sliding(film: Film) -> tuple[float, Mask]:
        start = time.perf_counter()
        with torch.inference_mode():
            data: Any = {"image": as_meta_tensor(volumes[film.path])}
            for transform in prepare:
                data = transform(data)
            logits = window.evaluator.inferer(data["image"].as_tensor()[None].to(device), window.evaluator.network)
            mask = (logits.softmax(1)[0, 1] > 0.5).cpu().numpy()
        return time.perf_counter() - start, mask

    def ours_with_files(film: Film) -> tuple[float, Mask]:
        start = time.perf_counter()
        volume = read_picture(film.path, 2, bundle.channels)
        label_map = predictor(volume).label_map
        write_label_map(work, label_map, volume)
        return time.perf_counter() - start, label_map > 0

    ways: dict[str, Way] = {OURS: ours, SLIDING: sliding, OURS_FILES: ours_with_files}
    for name in (MONAI_FILES, SLIDING_FILES):
        ways[name] = partial(_run_one, {film.path: evaluators[name, film.path] for film in films})
    return ways


def _run_one(evaluators: dict[Path, _Evaluator], film: Film) -> tuple[float, Mask]:
    return evaluators[film.path].run()


class _Evaluator:
    """The bundle's inference config as MONAI runs it, on one film; at the film's own size if `own_size`."""

    def __init__(self, bundle: Bundle, film: Film, device: torch.device, own_size: bool, work: Path) -> None:
        self.parser = inference_parser(bundle, film.path, device, own_size, work)
        self.parser.get_parsed_content("initialize")
        self.evaluator = self.parser.get_parsed_content("evaluator")
        self._start = self._seconds = 0.0
        self.evaluator.add_event_handler(Events.GET_BATCH_STARTED, self._begin)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._end)
        # The weights are loaded by a handler.
        self.run()

    def run(self) -> tuple[float, Mask]:
        """From before the file is read to after the mask is written; loading weights is not counted."""
        self.evaluator.run()
        return self._seconds, np.asarray(self.evaluator.state.output[0]["pred"])[0] > 0

    def _begin(self, _engine: Any) -> None:
        self._start = time.perf_counter()

    def _end(self, _engine: Any) -> None:
        self._seconds = time.perf_counter() - self._start


def without_resizing(parser: Any) -> list[Any]:
    """The preprocessing's transforms but the one that squeezes the film."""
    return [t for t in parser["preprocessing"]["transforms"] if t["_target_"] != "Resized"]


def inference_parser(bundle: Bundle, film: Path, device: torch.device, own_size: bool, work: Path) -> Any:
    """The bundle's inference config, set to one film, not yet built."""
    settings: dict[str, Any] = {"dataset_dir": str(film.parent), "output_dir": str(work / "masks")}
    settings["device"] = f"$torch.device('{device}')"
    if own_size:
        settings["preprocessing::transforms"] = without_resizing(read_config(bundle.root, "inference"))
    parser = read_config(bundle.root, "inference", settings=settings)
    parser.parse()
    return parser


def _steps(bundle: Bundle, film: Film, device: torch.device, work: Path) -> Section:
    """What each step of the bundle's own inference config costs on one film, from the file to the file."""
    one = _Evaluator(bundle, film, device, False, work)
    before, after = (one.parser.get_parsed_content(name).transforms for name in ("preprocessing", "postprocessing"))
    row: Any = {"image": str(film.path)}
    inferer, network = one.evaluator.inferer, one.evaluator.network

    class Network:
        """The network as a transform."""

        def __call__(self, data: Any) -> Any:
            pred = inferer(data["image"][None].to(device), network)[0].cpu()
            pred.applied_operations = data["image"].applied_operations
            return {**data, "pred": pred}

    with torch.inference_mode():
        measured = milliseconds_of_each([*before, Network(), *after], row, turns=5)
    rows, columns = film.truth.T.shape
    how = "Each step of the bundle's inference config. Our own way has other steps in place of the first and the last."
    return Section(f"Where the time of a film goes, {rows} x {columns}", how, measured)
