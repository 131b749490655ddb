"""Any model of timm that gives feature maps, as a backbone of Detectron2."""

import logging
from typing import Any

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from torch import Tensor, nn

from ..errors import UserError
from ..requirements import require
from .backbone import PartlyFrozen

logger = logging.getLogger(__name__)

_NAMES = {4: "res2", 8: "res3", 16: "res4", 32: "res5"}  # of strides


class TimmBackbone(PartlyFrozen):
    """A model of timm, its levels of strides 4 to 32 as "res2" to "res5", as far as it has them."""

    def __init__(self, net: Any, *, size_divisibility: int, freeze_at: int):
        """
        Args:
            net: what `timm.create_model(..., features_only=True)` gives.
            size_divisibility: pixels.
            freeze_at: 0 freezes nothing, 1 what is before the level of stride 4, n what is up to
                the level of stride 2^n.
        """
        super().__init__()
        self.net: Any = net
        self._channels_last = getattr(net, "output_fmt", None) == "NHWC"
        self._size_divisibility = size_divisibility
        info = net.feature_info
        # Of several of a stride, the last.
        self._places = {_NAMES[s]: place for place, s in enumerate(info.reduction()) if s in _NAMES}
        if not self._places:
            raise UserError(
                f"MODEL.TIMM.NAME gives maps of strides {info.reduction()}: take a model with one "
                "of 4, 8, 16 or 32."
            )
        self._shapes = {
            name: ShapeSpec(channels=info.channels()[place], stride=info.reduction()[place])
            for name, place in self._places.items()
        }
        if freeze_at:
            self.freeze(self._parts_until(freeze_at))

    @property
    def size_divisibility(self) -> int:
        """Pixels that sides of images are padded to a multiple of."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """The side of the square that a model of one size takes, pixels."""
        sizes = [m.img_size for m in self.net.modules() if getattr(m, "strict_img_size", False)]
        return {"square_size": max(sizes[0])} if sizes and sizes[0] else {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and strides (pixels) of the levels, the coarsest last."""
        return self._shapes

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> (B, C, H/4, W/4) and so on, by name."""
        maps = self.net(image)
        maps = {name: maps[place] for name, place in self._places.items()}
        if self._channels_last:
            maps = {name: x.permute(0, 3, 1, 2) for name, x in maps.items()}
        return maps

    def _parts_until(self, freeze_at: int) -> list[nn.Module]:
        """The modules that `freeze_at` freezes, where timm keeps them in the order of their use."""
        modules = self.net.feature_info.module_name()
        # As timm names those that it has taken out of their containers.
        ends = {name: modules[place].replace(".", "_") for name, place in self._places.items()}
        parts: dict[str, nn.Module] = {}
        for name, child in self.net.named_children():
            inner = child.named_children() if isinstance(child, nn.Sequential) else ()
            within = {f"{name}_{number}": part for number, part in inner}
            parts.update(within if within.keys() & set(ends.values()) else {name: child})
        last = ends.get(f"res{max(freeze_at, 2)}")
        if last not in parts:
            raise UserError(
                f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}, and MODEL.TIMM.NAME does not say where "
                "that is in it: set 0, or take a model whose levels follow each other."
            )
        number = list(parts).index(last) + (freeze_at > 1)
        return list(parts.values())[:number]


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg, input_shape: ShapeSpec) -> TimmBackbone:
    """Build the model `MODEL.TIMM.NAME`; where `MODEL.WEIGHTS` is "", with timm's weights if
    `MODEL.TIMM.PRETRAINED`.

    Raises:
        UserError: where timm does not know it, it gives no feature maps, or its weights cannot be
            had.
    """
    require("timm", "MODEL.BACKBONE.NAME build_timm_backbone")
    import timm

    own = cfg.MODEL.TIMM
    pretrained = own.PRETRAINED and not cfg.MODEL.WEIGHTS
    try:
        net: Any = timm.create_model(
            own.NAME,
            pretrained=pretrained,
            features_only=True,
            in_chans=input_shape.channels,
            **dict(own.ARGUMENTS),
        )
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"timm cannot make MODEL.TIMM.NAME {own.NAME or '(not set)'}: {reason} Name a model of "
            "`timm.list_models()` that gives features, or correct MODEL.TIMM."
        ) from error
    if pretrained:
        _compare_pixels(net.pretrained_cfg, cfg)
    if own.FREEZE_NORMS:
        net = timm.layers.freeze_batch_norm_2d(net)
    return TimmBackbone(
        net, size_divisibility=own.SIZE_DIVISIBILITY, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )


def _compare_pixels(trained: dict, cfg) -> None:
    """Log where its weights were trained on images that were normalised in another way."""
    wanted = {f"PIXEL_{key.upper()}": [255 * x for x in trained[key]] for key in ("mean", "std")}
    for key, values in wanted.items():
        if any(abs(a - b) > 0.5 for a, b in zip(values, cfg.MODEL[key])):
            logger.warning(
                "%s was trained with MODEL.%s %s, of RGB images, and here it is %s.",
                *(cfg.MODEL.TIMM.NAME, key, [round(x, 3) for x in values], list(cfg.MODEL[key])),
            )
