//! Denormal numbers off, for a while: they cost a hundred cycles each and a network has no use for them.

/// While this lives, results too small to be normal are zero on this thread, and such operands count as zero.
pub struct FlushDenormals {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    before: u64,
}

#[cfg(target_arch = "x86_64")]
mod register {
    use std::arch::asm;

    /// MXCSR's flush-to-zero and denormals-are-zero bits.
    pub const FLUSH: u64 = 0x8040;

    pub fn get() -> u64 {
        let mut value = 0u32;
        // SAFETY: stmxcsr writes four bytes to the address; SSE is part of x86-64.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut value, options(nostack, preserves_flags)) };
        u64::from(value)
    }

    pub fn set(value: u64) {
        let value = value as u32;
        // SAFETY: the value was read from the register, the two flush bits aside, so no reserved bit is set; rounding
        // and exception masks stay as they were.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &value, options(nostack, readonly, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    use std::arch::asm;

    /// FPCR's flush-to-zero bit.
    pub const FLUSH: u64 = 1 << 24;

    pub fn get() -> u64 {
        let value: u64;
        // SAFETY: reading FPCR has no effect.
        unsafe { asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    pub fn set(value: u64) {
        // SAFETY: only the flush bit differs from a value that was read from the register.
        unsafe { asm!("msr fpcr, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
    }
}

impl FlushDenormals {
    /// From now until it is dropped.
    pub fn start() -> Self {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        {
            let before = register::get();
            if before & register::FLUSH != register::FLUSH {
                register::set(before | register::FLUSH);
            }
            FlushDenormals { before }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        FlushDenormals {}
    }
}

impl Drop for FlushDenormals {
    fn drop(&mut self) {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if self.before & register::FLUSH != register::FLUSH {
            register::set(self.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn denormals_are_zero_only_meanwhile() {
        let half = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        assert!(half() > 0.0);
        {
            let _flush = FlushDenormals::start();
            assert_eq!(half(), 0.0);
            let _nested = FlushDenormals::start();
        }
        assert!(half() > 0.0);
    }
}
