use super::*;
use crate::conv::tests::BASE;
use crate::conv::{Algorithm, ConvForward, ConvGradInput};
use crate::epilogue::Act;
use crate::gemm::tests::{act_f64, values};
use proptest::prelude::*;

const SIDES: [Side; 2] = [Side::Two, Side::Four];

fn compute(isa: Isa, g: &Conv2d, side: Side, ep: &Epilogue) -> Vec<f32> {
    let conv = ConvForward::with_algorithm(isa, g, Algorithm::Winograd(side));
    // Garbage shows where something is not written.
    let (mut packed, mut y) = (vec![f32::NAN; conv.packed_len()], vec![f32::NAN; g.y_len()]);
    conv.pack(&values(g.filter_len(), 2), &mut packed);
    conv.run(&values(g.x_len(), 1), &packed, &mut y, ep);
    y
}

/// The definition in float64, and for each output the root of the sum of its products' squares.
fn reference(g: &Conv2d) -> (Vec<f64>, Vec<f64>) {
    let (x, w) = (values(g.x_len(), 1), values(g.filter_len(), 2));
    let element = |i: usize| {
        let (o, ox, oy, n) = (i % g.co, i / g.co % g.ow, i / g.co / g.ow % g.oh, i / g.co / g.ow / g.oh);
        let (mut sum, mut squares) = (0.0, 0.0);
        for tap in 0..9 {
            let (iy, ix) = ((oy + tap / 3).wrapping_sub(g.pad.0), (ox + tap % 3).wrapping_sub(g.pad.1));
            for c in (0..g.c).filter(|_| iy < g.h && ix < g.w) {
                let x = f64::from(x[((n * g.h + iy) * g.w + ix) * g.c + c]);
                let product = x * f64::from(w[(tap * g.c + c) * g.co + o]);
                sum += product;
                squares += product * product;
            }
        }
        (sum, squares.sqrt())
    };
    (0..g.y_len()).map(element).unzip()
}

fn check(isa: Isa, g: &Conv2d, side: Side, act: Act) {
    let (bias, residual) = (values(g.co, 4), values(g.y_len(), 5));
    let got = compute(isa, g, side, &Epilogue { bias: Some(&bias), residual: Some(&residual), act });
    let (want, size) = reference(g);
    for (i, got) in got.into_iter().enumerate() {
        let want = act_f64(act, want[i] + f64::from(bias[i % g.co]) + f64::from(residual[i]));
        let error = (f64::from(got) - want).abs();
        // A tile's outputs share its inputs: the error follows the largest of them, and that of the values is 1.
        let bound = 4e-6 * (1.0 + size[i] + (9.0 * g.c as f64).sqrt());
        assert!(error <= bound, "{side:?} {} {g:?} at {i}: {got} is not {want}", isa.name());
    }
}

#[test]
fn shapes_of_known_networks() {
    let shapes = [
        Conv2d { n: 2, h: 14, w: 14, c: 64, oh: 14, ow: 14, co: 64, ..BASE },
        Conv2d { n: 3, h: 7, w: 7, c: 130, oh: 7, ow: 7, co: 66, ..BASE },
        Conv2d { h: 26, w: 27, c: 32, oh: 24, ow: 25, co: 48, pad: (0, 0), ..BASE },
        Conv2d { h: 4, w: 9, c: 3, oh: 4, ow: 9, co: 130, ..BASE },
        Conv2d { n: 70, h: 6, w: 6, c: 5, oh: 6, ow: 6, co: 7, ..BASE },
    ];
    for isa in Isa::available() {
        for side in SIDES {
            for g in &shapes {
                check(isa, g, side, Act::Relu);
            }
            check(isa, &shapes[1], side, Act::Tanh);
        }
    }
}

/// The gradient with respect to the input is the convolution of `dy` with the filter turned around.
#[test]
fn gradients_of_inputs() {
    for isa in Isa::available() {
        for (side, pad) in SIDES.into_iter().flat_map(|side| [(0, 0), (1, 1), (2, 0)].map(|pad| (side, pad)))
        {
            let (oh, ow) = (12 + 2 * pad.0, 11 + 2 * pad.1);
            let g = Conv2d { n: 2, h: 14, w: 13, c: 37, oh, ow, co: 20, pad, ..BASE };
            let (dy, filter) = (values(g.y_len(), 1), values(g.filter_len(), 2));
            let of = |algorithm| {
                let plan = ConvGradInput::with_algorithm(isa, &g, algorithm);
                let (mut packed, mut dx) = (vec![f32::NAN; plan.packed_len()], vec![f32::NAN; g.x_len()]);
                plan.pack(&filter, &mut packed);
                plan.run(&dy, &packed, &mut dx);
                dx
            };
            for (a, b) in of(Algorithm::Winograd(side)).into_iter().zip(of(Algorithm::Direct)) {
                assert!((a - b).abs() < 1e-4, "{} {side:?} {pad:?}: {a} is not {b}", isa.name());
            }
        }
    }
}

#[test]
fn empty_batches_outputs_and_channels() {
    for isa in Isa::available() {
        for side in SIDES {
            check(isa, &Conv2d { n: 0, ..BASE }, side, Act::Gelu);
            check(isa, &Conv2d { oh: 0, ..BASE }, side, Act::Relu);
            check(isa, &Conv2d { c: 0, ..BASE }, side, Act::Relu);
            check(isa, &Conv2d { h: 0, w: 0, pad: (5, 5), ..BASE }, side, Act::Linear);
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let _guard = threads::test_lock();
    let few = Conv2d { n: 1, h: 14, w: 14, c: 96, oh: 14, ow: 14, co: 200, ..BASE };
    let many = Conv2d { n: 2, h: 40, w: 37, c: 32, oh: 40, ow: 37, co: 64, ..BASE };
    for isa in Isa::available() {
        for (g, side) in SIDES.into_iter().flat_map(|side| [(few, side), (many, side)]) {
            let of = |count| {
                threads::set_num_threads(count);
                compute(isa, &g, side, &Epilogue::act(Act::Relu))
            };
            let one = of(1);
            assert!(one == of(2) && one == of(4), "other bits with more threads: {side:?} {g:?}");
        }
    }
    threads::set_num_threads(0);
}

/// The figures that the module's documentation states: the largest error over the outputs' root mean square.
#[test]
fn the_stated_error_holds() {
    let rms = |values: &[f64]| (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
    for isa in Isa::available() {
        for (c, side, stated) in
            [(64, Side::Two, 3e-6), (64, Side::Four, 1e-5), (512, Side::Two, 6e-6), (512, Side::Four, 2.5e-5)]
        {
            let g = Conv2d { h: 16, w: 16, c, oh: 16, ow: 16, co: 32, ..BASE };
            let (want, _) = reference(&g);
            let got = compute(isa, &g, side, &Epilogue::none());
            let largest = got.iter().zip(&want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            let error = largest / rms(&want);
            println!("{} {side:?} {c}: {error:.1e}", isa.name());
            assert!(error <= stated, "{} {side:?} with {c} channels: {error:e}", isa.name());
        }
    }
}

#[test]
#[should_panic(expected = "only 3x3 filters of stride 1")]
fn strides_are_refused() {
    Winograd::new(Isa::best(), &Conv2d { stride: (2, 1), ..BASE }, Side::Four);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn any_geometry(
        n in 0usize..4, h in 0usize..12, w in 0usize..12, c in 1usize..40, co in 1usize..70,
        top in 0usize..5, left in 0usize..5, bottom in 0usize..4, right in 0usize..4, four in any::<bool>(),
    ) {
        let (oh, ow) = ((h + top + bottom).saturating_sub(2), (w + left + right).saturating_sub(2));
        let g = Conv2d { n, h, w, c, oh, ow, co, pad: (top, left), ..BASE };
        for isa in Isa::available() {
            check(isa, &g, if four { Side::Four } else { Side::Two }, Act::Relu6);
        }
    }
}
