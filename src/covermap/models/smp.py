"""Networks of segmentation-models-pytorch: every decoder with every encoder it offers.

The library's segmentation head is left out: a 1 × 1 classifier of our own takes its place, and
logits are upsampled bilinearly. Decoders: U-Net (Ronneberger et al. 2015), U-Net++ (Zhou et al.
2018), MA-Net (Fan et al. 2020), LinkNet (Chaurasia & Culurciello 2017), FPN (Kirillov et al. 2019),
PSPNet (Zhao et al. 2017), PAN (Li et al. 2018), DeepLabV3 and V3+ (Chen et al. 2017, 2018), UPerNet
(Xiao et al. 2018), SegFormer (Xie et al. 2021), DPT (Ranftl et al. 2021).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from covermap.errors import ConfigError, InputError, nearest
from covermap.models.bands import RGB
from covermap.models.family import Family, Weights
from covermap.models.fusion import FUSIONS, check_fusion, make_fusion
from covermap.models.hub import hub_or_cache, is_cached
from covermap.models.options import parse_options
from covermap.models.probe import LIBRARY_ERRORS, first_line, try_out
from covermap.models.segmenter import Context, LinearSegmenter, upsample
from covermap.models.smp_shapes import cut_unread, dynamic_options, find_stride, widen

DECODERS: Mapping[str, str] = MappingProxyType(
    {
        "unet": "Unet",
        "unetplusplus": "UnetPlusPlus",
        "manet": "MAnet",
        "linknet": "Linknet",
        "fpn": "FPN",
        "pspnet": "PSPNet",
        "pan": "PAN",
        "deeplabv3": "DeepLabV3",
        "deeplabv3plus": "DeepLabV3Plus",
        "upernet": "UPerNet",
        "segformer": "Segformer",
        "dpt": "DPT",
    }
)
"""Decoders by the name that recipes use."""

PYRAMID = ("unet", "unetplusplus", "manet")
"""Decoders with one width per level, which must be as many as the encoder's depth."""

PYRAMID_WIDTHS = (256, 128, 64, 32, 16)

FILES = ("config.json", "model.safetensors")
"""What the library fetches for an encoder that it has a name for."""

MANAGED = (
    *("self", "kwargs", "encoder_name", "encoder_depth", "encoder_weights", "in_channels"),
    *("classes", "activation", "upsampling", "aux_params"),
)
"""Arguments of the library's models that are ours to set."""


@dataclass(frozen=True)
class SmpOptions:
    """Options of the family `smp`.

    Attributes:
        decoder: one of `DECODERS`.
        encoder: a name of the library, or `tu-` and a name of timm.
        depth: number of encoder stages; the decoder's usual one when not given.
        encoder_options: arguments for timm's model, with `tu-` encoders only.
        decoder_options: further arguments of the library's model, such as `decoder_channels`.
        stride: what image sides must be multiples of, for encoders that want more than usual, such
            as 256 for MaxViT with windows of 8.
        head_kernel: side k of the classifier's window; above 1 only for imported checkpoints.
        align_corners: how logits are upsampled; true only for imported checkpoints.
        pretrained_name: which of an encoder's pretrained weights `pretrained` fetches.
        metadata: whether date, position, camera and the like change the deepest features: none;
            film, a scale and a shift for each channel; flair1, as FLAIR-1 did, on tiles of one size
            (512 pixels) only.
    """

    decoder: str = "unet"
    encoder: str = "resnet34"
    depth: int | None = None
    encoder_options: dict[str, Any] = field(default_factory=dict)
    decoder_options: dict[str, Any] = field(default_factory=dict)
    stride: int | None = None
    head_kernel: int = 1
    align_corners: bool = False
    pretrained_name: str = "imagenet"
    metadata: str = "none"


class SmpSegmenter(LinearSegmenter):
    """Encoder and decoder of the library under our classifier.

    Attributes:
        encoder: images to a pyramid of features.
        decoder: the pyramid to one map of features.
        neck: what DPT has between its decoder and its classifier; the identity elsewhere.
        head_kernel: side k of the classifier's window.
    """

    def __init__(
        self,
        parts: tuple[nn.Module, nn.Module, nn.Module],
        *,
        bands: int,
        classes: int,
        stride: int,
        width: int,
        minimum: int | None = None,
        head_kernel: int = 1,
        align_corners: bool = False,
    ) -> None:
        """Put the parts together.

        Args:
            parts: encoder, decoder and neck.
            bands: number of input bands.
            classes: number of classes.
            stride: image sides must be multiples of it, pixels.
            width: number of feature maps that the neck gives.
            minimum: smallest image side, pixels.
            head_kernel: side k of the classifier's window, odd.
            align_corners: how logits are upsampled.
        """
        super().__init__(
            bands=bands,
            classes=classes,
            stride=stride,
            width=width * head_kernel**2,
            minimum=minimum,
            align_corners=align_corners,
        )
        self.encoder, self.decoder, self.neck = parts
        self.head_kernel = head_kernel
        self.unread = frozenset(f"encoder.{name}" for name in cut_unread(self.encoder))
        self._tokens = hasattr(self.encoder, "has_prefix_tokens")

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        """Describe each place of the images; see `Segmenter.features`.

        With a k × k head the features of a place are those of its k × k neighbours, so that the
        classifier stays linear in them: F is k² times the decoder's width.
        """
        return self._unfold(self._decode(image, context))

    def forward(self, image: Tensor, context: Context | None = None) -> Tensor:
        """Score each pixel; see `Segmenter.forward`. A k × k head is not unfolded here."""
        if self.head_kernel == 1:
            return super().forward(image, context)
        self.check_input(image)
        kernel = self.head_kernel
        weight = self.classifier.weight.reshape(self.classes, -1, kernel, kernel)
        scores = F.conv2d(
            self._decode(image, context), weight, self.classifier.bias, padding=kernel // 2
        )
        size = (image.shape[-2], image.shape[-1])
        return upsample(scores, size, align_corners=self.align_corners)

    def _decode(self, image: Tensor, context: Context | None = None) -> Tensor:
        encoded = self.encoder(image)
        pyramid, *tokens = encoded if self._tokens else (encoded,)
        pyramid = [*pyramid[:-1], self.fuse(pyramid[-1], context)]
        found: Tensor = self.neck(self.decoder(pyramid, *tokens))
        return found

    def _unfold(self, decoded: Tensor) -> Tensor:
        if self.head_kernel == 1:
            return decoded
        columns = F.unfold(decoded, self.head_kernel, padding=self.head_kernel // 2)
        return columns.reshape(*columns.shape[:2], *decoded.shape[-2:])

    def adopt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename a state dict of the library's model, or of an encoder alone.

        A k × k head becomes the classifier of unfolded features; DPT's head its neck.
        """
        parts = {name for name, _ in self.named_children()} | {"segmentation_head"}
        whole = any(name.partition(".")[0] in parts for name in state)
        adopted = self._adopt_whole(state) if whole else self._adopt_encoder(state)
        return {name: tensor for name, tensor in adopted.items() if name not in self.unread}

    def _adopt_whole(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        renamed: dict[str, Tensor] = {}
        for name, tensor in state.items():
            new = _rename_head(name)
            if new == "classifier.weight":
                tensor = tensor.flatten(1)[:, :, None, None]
            renamed[new] = tensor
        return renamed

    def _adopt_encoder(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        roots = {"encoder": self.encoder}
        if isinstance(inner := getattr(self.encoder, "model", None), nn.Module):
            roots["encoder.model"] = inner
        best, children = "", set[str]()
        for prefix, module in roots.items():
            own = {name.partition(".")[0] for name in module.state_dict()}
            if len(own & _firsts(state)) > len(children & _firsts(state)):
                best, children = prefix, own
        return {
            f"{best}.{name}" if name.partition(".")[0] in children else name: tensor
            for name, tensor in state.items()
        }


def _firsts(state: Mapping[str, Tensor]) -> set[str]:
    return {name.partition(".")[0] for name in state}


def _rename_head(name: str) -> str:
    """From the library's names of the head to ours."""
    for old, new in (
        ("segmentation_head.head.4.", "classifier."),
        ("segmentation_head.head.", "neck."),
        ("segmentation_head.0.", "classifier."),
    ):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


class SmpFamily(Family):
    """The family `smp`."""

    name = "smp"
    packages = ("segmentation-models-pytorch", "timm")

    def parse(self, options: Mapping[str, Any]) -> SmpOptions:
        """Check options; see `Family.parse`."""
        found = parse_options(SmpOptions, options, self.name)
        if found.decoder not in DECODERS:
            raise ConfigError(
                f"There is no decoder {found.decoder!r}.{nearest(found.decoder, DECODERS)} "
                f"Decoders: {', '.join(DECODERS)}."
            )
        _check_encoder(found)
        _check_decoder_options(found)
        if found.head_kernel < 1 or found.head_kernel % 2 == 0:
            raise ConfigError(f"head_kernel is {found.head_kernel}; expected an odd number.")
        check_fusion(found.metadata, self.name, FUSIONS)
        return found

    def build(self, options: SmpOptions, bands: int, classes: int) -> SmpSegmenter:
        """Make the network with random weights; see `Family.build`."""
        named = options.encoder in _encoder_names()
        whole = _library_model(options, 3 if named else bands, weights=None)
        if named:
            widen(whole.encoder, bands)
        head = [part for part in whole.segmentation_head.modules() if isinstance(part, nn.Conv2d)]
        neck = whole.segmentation_head.head[:-1] if options.decoder == "dpt" else nn.Identity()
        stride = options.stride or find_stride(options.decoder, whole.encoder)
        model = SmpSegmenter(
            (whole.encoder, whole.decoder, neck),
            bands=bands,
            classes=classes,
            stride=stride,
            width=head[-1].in_channels,
            # three halvings of PAN's deepest features must leave a pixel
            minimum=8 * stride if options.decoder == "pan" else stride,
            head_kernel=options.head_kernel,
            align_corners=options.align_corners,
        )
        encoder = whole.encoder
        fusion = make_fusion(options.metadata, encoder.out_channels[-1])
        model.add_fusion(fusion, int(encoder.output_stride))
        if not named:
            pair = f"The decoder {options.decoder!r} on the encoder {options.encoder!r}"
            try_out(model, pair)
        return model

    def fetch(self, options: SmpOptions) -> Weights:
        """Get the pretrained weights of the encoder; see `Family.fetch`."""
        named = options.encoder in _encoder_names()
        here = named and is_cached(*_pretrained_source(options), *FILES)
        try:
            with nullcontext() if here else hub_or_cache():
                weights = options.pretrained_name if named else True
                whole = _library_model(options, 3, weights=weights)
        except OSError as error:
            raise InputError(
                f"Pretrained weights of the encoder {options.encoder!r} cannot be fetched "
                f"({first_line(error)}). Without a network name a local file (model.weights: "
                "PATH.safetensors), or start from random weights (model.pretrained: false)."
            ) from error
        state = {f"encoder.{name}": value for name, value in whole.encoder.state_dict().items()}
        label = f"{options.encoder} ({options.pretrained_name})" if named else options.encoder
        return Weights(label=label, state=state, bands=RGB)


FAMILY = SmpFamily()


def _encoder_names() -> list[str]:
    import segmentation_models_pytorch as library

    names: list[str] = library.encoders.get_encoder_names()
    return names


def _check_encoder(options: SmpOptions) -> None:
    name = options.encoder
    if options.decoder == "dpt" and not name.startswith("tu-"):
        raise ConfigError(
            f"The decoder 'dpt' needs a transformer of timm, such as tu-vit_small_patch16_224; "
            f"found {name!r}."
        )
    if options.encoder_options and not name.startswith("tu-"):
        raise ConfigError(f"encoder_options go with tu- encoders only; found {name!r}.")
    if name in _encoder_names() or name.startswith("timm-"):
        return
    import timm

    if not name.startswith("tu-") or not timm.is_model(name.removeprefix("tu-").split(".")[0]):
        known = [*_encoder_names(), *(f"tu-{network}" for network in timm.list_models())]
        raise ConfigError(
            f"There is no encoder {name!r}.{nearest(name, known)} Take one of "
            "segmentation-models-pytorch, or tu- and the name of a timm network."
        )


def _pretrained_source(options: SmpOptions) -> tuple[str, str]:
    """Repository and revision of a named encoder's pretrained weights."""
    import segmentation_models_pytorch as library

    known = library.encoders.encoders[options.encoder]["pretrained_settings"]
    if options.pretrained_name not in known:
        raise ConfigError(
            f"The encoder {options.encoder!r} has no pretrained weights "
            f"{options.pretrained_name!r}; there are: {', '.join(known) or 'none'}."
        )
    found = known[options.pretrained_name]
    return found["repo_id"], found["revision"]


def _library_class(decoder: str) -> Any:
    import segmentation_models_pytorch as library

    return getattr(library, DECODERS[decoder])


def _check_decoder_options(options: SmpOptions) -> None:
    known = [
        name
        for name in inspect.signature(_library_class(options.decoder).__init__).parameters
        if name not in MANAGED
    ]
    for name in options.decoder_options:
        if name not in known:
            raise ConfigError(
                f"The decoder {options.decoder!r} has no option {name!r}.{nearest(name, known)} "
                f"Its options: {', '.join(known)}."
            )


def _library_model(options: SmpOptions, bands: int, weights: str | bool | None) -> Any:
    """The library's own model, with one class."""
    arguments: dict[str, Any] = {"in_channels": bands, "classes": 1, "encoder_weights": weights}
    if options.depth is not None:
        arguments["encoder_depth"] = options.depth
        if options.decoder in PYRAMID:
            arguments["decoder_channels"] = PYRAMID_WIDTHS[-options.depth :]
    arguments |= options.decoder_options
    if options.encoder.startswith("tu-"):
        arguments |= {
            **dynamic_options(options.encoder, options.encoder_options),
            **options.encoder_options,
        }
    try:
        return _library_class(options.decoder)(encoder_name=options.encoder, **arguments)
    except OSError:
        raise
    except LIBRARY_ERRORS as error:
        raise ConfigError(
            f"The decoder {options.decoder!r} cannot be built on the encoder {options.encoder!r} "
            f"with these options: {first_line(error)}"
        ) from error
