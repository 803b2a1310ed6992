//! Which instruction set a kernel may use: detected once, lowered by `LAMINA_ISA`.

use std::sync::OnceLock;

/// The instruction-set families that have kernels of their own, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Plain Rust, whatever the compiler's baseline offers.
    Scalar,
    /// aarch64 Advanced SIMD, 4 lanes of f32.
    Neon,
    /// AVX2 with FMA, 8 lanes of f32.
    Avx2,
    /// AVX-512 F/VL/BW/DQ, 16 lanes of f32.
    Avx512,
    /// AVX-512, and AMX's tiles of bf16 for large products.
    Amx,
}

/// A proof that this machine can run a [`Level`]: only detection constructs one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa(Level);

impl Isa {
    /// The best path of this machine, or the one `LAMINA_ISA` (`scalar`, `neon`, `avx2`, `avx512`, `amx`)
    /// lowers it to. An unknown or unavailable name is ignored, so it can never raise the choice.
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let available = Isa::available();
            let wanted = std::env::var("LAMINA_ISA").ok().map(|name| name.to_lowercase());
            available
                .iter()
                .find(|isa| wanted.as_deref() == Some(isa.name()))
                .or(available.last())
                .copied()
                .unwrap_or(Isa::scalar())
        })
    }

    /// Every path this machine can run, weakest first.
    pub fn available() -> Vec<Isa> {
        let mut levels = vec![Level::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Level::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                {
                    levels.push(Level::Avx512);
                    if amx_granted() {
                        levels.push(Level::Amx);
                    }
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            levels.push(Level::Neon);
        }
        levels.into_iter().map(Isa).collect()
    }

    /// The path every machine has.
    pub fn scalar() -> Isa {
        Isa(Level::Scalar)
    }

    /// The family this token proves.
    pub fn level(self) -> Level {
        self.0
    }

    /// The name `LAMINA_ISA` knows it by.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            Level::Neon => "neon",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Amx => "amx",
        }
    }
}

/// Whether the machine has AMX's bf16 tiles and the system lets this process use them, for which it must be asked.
#[cfg(target_arch = "x86_64")]
fn amx_granted() -> bool {
    use std::arch::x86_64::__cpuid_count;
    const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
    // Leaf 7 exists where AVX-512 does.
    cfg!(target_os = "linux") && __cpuid_count(7, 0).edx & BF16_AND_TILES == BF16_AND_TILES && ask_for_tiles()
}

/// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`: Linux keeps the state of tiles only for those who ask.
#[cfg(target_arch = "x86_64")]
fn ask_for_tiles() -> bool {
    let mut result: i64 = 158;
    // SAFETY: a system call that touches no memory of ours; an older Linux answers with an error.
    unsafe {
        std::arch::asm!(
            "syscall", inlateout("rax") result, in("rdi") 0x1023, in("rsi") 18, out("rcx") _, out("r11") _,
            options(nostack)
        );
    }
    result == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_is_always_available_and_best_is_available() {
        let available = Isa::available();
        assert_eq!(available[0], Isa::scalar());
        assert!(available.contains(&Isa::best()));
    }
}
