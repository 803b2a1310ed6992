use super::*;
use crate::epilogue::Act;
use proptest::prelude::*;

/// Deterministic values in [-1, 1).
pub(crate) fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// The activation in float64.
pub(crate) fn act_f64(act: Act, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let hard = |x: f64| (x / 6.0 + 0.5).clamp(0.0, 1.0);
    match act {
        Act::Linear => x,
        Act::Relu => x.max(0.0),
        Act::Relu6 => x.clamp(0.0, 6.0),
        Act::LeakyRelu(slope) => {
            if x > 0.0 {
                x
            } else {
                f64::from(slope) * x
            }
        }
        Act::Clamp(low, high) => x.clamp(low.into(), high.into()),
        Act::Sigmoid => sigmoid(x),
        Act::Tanh => x.tanh(),
        Act::Silu => x * sigmoid(x),
        Act::Gelu => {
            // erf by its Taylor series: exact enough for |x| < 3.
            let z = x / 2f64.sqrt();
            let (mut term, mut sum) = (z, z);
            for i in 1..60 {
                term *= -z * z / f64::from(i);
                sum += term / f64::from(2 * i + 1);
            }
            x / 2.0 * (1.0 + sum * 2.0 / std::f64::consts::PI.sqrt())
        }
        Act::GeluTanh => x / 2.0 * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044715 * x.powi(3))).tanh()),
        Act::Elu(alpha) => {
            if x > 0.0 {
                x
            } else {
                f64::from(alpha) * x.exp_m1()
            }
        }
        Act::Selu => 1.050_700_987_355_480_5 * if x > 0.0 { x } else { 1.673_263_242_354_377_2 * x.exp_m1() },
        Act::Softplus => x.exp().ln_1p(),
        Act::HardSigmoid => hard(x),
        Act::HardSilu => x * hard(x),
        Act::Exp => x.exp(),
    }
}

const ACTS: [Act; 16] = [
    Act::Linear,
    Act::Relu,
    Act::Relu6,
    Act::LeakyRelu(0.2),
    Act::Clamp(-0.5, 0.25),
    Act::Sigmoid,
    Act::Tanh,
    Act::Silu,
    Act::Gelu,
    Act::GeluTanh,
    Act::Elu(0.7),
    Act::Selu,
    Act::Softplus,
    Act::HardSigmoid,
    Act::HardSilu,
    Act::Exp,
];

#[derive(Clone, Copy, Debug)]
struct Case {
    m: usize,
    k: usize,
    n: usize,
    /// Whether A, B are stored transposed; whether B is packed first.
    ta: bool,
    tb: bool,
    packed: bool,
    pad: usize,
    accumulate: bool,
    bias: bool,
    residual: bool,
    act: Act,
}

fn case(m: usize, k: usize, n: usize) -> Case {
    Case {
        m,
        k,
        n,
        ta: false,
        tb: false,
        packed: true,
        pad: 0,
        accumulate: false,
        bias: false,
        residual: false,
        act: Act::Linear,
    }
}

/// Runs a case and gives C with its padding. `onto` the residual, C begins with it.
fn compute(isa: Isa, case: Case, onto: bool) -> Vec<f32> {
    let Case { m, k, n, ta, tb, packed, pad, .. } = case;
    let (a, b) = (values(m * k, 1), values(k * n, 2));
    let ldc = n + pad;
    let mut c = values(m * ldc, 3);
    let (bias, residual) = (values(n, 4), values(m * ldc, 5));
    let a = if ta { MatRef::transposed(&a, m, k) } else { MatRef::row_major(&a, m, k) };
    let b = if tb { MatRef::transposed(&b, k, n) } else { MatRef::row_major(&b, k, n) };
    if onto {
        c.copy_from_slice(&residual);
    }
    let ep = Epilogue {
        bias: case.bias.then_some(&bias),
        residual: (case.residual && !onto).then_some(&residual),
        onto,
        act: case.act,
    };
    // For so many rows, or for any number of them.
    let packing = Packing::new(isa, if pad == 0 { m } else { 0 }, k, n);
    let mut data = vec![f32::NAN; packing.packed_len()];
    let b = if packed {
        packing.pack(b, &mut data);
        packing.operand(&data)
    } else {
        B::Plain(b)
    };
    gemm(isa, a, b, &mut c, ldc, case.accumulate, &ep);
    c
}

fn check(isa: Isa, case: Case) {
    let Case { m, k, n, ta, tb, pad, .. } = case;
    let ldc = n + pad;
    let (a, b, old) = (values(m * k, 1), values(k * n, 2), values(m * ldc, 3));
    let (bias, residual) = (values(n, 4), values(m * ldc, 5));
    let got = compute(isa, case, false);
    if case.residual && !case.accumulate {
        let onto = compute(isa, case, true);
        let same = |i: usize| got[i].to_bits() == onto[i].to_bits();
        assert!((0..m * ldc).all(|i| i % ldc >= n || same(i)), "{case:?}: other bits onto the residual");
    }
    for i in 0..m {
        for j in 0..ldc {
            let at = i * ldc + j;
            if j >= n {
                assert_eq!(got[at], old[at], "{case:?}: the padding of C was touched");
                continue;
            }
            let (mut sum, mut size) = (0.0f64, 1.0f64);
            for p in 0..k {
                let x = f64::from(a[if ta { p * m + i } else { i * k + p }]);
                let y = f64::from(b[if tb { j * k + p } else { p * n + j }]);
                sum += x * y;
                size += (x * y).abs();
            }
            sum += if case.accumulate { old[at].into() } else { 0.0 };
            sum += if case.bias { bias[j].into() } else { 0.0 };
            sum += if case.residual { residual[at].into() } else { 0.0 };
            let want = act_f64(case.act, sum);
            let error = (f64::from(got[at]) - want).abs();
            assert!(
                error <= 2e-6 * size * want.abs().max(1.0),
                "{} {case:?} at ({i}, {j}): {} is not {want}",
                isa.name(),
                got[at]
            );
        }
    }
}

#[test]
fn every_height_and_width_of_tile() {
    for isa in Isa::available() {
        for m in 1..=31 {
            for n in [1, 15, 16, 17, 33, 48, 70, 129] {
                check(isa, case(m, 19, n));
            }
        }
    }
}

#[test]
fn every_layout() {
    for isa in Isa::available() {
        for (m, k, n) in [
            (1, 40, 37),
            (3, 7, 5),
            (5, 700, 50),
            (30, 33, 65),
            (45, 64, 96),
            (70, 1500, 40),
            (29, 1024, 300),
        ] {
            for flags in 0..8 {
                let (ta, tb, packed) = (flags & 1 > 0, flags & 2 > 0, flags & 4 > 0);
                check(isa, Case { ta, tb, packed, pad: flags % 3, bias: true, ..case(m, k, n) });
            }
        }
    }
}

#[test]
fn every_epilogue() {
    for isa in Isa::available() {
        for act in ACTS {
            for flags in 0..8 {
                let (accumulate, bias, residual) = (flags & 1 > 0, flags & 2 > 0, flags & 4 > 0);
                let base = Case { accumulate, bias, residual, act, pad: 1, ..case(0, 0, 0) };
                check(isa, Case { m: 17, k: 2, n: 43, ..base });
                check(isa, Case { m: 2, k: 16, n: 21, tb: true, packed: false, ..base });
            }
        }
        check(
            isa,
            Case { bias: true, residual: true, accumulate: true, act: Act::Relu, ..case(9, 1300, 35) },
        );
    }
}

#[test]
fn empty_sizes() {
    for isa in Isa::available() {
        for packed in [false, true] {
            check(isa, Case { packed, bias: true, act: Act::Relu, ..case(5, 0, 40) });
            check(isa, Case { packed, accumulate: true, ..case(5, 0, 3) });
            check(isa, Case { packed, ..case(0, 4, 3) });
            check(isa, Case { packed, ..case(4, 4, 0) });
            check(isa, Case { packed, tb: true, ..case(4, 0, 7) });
        }
    }
}

#[test]
fn nan_and_infinity_go_through() {
    for isa in Isa::available() {
        for act in [Act::Linear, Act::Relu, Act::Relu6, Act::LeakyRelu(0.1), Act::Gelu, Act::Softplus] {
            let mut c = [0.0; 2];
            let b = MatRef::row_major(&[1.0, 1.0], 1, 2);
            gemm(
                isa,
                MatRef::row_major(&[f32::NAN], 1, 1),
                B::Plain(b),
                &mut c,
                2,
                false,
                &Epilogue::act(act),
            );
            assert!(c.iter().all(|c| c.is_nan()), "{act:?} hides a NaN");
        }
    }
}

/// Large products, by AMX where there is AMX, have the rows of small ones, which never are AMX's: where numbers are not
/// finite or too large for bf16, and as nearly as they may where they are.
#[test]
fn rows_that_are_not_finite_are_those_of_fma() {
    let (m, k, n) = (70, 150, 130);
    for isa in Isa::available() {
        for seed in 0..8 {
            let (mut a, mut b) = (values(m * k, seed), values(k * n, seed + 10));
            let odd = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, 3.4e38];
            a[(seed as usize * 9 + 3) * k + 40] = odd[seed as usize % 6];
            a[(seed as usize * 9 + 4) * k + 99] = odd[(seed as usize + 1) % 6];
            if seed > 5 {
                b[50 * n + 129] = odd[seed as usize - 6];
                b[51 * n + 6] = odd[seed as usize - 5];
            }
            let columns: Vec<f32> = (0..m * k).map(|i| a[i % m * k + i / m]).collect();
            let run = |a: MatRef, packing: Packing| {
                let mut packed = vec![0.0; packing.packed_len()];
                packing.pack(MatRef::row_major(&b, k, n), &mut packed);
                let mut c = vec![0.0; a.rows * n];
                gemm(isa, a, packing.operand(&packed), &mut c, n, false, &Epilogue::act(Act::Relu));
                c
            };
            let panels = Packing::new(isa, 0, k, n);
            for packing in [panels, Packing::new(isa, m, k, n)] {
                let all = run(MatRef::row_major(&a, m, k), packing);
                let bits = |c: &[f32]| c.iter().map(|c| c.to_bits()).collect::<Vec<_>>();
                assert!(bits(&all) == bits(&run(MatRef::transposed(&columns, m, k), packing)));
                for (row, c) in a.chunks(k).zip(all.chunks(n)) {
                    for (one, c) in run(MatRef::row_major(row, 1, k), panels).into_iter().zip(c) {
                        let finite = one.is_finite() && one.abs() < 1e30;
                        let same = if finite { (one - c).abs() < 2e-5 } else { one == *c };
                        assert!(same || (one.is_nan() && c.is_nan()), "{} {seed}: {one} {c}", isa.name());
                    }
                }
            }
        }
    }
}

/// Three parts hold all 24 bits, over the whole range but its lowest end: the error is that of a sum in float32.
#[test]
fn large_products_keep_all_bits() {
    let (m, k, n) = (128, 128, 128);
    for isa in Isa::available() {
        for scale in [1e-24f32, 1e-3, 1.0, 1e15] {
            // One element of k each: the product is exact but for its last rounding.
            let a: Vec<f32> = values(m * k, 1)
                .iter()
                .enumerate()
                .map(|(i, v)| if i % k == i / k { v * scale } else { 0.0 })
                .collect();
            let b = values(k * n, 2);
            let mut c = vec![0.0; m * n];
            gemm(
                isa,
                MatRef::row_major(&a, m, k),
                B::Plain(MatRef::row_major(&b, k, n)),
                &mut c,
                n,
                false,
                &Epilogue::none(),
            );
            for (i, c) in c.iter().enumerate() {
                let exact = f64::from(a[i / n * k + i / n]) * f64::from(b[i]);
                let error = (f64::from(*c) - exact).abs() / exact.abs().max(f64::from(scale) * 1e-6);
                assert!(error < 1.5e-7, "{} {scale:e} at {i}: {c:e} for {exact:e}", isa.name());
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_rows_or_threads() {
    let _guard = crate::threads::test_lock();
    for isa in Isa::available() {
        let (m, k, n) = (150, 900, 200);
        for packed in [true, false] {
            let big = Case { packed, act: Act::Tanh, bias: true, ..case(m, k, n) };
            crate::threads::set_num_threads(1);
            let one = compute(isa, big, false);
            for threads in [2, 4] {
                crate::threads::set_num_threads(threads);
                assert!(compute(isa, big, false) == one, "{threads} threads");
            }
            crate::threads::set_num_threads(0);
            // AMX rounds in another way, and takes many rows only.
            let rows = if amx_pays(isa, m, k, n) { [32, 45, 96, 127, 149] } else { [1, 2, 6, 13, 40] };
            for m in rows {
                let few = compute(isa, Case { m, ..big }, false);
                assert!(few[..] == one[..m * n], "{m} rows");
            }
        }
    }
}

/// Every other time few rows read a matrix backwards.
#[test]
fn bits_do_not_depend_on_how_often() {
    let _turn = threads::test_lock();
    for isa in Isa::available() {
        for (m, k, n) in [(1, 784, 512), (1, 300, 384), (2, 900, 700), (3, 256, 1000), (1, 1500, 777)] {
            let (a, b) = (values(m * k, 1), values(k * n, 2));
            let packing = Packing::new(isa, m, k, n);
            let mut packed = vec![0.0; packing.packed_len()];
            packing.pack(MatRef::row_major(&b, k, n), &mut packed);
            let run = |threads: usize| {
                threads::set_num_threads(threads);
                let mut c = vec![7.0; m * n];
                let (a, b) = (MatRef::row_major(&a, m, k), packing.operand(&packed));
                gemm(isa, a, b, &mut c, n, false, &Epilogue::none());
                c
            };
            let first = run(1);
            for threads in [1, 2, 2, 3, 3, 5, 5] {
                assert!(first == run(threads), "{} {m} x {k} x {n} on {threads} threads", isa.name());
            }
        }
    }
    threads::set_num_threads(0);
}

/// A B that is packed on the way is cut by whoever packs it and by whoever reads it alike.
#[test]
fn few_rows_by_a_transposed_matrix() {
    for isa in Isa::available() {
        for m in 1..=4 {
            for n in (8..200).step_by(8) {
                let (k, a, b) = (9, values(9 * m, 1), values(9 * n, 2));
                let mut c = vec![7.0; m * n];
                let (a, b) = (MatRef::transposed(&a, m, k), MatRef::transposed(&b, k, n));
                gemm(isa, a, B::Plain(b), &mut c, n, false, &Epilogue::none());
                for (i, &c) in c.iter().enumerate() {
                    let at = |p: usize| a.data[p * m + i / n] * b.data[i % n * k + p];
                    let wanted: f32 = (0..k).map(at).sum();
                    assert!((c - wanted).abs() < 1e-5, "{} {m} x {n} at {i}: {c} for {wanted}", isa.name());
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "leaves its slice")]
fn a_short_slice_is_refused() {
    let a = MatRef::row_major(&[0.0; 5], 2, 3);
    gemm(Isa::best(), a, B::Plain(a.t()), &mut [0.0; 4], 2, false, &Epilogue::none());
}

#[test]
fn double_precision() {
    for isa in Isa::available() {
        for (m, k, n) in [(1, 1, 1), (5, 0, 3), (7, 300, 33), (67, 129, 40), (0, 3, 2)] {
            let wide = |v: Vec<f32>| v.into_iter().map(f64::from).collect::<Vec<_>>();
            let (a, b) = (wide(values(m * k, 1)), wide(values(k * n, 2)));
            for accumulate in [false, true] {
                let mut c = vec![1.0; m * (n + 1)];
                let (ar, br) = (MatRef::transposed(&a, m, k), MatRef::row_major(&b, k, n));
                gemm_f64(isa, ar, br, &mut c, n + 1, accumulate);
                for i in 0..m {
                    for j in 0..n {
                        let sum: f64 = (0..k).map(|p| a[p * m + i] * b[p * n + j]).sum();
                        let want = sum + f64::from(u8::from(accumulate));
                        assert!((c[i * (n + 1) + j] - want).abs() < 1e-12 * (k + 1) as f64);
                    }
                    assert_eq!(c[i * (n + 1) + n], 1.0);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_shape(m in 0usize..60, k in 0usize..90, n in 0usize..120, flags in 0u8..64, pad in 0usize..3) {
        let bit = |i: u8| flags >> i & 1 == 1;
        for isa in Isa::available() {
            check(isa, Case {
                m, k, n, pad, ta: bit(0), tb: bit(1), packed: bit(2), accumulate: bit(3), bias: bit(4),
                residual: bit(5), act: Act::Relu,
            });
        }
    }

    #[test]
    fn any_large_shape(m in 28usize..150, k in 100usize..300, n in 100usize..200, flags in 0u8..64) {
        let bit = |i: u8| flags >> i & 1 == 1;
        for isa in Isa::available() {
            check(isa, Case {
                m, k, n, pad: usize::from(bit(0)), ta: bit(0), tb: bit(1), packed: bit(2), accumulate: bit(3),
                bias: bit(4), residual: bit(5), act: if bit(0) { Act::Relu } else { Act::Tanh },
            });
        }
    }
}
