//! Windows that slide over the two spatial axes of (batch, height, width, channels): how many fit, and what
//! stands around the image. Convolution and pooling share it.

use crate::error::ShapeError;
use crate::shape::{Dim, Type};

/// What is added around an image before windows move over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Nothing: windows stay inside.
    Valid,
    /// As much as makes the output `ceil(in / stride)` long, the odd one at the end (TensorFlow's and
    /// Keras's "same").
    Same,
    /// `(before, after)` for height and width.
    Explicit([(usize, usize); 2]),
}

/// How a window moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slide {
    /// Steps between windows, down and across.
    pub strides: [usize; 2],
    /// What surrounds the image.
    pub padding: Padding,
    /// Steps between a window's taps, down and across.
    pub dilation: [usize; 2],
}

const AXES: [&str; 2] = ["height", "width"];

impl Slide {
    /// Elements from a window's first tap to its last, both included.
    pub fn extent(&self, axis: usize, window: usize) -> usize {
        self.dilation[axis] * (window.max(1) - 1) + 1
    }

    /// Refuses steps of zero, windows of zero and inputs that are not images.
    pub fn check(&self, op: &str, x: &Type) -> Result<(), ShapeError> {
        if x.rank() != 4 {
            let message = format!("expected ndim=4, found ndim={}", x.rank());
            let error = ShapeError::new(op, message).argument("inputs").got(&x.dims);
            return Err(error.expected("(batch, height, width, channels)"));
        }
        for (argument, steps) in [("strides", self.strides), ("dilation_rate", self.dilation)] {
            if steps.contains(&0) {
                let message = format!("`{argument}` must be positive, got ({}, {})", steps[0], steps[1]);
                return Err(ShapeError::new(op, message).argument(argument));
            }
        }
        Ok(())
    }

    /// How many windows fit along a spatial axis (0: height, 1: width).
    pub fn output(&self, op: &str, axis: usize, input: Dim, window: Dim) -> Result<Dim, ShapeError> {
        let stride = self.strides[axis];
        let (Some(n), pad) = (input, self.padding) else { return Ok(None) };
        let pad = match pad {
            Padding::Same => return Ok(Some(n.div_ceil(stride))),
            Padding::Valid => 0,
            Padding::Explicit(around) => around[axis].0 + around[axis].1,
        };
        let Some(k) = window else { return Ok(None) };
        let room = (n + pad) as isize - self.extent(axis, k) as isize;
        let count = room.div_euclid(stride as isize) + 1;
        if count > 0 && k > 0 {
            return Ok(Some(count as usize));
        }
        let message = format!(
            "Computed output size would be zero or negative: {op} output {} = floor((in + pad - dilation*(k - 1) - 1) \
             / stride) + 1 = floor(({n} + {pad} - {}*({k} - 1) - 1) / {stride}) + 1 = {count}",
            AXES[axis], self.dilation[axis]
        );
        let error = ShapeError::new(op, message).argument("inputs");
        Err(error
            .expected(format!(
                "a {} of at least {}",
                AXES[axis],
                self.extent(axis, k).saturating_sub(pad).max(1)
            ))
            .fix("a smaller window, or padding=\"same\""))
    }

    /// What stands before the image along a spatial axis of known length.
    pub fn before(&self, axis: usize, input: usize, window: usize) -> usize {
        match self.padding {
            Padding::Valid => 0,
            Padding::Explicit(around) => around[axis].0,
            Padding::Same => {
                let last = (input.div_ceil(self.strides[axis]).max(1) - 1) * self.strides[axis];
                (last + self.extent(axis, window)).saturating_sub(input) / 2
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;

    fn slide(stride: usize, padding: Padding, dilation: usize) -> Slide {
        Slide { strides: [stride; 2], padding, dilation: [dilation; 2] }
    }

    #[test]
    fn same_padding_puts_the_odd_one_at_the_end() {
        // in, window, stride, dilation -> output, before; the numbers of TensorFlow's padding rule.
        for (n, k, s, d, out, before) in [
            (5, 3, 1, 1, 5, 1),
            (6, 3, 2, 1, 3, 0),
            (7, 3, 2, 1, 4, 1),
            (5, 2, 1, 1, 5, 0),
            (5, 1, 3, 1, 2, 0),
            (5, 3, 1, 2, 5, 2),
        ] {
            let slide = slide(s, Padding::Same, d);
            assert_eq!(slide.output("conv", 0, Some(n), Some(k)).unwrap(), Some(out), "{n} {k} {s} {d}");
            assert_eq!(slide.before(0, n, k), before, "{n} {k} {s} {d}");
        }
    }

    #[test]
    fn unknown_lengths_stay_unknown_and_known_ones_are_checked() {
        let valid = slide(2, Padding::Valid, 1);
        assert_eq!(valid.output("conv", 0, None, Some(3)).unwrap(), None);
        assert_eq!(valid.output("conv", 0, Some(7), Some(3)).unwrap(), Some(3));
        assert_eq!(
            slide(1, Padding::Explicit([(1, 2); 2]), 2).output("conv", 1, Some(4), Some(3)).unwrap(),
            Some(3)
        );
        let error = valid.output("conv", 1, Some(2), Some(4)).unwrap_err();
        assert_eq!(
            error.message,
            "Computed output size would be zero or negative: conv output width = floor((in + pad - dilation*(k - 1) - 1) / \
             stride) + 1 = floor((2 + 0 - 1*(4 - 1) - 1) / 2) + 1 = 0"
        );
        assert_eq!(error.expected.as_deref(), Some("a width of at least 4"));
    }

    #[test]
    fn only_images_and_positive_steps() {
        let flat = Type::new(DType::F32, [None, Some(784)]);
        assert_eq!(
            slide(1, Padding::Valid, 1).check("conv", &flat).unwrap_err().message,
            "expected ndim=4, found ndim=2"
        );
        let image = Type::new(DType::F32, [None, None, None, Some(3)]);
        let error = slide(0, Padding::Valid, 1).check("conv", &image).unwrap_err();
        assert_eq!(error.message, "`strides` must be positive, got (0, 0)");
    }
}
