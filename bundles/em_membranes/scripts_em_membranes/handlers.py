"""Exact resume and one line of progress an epoch; MONAI's handlers restore neither randomness nor the best score."""

from __future__ import annotations

import logging
import time
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.data import set_rnd
from monai.handlers import CheckpointSaver, EarlyStopHandler
from monai.utils import set_determinism

# More epochs than any run has, so that no two processes share a seed.
_SEEDS_PER_PROCESS = 100_000


class EpochSeed:
    """Seeds everything random at the start of each epoch, so that a resumed run draws what an unbroken one would.

    Args:
        seed: of the run; epoch N uses seed + N, further processes seeds far from that.
        dataset: whose random transforms are seeded too.
    """

    def __init__(self, seed: int, dataset: Any) -> None:
        self.seed, self.dataset = seed, dataset

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        # Processes on several GPUs augment differently.
        seed = self.seed + engine.state.epoch + _SEEDS_PER_PROCESS * idist.get_rank()
        set_determinism(seed)
        set_rnd(self.dataset, seed)


class BestSoFar:
    """The best score and the early-stopping count as an object that a checkpoint can hold.

    Without it the first epoch after a resume, be it worse, replaces the best weights, and the patience starts anew.
    """

    def __init__(self, best_saver: CheckpointSaver, early_stop: EarlyStopHandler) -> None:
        self.best_saver, self.early_stop = best_saver, early_stop

    @property
    def score(self) -> float | None:
        """The score of the best weights, those of before a resume among them; None if there are none yet."""
        return max((float(item.priority) for item in self.best_saver._key_metric_checkpoint._saved), default=None)

    def state_dict(self) -> dict[str, Any]:
        best = self.best_saver._key_metric_checkpoint
        return {
            "saved": [(float(item.priority), str(item.filename)) for item in best._saved],
            "early_stop": dict(self.early_stop._handler.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        best = self.best_saver._key_metric_checkpoint
        best._saved = [type(best).Item(priority, filename) for priority, filename in state["saved"]]
        self.early_stop._handler.load_state_dict(state["early_stop"])


class Progress:
    """One line per epoch: loss, validation Dice, seconds per epoch, time left.

    Args:
        evaluator: the validation engine, whose key metric is shown.
        best: knows the best of it, which the engine forgets when a run is resumed.
    """

    def __init__(self, evaluator: Engine, best: BestSoFar) -> None:
        self.evaluator, self.best = evaluator, best
        self.logger = logging.getLogger("training")
        self._started = 0.0
        self._epochs_here = 0
        self._losses: list[float] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._remember_loss)
        # Attached last in the list of handlers, so the validation of this epoch is done by now.
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._tell)

    def _start(self, engine: Engine) -> None:
        self._started, self._epochs_here = time.monotonic(), 0

    def _remember_loss(self, engine: Engine) -> None:
        output = engine.state.output
        self._losses.append(float((output[0] if isinstance(output, list) else output)["loss"].detach()))

    def _tell(self, engine: Engine) -> None:
        self._epochs_here += 1
        if idist.get_rank() > 0:
            return
        per_epoch = (time.monotonic() - self._started) / self._epochs_here
        left = per_epoch * (engine.state.max_epochs - engine.state.epoch)
        loss = sum(self._losses) / max(len(self._losses), 1)
        self._losses.clear()
        state = self.evaluator.state
        dice = "not measured yet"
        if getattr(state, "metrics", None) and state.best_metric_epoch > 0:
            dice = f"{state.metrics[state.key_metric_name]:.4f}"
        if self.best.score is not None:
            dice += f" (best {self.best.score:.4f})"
        self.logger.info(
            f"epoch {engine.state.epoch}/{engine.state.max_epochs}  loss {loss:.4f}  validation Dice {dice}  "
            f"{per_epoch:.1f} s per epoch  {_minutes(left)} left"
        )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def key_metric(engine: Engine) -> float:
    """Score for early stopping: the validation engine's key metric."""
    return float(engine.state.metrics[engine.state.key_metric_name])


def load_weights(network: torch.nn.Module, path: str | None) -> None:
    """Puts the weights of a `model.pt` into the network; does nothing without a path.

    Raises:
        RuntimeError: if the file holds the weights of another network.
    """
    if path is not None:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
