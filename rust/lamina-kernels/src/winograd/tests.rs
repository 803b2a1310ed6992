use super::*;
use crate::conv::tests::BASE;
use crate::conv::{Algorithm, ConvForward, ConvGradInput};
use crate::epilogue::Act;
use crate::gemm::tests::{act_f64, values};
use proptest::prelude::*;

const FILTERS: usize = 4 + 2 * 4;

/// Every algorithm with every filter that it computes.
fn filters() -> Vec<(Minimal, Conv2d)> {
    let sizes = (0..64).map(|i| Conv2d { kh: 1 + i / 8, kw: 1 + i % 8, ..BASE });
    let with = |g: Conv2d| Minimal::ALL.into_iter().filter(move |m| m.applies(&g)).map(move |m| (m, g));
    let filters: Vec<_> = sizes.flat_map(with).collect();
    assert_eq!(filters.len(), FILTERS, "four squares, four lines across and down");
    filters
}

/// A convolution by the filter of `g`, padded by so much before and after.
fn padded(g: Conv2d, [n, h, w, c, co]: [usize; 5], pad: (usize, usize), after: (usize, usize)) -> Conv2d {
    let (oh, ow) =
        ((h + pad.0 + after.0 + 1).saturating_sub(g.kh), (w + pad.1 + after.1 + 1).saturating_sub(g.kw));
    Conv2d { n, h, w, c, co, oh, ow, pad, ..g }
}

/// One whose output is as large as its input.
fn same(g: Conv2d, size: [usize; 5]) -> Conv2d {
    let pad = (g.kh / 2, g.kw / 2);
    padded(g, size, pad, pad)
}

fn run(isa: Isa, g: &Conv2d, minimal: Minimal, ep: &Epilogue, y: &mut [f32]) {
    let conv = ConvForward::with_algorithm(isa, g, Algorithm::Winograd(minimal));
    let mut packed = vec![f32::NAN; conv.packed_len()];
    conv.pack(&values(g.filter_len(), 2), &mut packed);
    conv.run(&values(g.x_len(), 1), &packed, y, ep);
}

fn compute(isa: Isa, g: &Conv2d, minimal: Minimal, ep: &Epilogue) -> Vec<f32> {
    // Garbage shows where something is not written.
    let mut y = vec![f32::NAN; g.y_len()];
    run(isa, g, minimal, ep, &mut y);
    y
}

/// The definition in float64, and for each output the root of the sum of its products' squares.
fn reference(g: &Conv2d) -> (Vec<f64>, Vec<f64>) {
    let (x, w) = (values(g.x_len(), 1), values(g.filter_len(), 2));
    let element = |i: usize| {
        let (o, ox, oy, n) = (i % g.co, i / g.co % g.ow, i / g.co / g.ow % g.oh, i / g.co / g.ow / g.oh);
        let (mut sum, mut squares) = (0.0, 0.0);
        for tap in 0..g.kh * g.kw {
            let (iy, ix) = ((oy + tap / g.kw).wrapping_sub(g.pad.0), (ox + tap % g.kw).wrapping_sub(g.pad.1));
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

fn check(isa: Isa, g: &Conv2d, minimal: Minimal, act: Act) {
    let (bias, residual) = (values(g.co, 4), values(g.y_len(), 5));
    let ep = Epilogue::bias(&bias, act);
    let got = compute(isa, g, minimal, &Epilogue { residual: Some(&residual), ..ep });
    let mut onto = residual.clone();
    run(isa, g, minimal, &Epilogue { onto: true, ..ep }, &mut onto);
    assert!(onto == got, "{minimal:?} {} {g:?}: other bits onto the residual", isa.name());
    let (want, size) = reference(g);
    for (i, got) in got.into_iter().enumerate() {
        let want = act_f64(act, want[i] + f64::from(bias[i % g.co]) + f64::from(residual[i]));
        let error = (f64::from(got) - want).abs();
        // A tile's outputs share its inputs: the error follows the largest of them, and that of the values is 1.
        let bound = 4e-6 * (1.0 + size[i] + ((g.kh * g.kw * g.c) as f64).sqrt());
        assert!(error <= bound, "{minimal:?} {} {g:?} at {i}: {got} is not {want}", isa.name());
    }
}

#[test]
fn shapes_of_known_networks() {
    for (minimal, filter) in filters() {
        let shapes = [
            same(filter, [2, 14, 14, 64, 64]),
            same(filter, [3, 7, 7, 130, 66]),
            padded(filter, [1, 26, 27, 32, 48], (0, 0), (0, 0)),
            same(filter, [1, 4, 9, 3, 130]),
            same(filter, [70, 6, 6, 5, 7]),
        ];
        for isa in Isa::available() {
            for g in &shapes {
                check(isa, g, minimal, Act::Relu);
            }
            check(isa, &shapes[1], minimal, Act::Tanh);
        }
    }
}

/// The geometry of a convolution along one axis, in both layouts.
#[test]
fn sequences() {
    for (minimal, filter) in filters().into_iter().filter(|(_, g)| g.kh == 1 || g.kw == 1) {
        let size = if filter.kh == 1 { [2, 1, 101, 40, 33] } else { [2, 101, 1, 40, 33] };
        for isa in Isa::available() {
            check(isa, &padded(filter, size, (0, 0), (0, 0)), minimal, Act::Relu);
            check(isa, &same(filter, size), minimal, Act::Tanh);
        }
    }
}

/// The gradient with respect to the input is the convolution of `dy` with the filter turned around.
#[test]
fn gradients_of_inputs() {
    for (minimal, filter) in filters() {
        let (top, left) = (filter.kh - 1, filter.kw - 1);
        for pad in [(0, 0), (top / 2, left / 2), (top, 0)] {
            let g = padded(filter, [2, 14, 13, 37, 20], pad, pad);
            let (dy, filter) = (values(g.y_len(), 1), values(g.filter_len(), 2));
            for isa in Isa::available() {
                let of = |algorithm| {
                    let plan = ConvGradInput::with_algorithm(isa, &g, algorithm);
                    let (mut packed, mut dx) = (vec![f32::NAN; plan.packed_len()], vec![f32::NAN; g.x_len()]);
                    plan.pack(&filter, &mut packed);
                    plan.run(&dy, &packed, &mut dx);
                    dx
                };
                for (a, b) in of(Algorithm::Winograd(minimal)).into_iter().zip(of(Algorithm::Direct)) {
                    assert!((a - b).abs() < 1e-4, "{} {minimal:?} {pad:?}: {a} is not {b}", isa.name());
                }
            }
        }
    }
}

#[test]
fn empty_batches_outputs_and_channels() {
    for isa in Isa::available() {
        for (minimal, g) in filters() {
            check(isa, &Conv2d { n: 0, ..g }, minimal, Act::Gelu);
            check(isa, &Conv2d { oh: 0, ..g }, minimal, Act::Relu);
            check(isa, &Conv2d { ow: 0, ..g }, minimal, Act::Relu);
            check(isa, &Conv2d { c: 0, ..g }, minimal, Act::Relu);
            check(isa, &Conv2d { h: 0, w: 0, pad: (5, 5), ..g }, minimal, Act::Linear);
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let _guard = threads::test_lock();
    for (minimal, filter) in filters() {
        let few = same(filter, [1, 14, 14, 96, 200]);
        let many = same(filter, [2, 40, 37, 32, 64]);
        for (isa, g) in Isa::available().into_iter().flat_map(|isa| [(isa, few), (isa, many)]) {
            let of = |count| {
                threads::set_num_threads(count);
                compute(isa, &g, minimal, &Epilogue::act(Act::Relu))
            };
            let one = of(1);
            assert!(one == of(2) && one == of(4), "other bits with more threads: {minimal:?} {g:?}");
        }
    }
    threads::set_num_threads(0);
}

/// The figures that the module's documentation states: the largest error over the outputs' root mean square.
#[test]
fn the_stated_error_holds() {
    let rms = |values: &[f64]| (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
    for (minimal, filter) in filters() {
        let stated = match minimal {
            Minimal::F2x2_3x3 => [3e-6, 6e-6],
            Minimal::F4_3 | Minimal::F2_5 => [5e-6, 1.2e-5],
            _ => [1e-5, 2.5e-5],
        };
        for (isa, (c, stated)) in Isa::available()
            .into_iter()
            .flat_map(|isa| [64, 512].into_iter().zip(stated).map(move |s| (isa, s)))
        {
            let g = same(filter, [1, 16, 16, c, 32]);
            let (want, _) = reference(&g);
            let got = compute(isa, &g, minimal, &Epilogue::none());
            let largest = got.iter().zip(&want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            let error = largest / rms(&want);
            println!("{} {minimal:?} {c}: {error:.1e}", isa.name());
            assert!(error <= stated, "{} {minimal:?} with {c} channels: {error:e}", isa.name());
        }
    }
}

#[test]
#[should_panic(expected = "F4x4_3x3 filters in steps of one pixel")]
fn strides_are_refused() {
    Winograd::new(Isa::best(), &Conv2d { stride: (2, 1), ..BASE }, Minimal::F4x4_3x3);
}

#[test]
#[should_panic(expected = "F4_5 filters in steps of one pixel")]
fn other_filters_are_refused() {
    Winograd::new(Isa::best(), &Conv2d { kh: 5, kw: 5, ..BASE }, Minimal::F4_5);
}

/// With many channels, whether the filter is packed once or for every run; with one, transforming costs more than it saves.
#[test]
fn lines_are_filtered_where_that_is_faster() {
    for isa in Isa::available() {
        for kw in [3, 5, 7] {
            for (w, repacked) in [200, 401].into_iter().flat_map(|w| [(w, false), (w, true)]) {
                let filter = Conv2d { kh: 1, kw, ..BASE };
                let wide = padded(filter, [16, 1, w, 128, 128], (0, 0), (0, 0));
                let of = |g: &Conv2d| {
                    let turned = Conv2d { h: g.w, w: g.h, kh: g.kw, kw: g.kh, oh: g.ow, ow: g.oh, ..*g };
                    let fastest = fastest(isa, g, definition_ns(isa, g), repacked);
                    let down = super::fastest(isa, &turned, definition_ns(isa, &turned), repacked);
                    assert_eq!(fastest, down, "the same down");
                    fastest
                };
                assert!(of(&wide).is_some_and(|minimal| minimal.applies(&wide)), "{} {wide:?}", isa.name());
                assert_ne!(Algorithm::fastest_grad_input(isa, &wide, repacked), Algorithm::Direct);
                assert_eq!(of(&Conv2d { c: 1, co: 1, ..wide }), None, "{}", isa.name());
                assert_eq!(of(&Conv2d { dilation: (1, 2), ..wide }), None);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_geometry(
        n in 0usize..4, h in 0usize..12, w in 0usize..12, c in 1usize..40, co in 1usize..70,
        top in 0usize..5, left in 0usize..5, bottom in 0usize..4, right in 0usize..4, which in 0..FILTERS,
    ) {
        let (minimal, filter) = filters()[which];
        let g = padded(filter, [n, h, w, c, co], (top, left), (bottom, right));
        for isa in Isa::available() {
            check(isa, &g, minimal, Act::Relu6);
        }
    }
}
