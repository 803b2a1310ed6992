//! Convolutions of types without kernels of their own: all three faces over the same triples.

use super::*;

/// Calls `visit` with the places in X, K and Y of every product that the convolution sums.
fn products(g: &Conv2d, mut visit: impl FnMut(usize, usize, usize)) {
    let (inputs, outputs) = (g.c / g.groups, g.co / g.groups);
    let inside = |o: usize, stride: usize, k: usize, dilation: usize, pad: usize, limit: usize| {
        (o * stride + k * dilation).checked_sub(pad).filter(|&i| i < limit)
    };
    for (image, oy, ox) in (0..g.n * g.oh * g.ow).map(|p| (p / (g.oh * g.ow), p / g.ow % g.oh, p % g.ow)) {
        for (ky, kx) in (0..g.kh * g.kw).map(|k| (k / g.kw, k % g.kw)) {
            let Some(iy) = inside(oy, g.stride.0, ky, g.dilation.0, g.pad.0, g.h) else { continue };
            let Some(ix) = inside(ox, g.stride.1, kx, g.dilation.1, g.pad.1, g.w) else { continue };
            let (x, k, y) = (
                ((image * g.h + iy) * g.w + ix) * g.c,
                (ky * g.kw + kx) * inputs,
                (image * g.oh + oy) * g.ow + ox,
            );
            for (group, i, o) in (0..g.groups * inputs * outputs)
                .map(|v| (v / (inputs * outputs), v / outputs % inputs, v % outputs))
            {
                let filter = group * outputs + o;
                visit(x + group * inputs + i, (k + i) * g.co + filter, y * g.co + filter);
            }
        }
    }
}

/// Sums in float64, or in wrapping int64.
pub(super) fn generic(name: &'static str, dtype: DType, g: Conv2d, sought: Role) -> Lowering {
    let pick = move |x: usize, k: usize, y: usize| match sought {
        Role::Output => (x, k, y),
        Role::Input => (y, k, x),
        Role::Kernel => (x, y, k),
    };
    let len = match sought {
        Role::Output => g.y_len(),
        Role::Input => g.x_len(),
        Role::Kernel => g.filter_len(),
    };
    Lowering::kernel(name, flops(&g), move |call| {
        if dtype.is_float() {
            let (a, b, mut sums) = (call.wide::<f64>(0, dtype), call.wide::<f64>(1, dtype), vec![0.0; len]);
            products(&g, |x, k, y| {
                let (i, j, o) = pick(x, k, y);
                sums[o] += a[i] * b[j];
            });
            call.fill_from(0, dtype, &sums);
        } else {
            let (a, b, mut sums) = (call.wide::<i64>(0, dtype), call.wide::<i64>(1, dtype), vec![0i64; len]);
            products(&g, |x, k, y| {
                let (i, j, o) = pick(x, k, y);
                sums[o] = sums[o].wrapping_add(a[i].wrapping_mul(b[j]));
            });
            call.fill_from(0, dtype, &sums);
        }
    })
}
