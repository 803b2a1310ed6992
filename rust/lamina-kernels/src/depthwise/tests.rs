use super::*;
use crate::conv::tests::{BASE, check};
use crate::epilogue::Act;

fn geometry(c: usize, m: usize) -> Conv2d {
    Conv2d { n: 2, h: 13, w: 11, c, oh: 13, ow: 11, co: c * m, groups: c, ..BASE }
}

#[test]
fn every_width_of_channels() {
    for isa in Isa::available() {
        for c in [1, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 70] {
            check(isa, &geometry(c, 1), true, Act::Relu6);
        }
    }
}

#[test]
fn multipliers_strides_and_dilations() {
    for isa in Isa::available() {
        for m in [2, 3] {
            check(isa, &geometry(9, m), true, Act::Relu);
            check(
                isa,
                &Conv2d { oh: 6, ow: 5, stride: (2, 2), pad: (0, 0), ..geometry(20, m) },
                true,
                Act::Silu,
            );
        }
        let dilated = Conv2d { kh: 5, kw: 2, dilation: (2, 3), pad: (4, 1), ..geometry(18, 1) };
        check(isa, &Conv2d { ow: 10, ..dilated }, true, Act::Linear);
    }
}

#[test]
#[should_panic(expected = "a group per channel")]
fn other_groups_are_refused() {
    DepthwiseForward::new(Isa::best(), &Conv2d { groups: 1, ..geometry(4, 1) });
}
