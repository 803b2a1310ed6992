use super::*;
use crate::conv::ConvForward;
use crate::conv::tests::{BASE, check};
use crate::epilogue::Act;

fn geometry(c: usize, m: usize) -> Conv2d {
    Conv2d { n: 2, h: 13, w: 11, c, oh: 13, ow: 11, co: c * m, groups: c, ..BASE }
}

#[test]
fn channels_that_are_cut_into_blocks() {
    let _turn = threads::test_lock();
    for threads in [1, 2] {
        threads::set_num_threads(threads);
        for isa in Isa::available() {
            for (c, m) in [(150, 1), (203, 1), (70, 3)] {
                // Lines of more than half of L1.
                let wide = Conv2d { h: 6, w: 40, oh: 6, ow: 40, ..geometry(c, m) };
                check(isa, &wide, true, Act::Relu6);
                check(isa, &Conv2d { oh: 3, ow: 20, stride: (2, 2), ..wide }, true, Act::Silu);
            }
        }
    }
    threads::set_num_threads(0);
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

/// A pointwise convolution to `e` channels before a depthwise one, run together and one after the other.
fn check_expanded(isa: Isa, g: &Conv2d, c: usize, act: Act) {
    let first = Conv2d { c, oh: g.h, ow: g.w, co: g.c, kh: 1, kw: 1, pad: (0, 0), groups: 1, ..BASE };
    let first = Conv2d { n: g.n, h: g.h, w: g.w, ..first };
    let numbers = |n: usize, seed: usize| -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1013) as f32 / 500.0 - 1.0).collect()
    };
    let (x, kernel, filter) =
        (numbers(first.x_len(), 1), numbers(first.filter_len(), 2), numbers(g.filter_len(), 3));
    let (bias, residual) = (numbers(g.c, 4), numbers(g.y_len(), 5));
    let before = Epilogue::bias(&bias, act);
    let after = Epilogue { residual: Some(&residual), ..before };
    let pointwise = ConvForward::new(isa, &first);
    let mut packed = vec![0.0; pointwise.packed_len()];
    pointwise.pack(&kernel, &mut packed);
    let (mut middle, mut want, mut got) =
        (vec![0.0; first.y_len()], vec![0.0; g.y_len()], vec![9.0; g.y_len()]);
    pointwise.run(&x, &packed, &mut middle, &before);
    DepthwiseForward::new(isa, g).run(&middle, &filter, &mut want, &after);
    let expanded = Expanded::new(isa, &first, g);
    packed.resize(expanded.packed_len(), 0.0);
    expanded.pack(&kernel, &mut packed);
    expanded.run(&x, &packed, &before, &filter, &mut got, &after);
    assert!(got == want, "{} {g:?} {c} {act:?}", isa.name());
}

#[test]
fn expanded_convolutions_have_the_bits_of_the_two_apart() {
    let _guard = threads::test_lock();
    for threads in [1, 2, 3] {
        threads::set_num_threads(threads);
        for isa in Isa::available() {
            for e in [1, 17, 32, 40, 100] {
                check_expanded(isa, &geometry(e, 1), 3, Act::Relu6);
                let halved = Conv2d { oh: 7, ow: 6, stride: (2, 2), ..geometry(e, 1) };
                check_expanded(isa, &halved, 20, Act::Silu);
                let valid = Conv2d { kh: 5, kw: 5, oh: 9, ow: 7, pad: (0, 0), ..geometry(e, 1) };
                check_expanded(isa, &valid, 7, Act::Linear);
            }
            // Lines enough for several tasks down the image, and none at all.
            let tall = Conv2d { n: 1, h: 300, w: 40, oh: 300, ow: 40, ..geometry(33, 1) };
            check_expanded(isa, &tall, 4, Act::Relu);
            check_expanded(isa, &Conv2d { n: 0, ..geometry(5, 1) }, 4, Act::Relu);
            check_expanded(
                isa,
                &Conv2d { dilation: (2, 2), pad: (7, 9), oh: 20, ow: 25, ..geometry(5, 1) },
                4,
                Act::Relu,
            );
        }
    }
    threads::set_num_threads(0);
}
