//! Test problems of the convolutions. Output sizes and paddings are written out, not computed by the rule under test.

use super::*;

pub(super) struct Case {
    x: [usize; 4],
    kernel: [usize; 4],
    pub conv: Conv,
    /// Padding at the top and left that must follow.
    before: (usize, usize),
    /// Output height and width that must follow.
    out: (usize, usize),
    /// Whether epilogues are tried on it.
    pub fuses: bool,
}

pub(super) fn cases() -> Vec<Case> {
    use Padding::{Explicit, Same, Valid};
    let case = |x, kernel, conv, before, out| Case { x, kernel, conv, before, out, fuses: false };
    let fused = |case: Case| Case { fuses: true, ..case };
    let around = Explicit([(2, 1), (0, 3)]);
    vec![
        fused(case([2, 5, 6, 3], [3, 3, 3, 4], Conv::new([1, 1], Valid, [1, 1], 1), (0, 0), (3, 4))),
        case([1, 6, 5, 2], [3, 2, 2, 3], Conv::new([1, 1], Same, [1, 1], 1), (1, 0), (6, 5)),
        case([2, 7, 6, 1], [3, 3, 1, 5], Conv::new([2, 2], Same, [1, 1], 1), (1, 0), (4, 3)),
        case([1, 4, 4, 3], [1, 1, 3, 17], Conv::new([1, 1], Valid, [1, 1], 1), (0, 0), (4, 4)),
        case([1, 7, 7, 2], [1, 1, 2, 3], Conv::new([3, 2], Valid, [1, 1], 1), (0, 0), (3, 4)),
        case([1, 8, 9, 2], [3, 2, 2, 3], Conv::new([1, 1], Valid, [2, 3], 1), (0, 0), (4, 6)),
        case([1, 6, 7, 4], [2, 3, 2, 6], Conv::new([2, 1], around, [1, 2], 2), (2, 0), (4, 6)),
        case([1, 1, 11, 4], [1, 5, 4, 3], Conv::new([1, 3], Same, [1, 1], 1), (0, 1), (1, 4)),
        fused(case([2, 5, 5, 3], [3, 3, 3, 2], Conv::depthwise([1, 1], Same, [1, 1]), (1, 1), (5, 5))),
        case([1, 6, 5, 18], [3, 2, 18, 1], Conv::depthwise([2, 1], Valid, [1, 2]), (0, 0), (2, 3)),
        case([1, 4, 5, 1], [2, 2, 1, 3], Conv::depthwise([1, 1], Valid, [1, 1]), (0, 0), (3, 4)),
        case([1, 4, 4, 4], [3, 3, 1, 8], Conv::new([1, 1], Same, [1, 1], 4), (1, 1), (4, 4)),
        case([0, 5, 5, 2], [3, 3, 2, 3], Conv::new([1, 1], Valid, [1, 1], 1), (0, 0), (3, 3)),
        fused(case([1, 9, 8, 16], [3, 3, 16, 33], Conv::new([1, 1], Same, [1, 1], 1), (1, 1), (9, 8))),
    ]
}

impl Case {
    pub fn geometry(&self) -> Conv2d {
        let ([n, h, w, c], [kh, kw, a, b]) = (self.x, self.kernel);
        let (groups, co) = match self.conv.mixing {
            Mixing::Groups(groups) => (groups, b),
            Mixing::Depthwise => (c, a * b),
        };
        let Slide { strides, dilation, .. } = self.conv.slide;
        let (oh, ow) = self.out;
        Conv2d {
            n,
            h,
            w,
            c,
            kh,
            kw,
            oh,
            ow,
            co,
            stride: strides.into(),
            dilation: dilation.into(),
            pad: self.before,
            groups,
        }
    }

    pub fn x(&self, dtype: DType, seed: u64) -> Tensor {
        sample(dtype, &self.x, seed)
    }

    pub fn kernel(&self, dtype: DType, seed: u64) -> Tensor {
        sample(dtype, &self.kernel, seed)
    }

    /// Something in the shape of the output.
    pub fn y(&self, dtype: DType, seed: u64) -> Tensor {
        let g = self.geometry();
        sample(dtype, &[g.n, g.oh, g.ow, g.co], seed)
    }

    pub fn label(&self, op: &impl std::fmt::Debug, dtype: DType) -> String {
        format!("{op:?} {:?} {:?} {dtype}", self.x, self.kernel)
    }

    pub fn problem(&self, dtype: DType, epilogue: Epilogue) -> Problem {
        let op = Conv { epilogue, ..self.conv };
        let mut inputs = vec![self.x(dtype, 1), self.kernel(dtype, 2)];
        let g = self.geometry();
        if epilogue.bias {
            inputs.push(sample(dtype, &[g.co], 3));
        }
        if epilogue.residual {
            inputs.push(self.y(dtype, 4));
        }
        Problem::close(self.label(&op, dtype), op, inputs, tolerance(dtype), move |v| {
            let mut y = reference(&g, &v[0], &v[1]);
            epilogue.reference(&mut y, g.co, &v[2..]);
            y
        })
    }
}

pub(super) fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 | DType::I32 => 1e-12,
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        _ => 2e-5,
    }
}

/// The convolution by its definition, output element by output element.
pub(super) fn reference(g: &Conv2d, x: &[f64], kernel: &[f64]) -> Vec<f64> {
    let (inputs, outputs) = (g.c / g.groups, g.co / g.groups);
    let element = |at: usize| {
        let (f, ox, oy, n) = (at % g.co, at / g.co % g.ow, at / g.co / g.ow % g.oh, at / g.co / g.ow / g.oh);
        let mut sum = 0.0;
        for ky in 0..g.kh {
            for kx in 0..g.kw {
                let y = (oy * g.stride.0 + ky * g.dilation.0) as isize - g.pad.0 as isize;
                let x_ = (ox * g.stride.1 + kx * g.dilation.1) as isize - g.pad.1 as isize;
                if y < 0 || x_ < 0 || y >= g.h as isize || x_ >= g.w as isize {
                    continue;
                }
                for i in 0..inputs {
                    let channel = f / outputs * inputs + i;
                    let pixel = x[((n * g.h + y as usize) * g.w + x_ as usize) * g.c + channel];
                    sum += pixel * kernel[((ky * g.kw + kx) * inputs + i) * g.co + f];
                }
            }
        }
        sum
    };
    (0..g.y_len()).map(element).collect()
}

/// The adjoint of a linear map by its definition: `element i = <dy, map(unit vector i)>`.
pub(super) fn adjoint(dy: &[f64], len: usize, map: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let mut unit = vec![0.0; len];
    (0..len)
        .map(|i| {
            unit[i] = 1.0;
            let image = map(&unit);
            unit[i] = 0.0;
            image.iter().zip(dy).map(|(a, b)| a * b).sum()
        })
        .collect()
}

/// Keras's transposed convolution: input pixel `i` adds `x[i] * kernel[k]` to output pixel
/// `i * stride + k * dilation - cropped`, where the amount cropped off the front is written out.
pub(super) fn transposed_problems() -> Vec<Problem> {
    // in, window, stride, same, output_padding, dilation -> out, cropped: from Keras's padding rule on JAX.
    let table = [
        (4, 3, 2, false, None, 1, 9, 0),
        (4, 2, 3, false, None, 1, 12, 0),
        (4, 3, 2, true, None, 1, 8, 0),
        (4, 4, 2, true, None, 1, 8, 1),
        (4, 3, 1, true, None, 1, 4, 1),
        (4, 3, 1, true, None, 2, 4, 2),
        (4, 1, 2, true, None, 1, 8, 0),
        (4, 3, 2, false, Some(1), 1, 10, 0),
        (4, 3, 2, true, Some(0), 1, 7, 1),
        (4, 3, 2, true, Some(1), 1, 8, 0),
    ];
    let mut problems = vec![];
    for (n, k, s, same, more, d, out, cropped) in table {
        for dtype in [DType::F32, DType::F64] {
            let (filters, channels, rows) = (3, 2, 2);
            let kernel = sample(dtype, &[1, k, filters, channels], 2);
            let op = ConvGradInput::transposed(&kernel.ty(), [1, s], same, [None, more], [1, d])
                .expect("the problem fits");
            let inputs = vec![sample(dtype, &[2, rows, n, channels], 1), kernel];
            let name = format!("conv_transpose {n} {k} {s} {same} {more:?} {d} {dtype}");
            let problem = Problem::close(name, op, inputs, tolerance(dtype), move |v| {
                let mut y = vec![0.0; 2 * rows * out * filters];
                for (at, x) in v[0].iter().enumerate() {
                    let (c, i, line) = (at % channels, at / channels % n, at / channels / n);
                    for (tap, f) in (0..k * filters).map(|t| (t / filters, t % filters)) {
                        if let Some(o) = (i * s + tap * d).checked_sub(cropped).filter(|&o| o < out) {
                            y[(line * out + o) * filters + f] += x * v[1][(tap * filters + f) * channels + c];
                        }
                    }
                }
                y
            });
            problems.push(if dtype == DType::F32 { problem.differentiate(&[0, 1]) } else { problem });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::Function;
    use crate::graph::Graph;
    use crate::plan::Traced;
    use lamina_kernels::Isa;
    use lamina_kernels::conv::Algorithm;

    fn image(dims: [Dim; 4]) -> Type {
        Type::new(DType::F32, dims)
    }

    #[test]
    fn shapes_follow_unknown_axes() {
        let conv = Conv::new([2, 2], Padding::Same, [1, 1], 1);
        let kernel = Type::known(DType::F32, &[3, 3, 4, 8]);
        let out = conv.infer(&[&image([None, Some(7), None, Some(4)]), &kernel]).unwrap();
        assert_eq!(show(&out[0].dims), "(None, 4, None, 8)");
        let up = ConvGradInput::transposed(&kernel, [2, 2], false, [None, None], [1, 1]).unwrap();
        let out = up.infer(&[&image([None, Some(5), None, Some(8)]), &kernel]).unwrap();
        assert_eq!(show(&out[0].dims), "(None, 11, None, 4)");
    }

    #[test]
    fn errors_say_what_was_meant() {
        let conv = Conv::new([1, 1], Padding::Valid, [1, 1], 1);
        let kernel = Type::known(DType::F32, &[3, 3, 3, 8]);
        let error = conv.infer(&[&image([None, Some(3), Some(32), Some(32)]), &kernel]).unwrap_err();
        assert_eq!(error.message, "the kernel takes 3 input channels, the input has 32");
        assert!(error.fix.unwrap().contains("channels_first"));
        let error = conv.infer(&[&image([None, Some(2), Some(32), Some(3)]), &kernel]).unwrap_err();
        assert!(
            error.message.starts_with("Computed output size would be zero or negative: conv output height")
        );
        assert_eq!(error.got.len(), 2);
        let grouped = Conv::new([1, 1], Padding::Valid, [1, 1], 3);
        let error = grouped.infer(&[&image([None, None, None, Some(9)]), &kernel]).unwrap_err();
        assert_eq!(error.message, "8 filters do not divide into 3 groups");
        let error = ConvGradInput::transposed(&kernel, [2, 2], false, [Some(2), None], [1, 1]).unwrap_err();
        assert_eq!(error.message, "`output_padding` must be strictly less than `strides`");
    }

    /// The table's problems are too small for it.
    #[test]
    fn constant_filters_are_transformed_where_that_is_faster() {
        let case = |x, kernel, before, out| {
            let conv = Conv::new([1, 1], Padding::Same, [1, 1], 1);
            Case { x, kernel, conv, before, out, fuses: true }
        };
        let cases = [
            case([2, 17, 21, 64], [3, 3, 64, 70], (1, 1), (17, 21)),
            case([2, 15, 18, 32], [5, 5, 32, 70], (2, 2), (15, 18)),
            case([2, 1, 203, 64], [1, 5, 64, 70], (0, 2), (1, 203)),
            case([2, 203, 1, 64], [3, 1, 64, 70], (1, 0), (203, 1)),
        ];
        for (case, isa) in
            cases.iter().flat_map(|case| Isa::available().into_iter().map(move |isa| (case, isa)))
        {
            let g = case.geometry();
            assert!(
                matches!(Algorithm::fastest(isa, &g, false), Algorithm::Winograd(_)),
                "{} {g:?}",
                isa.name()
            );
            for epilogue in Epilogue::samples() {
                let mut problem = case.problem(DType::F32, epilogue);
                // Sums of about one, as the tolerance asks.
                let scale = 1.0 / ((g.kh * g.kw * g.c) as f32).sqrt();
                problem.inputs[1].elements_mut::<f32>().iter_mut().for_each(|w| *w *= scale);
                let (mut inputs, mut graph) = (problem.inputs.clone(), Graph::new());
                let mut operands = vec![];
                for (i, tensor) in problem.inputs.iter().enumerate() {
                    operands.push(match i {
                        1 => graph.constant(tensor.clone()),
                        _ => graph.input(tensor.ty()),
                    });
                }
                let outputs = graph.add_all(problem.op.clone(), &operands).unwrap().to_vec();
                inputs.remove(1);
                let function = Function::with_isa(Traced { graph, outputs, updates: vec![] }, isa);
                let got = function.call(&inputs).unwrap();
                (problem.check)(&problem.inputs, &got);
            }
        }
        // One row of pixels has too few tiles.
        let few = case([1, 1, 8, 64], [3, 3, 64, 70], (1, 1), (1, 8)).geometry();
        assert_eq!(Algorithm::fastest(Isa::best(), &few, false), Algorithm::Direct);
    }
}
