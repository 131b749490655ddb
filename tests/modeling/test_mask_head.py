import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from detr_d2.errors import UserError
from detr_d2.modeling.mask_head import MaskHeadSmallConv, MHAttentionMap, conv_of_upsampled

D, MAPS = 128, 8
CHANNELS = (5, 4, 3)  # of Res4, Res3, Res2


# Attention maps


def maps_by_loop(attention, queries, memory, padding_mask):
    """Cell by cell: (K, M, h, w), exponentials divided by their sum over a query's maps."""
    d, h, w = memory.shape[1:]
    c = d // attention.num_heads
    maps = []
    for image_queries, image_memory, padding in zip(queries, memory, padding_mask):
        for query in image_queries:
            q = attention.q_linear.weight @ query + attention.q_linear.bias
            exponentials = torch.zeros(attention.num_heads, h, w, dtype=torch.float64)
            for m, y, x in itertools.product(range(attention.num_heads), range(h), range(w)):
                k = attention.k_linear.weight @ image_memory[:, y, x] + attention.k_linear.bias
                part = slice(m * c, (m + 1) * c)
                if not padding[y, x]:
                    exponentials[m, y, x] = torch.exp(q[part] @ k[part] / math.sqrt(c))
            maps.append(exponentials / exponentials.sum())
    return torch.stack(maps)


@pytest.fixture
def attention(randomise):
    return randomise(MHAttentionMap(d_model=6, num_heads=2)).double()


@pytest.mark.parametrize("counts", [[2], [0, 3, 1]])
@torch.no_grad()
def test_maps_are_the_formula_cell_by_cell(attention, counts):
    queries = [torch.randn(count, 6).double() for count in counts]
    memory = torch.randn(len(counts), 6, 3, 4).double()
    mask = torch.zeros(len(counts), 3, 4, dtype=torch.bool)
    mask[-1, 2:] = mask[-1, :, 3:] = True
    maps = attention(queries, memory, mask)
    assert maps.shape == (sum(counts), 2, 3, 4)
    torch.testing.assert_close(
        maps, maps_by_loop(attention, queries, memory, mask), rtol=0, atol=1e-14
    )


@torch.no_grad()
def test_maps_of_a_query_sum_to_one_and_leave_out_the_padding(attention):
    queries = [torch.randn(3, 6).double(), torch.randn(2, 6).double()]
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[1, :, 2:] = True
    maps = attention(queries, torch.randn(2, 6, 3, 4).double(), mask)
    torch.testing.assert_close(maps.sum((1, 2, 3)), torch.ones(5).double(), rtol=0, atol=1e-14)
    assert not maps[3:, :, :, 2:].any()
    assert maps[3:, :, :, :2].all()
    assert maps[:3].all()


@torch.no_grad()
def test_maps_without_a_mask_are_those_of_no_padding(attention):
    queries, memory = [torch.randn(3, 6).double()], torch.randn(1, 6, 3, 4).double()
    nowhere = torch.zeros(1, 3, 4, dtype=torch.bool)
    assert torch.equal(attention(queries, memory, None), attention(queries, memory, nowhere))


@pytest.mark.parametrize("counts", [[0], [0, 0]])
def test_maps_of_no_query(attention, counts):
    memory = torch.randn(len(counts), 6, 3, 4).double()
    mask = torch.zeros(len(counts), 3, 4, dtype=torch.bool)
    maps = attention([torch.zeros(n, 6).double() for n in counts], memory, mask)
    assert maps.shape == (0, 2, 3, 4)
    maps.sum().backward()
    assert all(not p.grad.any() for p in attention.parameters())


# Mask head


def masks_by_the_paper(head, projected, maps, counts, features):
    """Everything expanded to every query, concatenated, upsampled, and then convolved."""

    def repeat(per_image):
        return torch.cat([x[None].expand(n, *x.shape) for x, n in zip(per_image, counts)])

    def block(x, conv, norm):
        x = F.conv2d(x, conv.weight, conv.bias, padding=1)
        return F.group_norm(x, 8, norm.weight, norm.bias, eps=1e-5).relu()

    def step(x, res, adapter):
        adapted = repeat(F.conv2d(features[res], adapter.weight, adapter.bias))
        return adapted + F.interpolate(x, size=adapted.shape[-2:], mode="nearest")

    x = torch.cat([repeat(projected), maps], dim=1)
    x = block(x, head.lay1, head.gn1)
    x = block(x, head.lay2, head.gn2)
    x = block(step(x, "res4", head.adapter1), head.lay3, head.gn3)
    x = block(step(x, "res3", head.adapter2), head.lay4, head.gn4)
    x = block(step(x, "res2", head.adapter3), head.lay5, head.gn5)
    return F.conv2d(x, head.out_lay.weight, head.out_lay.bias, padding=1)[:, 0]


@pytest.fixture
def head(randomise):
    return randomise(
        MaskHeadSmallConv(d_model=D, num_maps=MAPS, backbone_channels=CHANNELS)
    ).double()


def draw_inputs(sizes, counts):
    """Sizes of Res5, Res4, Res3, Res2."""
    batch = len(counts)
    projected = torch.randn(batch, D, *sizes[0]).double()
    maps = torch.rand(sum(counts), MAPS, *sizes[0]).double()
    features = {
        res: torch.randn(batch, channels, *size).double()
        for res, channels, size in zip(("res4", "res3", "res2"), CHANNELS, sizes[1:])
    }
    return projected, maps, counts, features


EVEN = [(2, 3), (4, 6), (8, 12), (16, 24)]
SHAPES = {
    "even": EVEN,
    "odd height": [(2, 3), (3, 6), (5, 12), (9, 24)],
    "odd width": [(2, 3), (4, 5), (8, 9), (16, 17)],
    "odd": [(3, 2), (5, 3), (9, 5), (17, 9)],
    "odd or even": [(2, 2), (3, 4), (6, 7), (11, 14)],
    "one pixel": [(1, 1), (1, 2), (2, 3), (3, 5)],
    "DC5": [(4, 3), (4, 3), (7, 6), (14, 11)],
}


@pytest.mark.parametrize(
    "sizes, counts",
    [(sizes, [2]) for sizes in SHAPES.values()]
    + [(EVEN, counts) for counts in ([1], [2, 1], [0, 3, 1], [1, 0, 0])]
    + [(SHAPES["DC5"], [0, 3, 1])],
)
def test_masks_and_gradients_equal_the_plain_computation(head, sizes, counts):
    projected, maps, counts, features = draw_inputs(sizes, counts)
    leaves = [projected, maps, *features.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    leaves.extend(head.parameters())

    masks = head(projected, maps, counts, features)
    wanted = masks_by_the_paper(head, projected, maps, counts, features)
    assert masks.shape == (sum(counts), *sizes[3])
    torch.testing.assert_close(masks, wanted, rtol=0, atol=1e-12)

    direction = torch.randn_like(masks)
    gradients = torch.autograd.grad((masks * direction).sum(), leaves)
    wanted = torch.autograd.grad((wanted * direction).sum(), leaves)
    for gradient, plain in zip(gradients, wanted):
        torch.testing.assert_close(gradient, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("counts", [[0], [0, 0]])
@pytest.mark.parametrize("sizes", [EVEN, SHAPES["odd"], SHAPES["DC5"]])
def test_no_query_gives_no_mask_and_zero_gradients(head, sizes, counts):
    projected, maps, counts, features = draw_inputs(sizes, counts)
    masks = head(projected.requires_grad_(), maps, counts, features)
    assert masks.shape == (0, *sizes[3])
    masks.sum().backward()
    for parameter in (projected, *head.parameters()):
        assert parameter.grad is not None
        assert not parameter.grad.any()


@torch.no_grad()
def test_masks_of_a_query_do_not_depend_on_the_others(head):
    projected, maps, counts, features = draw_inputs(SHAPES["odd"], [2, 3])
    masks = head(projected, maps, counts, features)
    second = {res: x[1:] for res, x in features.items()}
    alone = head(projected[1:], maps[3:4], [1], second)
    torch.testing.assert_close(alone, masks[3:4], rtol=0, atol=1e-12)


@pytest.mark.parametrize("d, num_maps", [(64, 8), (192, 8), (128, 6)])
def test_refuses_widths_that_group_norm_cannot_divide(d, num_maps):
    with pytest.raises(UserError, match="HIDDEN_DIM"):
        MaskHeadSmallConv(d_model=d, num_maps=num_maps, backbone_channels=CHANNELS)


def test_initial_gain_scales_the_weights_of_the_maps_and_nothing_else():
    weights = []
    for gain in (1.0, 50.0):
        torch.manual_seed(0)
        head = MaskHeadSmallConv(
            d_model=D, num_maps=MAPS, backbone_channels=CHANNELS, maps_init_gain=gain
        )
        weights.append(head.state_dict())
    plain, scaled = weights
    torch.testing.assert_close(
        scaled["lay1.weight"][:, D:], 50 * plain["lay1.weight"][:, D:], rtol=1e-6, atol=0
    )
    assert torch.equal(scaled["lay1.weight"][:, :D], plain["lay1.weight"][:, :D])
    for name in plain.keys() - {"lay1.weight"}:
        assert torch.equal(scaled[name], plain[name])


def test_convolution_of_the_upsampled_is_interpolate_then_convolve():
    """All maps of 1 to 3 pixels a side to all sizes of 1 to 7: twofold, equal, and any other."""
    weight = torch.randn(3, 2, 3, 3).double().requires_grad_()
    for h, w, height, width in itertools.product(
        range(1, 4), range(1, 4), range(1, 8), range(1, 8)
    ):
        x = torch.randn(2, 2, h, w).double().requires_grad_()
        plain = F.conv2d(F.interpolate(x, size=(height, width)), weight, padding=1)
        out = conv_of_upsampled(x, weight, (height, width))

        def where(message, sizes=((h, w), (height, width))):
            return f"{sizes[0]} to {sizes[1]}: {message}"

        torch.testing.assert_close(out, plain, rtol=0, atol=1e-13, msg=where)
        direction = torch.randn_like(plain)
        torch.testing.assert_close(
            torch.autograd.grad(out, (x, weight), direction),
            torch.autograd.grad(plain, (x, weight), direction),
            rtol=0,
            atol=1e-12,
            msg=where,
        )
