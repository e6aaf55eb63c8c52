"""The benchmark of networks that others wrote, on a small selection."""

import pytest
import zoo

pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("name", "exact"),
    [("timm:test_resnet", True), ("timm:test_nfnet", True), ("timm:test_vit", False)],
)
def test_small_networks_agree_with_torch(name, exact):
    result = zoo.analyse(name, 3)

    assert result.is_counted_right
    assert result.is_exact == exact
    assert result.within == result.measured > 0


def test_failed_network_is_a_result():
    result = zoo.in_own_process("timm:there_is_no_such_network", 1)

    assert "there_is_no_such_network" in result.error


def test_wrong_counts_and_exceeded_fields_lower_their_rows():
    right = zoo.Result("timm:a", params=(3, 3), macs=(4, 4), measured=2, within=2, trace_ms=1.0)
    wrong = zoo.Result("timm:b", params=(3, 2), macs=(4, 4), measured=2, within=1, trace_ms=1.0)
    rows = {row.figure: row.ratio for row in zoo.figures([right, wrong], "timm")}

    assert rows["timm: counts equal; against analysed"] == 0.5
    assert rows["timm: extents within the field; against measured"] == 0.75
