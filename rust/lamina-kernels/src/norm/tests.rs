use super::*;
use crate::epilogue::Act;
use crate::{Isa, threads};

fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(31);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 * 2.0 - 1.5
        })
        .collect()
}

fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len());
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let same = g.is_nan() && w.is_nan();
        assert!(
            same || (f64::from(g) - w).abs() <= tolerance * w.abs().max(1.0),
            "{what} at {i}: {g} not {w}"
        );
    }
}

const DIMS: [[usize; 2]; 13] = [
    [1, 1],
    [3, 5],
    [2, 16],
    [70, 33],
    [5, 1000],
    [200, 3],
    [1000, 15],
    [33, 1],
    [600, 64],
    [0, 4],
    [4, 0],
    [300, 130],
    [40, 10],
];

#[test]
fn layer_norm_matches_float64() {
    for [rows, n] in DIMS {
        let (x, dy) = (values(rows * n, 1), values(rows * n, 2));
        let (gamma, beta) = (values(n, 3), values(n, 4));
        for (rms, parameters) in [(false, true), (true, true), (false, false), (true, false)] {
            let epsilon = 1e-3;
            let norm = LayerNorm {
                gamma: parameters.then_some(&gamma[..]),
                beta: parameters.then_some(&beta[..]),
                epsilon,
                rms,
            };
            let g = |j: usize| if parameters { f64::from(gamma[j]) } else { 1.0 };
            let b = |j: usize| if parameters { f64::from(beta[j]) } else { 0.0 };
            let (mut want_y, mut want_dx) = (vec![0.0; rows * n], vec![0.0; rows * n]);
            let (mut want_dgamma, mut want_dbeta) = (vec![0.0; n], vec![0.0; n]);
            for r in 0..rows {
                let row: Vec<f64> = x[r * n..(r + 1) * n].iter().map(|&x| f64::from(x)).collect();
                let d: Vec<f64> = dy[r * n..(r + 1) * n].iter().map(|&x| f64::from(x)).collect();
                let mean = if rms { 0.0 } else { row.iter().sum::<f64>() / n as f64 };
                let var = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
                let rstd = 1.0 / (var + f64::from(epsilon)).sqrt();
                let h: Vec<f64> = row.iter().map(|x| (x - mean) * rstd).collect();
                let mean_g = if rms { 0.0 } else { (0..n).map(|j| d[j] * g(j)).sum::<f64>() / n as f64 };
                let mean_gh = (0..n).map(|j| d[j] * g(j) * h[j]).sum::<f64>() / n as f64;
                for j in 0..n {
                    want_y[r * n + j] = h[j] * g(j) + b(j);
                    want_dx[r * n + j] = rstd * (d[j] * g(j) - mean_g - h[j] * mean_gh);
                    want_dgamma[j] += d[j] * h[j];
                    want_dbeta[j] += d[j];
                }
            }
            for isa in Isa::available() {
                let what = |name: &str| format!("{name} [{rows}, {n}] rms {rms} on {}", isa.name());
                let (mut y, mut mean, mut rstd) = (vec![9.0; rows * n], vec![9.0; rows], vec![9.0; rows]);
                layer_norm(isa, &x, [rows, n], norm, &mut y, &mut mean, &mut rstd);
                assert_close(&y, &want_y, 1e-5, &what("y"));
                let (mut dx, mut dgamma, mut dbeta) = (vec![9.0; rows * n], vec![9.0; n], vec![9.0; n]);
                let sums = (&mut dgamma[..], &mut dbeta[..]);
                layer_norm_grad(isa, &x, &dy, [rows, n], norm, (&mean, &rstd), &mut dx, sums);
                // A row of one feature divides rounding errors by sqrt(epsilon).
                assert_close(&dx, &want_dx, 3e-5, &what("dx"));
                // Sums over rows are held to the size of their terms: they may cancel.
                let tolerance = 1e-7 * rows.max(100) as f64;
                assert_close(&dgamma, &want_dgamma, tolerance, &what("dgamma"));
                assert_close(&dbeta, &want_dbeta, tolerance, &what("dbeta"));
            }
        }
    }
}

#[test]
fn batch_norm_matches_float64() {
    for [rows, n] in DIMS {
        let (x, dy) = (values(rows * n, 1), values(rows * n, 2));
        let (gamma, beta) = (values(n, 3), values(n, 4));
        for parameters in [true, false] {
            let epsilon = 1e-3;
            let (gamma, beta) = (parameters.then_some(&gamma[..]), parameters.then_some(&beta[..]));
            let (mut want_y, mut want_dx) = (vec![0.0; rows * n], vec![0.0; rows * n]);
            let (mut want_dgamma, mut want_dbeta) = (vec![0.0; n], vec![0.0; n]);
            for c in 0..n {
                let column: Vec<f64> = (0..rows).map(|r| f64::from(x[r * n + c])).collect();
                let d: Vec<f64> = (0..rows).map(|r| f64::from(dy[r * n + c])).collect();
                let mean = column.iter().sum::<f64>() / rows as f64;
                let var = column.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / rows as f64;
                let rstd = 1.0 / (var + f64::from(epsilon)).sqrt();
                let h: Vec<f64> = column.iter().map(|x| (x - mean) * rstd).collect();
                let g = gamma.map_or(1.0, |p| f64::from(p[c]));
                want_dbeta[c] = d.iter().sum::<f64>();
                want_dgamma[c] = d.iter().zip(&h).map(|(d, h)| d * h).sum::<f64>();
                for r in 0..rows {
                    want_y[r * n + c] = h[r] * g + beta.map_or(0.0, |p| f64::from(p[c]));
                    let centred = d[r] - want_dbeta[c] / rows as f64 - h[r] * want_dgamma[c] / rows as f64;
                    want_dx[r * n + c] = g * rstd * centred;
                }
            }
            for isa in Isa::available() {
                let what = |name: &str| format!("{name} [{rows}, {n}] on {}", isa.name());
                for act in [Act::Linear, Act::Relu, Act::Tanh] {
                    let (mut y, mut mean, mut var) = (vec![9.0; rows * n], vec![9.0; n], vec![9.0; n]);
                    let statistics = (&mut mean[..], &mut var[..]);
                    batch_norm(isa, &x, [rows, n], (gamma, beta), epsilon, act, &mut y, statistics);
                    let want: Vec<f64> = want_y
                        .iter()
                        .map(|&y| match act {
                            Act::Relu => y.max(0.0),
                            Act::Tanh => y.tanh(),
                            _ => y,
                        })
                        .collect();
                    assert_close(&y, &want, 1e-5, &what("y"));
                    let (mut dx, mut dgamma, mut dbeta) = (vec![9.0; rows * n], vec![9.0; n], vec![9.0; n]);
                    let sums = (&mut dgamma[..], &mut dbeta[..]);
                    let statistics = (&mean[..], &var[..], epsilon);
                    batch_norm_grad(isa, &x, &dy, [rows, n], gamma, statistics, &mut dx, sums);
                    assert_close(&dx, &want_dx, 3e-5, &what("dx"));
                    let tolerance = 1e-7 * rows.max(100) as f64;
                    assert_close(&dgamma, &want_dgamma, tolerance, &what("dgamma"));
                    assert_close(&dbeta, &want_dbeta, tolerance, &what("dbeta"));
                }
            }
        }
    }
}

#[test]
fn nan_stays_in_its_row_or_channel() {
    let mut x = values(12 * 20, 5);
    x[3 * 20 + 7] = f32::NAN;
    for isa in Isa::available() {
        let mut y = vec![0.0; x.len()];
        let norm = LayerNorm { gamma: None, beta: None, epsilon: 1e-3, rms: false };
        layer_norm(isa, &x, [12, 20], norm, &mut y, &mut [0.0; 12], &mut [0.0; 12]);
        assert!(y.iter().enumerate().all(|(i, y)| y.is_nan() == (i / 20 == 3)));
        let statistics = (&mut [0.0; 20][..], &mut [0.0; 20][..]);
        batch_norm(isa, &x, [12, 20], (None, None), 1e-3, Act::Relu, &mut y, statistics);
        assert!(y.iter().enumerate().all(|(i, y)| y.is_nan() == (i % 20 == 7)));
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    for [rows, n] in [[5000, 70], [30_000, 5]] {
        let (x, dy) = (values(rows * n, 6), values(rows * n, 7));
        let run = |count| {
            threads::set_num_threads(count);
            let isa = Isa::best();
            let mut y = [(); 4].map(|()| vec![0.0; rows * n]);
            let mut small = [(); 6].map(|()| vec![0.0; n]);
            let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
            let norm = LayerNorm { gamma: None, beta: None, epsilon: 1e-3, rms: false };
            let [y0, y1, y2, y3] = &mut y;
            let [a, b, c, d, e, f] = &mut small;
            layer_norm(isa, &x, [rows, n], norm, y0, &mut mean, &mut rstd);
            layer_norm_grad(isa, &x, &dy, [rows, n], norm, (&mean, &rstd), y1, (a, b));
            batch_norm(isa, &x, [rows, n], (None, None), 1e-3, Act::Linear, y2, (c, d));
            batch_norm_grad(isa, &x, &dy, [rows, n], None, (c, d, 1e-3), y3, (e, f));
            (y, small)
        };
        let one = run(1);
        assert!(one == run(2) && one == run(4));
        threads::set_num_threads(0);
    }
}
