import math

import pytest
import torch
from torch import nn

from detr_d2.modeling.transformer import Transformer

D, HEADS, QUERIES, LAYERS = 12, 3, 4, 2


@pytest.fixture(params=[False, True], ids=["post-norm", "pre-norm"])
def transformer(request, randomise):
    return randomise(make_transformer(pre_norm=request.param))


def make_transformer(pre_norm=False, dropout=0.0):
    return Transformer(
        num_queries=QUERIES,
        d_model=D,
        num_heads=HEADS,
        num_encoder_layers=LAYERS,
        num_decoder_layers=LAYERS,
        dim_feedforward=7,
        dropout=dropout,
        pre_norm=pre_norm,
    ).double()


def decode(transformer, *inputs, **keywords):
    decoded = transformer(*inputs, **keywords)
    return decoded.hs, decoded.memory


def draw_inputs(batch, h=3, w=5):
    """Features, a padding mask with less of each image than of the one before, queries, positions.

    The first image has no padding.
    """
    features, positions = torch.randn(2, batch, D, h, w, dtype=torch.float64)
    mask = torch.ones(batch, h, w, dtype=torch.bool)
    for b in range(batch):
        mask[b, : h - b, : w - 2 * b] = False
    return features, mask, torch.randn(QUERIES, D, dtype=torch.float64), positions


# A plain reference: one image, one head at a time, (tokens, d) matrices.


def attention(module, queries, keys, values, padding):
    query_weight, key_weight, value_weight = module.in_proj_weight.chunk(3)
    query_bias, key_bias, value_bias = module.in_proj_bias.chunk(3)
    c = D // HEADS
    heads = []
    for head in range(HEADS):
        rows = slice(head * c, (head + 1) * c)
        q = queries @ query_weight[rows].T + query_bias[rows]
        k = keys @ key_weight[rows].T + key_bias[rows]
        v = values @ value_weight[rows].T + value_bias[rows]
        weights = (q @ k.T / math.sqrt(c)).exp()
        weights[:, padding] = 0
        heads.append(weights / weights.sum(1, keepdim=True) @ v)
    return torch.cat(heads, dim=1) @ module.out_proj.weight.T + module.out_proj.bias


def layer_norm(module, x):
    centred = x - x.mean(1, keepdim=True)
    variance = (centred**2).mean(1, keepdim=True)
    return centred / (variance + 1e-5).sqrt() * module.weight + module.bias


def feed_forward(layer, x):
    hidden = (x @ layer.linear1.weight.T + layer.linear1.bias).clamp(min=0)
    return hidden @ layer.linear2.weight.T + layer.linear2.bias


def encoder_layer(layer, x, positions, padding):
    def attend(x):
        return attention(layer.self_attn, x + positions, x + positions, x, padding)

    if layer.pre_norm:
        x = x + attend(layer_norm(layer.norm1, x))
        return x + feed_forward(layer, layer_norm(layer.norm2, x))
    x = layer_norm(layer.norm1, x + attend(x))
    return layer_norm(layer.norm2, x + feed_forward(layer, x))


def decoder_layer(layer, x, queries, memory, positions, padding):
    def attend(x):
        nowhere = torch.zeros(len(x), dtype=torch.bool)
        return attention(layer.self_attn, x + queries, x + queries, x, nowhere)

    def look(x):
        return attention(layer.multihead_attn, x + queries, memory + positions, memory, padding)

    if layer.pre_norm:
        x = x + attend(layer_norm(layer.norm1, x))
        x = x + look(layer_norm(layer.norm2, x))
        return x + feed_forward(layer, layer_norm(layer.norm3, x))
    x = layer_norm(layer.norm1, x + attend(x))
    x = layer_norm(layer.norm2, x + look(x))
    return layer_norm(layer.norm3, x + feed_forward(layer, x))


def transform_image(transformer, features, mask, queries, positions):
    """(d, h, w), (h, w), (N, d), (d, h, w) -> (L, N, d), (d, h, w)."""
    padding = mask.flatten()
    positions = positions.flatten(1).T
    memory = features.flatten(1).T
    for layer in transformer.encoder.layers:
        memory = encoder_layer(layer, memory, positions, padding)
    if transformer.encoder.norm is not None:
        memory = layer_norm(transformer.encoder.norm, memory)
    x = torch.zeros_like(queries)
    hs = []
    for layer in transformer.decoder.layers:
        x = decoder_layer(layer, x, queries, memory, positions, padding)
        hs.append(layer_norm(transformer.decoder.norm, x))
    return torch.stack(hs), memory.T.reshape(features.shape)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@torch.no_grad()
def test_equals_a_plain_reference(transformer, batch, train):
    features, mask, queries, positions = draw_inputs(batch)
    hs, memory = decode(transformer.train(train), features, mask, queries, positions)
    assert hs.shape == (LAYERS, batch, QUERIES, D)
    assert memory.shape == features.shape
    for b in range(batch):
        wanted_hs, wanted_memory = transform_image(
            transformer, features[b], mask[b], queries, positions[b]
        )
        torch.testing.assert_close(hs[:, b], wanted_hs, rtol=0, atol=1e-12)
        # At padding, memory is never looked at.
        inside = ~mask[b]
        torch.testing.assert_close(
            memory[b][:, inside], wanted_memory[:, inside], rtol=0, atol=1e-12
        )


def test_only_a_pre_norm_encoder_ends_with_a_norm():
    assert make_transformer(pre_norm=True).encoder.norm is not None
    assert make_transformer(pre_norm=False).encoder.norm is None


@torch.no_grad()
def test_padding_has_no_influence(transformer):
    features, mask, queries, positions = draw_inputs(3)
    hs, memory = decode(transformer, features, mask, queries, positions)
    padding = mask[:, None].expand_as(features)
    features[padding] = 1e3 * torch.randn_like(features[padding])
    positions[padding] = 1e3 * torch.randn_like(positions[padding])
    other_hs, other_memory = decode(transformer, features, mask, queries, positions)
    assert torch.equal(hs, other_hs)
    assert torch.equal(memory[~padding], other_memory[~padding])


@torch.no_grad()
def test_a_padded_image_is_as_without_its_padding(transformer):
    features, mask, queries, positions = draw_inputs(3)
    hs, memory = decode(transformer, features, mask, queries, positions)
    for b in range(3):
        h, w = 3 - b, 5 - 2 * b
        hs_alone, memory_alone = decode(
            transformer,
            features[b : b + 1, :, :h, :w],
            None,
            queries,
            positions[b : b + 1, :, :h, :w],
        )
        torch.testing.assert_close(hs[:, b], hs_alone[:, 0], rtol=0, atol=1e-12)
        torch.testing.assert_close(memory[b, :, :h, :w], memory_alone[0], rtol=0, atol=1e-12)


@torch.no_grad()
def test_the_last_layer_alone_is_the_last_of_all_layers(transformer):
    inputs = draw_inputs(2)
    hs, memory = decode(transformer, *inputs)
    last, memory_of_last = decode(transformer, *inputs, all_layers=False)
    assert last.shape == (1, 2, QUERIES, D)
    assert torch.equal(last, hs[-1:])
    assert torch.equal(memory_of_last, memory)


@torch.no_grad()
def test_positions_of_one_image_serve_all():
    """As they do where there is no padding: see `DETR.predict`."""
    transformer = make_transformer()
    features, _, queries, positions = draw_inputs(2)
    of_one = positions[:1]
    hs, memory = decode(transformer, features, None, queries, of_one)
    same_hs, same_memory = decode(transformer, features, None, queries, of_one.expand_as(features))
    assert torch.equal(hs, same_hs)
    assert torch.equal(memory, same_memory)


@torch.no_grad()
def test_dropout_acts_in_training_only():
    transformer = make_transformer(dropout=0.5)
    attentions = [m for m in transformer.modules() if isinstance(m, nn.MultiheadAttention)]
    assert [attention.dropout for attention in attentions] == [0.5] * 3 * LAYERS
    inputs = draw_inputs(2)
    hs, memory = decode(transformer, *inputs)
    assert not torch.equal(hs, decode(transformer, *inputs)[0])
    assert not torch.equal(memory, decode(transformer, *inputs)[1])
    transformer.eval()
    assert torch.equal(decode(transformer, *inputs)[0], decode(transformer, *inputs)[0])


@torch.no_grad()
def test_dropout_is_on_every_residual_branch(transformer):
    """Where all is dropped, the norms alone are left."""
    for module in transformer.modules():
        if isinstance(module, nn.Dropout):
            module.p = 1.0
    features, mask, queries, positions = draw_inputs(1)
    hs, memory = decode(transformer, features, mask, queries, positions)
    tokens, target = features[0].flatten(1).T, torch.zeros_like(queries)
    if transformer.encoder.norm is None:  # post-norm
        for layer in transformer.encoder.layers:
            tokens = layer_norm(layer.norm2, layer_norm(layer.norm1, tokens))
        for layer in transformer.decoder.layers:
            target = layer_norm(layer.norm2, layer_norm(layer.norm1, target))
            target = layer_norm(layer.norm3, target)
    else:
        tokens = layer_norm(transformer.encoder.norm, tokens)
    target = layer_norm(transformer.decoder.norm, target)
    torch.testing.assert_close(memory[0].flatten(1).T, tokens, rtol=0, atol=1e-12)
    torch.testing.assert_close(hs[-1, 0], target, rtol=0, atol=1e-12)


def test_every_parameter_and_input_gets_a_finite_gradient(transformer):
    features, mask, queries, positions = draw_inputs(2)
    leaves = [x.requires_grad_() for x in (features, queries, positions)]
    hs, _ = decode(transformer, features, mask, queries, positions)
    (hs * torch.randn_like(hs)).sum().backward()
    for leaf in (*leaves, *transformer.parameters()):
        assert leaf.grad.isfinite().all()
    # What is padded is not learnt from.
    assert not features.grad[mask[:, None].expand_as(features)].any()
