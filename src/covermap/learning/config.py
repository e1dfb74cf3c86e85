"""The settings of supervised training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from covermap.data.augment import AugmentConfig
from covermap.errors import ConfigError
from covermap.learning.losses import LossSettings, check_terms
from covermap.learning.optimisers import OptimiserSettings
from covermap.learning.schedules import ScheduleSettings
from covermap.models.segmenter import ModelSpec

Frozen = Literal["encoder", "features", "batchnorm"]


@dataclass(frozen=True)
class SupervisedConfig:
    """Everything about a supervised training but its data.

    Attributes:
        model: network to build; None to take the one of the bundle that training starts from.
        weights: safetensors file to start from, instead of random weights.
        pretrained: fetch pretrained weights from a hub.
        augment: random changes of the training patches.
        seed: seed of everything random.
        recipe: text of the resolved recipe, kept in the bundle.
        licence: licence of the bundle.
        tile: side of a tile in mapping, core + 2 · margin, pixels.
        margin: pixels of context around a core in mapping.
        blend: how tiles are joined in mapping.
        map_precision: precision of mapping.
        bands: names of the bands to learn from, in order, or of the sensor's groups of bands, such
            as s2-10m (groups come in the sensor's order); empty for all of the data set's.
        patch: side of a training patch, pixels.
        batch: patches per step and device.
        patches_per_epoch: length of an epoch, rounded up to whole steps; by default the number of
            patches that the training area holds.
        epochs: number of epochs.
        max_minutes: time limit; training ends with `epochs` or with the time, whichever comes
            first, and learning-rate schedules end with it. Only the last validation comes on top. A
            run with a limit depends on the speed of the machine and cannot be repeated bit for bit.
        balance: chance that a patch is placed on a class drawn evenly among those present, 0 to 1.
        cache: GiB of decoded imagery held in memory.
        workers: processes that make patches; auto takes one less than the processor's cores.
        loss: factors of the losses ce, dice, focal and lovasz, which are summed.
        label_smoothing: share of the target spread over all classes (ce).
        focal_gamma: exponent of the focal loss; 0, or at least 1.
        class_weights: weights of the classes in ce and focal by name (1 where not named, 0 for not
            learned), or from their frequency in the training labels, inverse, sqrt (of the
            inverse) or median (median frequency balancing); none for all alike.
        optimiser: adamw or sgd.
        learning_rate: full learning rate, per step of whatever size.
        weight_decay: on all weights but biases and norms.
        momentum: of sgd.
        encoder_factor: factor on the encoder's learning rate.
        head_factor: factor on the classifier's learning rate.
        schedule: poly, cosine, plateau (on the watched validation score) or constant.
        warmup_steps: steps over which the learning rate rises linearly.
        power: exponent of poly.
        floor: lowest learning rate of a schedule, as a share of the full one.
        plateau_factor: what plateau multiplies the learning rate by.
        plateau_patience: validations without improvement that plateau puts up with.
        plateau_cooldown: validations after a reduction that plateau does not count.
        accumulate: batches whose gradients make one step.
        clip: greatest norm of the gradient; none for no limit.
        ema: decay of a moving average of the weights, such as 0.999, which is then what is
            validated and saved; none for no average.
        freeze: parts that are not trained: encoder, features (all but the classifier), and
            batchnorm (its statistics and its scale and shift).
        precision: float32, bfloat16 or float16 (the latter on GPUs only), with float32 weights;
            auto is bfloat16 where the device gains by it. A run does not go on in another.
        channels_last: keep images with the bands innermost; usually faster.
        deterministic: forbid GPU operations that differ from run to run.
        accelerator: cpu, gpu, or auto for the best there is.
        devices: how many devices, or auto for all.
        num_nodes: how many machines.
        strategy: how Lightning joins several devices; auto is its distributed data parallel.
        sync_batchnorm: take the statistics of batch norm over all devices.
        validate_every: epochs between validations.
        val_patch: side of a validation patch, margins included, pixels; by default `patch`.
        val_margin: context around a validation patch's core, pixels; by default an eighth.
        val_batch: validation patches at a time; by default `batch`.
        monitor: validation score that is watched: miou (`miou_present`), oa, kappa, f1 or loss.
        select: which weights become the bundle: of the best validation, the last, or the average
            of the last `average_last` epochs. Small validation areas make the watched score
            noisy: average does without it, and `select_smoothing` calms it.
        select_smoothing: validations over which the watched score is averaged before it is
            compared; the weights selected are those at the end of the best stretch.
        average_last: number of epochs whose weights are averaged.
        patience: validations without a better watched score before training ends early; none to
            go on.
        min_delta: what counts as better.
        normalisation: dataset measures the training data, sensor takes the sensor's table, start
            keeps that of the bundle that training starts from; auto is start where there is one
            that knows all bands, else dataset.
        save_minutes: minutes between saves of the state to resume from (and of the best bundle);
            it is also saved at the end, and when training is asked to stop.
        tensorboard: whether to write TensorBoard files.
    """

    model: ModelSpec | None = None
    weights: Path | None = None
    pretrained: bool = False
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 0
    recipe: str = ""
    licence: str = ""
    tile: int = 1664
    margin: int = 128
    blend: Literal["crop", "cosine"] = "crop"
    map_precision: Literal["float32", "bfloat16"] = "float32"
    bands: tuple[str, ...] = ()
    patch: int = 256
    batch: int = 8
    patches_per_epoch: int | None = None
    epochs: int = 50
    max_minutes: float | None = None
    balance: float = 0.0
    cache: float = 2.0
    workers: int | Literal["auto"] = "auto"
    loss: Mapping[str, float] = field(default_factory=lambda: {"ce": 1.0})
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    class_weights: Literal["none", "inverse", "sqrt", "median"] | Mapping[str, float] = "none"
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.9
    encoder_factor: float = 1.0
    head_factor: float = 1.0
    schedule: Literal["poly", "cosine", "plateau", "constant"] = "poly"
    warmup_steps: int = 0
    power: float = 0.9
    floor: float = 0.0
    plateau_factor: float = 0.5
    plateau_patience: int = 10
    plateau_cooldown: int = 0
    accumulate: int = 1
    clip: float | None = None
    ema: float | None = None
    freeze: tuple[Frozen, ...] = ()
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = True
    deterministic: bool = False
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["auto"] = 1
    num_nodes: int = 1
    strategy: str = "auto"
    sync_batchnorm: bool = False
    validate_every: int = 1
    val_patch: int | None = None
    val_margin: int | None = None
    val_batch: int | None = None
    monitor: Literal["miou", "oa", "kappa", "f1", "loss"] = "miou"
    select: Literal["best", "last", "average"] = "best"
    select_smoothing: int = 1
    average_last: int = 5
    patience: int | None = None
    min_delta: float = 0.0
    normalisation: Literal["auto", "dataset", "sensor", "start"] = "auto"
    save_minutes: float = 5.0
    tensorboard: bool = True

    def __post_init__(self) -> None:
        """Check every number.

        Raises:
            ConfigError: lists all mistakes.
        """
        wrong = [text for text in self._mistakes() if text]
        if wrong:
            raise ConfigError("The training's settings are not valid:\n  " + "\n  ".join(wrong))

    def _mistakes(self) -> list[str]:
        whole = ("patch", "batch", "epochs", "accumulate", "num_nodes", "validate_every")
        counts = (
            *("seed", "warmup_steps", "plateau_patience", "plateau_cooldown"),
            *("margin", "val_margin", "patience"),
        )
        rates = ("learning_rate", "encoder_factor", "head_factor", "clip", "max_minutes")
        shares = ("balance", "floor", "plateau_factor", "ema", "momentum", "label_smoothing")
        least_one = (*whole, "patches_per_epoch", "val_patch", "val_batch", "tile")
        found = [
            *(self._bound(name, 1) for name in (*least_one, "select_smoothing", "average_last")),
            *(self._bound(name, 0) for name in (*counts, "weight_decay", "cache", "power")),
            *(self._bound(name, 0, excluded=True) for name in (*rates, "save_minutes")),
            *(self._bound(name, 0, 1) for name in shares),
        ]
        if self.ema == 1 or self.label_smoothing == 1:
            found.append("ema and label_smoothing must be below 1")
        if 0 < self.focal_gamma < 1 or self.focal_gamma < 0:
            found.append(f"focal_gamma is {self.focal_gamma}; expected 0, or at least 1")
        for name, least in (("workers", 0), ("devices", 1)):
            value = getattr(self, name)
            if value != "auto" and value < least:
                found.append(f"{name} is {value}; expected auto or at least {least}")
        if 2 * self.margin >= self.tile:
            found.append(f"margin {self.margin} leaves no core in a tile of {self.tile}")
        if 2 * self.evaluation_margin >= self.evaluation_patch:
            found.append(
                f"val_margin {self.evaluation_margin} leaves no core in a validation patch of "
                f"{self.evaluation_patch}"
            )
        try:
            check_terms(self.loss)
        except ConfigError as error:
            found.append(f"loss: {error}")
        return found

    def _bound(
        self, name: str, low: float, high: float = math.inf, *, excluded: bool = False
    ) -> str:
        value = getattr(self, name)
        if value is None or (low < value <= high) or (value == low and not excluded):
            return ""
        least = "above" if excluded else "at least"
        most = "" if high == math.inf else f" and at most {high:g}"
        return f"{name} is {value}; expected {least} {low:g}{most}"

    @property
    def evaluation_patch(self) -> int:
        """Side of a validation patch, pixels."""
        return self.val_patch or self.patch

    @property
    def evaluation_margin(self) -> int:
        """Context around a validation patch's core, pixels."""
        return self.evaluation_patch // 8 if self.val_margin is None else self.val_margin

    @property
    def higher_is_better(self) -> bool:
        """Whether the watched score is to rise."""
        return self.monitor != "loss"

    @property
    def loss_settings(self) -> LossSettings:
        """What the losses are told."""
        return LossSettings(self.label_smoothing, self.focal_gamma)

    @property
    def optimiser_settings(self) -> OptimiserSettings:
        """What the optimiser is told."""
        return OptimiserSettings(
            name=self.optimiser,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            encoder_factor=self.encoder_factor,
            head_factor=self.head_factor,
        )

    @property
    def schedule_settings(self) -> ScheduleSettings:
        """What the learning-rate schedule is told."""
        return ScheduleSettings(
            name=self.schedule,
            warmup_steps=self.warmup_steps,
            power=self.power,
            floor=self.floor,
            factor=self.plateau_factor,
            patience=self.plateau_patience,
            cooldown=self.plateau_cooldown,
            higher_is_better=self.higher_is_better,
        )
