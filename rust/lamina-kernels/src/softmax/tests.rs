use super::*;
use crate::threads;

const DIMS: [[usize; 3]; 13] = [
    [1, 1, 1],
    [4, 10, 1],
    [3, 16, 1],
    [5, 33, 1],
    [2, 1000, 1],
    [1, 5, 3],
    [2, 7, 16],
    [3, 4, 33],
    [0, 5, 1],
    [4, 0, 1],
    [3, 4, 0],
    [700, 100, 1],
    [2, 300, 100],
];

fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(77);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 * 6.0 - 6.0
        })
        .collect()
}

/// Applies a float64 function of whole lines to every line along the middle axis.
fn by_lines(
    operands: &[&[f32]],
    [outer, axis, inner]: [usize; 3],
    f: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) -> Vec<f64> {
    let mut out = vec![0.0; outer * axis * inner];
    for line in 0..outer * inner {
        let at = |r: usize| (line / inner * axis + r) * inner + line % inner;
        let lines: Vec<Vec<f64>> =
            operands.iter().map(|x| (0..axis).map(|r| f64::from(x[at(r)])).collect()).collect();
        for (r, y) in f(&lines).into_iter().enumerate() {
            out[at(r)] = y;
        }
    }
    out
}

fn log_softmax64(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log = x.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
    x.iter().map(|x| x - max - log).collect()
}

fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(g) - w).abs();
        assert!(error <= tolerance * w.abs().max(1e-2), "{what} at {i}: {g} not {w}");
    }
}

#[test]
fn forward_and_gradients_match_float64() {
    for dims in DIMS {
        let n = dims.iter().product();
        let (x, dy) = (values(n, 1), values(n, 2));
        for isa in Isa::available() {
            let what = |name: &str| format!("{name} {dims:?} on {}", isa.name());
            let mut y = vec![9.0; n];
            softmax(isa, &x, dims, &mut y);
            let want = by_lines(&[&x], dims, |l| log_softmax64(&l[0]).iter().map(|x| x.exp()).collect());
            assert_close(&y, &want, 2e-6, &what("softmax"));
            let mut dx = vec![9.0; n];
            softmax_grad(isa, &y, &dy, dims, &mut dx);
            let want = by_lines(&[&y, &dy], dims, |l| {
                let dot: f64 = l[0].iter().zip(&l[1]).map(|(y, dy)| y * dy).sum();
                l[0].iter().zip(&l[1]).map(|(y, dy)| y * (dy - dot)).collect()
            });
            assert_close(&dx, &want, 5e-5, &what("softmax_grad"));
            log_softmax(isa, &x, dims, &mut y);
            assert_close(&y, &by_lines(&[&x], dims, |l| log_softmax64(&l[0])), 1e-5, &what("log_softmax"));
            log_softmax_grad(isa, &y, &dy, dims, &mut dx);
            let want = by_lines(&[&y, &dy], dims, |l| {
                let sum: f64 = l[1].iter().sum();
                l[0].iter().zip(&l[1]).map(|(y, dy)| dy - y.exp() * sum).collect()
            });
            assert_close(&dx, &want, 2e-4, &what("log_softmax_grad"));
        }
    }
}

#[test]
fn extreme_logits_neither_overflow_nor_hide() {
    for isa in Isa::available() {
        for n in [3, 16, 40] {
            let mut x = vec![-3e38; n];
            x[1] = 3e38;
            let mut y = vec![9.0; n];
            softmax(isa, &x, [1, n, 1], &mut y);
            assert!(y.iter().enumerate().all(|(i, &p)| p == if i == 1 { 1.0 } else { 0.0 }));
            x.fill(f32::NEG_INFINITY);
            x[2] = 5.0;
            softmax(isa, &x, [1, n, 1], &mut y);
            assert!(y.iter().enumerate().all(|(i, &p)| p == if i == 2 { 1.0 } else { 0.0 }));
            for bad in [f32::NAN, f32::INFINITY] {
                x[n - 1] = bad;
                softmax(isa, &x, [1, n, 1], &mut y);
                assert!(y[n - 1].is_nan());
                softmax(isa, &x, [1, n, 1], &mut y);
                log_softmax(isa, &x, [1, n, 1], &mut y);
                assert!(y[n - 1].is_nan());
            }
        }
    }
}

#[test]
fn cross_entropy_matches_float64() {
    for [rows, classes] in [[1, 1], [5, 10], [3, 16], [4, 100], [300, 1000], [0, 3]] {
        let x = values(rows * classes, 3);
        let labels: Vec<i64> = (0..rows).map(|i| (i * 7 % classes) as i64).collect();
        let labels32: Vec<i32> = labels.iter().map(|&l| l as i32).collect();
        let g = values(rows, 4);
        for isa in Isa::available() {
            let (mut loss, mut loss32) = (vec![9.0; rows], vec![9.0; rows]);
            sparse_xent(isa, &x, [rows, classes], Labels::I64(&labels), &mut loss);
            sparse_xent(isa, &x, [rows, classes], Labels::I32(&labels32), &mut loss32);
            assert_eq!(loss, loss32);
            let mut dx = vec![9.0; rows * classes];
            sparse_xent_grad(isa, &x, [rows, classes], Labels::I64(&labels), &g, &mut dx);
            for i in 0..rows {
                let row: Vec<f64> = x[i * classes..(i + 1) * classes].iter().map(|&x| f64::from(x)).collect();
                let logs = log_softmax64(&row);
                let label = labels[i] as usize;
                assert_close(&loss[i..=i], &[-logs[label]], 2e-6, "sparse_xent");
                let want: Vec<f64> = logs
                    .iter()
                    .enumerate()
                    .map(|(k, l)| (l.exp() - f64::from(u8::from(k == label))) * f64::from(g[i]))
                    .collect();
                assert_close(&dx[i * classes..(i + 1) * classes], &want, 1e-4, "sparse_xent_grad");
            }
        }
    }
}

#[test]
fn labels_that_are_no_class_give_nan() {
    let x = [0.5; 6];
    let (mut loss, mut dx) = ([0.0; 2], [0.0; 6]);
    sparse_xent(Isa::best(), &x, [2, 3], Labels::I32(&[3, 1]), &mut loss);
    sparse_xent_grad(Isa::best(), &x, [2, 3], Labels::I32(&[-1, 1]), &[1.0, 1.0], &mut dx);
    assert!(loss[0].is_nan() && (loss[1] - 3f32.ln()).abs() < 1e-6);
    assert!(dx[..3].iter().all(|x| x.is_nan()) && dx[3..].iter().all(|x| x.is_finite()));
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    for dims in [[3000, 101, 1], [30, 50, 200]] {
        let x = values(dims.iter().product(), 6);
        let run = |n| {
            threads::set_num_threads(n);
            let mut y = vec![0.0; x.len()];
            softmax(Isa::best(), &x, dims, &mut y);
            y
        };
        let one = run(1);
        assert!(one == run(2) && one == run(4));
        threads::set_num_threads(0);
    }
}
