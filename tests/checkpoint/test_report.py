import torch

from detr_d2.checkpoint.report import fit, table

A, B = torch.zeros(2), torch.zeros(3)


def test_fit():
    fitted = fit({"same": A, "shape": A, "more": A}, {"same": B[:2], "shape": B, "less": A})
    assert fitted.weights == {"same": A}
    assert fitted.missing == ["less"]
    assert fitted.unexpected == ["more"]
    assert fitted.wrong_shape == [("shape", (2,), (3,))]


def test_table_has_everything_that_does_not_fit():
    checkpoint = {
        "shape": A,
        "net.1.a": A,
        "net.2.a": A,
        "net.2.b": A,
        "fc.weight": A,
        "fc.bias": A,
    }
    model = {"shape": B, "net.2.b": A, "head.x": A, "head.y.z": A}
    text = table(fit(checkpoint, model), checkpoint, model)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert rows[2:] == [
        ["missing: initial value", "head.*", "2", ""],
        ["wrong shape: not loaded", "shape", "1", "(2,), model: (3,)"],
        # net.1 as a whole, and a of net.2, whose b is known
        ["unexpected: not used", "net.*.*", "1", ""],
        ["unexpected: not used", "net.*.a", "1", ""],
        ["unexpected: not used", "fc.*", "2", ""],
    ]


def test_no_table_where_all_fits():
    assert table(fit({"a": A}, {"a": A}), {"a": A}, {"a": A}) == ""


def test_counters_of_norms_are_no_weights():
    weights = {"bn.num_batches_tracked": torch.tensor(3), "bn.weight": torch.zeros(2)}
    without = {"bn.weight": torch.ones(2)}
    assert table(fit(weights, without), weights, without) == ""
    assert table(fit(without, weights), without, weights) == ""
