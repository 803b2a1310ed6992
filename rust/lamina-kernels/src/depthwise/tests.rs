use super::joined::MOST_WINDOW_CHANNELS;
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

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1013) as f32 / 500.0 - 1.0).collect()
}

/// A convolution before a depthwise one, one of so many channels after it, or both: run together and one by one.
fn check_joined(isa: Isa, before: Option<Conv2d>, g: &Conv2d, after: Option<usize>, act: Act) {
    let last = after.map(|co| Conv2d { n: g.n, h: g.oh, w: g.ow, oh: g.oh, ow: g.ow, ..pointwise(g.co, co) });
    let joined = Joined::new(isa, before.as_ref(), g, last.as_ref());
    let (first, end) = (before.unwrap_or(*g), last.unwrap_or(*g));
    let (x, filter) = (numbers(first.x_len(), 1), numbers(g.filter_len(), 3));
    let (bias, end_bias) = (numbers(g.c, 4), numbers(end.co, 6));
    let residual = numbers(end.y_len(), 5);
    let inner = Epilogue::bias(&bias, act);
    let outer = Epilogue { residual: Some(&residual), ..Epilogue::bias(&end_bias, act) };
    let depthwise = if last.is_some() { inner } else { outer };
    let (len_before, len_after) = joined.packed_len();
    let [mut packed, mut packed_last] = [vec![0.0; len_before], vec![0.0; len_after]];
    let apart = |g: &Conv2d, kernel: &[f32], x: &[f32], ep: &Epilogue| {
        let plan = ConvForward::new(isa, g);
        let (mut packed, mut y) = (vec![0.0; plan.packed_len()], vec![0.0; g.y_len()]);
        plan.pack(kernel, &mut packed);
        plan.run(x, &packed, &mut y, ep);
        y
    };
    let mut middle = x.clone();
    if let Some(first) = &before {
        let kernel = numbers(first.filter_len(), 2);
        joined.pack_before(&kernel, &mut packed);
        middle = apart(first, &kernel, &x, &inner);
    }
    let mut want = vec![0.0; g.y_len()];
    DepthwiseForward::new(isa, g).run(&middle, &filter, &mut want, &depthwise);
    if let Some(last) = &last {
        let kernel = numbers(last.filter_len(), 7);
        joined.pack_after(&kernel, &mut packed_last);
        want = apart(last, &kernel, &want, &outer);
    }
    let mut got = vec![9.0; end.y_len()];
    let stage = |filter, epilogue| Stage { filter, epilogue };
    let (first, last) =
        (before.map(|_| stage(&packed[..], inner)), last.map(|_| stage(&packed_last[..], outer)));
    joined.run(&x, first, stage(&filter, depthwise), last, &mut got);
    assert!(got == want, "{} {before:?} {g:?} {after:?} {act:?}", isa.name());
}

fn pointwise(c: usize, co: usize) -> Conv2d {
    Conv2d { c, co, kh: 1, kw: 1, pad: (0, 0), groups: 1, ..BASE }
}

#[test]
fn joined_convolutions_have_the_bits_of_those_apart() {
    let _guard = threads::test_lock();
    for threads in [1, 2, 3] {
        threads::set_num_threads(threads);
        for isa in Isa::available() {
            let check = |c: usize, g: &Conv2d, act: Act| {
                let same = Conv2d { n: g.n, h: g.h, w: g.w, oh: g.h, ow: g.w, ..pointwise(c, g.c) };
                // Twice as large an image, of which every other pixel has a window.
                let (h, w) = (2 * g.h, 2 * g.w - 1);
                let (kh, kw) = (3, 3);
                let windows = Conv2d { kh, kw, h, w, stride: (2, 2), pad: (0, 1), ..same };
                for before in [Some(same), Some(windows), None] {
                    for after in [Some(19), Some(40), None] {
                        let fits = before.is_some() || after.is_some();
                        if fits && (g.c <= MOST_WINDOW_CHANNELS || before != Some(windows)) {
                            check_joined(isa, before, g, after, act);
                        }
                    }
                }
            };
            for e in [1, 17, 32, 40, 100] {
                check(3, &geometry(e, 1), Act::Relu6);
                check(20, &Conv2d { oh: 7, ow: 6, stride: (2, 2), ..geometry(e, 1) }, Act::Silu);
                let valid = Conv2d { kh: 5, kw: 5, oh: 9, ow: 7, pad: (0, 0), ..geometry(e, 1) };
                check(7, &valid, Act::Linear);
            }
            // Lines enough for several tasks down the image, steps over lines that nobody sees, and no image at all.
            check(4, &Conv2d { n: 1, h: 300, w: 40, oh: 300, ow: 40, ..geometry(33, 1) }, Act::Relu);
            check(
                4,
                &Conv2d { h: 40, w: 40, oh: 8, ow: 8, stride: (5, 5), pad: (0, 0), ..geometry(5, 1) },
                Act::Relu,
            );
            check(4, &Conv2d { n: 0, ..geometry(5, 1) }, Act::Relu);
            let dilated = Conv2d { dilation: (2, 2), pad: (7, 9), oh: 20, ow: 25, ..geometry(5, 1) };
            check(4, &dilated, Act::Relu);
        }
    }
    threads::set_num_threads(0);
}
