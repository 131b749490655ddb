"""A transformer whose queries the image gives, so that they need not be learned first.

Encoder and decoder are DETR's. Before the decoder, the dense head proposes boxes in the pyramid of
the encoded image: these are the queries of things. Each stuff class has a query of its own, as in
Panoptic SegFormer (Li et al., arXiv:2109.03814). In the decoder each layer is given, beside what
it attends to, the features of the query's box, and corrects the box.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn
from torchvision.ops import box_convert

from ..classes import things_and_stuff
from .dense_head import Cells, DenseHead, nearest_cells, propose
from .dense_targets import Assignment, assign, dense_losses
from .matcher import HungarianMatcher, Matches, weights_of
from .pyramid import NAMES, Levels
from .query_boxes import SMALLEST, corrected, jittered, sine_of_boxes
from .region_transformer import RegionDecoded, RegionTransformer
from .registries import TRANSFORMER_REGISTRY
from .transformer import Context

_NEVER = -1e4  # the logit of what a query may not say: its probability is 0


@dataclass(frozen=True)
class Pairs:
    """P pairs of a query and the segment that it is trained on, image by image.

    Attributes:
        images: (P,) int64.
        queries: (P,) int64, among the queries of the image.
        targets: (P,) int64, segments, counted through the whole batch.
    """

    images: Tensor
    queries: Tensor
    targets: Tensor


ProposalDecodedT = TypeVar("ProposalDecodedT", bound="ProposalDecoded")


@dataclass(frozen=True)
class ProposalDecoded(RegionDecoded):
    """
    Attributes:
        class_prior: (B, N, C + 1), added to the class logits.
        cells: what the dense head says.
        assignment: of the dense head's cells, in training; else None.
        further: the queries beyond the first `num_queries`, in training; else None.
        num_queries: N without the further queries of training, or those of given things.
        num_further_masks: so many of the latter are trained on a mask, of an image.
    """

    class_prior: Tensor
    cells: Cells
    assignment: Assignment | None
    further: Pairs | None
    num_queries: int
    num_further_masks: int

    def own(self, of_queries: Tensor) -> Tensor:
        """See `Decoded.own`: all but the further queries of training."""
        return of_queries[:, :, : self.num_queries]

    def with_further(self, matches: Matches) -> Matches:
        """See `Decoded.with_further`: also some of the further queries of each image."""
        further, batch = self.further, len(matches.counts)
        assert further is not None, "masks are trained in training alone"
        some = further.queries < self.num_queries + self.num_further_masks
        pairs = torch.stack((further.images, further.queries, further.targets))[:, some]
        matched = torch.stack((matches.images, matches.queries[-1], matches.targets[-1]))
        pairs = torch.cat((matched, pairs), 1)
        images, queries, targets = pairs[:, pairs[0].argsort(stable=True)]
        counts = images.bincount(minlength=batch).tolist()
        return replace(
            matches, images=images, queries=queries[None], targets=targets[None], counts=counts
        )

    def queries_of_given(self, matcher: HungarianMatcher, *of_image: Tensor) -> Tensor:
        """See `Decoded.queries_of_given`: they have queries of their own."""
        *_, boxes = of_image
        return self.num_queries + torch.arange(len(boxes), device=boxes.device)

    def of_images(self: ProposalDecodedT, images: slice) -> ProposalDecodedT:
        """The same for some images of the batch, but for what training alone reads."""
        return replace(super().of_images(images), class_prior=self.class_prior[images])


@dataclass(frozen=True)
class Queries:
    """Queries before the decoder.

    Attributes:
        content: (B, N, d).
        boxes: (B, N, 4), relative (cx, cy, w, h).
        class_prior: (B, N, C + 1).
    """

    content: Tensor
    boxes: Tensor
    class_prior: Tensor

    def and_further(self, other: "Queries") -> "Queries":
        """These queries, and the others behind them."""
        return Queries(
            torch.cat((self.content, other.content), 1),
            torch.cat((self.boxes, other.boxes), 1),
            torch.cat((self.class_prior, other.class_prior), 1),
        )


@TRANSFORMER_REGISTRY.register()
class ProposalTransformer(RegionTransformer):
    """DETR's transformer with proposed queries and features of their boxes."""

    pyramid_outputs = NAMES  # things of all sizes are proposed
    # This begins as no DETR: nothing would be gained, and boxes are learned twice as fast without
    # (docs/learning_fast.md).
    regions_begin_at_zero = False
    never: Tensor
    thing_classes: Tensor
    is_thing: Tensor
    number_of_thing: Tensor

    @configurable
    def __init__(
        self,
        *,
        thing_classes: list[int],
        stuff_classes: list[int],
        nms_threshold: float,
        num_further: int,
        num_further_masks: int,
        **transformer,
    ):
        """
        Args:
            thing_classes, stuff_classes: contiguous; a query of its own for each of the latter.
            nms_threshold: see `propose`.
            num_further: further queries of an image in training, each from one of the cells that
                the dense head is trained on.
            num_further_masks: of these, so many are trained on a mask.
            **transformer: the arguments of `RegionTransformer`; its `num_queries` is the number of
                proposals, the most things that can be found in one image.
        """
        super().__init__(**transformer)
        d = transformer["d_model"]
        self.num_proposals = self.num_learned
        self.num_further, self.num_further_masks = num_further, num_further_masks
        self.nms_threshold = nms_threshold
        self.num_learned = len(stuff_classes)
        self.fixed_classes = tuple(stuff_classes)
        num_classes = len(thing_classes) + len(stuff_classes)
        pyramid_channels = transformer["pyramid_channels"]
        self.dense_head = DenseHead(channels=pyramid_channels, num_things=len(thing_classes))
        self.num_channels = d
        self.content = nn.Sequential(nn.Linear(pyramid_channels, d), nn.LayerNorm(d))
        self.box_position = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))
        # Which class each kind of query may not say.
        never = torch.full((self.num_learned + 1, num_classes + 1), _NEVER)
        never[:, -1] = 0
        never[range(self.num_learned), stuff_classes] = 0
        never[-1, thing_classes] = 0
        self.register_buffer("never", never, persistent=False)
        self.register_buffer("thing_classes", torch.tensor(thing_classes).long(), False)
        is_thing = torch.zeros(num_classes, dtype=torch.bool)
        is_thing[thing_classes] = True
        self.register_buffer("is_thing", is_thing, persistent=False)
        self.register_buffer("number_of_thing", is_thing.cumsum(0) - 1, persistent=False)

    @classmethod
    def fixed_classes_of(cls, cfg) -> tuple[int, ...]:
        """See `Transformer.fixed_classes_of`: stuff."""
        return tuple(things_and_stuff(cfg).stuff)

    @classmethod
    def from_config(cls, cfg, backbone_shape):
        """By MODEL.DETR, and the things and stuff of DATASETS."""
        detr, classes = cfg.MODEL.DETR, things_and_stuff(cfg)
        return {
            **super().from_config(cfg, backbone_shape),
            "thing_classes": classes.things,
            "stuff_classes": classes.stuff,
            "nms_threshold": detr.PROPOSALS.NMS_THRESHOLD,
            "num_further": detr.PROPOSALS.FURTHER_QUERIES,
            "num_further_masks": detr.PROPOSALS.FURTHER_MASKS,
        }

    def forward(  # type: ignore[override]  # it needs a context
        self,
        projected: Tensor,
        padding_mask: Tensor | None,
        query_embed: Tensor,
        positions: Tensor,
        all_layers: bool,
        context: Context,
    ) -> ProposalDecoded:
        """As `Transformer.forward`; `query_embed` (S, d) is that of the stuff classes."""
        seen = self.see(projected, padding_mask, positions, context)
        cells = self.dense_head(seen.levels, context.sizes)
        chosen = propose(cells, self.num_proposals, self.nms_threshold)
        things = self.queries_of(cells, chosen, context.sizes)
        queries = self.stuff_queries(cells).and_further(things)
        num_queries = queries.content.shape[1]
        assignment = further = beyond = mask = None
        if context.targets is not None:
            assignment = assign(seen.levels, context.targets, self.is_thing, context.sizes)
            beyond, further = self.further_queries(cells, assignment, context, num_queries)
        elif context.given is not None:
            chosen = nearest_cells(cells, context.given, context.sizes)
            beyond = self.queries_of(cells, chosen, context.sizes)
            beyond = replace(beyond, boxes=context.given)  # as of further ones that begin there
        if beyond is not None:
            queries = queries.and_further(beyond)
            mask = _sees_no_one(num_queries, queries.content.shape[1], projected.device)

        start = (queries.content, queries.boxes)
        hs, references = self.decode(seen, *start, query_embed, all_layers, context, mask)
        return ProposalDecoded(
            hs,
            seen.memory_map,
            seen.levels,
            references,
            class_prior=queries.class_prior,
            cells=cells,
            assignment=assignment,
            further=further,
            num_queries=num_queries,
            num_further_masks=self.num_further_masks,
        )

    def read(  # type: ignore[override]  # what its own `forward` returns
        self, logits: Tensor, deltas: Tensor, decoded: ProposalDecoded
    ):
        """See `Transformer.read`."""
        return logits + decoded.class_prior, self.boxes_of(deltas, decoded.references)

    def boxes_of(self, deltas: Tensor, references: Tensor) -> Tensor:
        """See `RegionTransformer.boxes_of`."""
        return corrected(deltas, references)

    def region(self, regions: nn.Module, levels: Levels, boxes: Tensor, sizes: Tensor) -> Tensor:
        """See `RegionTransformer.region`; stuff may be anywhere, and has no box to look at."""
        region = regions(levels, boxes[:, self.num_learned :], sizes)
        return F.pad(region, (0, 0, self.num_learned, 0))

    def losses(  # type: ignore[override]  # what its own `forward` returns
        self, logits: Tensor, boxes: Tensor, decoded: ProposalDecoded, context: Context, criterion
    ) -> dict[str, Tensor]:
        """See `Transformer.losses`: of the dense head and of the further queries."""
        targets, assignment, pairs = context.targets, decoded.assignment, decoded.further
        assert targets is not None and assignment is not None and pairs is not None
        losses = dense_losses(
            decoded.cells, assignment, targets, self.number_of_thing, context.sizes
        )
        losses.update(
            criterion.pair_losses(
                logits[:, pairs.images, pairs.queries],
                boxes[:, pairs.images, pairs.queries],
                torch.cat([t.labels for t in targets])[pairs.targets],
                torch.cat([t.boxes for t in targets])[pairs.targets],
                weights_of(targets, pairs.targets),
            )
        )
        return losses

    def stuff_queries(self, cells: Cells) -> Queries:
        """They begin without content, with the whole image as their box."""
        batch, d = len(cells.boxes), self.num_channels
        content = cells.features.new_zeros(batch, self.num_learned, d)
        boxes = self.whole_image.expand(batch, self.num_learned, 4)
        return Queries(content, boxes, self.never[:-1].expand(batch, -1, -1))

    def queries_of(self, cells: Cells, chosen: Tensor, sizes: Tensor) -> Queries:
        """The queries of things that begin as `chosen` cells, (B, N)."""

        def pick(values: Tensor) -> Tensor:
            return values.gather(1, chosen[..., None].expand(-1, -1, values.shape[-1]))

        boxes = pick(cells.boxes.detach()) / sizes[:, None].repeat(1, 1, 2)
        boxes = box_convert(boxes.clamp(0, 1), "xyxy", "cxcywh")
        boxes = torch.cat((boxes[..., :2], boxes[..., 2:].clamp(min=SMALLEST)), -1)
        logits = pick(cells.logits)
        prior = self.never[-1].to(logits.dtype).expand(*logits.shape[:2], -1)
        prior = prior.index_add(2, self.thing_classes, logits)
        return Queries(self.content(pick(cells.features)), boxes, prior)

    def further_queries(
        self, cells: Cells, assignment: Assignment, context: Context, num_queries: int
    ) -> tuple[Queries, Pairs]:
        """Queries of training alone, several of a thing: one-to-many, as in Co-DETR (Zong et al.,
        arXiv:2211.12860). They begin as cells of the thing, half of them with its own box,
        jittered, in place of the predicted one.

        Args:
            num_queries: of an image, which these are counted on from.

        Returns:
            (B, R) queries, and the pairs of those that there is a cell for.
        """
        batch, number, device = len(cells.boxes), self.num_further, assignment.images.device
        # A random order within each image, of which the first R are taken.
        shuffled = torch.randperm(len(assignment.images), device=device)
        order = shuffled[assignment.images[shuffled].argsort(stable=True)]
        of_order = assignment.images[order]
        counts = of_order.bincount(minlength=batch)
        place = torch.arange(len(order), device=device) - (counts.cumsum(0) - counts)[of_order]
        order, place = torch.stack((order, place))[:, place < number]
        images, targets = assignment.images[order], assignment.targets[order]
        chosen = torch.zeros(batch, number, dtype=torch.int64, device=device)
        chosen[images, place] = assignment.cells[order]

        queries = self.queries_of(cells, chosen, context.sizes)
        boxes = queries.boxes.clone()
        assert context.targets is not None
        true = torch.cat([t.boxes for t in context.targets])[targets].to(boxes.dtype)
        half = torch.rand(len(true), 1, device=device) < 0.5
        boxes[images, place] = torch.where(half, jittered(true), boxes[images, place])
        queries = Queries(queries.content, boxes, queries.class_prior)
        return queries, Pairs(images, num_queries + place, targets)

    def places(self, query_embed: Tensor, boxes: Tensor) -> Tensor:
        """See `RegionTransformer.places`: that of stuff is learned, that of things their box."""
        stuff = query_embed.expand(len(boxes), -1, -1)
        things = sine_of_boxes(boxes[:, self.num_learned :], query_embed.shape[1])
        return torch.cat((stuff, self.box_position(things.to(query_embed.dtype))), 1)


def _sees_no_one(num_queries: int, total: int, device) -> Tensor:
    """(total, total) bool, True where a query may not look: further ones see themselves alone, and
    no one sees them."""
    numbers = torch.arange(total, device=device)
    further = numbers >= num_queries
    apart = further[:, None] | further
    return apart & (numbers[:, None] != numbers)
