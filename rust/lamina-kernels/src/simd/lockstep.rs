//! Several vectors as one.

#![allow(clippy::needless_range_loop)] // registers are arrays, indexed in step

use super::Simd;

/// `N` vectors of `S` that take every step together. The steps of a long chain, such as an exponential, each
/// wait for the one before: with several chains side by side the machine has work meanwhile.
#[derive(Clone, Copy)]
pub struct Lockstep<S, const N: usize>(pub S);

// Loops and not closures, which would not inherit the target features.
macro_rules! each {
    ($s:ident, $($name:ident($($x:ident),*);)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($x: Self::V),*) -> Self::V {
                let $s = self.0;
                let mut y = [$s.zero(); N];
                for i in 0..N {
                    y[i] = $s.$name($($x[i]),*);
                }
                y
            }
        )*
    };
}

macro_rules! compare {
    ($($name:ident)*) => {
        $(
            #[inline(always)]
            fn $name(self, a: Self::V, b: Self::V) -> Self::M {
                let mut m = [self.0.$name(a[0], b[0]); N];
                for i in 1..N {
                    m[i] = self.0.$name(a[i], b[i]);
                }
                m
            }
        )*
    };
}

impl<S: Simd, const N: usize> Simd for Lockstep<S, N> {
    type V = [S::V; N];
    type M = [S::M; N];
    const LANES: usize = N * S::LANES;
    const STEPS: usize = S::STEPS;
    const REGISTERS: usize = S::REGISTERS / N;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [self.0.splat(x); N]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        let mut v = self.zero();
        for i in 0..N {
            // SAFETY: the caller's contract.
            v[i] = unsafe { self.0.load(p.add(i * S::LANES)) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        for i in 0..N {
            // SAFETY: the caller's contract.
            unsafe { self.0.store(p.add(i * S::LANES), v[i]) };
        }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> Self::V {
        let mut v = self.zero();
        for i in 0..N {
            let (at, n) = (i * S::LANES, n.saturating_sub(i * S::LANES).min(S::LANES));
            // SAFETY: the caller's contract; where n is 0 nothing is read.
            v[i] = unsafe { self.0.load_partial(p.wrapping_add(at), n) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, v: Self::V, n: usize) {
        for i in 0..N {
            let (at, n) = (i * S::LANES, n.saturating_sub(i * S::LANES).min(S::LANES));
            // SAFETY: the caller's contract; where n is 0 nothing is written.
            unsafe { self.0.store_partial(p.wrapping_add(at), v[i], n) };
        }
    }
    each! { s,
        add(a, b); sub(a, b); mul(a, b); div(a, b); scale2(a, b); exp2_steps(a, b);
        max(a, b); min(a, b); max_fast(a, b); min_fast(a, b); copysign(a, b);
        fma(a, b, c); mul_error(a, b, c);
        sqrt(a); round(a); floor(a); abs(a); neg(a); exp2i(a);
    }
    compare! { lt le eq }
    #[inline(always)]
    fn split_exponent(self, x: Self::V) -> (Self::V, Self::V) {
        let (mut m, mut e) = (x, x);
        for i in 0..N {
            (m[i], e[i]) = self.0.split_exponent(x[i]);
        }
        (m, e)
    }
    #[inline(always)]
    fn any(self, m: Self::M) -> bool {
        let mut any = false;
        for i in 0..N {
            any |= self.0.any(m[i]);
        }
        any
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V {
        let mut y = a;
        for i in 0..N {
            y[i] = self.0.select(m[i], a[i], b[i]);
        }
        y
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        let mut sum = a[0];
        for i in 1..N {
            sum = self.0.add(sum, a[i]);
        }
        self.0.sum(sum)
    }
    #[inline(always)]
    fn max_lane(self, a: Self::V) -> f32 {
        let mut max = a[0];
        for i in 1..N {
            max = self.0.max(max, a[i]);
        }
        self.0.max_lane(max)
    }
}
