use super::*;
use crate::threads;

const DIMS: [[usize; 3]; 22] = [
    [1, 1, 1],
    [1, 5, 1],
    [3, 17, 1],
    [2, 1000, 1],
    [1, 20_001, 1],
    [40, 10, 1],
    [1, 40, 3],
    [1, 5000, 10],
    [2, 33, 15],
    [1, 700, 16],
    [1, 300, 17],
    [3, 9, 33],
    [1, 257, 130],
    [2, 2, 3000],
    [1, 600, 1100],
    [0, 4, 4],
    [4, 0, 4],
    [4, 4, 0],
    [5, 4, 2],
    [1, 9000, 1],
    [2, 4097, 7],
    [1, 1, 100],
];

fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(99);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 + 0.25
        })
        .collect()
}

/// The elements of one result, in order.
fn column(x: &[f32], [_, reduce, inner]: [usize; 3], i: usize) -> Vec<f64> {
    (0..reduce).map(|r| f64::from(x[(i / inner * reduce + r) * inner + i % inner])).collect()
}

fn assert_close(got: f32, want: f64, tolerance: f64, what: &str) {
    let same = got.is_nan() && want.is_nan() || f64::from(got) == want;
    assert!(same || (f64::from(got) - want).abs() <= tolerance * want.abs(), "{what}: {got}, not {want}");
}

#[test]
fn reductions_match_float64() {
    for dims in DIMS {
        let [outer, reduce_len, inner] = dims;
        let mut x = values(outer * reduce_len * inner, 3);
        if reduce_len > 100 {
            x.iter_mut().for_each(|x| *x = x.sqrt().sqrt() + 0.06); // products stay in range
        }
        for isa in Isa::available() {
            for op in [Reduce::Sum, Reduce::Mean, Reduce::SumSquares, Reduce::Prod, Reduce::Max, Reduce::Min]
            {
                let mut out = vec![7.0; outer * inner];
                reduce(isa, op, &x, dims, &mut out);
                for (i, &got) in out.iter().enumerate() {
                    let all = column(&x, dims, i);
                    let (sum, count) = (all.iter().sum::<f64>(), all.len() as f64);
                    let (want, tolerance) = match op {
                        Reduce::Sum => (sum, 4e-7),
                        Reduce::Mean => (sum / count, 4e-7),
                        Reduce::SumSquares => (all.iter().map(|x| x * x).sum(), 4e-7),
                        Reduce::Prod => (all.iter().product(), 1e-5),
                        Reduce::Max => (all.iter().copied().fold(f64::NEG_INFINITY, f64::max), 0.0),
                        Reduce::Min => (all.iter().copied().fold(f64::INFINITY, f64::min), 0.0),
                    };
                    if op == Reduce::Prod && !(1e-30..1e30).contains(&want) {
                        continue; // it left the range of f32 on the way
                    }
                    assert_close(got, want, tolerance, &format!("{op:?} {dims:?} at {i} on {}", isa.name()));
                }
            }
        }
    }
}

#[test]
fn nan_and_infinity_go_through() {
    for isa in Isa::available() {
        for dims in [[2, 300, 1], [1, 50, 40], [1, 100, 3]] {
            let [outer, reduce_len, inner] = dims;
            for place in [0, 1, reduce_len / 2, reduce_len - 1] {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut x = values(outer * reduce_len * inner, 4);
                    x[place * inner] = bad;
                    for (op, want) in [
                        (Reduce::Sum, bad),
                        (Reduce::Prod, bad),
                        (Reduce::Max, if bad < 0.0 { 1.0 } else { bad }),
                        (Reduce::Min, if bad > 0.0 { 0.5 } else { bad }),
                    ] {
                        let mut out = vec![0.0; outer * inner];
                        reduce(isa, op, &x, dims, &mut out);
                        let finite = out[0].is_finite() == want.is_finite();
                        assert!(
                            finite && out[0].is_nan() == want.is_nan(),
                            "{op:?} {dims:?} {bad}: {}",
                            out[0]
                        );
                        assert!(out[1..].iter().all(|y| y.is_finite() || op == Reduce::Prod));
                    }
                }
            }
        }
    }
}

#[test]
fn long_sums_keep_their_digits() {
    // A running sum in f32 would stop growing at 2^24.
    let x = vec![1.0; 40_000_000];
    for dims in [[1, x.len(), 1], [1, x.len() / 8, 8]] {
        let mut sum = vec![0.0; dims[2]];
        reduce(Isa::best(), Reduce::Sum, &x, dims, &mut sum);
        assert!(sum.iter().all(|&s| s == dims[1] as f32));
    }
}

#[test]
fn first_extreme_wins_and_nan_is_extreme() {
    for dims in DIMS.into_iter().filter(|d| d[1] > 0) {
        let [outer, reduce_len, inner] = dims;
        for nan in [false, true] {
            let mut x = values(outer * reduce_len * inner, 8);
            x.iter_mut().for_each(|x| *x = (*x * 50.0).floor()); // many ties
            if nan && x.len() > 3 {
                let (middle, last) = (x.len() / 2, x.len() - 1);
                (x[middle], x[last]) = (f32::NAN, f32::NAN);
            }
            for isa in Isa::available() {
                let (mut largest, mut smallest) = (vec![-1; outer * inner], vec![-1; outer * inner]);
                argmax(isa, &x, dims, &mut largest);
                argmin(isa, &x, dims, &mut smallest);
                for i in 0..largest.len() {
                    let all = column(&x, dims, i);
                    let first_nan = all.iter().position(|x| x.is_nan());
                    let max = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let min = all.iter().copied().fold(f64::INFINITY, f64::min);
                    let at = |v: f64| first_nan.or(all.iter().position(|&x| x == v)).unwrap() as i64;
                    assert_eq!(
                        (largest[i], smallest[i]),
                        (at(max), at(min)),
                        "{dims:?} at {i} on {}",
                        isa.name()
                    );
                }
            }
        }
    }
    let mut out = [9];
    argmax(Isa::best(), &[f32::NEG_INFINITY; 3], [1, 3, 1], &mut out);
    assert_eq!(out, [0]);
}

#[test]
fn moments_are_stable_far_from_zero() {
    for dims in DIMS {
        let [outer, reduce_len, inner] = dims;
        for offset in [0.0, 300.0] {
            let x: Vec<f32> = values(outer * reduce_len * inner, 5).iter().map(|x| x + offset).collect();
            for isa in Isa::available() {
                let (mut mean, mut var) = (vec![9.0; outer * inner], vec![9.0; outer * inner]);
                mean_var(isa, &x, dims, &mut mean, &mut var);
                for i in 0..mean.len() {
                    let all = column(&x, dims, i);
                    let m = all.iter().sum::<f64>() / all.len() as f64;
                    let v = all.iter().map(|x| (x - m) * (x - m)).sum::<f64>() / all.len() as f64;
                    let what = format!("{dims:?} at {i} on {}", isa.name());
                    assert_close(mean[i], m, 4e-7, &what);
                    // A block's rounded mean moves the variance by that error times the spread of the means.
                    let slack = f64::from(offset) * 6e-8 * v.sqrt() * 0.5;
                    assert!(
                        v.is_nan() || (f64::from(var[i]) - v).abs() <= 1e-5 * v + slack,
                        "{what}: {} {v}",
                        var[i]
                    );
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    for dims in [[1, 1_000_003, 1], [3, 100_001, 1], [1, 30_001, 37], [2, 50_001, 5], [1, 300, 3000]] {
        let [outer, _, inner] = dims;
        let x = values(dims.iter().product(), 6);
        let mut results = Vec::new();
        for n in [1, 2, 4] {
            threads::set_num_threads(n);
            let (mut sum, mut mean, mut var) =
                (vec![0.0; outer * inner], vec![0.0; outer * inner], vec![0.0; outer * inner]);
            reduce(Isa::best(), Reduce::Sum, &x, dims, &mut sum);
            mean_var(Isa::best(), &x, dims, &mut mean, &mut var);
            results.push((sum, mean, var));
        }
        threads::set_num_threads(0);
        assert!(results.iter().all(|r| *r == results[0]));
    }
}

#[test]
#[should_panic(expected = "the input's length")]
fn a_wrong_length_is_refused() {
    reduce(Isa::best(), Reduce::Sum, &[0.0; 5], [1, 2, 3], &mut [0.0; 3]);
}
