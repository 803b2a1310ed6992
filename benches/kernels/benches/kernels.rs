//! GFLOP/s of the kernels, and their fraction of the peak measured in the same run.
//!
//! `cargo bench -p lamina-bench-kernels [filter]`. One thread unless `LAMINA_NUM_THREADS` says more;
//! `LAMINA_ISA` chooses the path.

use criterion::Criterion;
use lamina_kernels::conv::{Algorithm, Conv2d, ConvForward, ConvGradFilter, ConvGradInput, Minimal};
use lamina_kernels::depthwise::{DepthwiseForward, DepthwiseGradFilter, DepthwiseGradInput};
use lamina_kernels::epilogue::{Act, Epilogue};
use lamina_kernels::gemm::{B, MatRef, Packing, gemm};
use lamina_kernels::memory::AlignedBytes;
use lamina_kernels::simd::Simd;
use lamina_kernels::{Isa, dispatch, threads};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Chains of independent multiply-adds: what no kernel can exceed.
#[inline(always)]
fn chains<S: Simd>(s: S, n: usize) -> f32 {
    let mut acc = [s.zero(); 12];
    for (i, acc) in acc.iter_mut().enumerate() {
        *acc = s.splat(std::hint::black_box(i as f32));
    }
    let (a, b) = (s.splat(std::hint::black_box(0.999_999)), s.splat(std::hint::black_box(1e-6)));
    for _ in 0..n {
        for acc in &mut acc {
            *acc = s.fma(*acc, a, b);
        }
    }
    let mut total = 0.0;
    for acc in acc {
        total += s.sum(acc);
    }
    total
}

fn lanes<S: Simd>(_: S) -> usize {
    S::LANES
}

/// GFLOP/s of one core, now.
fn peak(isa: Isa) -> f64 {
    let n = 100_000usize;
    let lanes = dispatch!(isa, lanes, () -> usize);
    let best = (0..20)
        .map(|_| {
            let start = now();
            std::hint::black_box(dispatch!(isa, chains, (n: usize) -> f32));
            now() - start
        })
        .min()
        .unwrap_or_default();
    (n * 12 * lanes * 2) as f64 / best.as_nanos() as f64
}

/// Floats that start on a cache line, as the engine's do.
struct Floats(AlignedBytes);

impl std::ops::Deref for Floats {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }
}

impl std::ops::DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

fn zeros(n: usize) -> Floats {
    Floats(AlignedBytes::zeroed(n * size_of::<f32>()))
}

fn values(n: usize) -> Floats {
    let mut values = zeros(n);
    values.iter_mut().enumerate().for_each(|(i, v)| *v = ((i * 37) % 101) as f32 / 101.0 - 0.5);
    values
}

/// The time that counts: this thread's own where one thread works, so that a busy machine does not spoil
/// the numbers, else the clock on the wall.
fn now() -> Duration {
    #[cfg(unix)]
    if threads::num_threads() == 1 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: fills the struct it is given.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
        return Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
    }
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

struct Bench {
    criterion: Criterion,
    isa: Isa,
    filter: Option<String>,
    /// Name, work in FLOP, best nanoseconds, peak at that moment.
    rows: Vec<(String, f64, f64, f64)>,
}

impl Bench {
    fn run(&mut self, name: &str, flop: usize, mut body: impl FnMut()) {
        if self.filter.as_ref().is_some_and(|f| !name.contains(f.as_str())) {
            return;
        }
        let peak = peak(self.isa) * threads::num_threads() as f64;
        let mut best = f64::INFINITY;
        self.criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|n| {
                // Timed in groups of some microseconds: the best group is what a busy machine cannot hide.
                let mut total = Duration::ZERO;
                let mut left = n;
                while left > 0 {
                    let group = left.min(if best > 5e3 { 1 } else { 64 });
                    let start = now();
                    for _ in 0..group {
                        body();
                    }
                    let time = now() - start;
                    best = best.min(time.as_nanos() as f64 / group as f64);
                    (total, left) = (total + time, left - group);
                }
                total
            });
        });
        self.rows.push((name.into(), flop as f64, best, peak));
    }

    /// The rate of every register tile, as a fraction of the peak. Compilers have been seen to spill one and
    /// lose more than half: that fails the run.
    fn tiles(&self) -> bool {
        let (isa, k) = (self.isa, 256);
        let panel = packed_panel(isa);
        let mut sound = true;
        for n in [panel / 2, panel] {
            print!("tiles of {n:2} columns, % of peak by rows:");
            let packing = Packing::new(isa, 0, k, n);
            let packed = values(packing.packed_len());
            for m in 1..=14 {
                let (a, mut c) = (values(m * k), zeros(m * n));
                let (a, b, none) = (MatRef::row_major(&a, m, k), packing.operand(&packed), Epilogue::none());
                let mut best = f64::INFINITY;
                for _ in 0..200 {
                    let start = now();
                    (0..16).for_each(|_| gemm(isa, a, b, &mut c, n, false, &none));
                    best = best.min((now() - start).as_nanos() as f64 / 16.0);
                }
                let fraction = (2 * m * k * n) as f64 / best / peak(isa);
                print!(" {:.0}", fraction * 100.0);
                sound &= m < 6 || n < panel || fraction > 0.5;
            }
            println!();
        }
        sound
    }

    fn gemm(&mut self, m: usize, k: usize, n: usize, rivals: bool) {
        let (a, b, mut c) = (values(m * k), values(k * n), zeros(m * n));
        let (flop, isa) = (2 * m * k * n, self.isa);
        let shape = format!("gemm {m}x{k}x{n}");
        let packing = Packing::new(isa, m, k, n);
        let mut packed = zeros(packing.packed_len());
        packing.pack(MatRef::row_major(&b, k, n), &mut packed);
        let (bias, am) = (values(n), MatRef::row_major(&a, m, k));
        let ep = Epilogue::bias(&bias, Act::Relu);
        self.run(&format!("{shape} packed"), flop, || {
            gemm(isa, am, packing.operand(&packed), &mut c, n, false, &ep);
        });
        let none = Epilogue::none();
        self.run(&format!("{shape} plain"), flop, || {
            gemm(isa, am, B::Plain(MatRef::row_major(&b, k, n)), &mut c, n, false, &none);
        });
        self.run(&format!("{shape} plain, B transposed"), flop, || {
            gemm(isa, am, B::Plain(MatRef::transposed(&b, k, n)), &mut c, n, false, &none);
        });
        self.run(&format!("{shape} plain, A transposed"), flop, || {
            gemm(
                isa,
                MatRef::transposed(&a, m, k),
                B::Plain(MatRef::row_major(&b, k, n)),
                &mut c,
                n,
                false,
                &none,
            );
        });
        if rivals {
            self.rivals(&shape, flop, (m, k, n), &a, &b, &mut c);
        }
    }

    fn rivals(
        &mut self,
        shape: &str,
        flop: usize,
        (m, k, n): (usize, usize, usize),
        a: &[f32],
        b: &[f32],
        c: &mut [f32],
    ) {
        let parallelism = match threads::num_threads() {
            1 => ::gemm::Parallelism::None,
            n => ::gemm::Parallelism::Rayon(n),
        };
        self.run(&format!("{shape} gemm crate"), flop, || {
            // SAFETY: three row-major matrices of these sizes.
            unsafe {
                ::gemm::gemm(
                    m,
                    n,
                    k,
                    c.as_mut_ptr(),
                    1,
                    n as isize,
                    false,
                    a.as_ptr(),
                    1,
                    k as isize,
                    b.as_ptr(),
                    1,
                    n as isize,
                    0.0f32,
                    1.0f32,
                    false,
                    false,
                    false,
                    parallelism,
                );
            }
        });
        self.run(&format!("{shape} matrixmultiply crate"), flop, || {
            let (k_, n_) = (k as isize, n as isize);
            // SAFETY: three row-major matrices of these sizes.
            unsafe {
                matrixmultiply::sgemm(
                    m,
                    k,
                    n,
                    1.0,
                    a.as_ptr(),
                    k_,
                    1,
                    b.as_ptr(),
                    n_,
                    1,
                    0.0,
                    c.as_mut_ptr(),
                    n_,
                    1,
                );
            }
        });
    }

    fn conv(&mut self, what: &str, g: &Conv2d) {
        let isa = self.isa;
        let (x, w, mut y) = (values(g.x_len()), values(g.filter_len()), values(g.y_len()));
        let (mut dx, mut dw, bias) = (zeros(x.len()), zeros(w.len()), values(g.co));
        let flop = 2 * g.y_len() * g.kh * g.kw * (g.c / g.groups);
        let ep = Epilogue::bias(&bias, Act::Relu);
        let name =
            format!("{what} {}x{}x{}x{} {}x{}/{} to {}", g.n, g.h, g.w, g.c, g.kh, g.kw, g.stride.0, g.co);
        if g.groups == g.c && g.c > 1 {
            let (forward, input, filter) = (
                DepthwiseForward::new(isa, g),
                DepthwiseGradInput::new(isa, g),
                DepthwiseGradFilter::new(isa, g),
            );
            self.run(&format!("{name} forward"), flop, || forward.run(&x, &w, &mut y, &ep));
            self.run(&format!("{name} grad input"), flop, || input.run(&y, &w, &mut dx));
            self.run(&format!("{name} grad filter"), flop, || filter.run(&x, &y, &mut dw));
            return;
        }
        let mut forward = |label: &str, algorithm| {
            let forward = ConvForward::with_algorithm(isa, g, algorithm);
            let mut packed = zeros(forward.packed_len());
            forward.pack(&w, &mut packed);
            self.run(&format!("{name} forward{label}"), flop, || forward.run(&x, &packed, &mut y, &ep));
        };
        forward("", Algorithm::Direct);
        for minimal in Minimal::ALL.into_iter().filter(|minimal| minimal.applies(g)) {
            forward(&format!(" {minimal:?}"), Algorithm::Winograd(minimal));
        }
        let (input, filter) = (ConvGradInput::new(isa, g), ConvGradFilter::new(isa, g));
        let mut packed = zeros(input.packed_len());
        input.pack(&w, &mut packed);
        self.run(&format!("{name} grad input"), flop, || input.run(&y, &packed, &mut dx));
        self.run(&format!("{name} grad filter"), flop, || filter.run(&x, &y, &mut dw));
    }
}

/// Columns of a full packed panel: the narrowest that needs no padding beyond one vector.
fn packed_panel(isa: Isa) -> usize {
    let lanes = dispatch!(isa, lanes, () -> usize);
    Packing::new(isa, 0, 1, lanes + 1).packed_len()
}

fn square(n: usize, size: usize, c: usize, k: usize, stride: usize, co: usize) -> Conv2d {
    let out = size.div_ceil(stride);
    let pad = ((out - 1) * stride + k).saturating_sub(size) / 2;
    Conv2d {
        n,
        h: size,
        w: size,
        c,
        kh: k,
        kw: k,
        oh: out,
        ow: out,
        co,
        stride: (stride, stride),
        dilation: (1, 1),
        pad: (pad, pad),
        groups: 1,
    }
}

/// A convolution along one axis that keeps to its inputs.
fn line(n: usize, size: usize, c: usize, k: usize, co: usize) -> Conv2d {
    Conv2d { h: 1, kh: 1, oh: 1, ow: size + 1 - k, pad: (0, 0), ..square(n, size, c, k, 1, co) }
}

fn main() {
    let isa = Isa::best();
    if std::env::var_os("LAMINA_NUM_THREADS").is_none() {
        threads::set_num_threads(1);
    }
    // SAFETY: nothing else runs yet.
    unsafe { std::env::set_var("MATMUL_NUM_THREADS", threads::num_threads().to_string()) };
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let criterion = Criterion::default()
        .sample_size(10)
        .nresamples(1001)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .without_plots();
    let mut bench = Bench { criterion, isa, filter, rows: Vec::new() };
    println!("{} on {} thread(s), peak {:.0} GFLOP/s a core", isa.name(), threads::num_threads(), peak(isa));
    let (from, mut to) = (values(1 << 24), values(1 << 24));
    let start = Instant::now();
    (0..4).for_each(|_| to.copy_from_slice(std::hint::black_box(&from)));
    println!(
        "copy of 64 MiB: {:.1} GB/s read and written\n",
        (8u64 << 26) as f64 / start.elapsed().as_nanos() as f64
    );
    drop((from, to));
    let sound = bench.tiles();

    for size in [256, 512, 1024] {
        bench.gemm(size, size, size, true);
    }
    for m in [1, 8, 32, 128] {
        bench.gemm(m, 784, 512, m == 32);
        bench.gemm(m, 512, 512, false);
    }
    bench.gemm(4, 4, 4, false);
    bench.conv("resnet50", &square(1, 224, 3, 7, 2, 64));
    bench.conv("resnet50", &square(1, 56, 64, 3, 1, 64));
    bench.conv("resnet50", &square(1, 56, 64, 1, 1, 256));
    bench.conv("resnet50", &square(1, 56, 256, 1, 1, 64));
    bench.conv("resnet50", &square(1, 56, 128, 3, 2, 128));
    bench.conv("resnet50", &square(1, 28, 128, 3, 1, 128));
    bench.conv("resnet50", &square(1, 14, 256, 3, 1, 256));
    bench.conv("resnet50", &square(8, 7, 512, 3, 1, 512));
    bench.conv("resnet50", &square(1, 7, 2048, 1, 1, 512));
    bench.conv("lenet", &square(32, 28, 1, 5, 1, 6));
    bench.conv("lenet", &square(32, 14, 6, 5, 1, 16));
    bench.conv("digits", &square(32, 28, 1, 3, 1, 32));
    bench.conv("digits", &square(32, 14, 32, 3, 1, 64));
    bench.conv("text", &line(1, 400, 128, 5, 128));
    bench.conv("text", &line(64, 400, 128, 5, 128));
    let depthwise = |g: Conv2d| Conv2d { groups: g.c, ..g };
    bench.conv("depthwise", &depthwise(square(1, 112, 32, 3, 1, 32)));
    bench.conv("depthwise", &depthwise(square(1, 56, 128, 3, 2, 128)));
    bench.conv("depthwise", &depthwise(square(1, 14, 512, 3, 1, 512)));

    println!("\n{:60}{:>12}{:>12}{:>10}", "", "microsec", "GFLOP/s", "of peak");
    for (name, flop, best, peak) in &bench.rows {
        let rate = flop / best;
        println!("{name:60}{:>12.2}{rate:>12.1}{:>9.0}%", best / 1e3, rate / peak * 100.0);
    }
    assert!(sound, "a register tile runs below half of the peak");
}
