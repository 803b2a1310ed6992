use super::*;
use crate::threads;

/// Numbers with many ties.
fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_769) | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as f32
    };
    (0..n).map(|_| (next() % 23.0 - 11.0) / 4.0).collect()
}

/// For each output element its place and those of the inputs under its window, by asking every tap.
fn windows(g: &Pool2d) -> Vec<(usize, Vec<usize>)> {
    let mut all = vec![];
    for (image, oy) in (0..g.n * g.oh).map(|i| (i / g.oh, i % g.oh)) {
        for (ox, c) in (0..g.ow * g.c).map(|i| (i / g.c, i % g.c)) {
            let mut under = vec![];
            for (ky, kx) in (0..g.kh * g.kw).map(|k| (k / g.kw, k % g.kw)) {
                let y = (oy * g.stride.0 + ky).checked_sub(g.pad.0).filter(|&y| y < g.h);
                let x = (ox * g.stride.1 + kx).checked_sub(g.pad.1).filter(|&x| x < g.w);
                if let (Some(y), Some(x)) = (y, x) {
                    under.push(((image * g.h + y) * g.w + x) * g.c + c);
                }
            }
            all.push((((image * g.oh + oy) * g.ow + ox) * g.c + c, under));
        }
    }
    all
}

/// The four results in float64.
fn reference(g: &Pool2d, x: &[f32], dy: &[f32]) -> [Vec<f64>; 4] {
    let [mut max, mut mean] = [vec![0.0; g.y_len()], vec![0.0; g.y_len()]];
    let [mut routed, mut shared] = [vec![0.0; g.x_len()], vec![0.0; g.x_len()]];
    for (o, under) in windows(g) {
        let values: Vec<f64> = under.iter().map(|&i| f64::from(x[i])).collect();
        max[o] = if values.iter().any(|v| v.is_nan()) {
            f64::NAN
        } else {
            values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        };
        mean[o] = values.iter().sum::<f64>() / values.len() as f64;
        if let Some(first) = values.iter().position(|&v| v == max[o] || v.is_nan()) {
            routed[under[first]] += f64::from(dy[o]);
        }
        for &i in &under {
            shared[i] += f64::from(dy[o]) / values.len() as f64;
        }
    }
    [max, mean, routed, shared]
}

fn results(isa: Isa, g: &Pool2d, x: &[f32], dy: &[f32]) -> [Vec<f32>; 4] {
    // Every element must be written.
    let [mut max, mut mean] = [vec![f32::MAX; g.y_len()], vec![f32::MAX; g.y_len()]];
    let [mut routed, mut shared] = [vec![f32::MAX; g.x_len()], vec![f32::MAX; g.x_len()]];
    max_pool(isa, g, x, &mut max);
    avg_pool(isa, g, x, &mut mean);
    max_pool_grad(isa, g, x, dy, &mut routed);
    avg_pool_grad(isa, g, dy, &mut shared);
    [max, mean, routed, shared]
}

fn check_values(g: &Pool2d, x: &[f32], dy: &[f32]) {
    let wanted = reference(g, x, dy);
    for isa in Isa::available() {
        let got = results(isa, g, x, dy);
        for (kind, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
            for (i, (&got, &wanted)) in got.iter().zip(wanted).enumerate() {
                let same = f64::from(got) == wanted || (got.is_nan() && wanted.is_nan());
                let close = kind != 0 && (f64::from(got) - wanted).abs() <= 2e-6 * wanted.abs().max(1.0);
                assert!(
                    same || close,
                    "{} result {kind}, element {i}: {got}, not {wanted}: {g:?}",
                    isa.name()
                );
            }
        }
    }
}

fn check(g: &Pool2d) {
    check_values(g, &numbers(g.x_len(), 1), &numbers(g.y_len(), 2));
}

const BASE: Pool2d =
    Pool2d { n: 2, h: 9, w: 11, c: 3, kh: 2, kw: 2, oh: 4, ow: 5, stride: (2, 2), pad: (0, 0) };

fn geometries() -> Vec<Pool2d> {
    vec![
        BASE,
        // Every element under one window.
        Pool2d { h: 8, w: 10, ..BASE },
        Pool2d { h: 4, w: 10, kh: 1, stride: (1, 2), ..BASE },
        // "same", with the odd pixel at the end.
        Pool2d { oh: 5, ow: 6, ..BASE },
        Pool2d { kh: 3, kw: 3, oh: 5, ow: 6, pad: (1, 1), ..BASE },
        Pool2d { h: 8, w: 10, kh: 3, kw: 3, ow: 5, ..BASE },
        Pool2d { kh: 3, kw: 4, oh: 9, ow: 11, stride: (1, 1), pad: (1, 1), ..BASE },
        // Gaps between windows, windows of one, the whole image.
        Pool2d { oh: 3, ow: 11, kw: 1, stride: (3, 1), ..BASE },
        Pool2d { kh: 1, kw: 1, oh: 5, ow: 6, ..BASE },
        Pool2d { kh: 9, kw: 11, oh: 1, ow: 1, ..BASE },
        Pool2d { kh: 5, kw: 3, oh: 9, ow: 4, stride: (1, 3), pad: (2, 1), ..BASE },
        // One dimension.
        Pool2d { h: 1, w: 33, kh: 1, kw: 3, oh: 1, ow: 17, stride: (1, 2), pad: (0, 1), ..BASE },
        // Padding wider than the window: some windows have no element.
        Pool2d { n: 1, h: 2, w: 3, kh: 2, kw: 2, oh: 4, ow: 5, stride: (2, 2), pad: (3, 4), c: 3 },
        // No image, no window, no channel.
        Pool2d { n: 0, ..BASE },
        Pool2d { oh: 0, ..BASE },
        Pool2d { ow: 0, ..BASE },
        Pool2d { c: 0, ..BASE },
        Pool2d { h: 0, w: 0, oh: 0, ow: 0, ..BASE },
        Pool2d { w: 0, oh: 2, ow: 1, ..BASE },
        Pool2d { h: 0, oh: 1, ow: 2, pad: (1, 0), ..BASE },
    ]
}

#[test]
fn every_geometry_and_width_of_channels() {
    for g in geometries() {
        for c in [1, 3, 4, 8, 15, 16, 17, 40, 64, 70].map(|c| c * g.c.min(1)) {
            check(&Pool2d { c, ..g });
        }
    }
}

#[test]
fn images_that_are_cut_into_blocks() {
    let _guard = threads::test_lock();
    let tall = Pool2d { n: 3, h: 301, w: 37, c: 20, oh: 150, ow: 18, ..BASE };
    for g in [
        tall,
        Pool2d { kh: 3, kw: 3, oh: 151, ow: 19, pad: (1, 1), ..tall },
        Pool2d { kh: 5, kw: 1, oh: 301, ow: 37, stride: (1, 1), pad: (2, 0), c: 3, ..tall },
        Pool2d { h: 300, w: 36, oh: 100, ow: 18, kh: 3, stride: (3, 2), ..tall },
    ] {
        check(&g);
        let (x, dy) = (numbers(g.x_len(), 3), numbers(g.y_len(), 4));
        for isa in Isa::available() {
            let bits = |threads: usize| {
                threads::set_num_threads(threads);
                results(isa, &g, &x, &dy).map(|v| v.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            };
            let alone = bits(1);
            assert!([2, 4].into_iter().all(|threads| bits(threads) == alone), "{}", isa.name());
        }
        threads::set_num_threads(0);
    }
}

#[test]
fn nan_and_infinity() {
    for c in [1, 5, 19] {
        let g = Pool2d { kh: 3, kw: 3, oh: 5, ow: 6, pad: (1, 1), c, ..BASE };
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = numbers(g.x_len(), 5);
            for i in (0..x.len()).step_by(29) {
                x[i] = special;
            }
            check_values(&g, &x, &numbers(g.y_len(), 6));
        }
        check_values(&g, &vec![f32::NEG_INFINITY; g.x_len()], &numbers(g.y_len(), 7));
    }
}

#[test]
fn the_first_of_equals_takes_the_gradient() {
    let g = Pool2d { n: 1, h: 2, w: 2, c: 1, oh: 1, ow: 1, ..BASE };
    for isa in Isa::available() {
        let mut dx = [9.0; 4];
        max_pool_grad(isa, &g, &[1.0, 2.0, 2.0, 2.0], &[5.0], &mut dx);
        assert_eq!(dx, [0.0, 5.0, 0.0, 0.0]);
        max_pool_grad(isa, &g, &[-0.0, 0.0, -1.0, 0.0], &[5.0], &mut dx);
        assert_eq!(dx, [5.0, 0.0, 0.0, 0.0]);
    }
}

#[test]
#[should_panic(expected = "n * oh * ow * c")]
fn other_lengths_are_refused() {
    max_pool(Isa::best(), &BASE, &vec![0.0; BASE.x_len()], &mut [0.0; 7]);
}
