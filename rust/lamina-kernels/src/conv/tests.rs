use super::*;
use crate::depthwise::{DepthwiseForward, DepthwiseGradFilter, DepthwiseGradInput};
use crate::epilogue::Act;
use crate::gemm::tests::{act_f64, values};
use crate::threads;
use proptest::prelude::*;

pub(crate) const BASE: Conv2d = Conv2d {
    n: 1,
    h: 5,
    w: 5,
    c: 1,
    kh: 3,
    kw: 3,
    oh: 5,
    ow: 5,
    co: 1,
    stride: (1, 1),
    dilation: (1, 1),
    pad: (1, 1),
    groups: 1,
};

/// Calls `visit(x index, filter index, y index)` for every product of the convolution.
fn products(g: &Conv2d, mut visit: impl FnMut(usize, usize, usize)) {
    let (inputs, outputs) = (g.c / g.groups, g.co / g.groups);
    for y in 0..g.y_len() {
        let (o, pixel) = (y % g.co, y / g.co);
        let (ox, oy, n) = (pixel % g.ow, pixel / g.ow % g.oh, pixel / g.ow / g.oh);
        for tap in 0..g.kh * g.kw {
            let iy = oy * g.stride.0 + tap / g.kw * g.dilation.0;
            let ix = ox * g.stride.1 + tap % g.kw * g.dilation.1;
            if iy < g.pad.0 || ix < g.pad.1 || iy >= g.pad.0 + g.h || ix >= g.pad.1 + g.w {
                continue;
            }
            for i in 0..inputs {
                let channel = o / outputs * inputs + i;
                visit(
                    ((n * g.h + iy - g.pad.0) * g.w + ix - g.pad.1) * g.c + channel,
                    (tap * inputs + i) * g.co + o,
                    y,
                );
            }
        }
    }
}

fn close(what: &str, isa: Isa, g: &Conv2d, got: &[f32], want: &[f64], size: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (i, ((&got, want), size)) in got.iter().zip(want).zip(size).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(error <= 3e-6 * (1.0 + size), "{what} {} {g:?} at {i}: {got} is not {want}", isa.name());
    }
}

struct Results {
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
}

/// Output garbage shows where something is not written.
fn garbage(n: usize) -> Vec<f32> {
    vec![f32::NAN; n]
}

fn compute(isa: Isa, g: &Conv2d, depthwise: bool, ep: &Epilogue) -> Results {
    let (x, w, dy) = (values(g.x_len(), 1), values(g.filter_len(), 2), values(g.y_len(), 3));
    let (mut y, mut dx, mut dw) = (garbage(g.y_len()), garbage(g.x_len()), garbage(g.filter_len()));
    if depthwise {
        DepthwiseForward::new(isa, g).run(&x, &w, &mut y, ep);
        DepthwiseGradInput::new(isa, g).run(&dy, &w, &mut dx);
        DepthwiseGradFilter::new(isa, g).run(&x, &dy, &mut dw);
    } else {
        let forward = ConvForward::new(isa, g);
        let mut packed = garbage(forward.packed_len());
        forward.pack(&w, &mut packed);
        forward.run(&x, &packed, &mut y, ep);
        let grad = ConvGradInput::new(isa, g);
        let mut packed = garbage(grad.packed_len());
        grad.pack(&w, &mut packed);
        grad.run(&dy, &packed, &mut dx);
        ConvGradFilter::new(isa, g).run(&x, &dy, &mut dw);
    }
    Results { y, dx, dw }
}

pub(crate) fn check(isa: Isa, g: &Conv2d, depthwise: bool, act: Act) {
    let (x, w, dy) = (values(g.x_len(), 1), values(g.filter_len(), 2), values(g.y_len(), 3));
    let (bias, residual) = (values(g.co, 4), values(g.y_len(), 5));
    let ep = Epilogue { residual: Some(&residual), ..Epilogue::bias(&bias, act) };
    let got = compute(isa, g, depthwise, &ep);
    if !depthwise {
        let forward = ConvForward::new(isa, g);
        let (mut packed, mut onto) = (garbage(forward.packed_len()), residual.clone());
        forward.pack(&w, &mut packed);
        forward.run(&x, &packed, &mut onto, &Epilogue { onto: true, ..Epilogue::bias(&bias, act) });
        assert!(onto == got.y, "{} {g:?}: other bits onto the residual", isa.name());
    }
    let zeros = |n: usize| (vec![0.0f64; n], vec![0.0f64; n]);
    let (mut y, mut dx, mut dw) = (zeros(g.y_len()), zeros(g.x_len()), zeros(g.filter_len()));
    products(g, |xi, wi, yi| {
        let (x, w, dy) = (f64::from(x[xi]), f64::from(w[wi]), f64::from(dy[yi]));
        let add = |(sum, size): &mut (Vec<f64>, Vec<f64>), i: usize, v: f64| {
            sum[i] += v;
            size[i] += v.abs();
        };
        add(&mut y, yi, x * w);
        add(&mut dx, xi, dy * w);
        add(&mut dw, wi, x * dy);
    });
    for (i, y) in y.0.iter_mut().enumerate() {
        *y = act_f64(act, *y + f64::from(bias[i % g.co]) + f64::from(residual[i]));
    }
    close("y", isa, g, &got.y, &y.0, &y.1);
    close("dx", isa, g, &got.dx, &dx.0, &dx.1);
    close("dw", isa, g, &got.dw, &dw.0, &dw.1);
}

#[test]
fn shapes_of_known_networks() {
    let shapes = [
        Conv2d { n: 2, h: 28, w: 28, c: 1, kh: 5, kw: 5, oh: 24, ow: 24, co: 6, pad: (0, 0), ..BASE },
        Conv2d { n: 2, h: 12, w: 12, c: 6, kh: 5, kw: 5, oh: 8, ow: 8, co: 16, pad: (0, 0), ..BASE },
        Conv2d {
            h: 31,
            w: 31,
            c: 3,
            kh: 7,
            kw: 7,
            oh: 16,
            ow: 16,
            co: 20,
            stride: (2, 2),
            pad: (3, 3),
            ..BASE
        },
        Conv2d { n: 2, h: 9, w: 14, c: 70, oh: 9, ow: 14, co: 66, ..BASE },
        Conv2d { n: 3, h: 7, w: 7, c: 130, oh: 7, ow: 7, co: 40, ..BASE },
        Conv2d { h: 7, w: 7, c: 520, oh: 4, ow: 4, co: 36, stride: (2, 2), ..BASE },
        Conv2d { n: 2, h: 8, w: 8, c: 40, kh: 1, kw: 1, oh: 8, ow: 8, co: 50, pad: (0, 0), ..BASE },
        Conv2d {
            n: 2,
            h: 9,
            w: 9,
            c: 24,
            kh: 1,
            kw: 1,
            oh: 5,
            ow: 5,
            co: 50,
            stride: (2, 2),
            pad: (0, 0),
            ..BASE
        },
        Conv2d { n: 2, h: 8, w: 8, c: 24, oh: 8, ow: 8, co: 36, groups: 4, ..BASE },
        Conv2d { h: 9, w: 8, c: 256, oh: 9, ow: 8, co: 272, groups: 2, ..BASE },
        Conv2d { n: 2, h: 15, w: 17, c: 160, oh: 8, ow: 9, co: 130, stride: (2, 2), ..BASE },
        Conv2d {
            n: 4,
            h: 9,
            w: 9,
            c: 150,
            kh: 1,
            kw: 1,
            oh: 5,
            ow: 5,
            co: 140,
            stride: (2, 2),
            pad: (0, 0),
            ..BASE
        },
        Conv2d { n: 2, h: 1, w: 50, c: 12, kh: 1, kw: 4, oh: 1, ow: 50, co: 5, pad: (0, 3), ..BASE },
        Conv2d { h: 30, w: 33, c: 5, oh: 30, ow: 33, co: 9, dilation: (2, 3), pad: (2, 3), ..BASE },
    ];
    for isa in Isa::available() {
        for g in &shapes {
            check(isa, g, false, Act::Relu);
        }
        check(isa, &shapes[3], false, Act::Tanh);
    }
}

#[test]
fn strides_wider_than_the_filter_leave_zeros() {
    for isa in Isa::available() {
        let g = Conv2d {
            n: 2,
            h: 10,
            w: 11,
            c: 3,
            kh: 2,
            kw: 1,
            oh: 3,
            ow: 4,
            co: 4,
            stride: (4, 3),
            pad: (0, 0),
            ..BASE
        };
        check(isa, &g, false, Act::Linear);
        check(isa, &Conv2d { co: 6, groups: 3, ..g }, true, Act::Linear);
    }
}

#[test]
fn empty_batches_and_outputs() {
    for isa in Isa::available() {
        for depthwise in [false, true] {
            let g = Conv2d { c: 2, co: 2, groups: if depthwise { 2 } else { 1 }, ..BASE };
            check(isa, &Conv2d { n: 0, ..g }, depthwise, Act::Gelu);
            check(isa, &Conv2d { oh: 0, ..g }, depthwise, Act::Relu);
            check(isa, &Conv2d { h: 0, w: 0, pad: (5, 5), ..g }, depthwise, Act::Relu);
            check(isa, &Conv2d { kh: 1, kw: 1, pad: (0, 0), n: 0, ..g }, depthwise, Act::Relu);
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let _guard = threads::test_lock();
    let g = Conv2d { n: 6, h: 20, w: 20, c: 32, oh: 20, ow: 20, co: 64, ..BASE };
    for isa in Isa::available() {
        for (g, depthwise) in [(g, false), (Conv2d { groups: 32, ..g }, true)] {
            let mut first: Option<Results> = None;
            for count in [1, 2, 4] {
                threads::set_num_threads(count);
                let got = compute(isa, &g, depthwise, &Epilogue::act(Act::Silu));
                let first =
                    first.get_or_insert_with(|| compute(isa, &g, depthwise, &Epilogue::act(Act::Silu)));
                assert!(got.y == first.y && got.dx == first.dx && got.dw == first.dw, "{count} threads");
            }
        }
    }
    threads::set_num_threads(0);
}

#[test]
#[should_panic(expected = "do not divide into 3 groups")]
fn groups_that_do_not_divide_are_refused() {
    ConvForward::new(Isa::best(), &Conv2d { c: 4, groups: 3, ..BASE });
}

#[test]
#[should_panic(expected = "the input has")]
fn a_short_input_is_refused() {
    let conv = ConvForward::new(Isa::best(), &BASE);
    conv.run(&[0.0; 3], &vec![0.0; conv.packed_len()], &mut [0.0; 25], &Epilogue::none());
}

fn side() -> impl Strategy<Value = (usize, usize, usize, usize, usize, usize)> {
    // input, taps, stride, dilation, padding before, padding after
    (0usize..12, 1usize..5, 1usize..4, 1usize..4, 0usize..6, 0usize..6)
}

fn outputs(side: (usize, usize, usize, usize, usize, usize)) -> usize {
    let (n, k, stride, dilation, before, after) = side;
    (n + before + after).checked_sub((k - 1) * dilation + 1).map_or(0, |room| room / stride + 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn any_geometry(
        n in 0usize..4, y in side(), x in side(), inputs in 1usize..20, outs in 1usize..40, groups in 1usize..4,
        depthwise in any::<bool>(),
    ) {
        let (c, co, groups) = match depthwise {
            true => (inputs, inputs * groups, inputs),
            false => (inputs * groups, outs * groups, groups),
        };
        let g = Conv2d {
            n, h: y.0, w: x.0, c, kh: y.1, kw: x.1, oh: outputs(y), ow: outputs(x), co,
            stride: (y.2, x.2), dilation: (y.3, x.3), pad: (y.4, x.4), groups,
        };
        for isa in Isa::available() {
            check(isa, &g, depthwise, Act::Relu);
        }
    }
}
