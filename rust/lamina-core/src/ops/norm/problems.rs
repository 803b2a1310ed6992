//! Test problems of the normalisations. The references gather the elements behind each statistic.

use super::*;

/// Shapes, with how many trailing axes or none for the batch.
const CASES: [(&[usize], Option<usize>); 8] = [
    (&[3, 7], Some(1)),
    (&[2, 3, 5], Some(2)),
    (&[2, 3, 33], Some(1)),
    (&[4], Some(1)),
    (&[5, 3], None),
    (&[2, 3, 2, 5], None),
    (&[40, 9, 33], None),
    (&[64, 300], Some(1)),
];

fn norms() -> Vec<(Norm, &'static [usize])> {
    let mut norms = vec![];
    for (shape, axes) in CASES {
        for (gamma, beta) in [(false, false), (true, false), (false, true), (true, true)] {
            match axes {
                Some(axes) => {
                    norms.extend([false, true].map(|rms| (Norm::layer(axes, 1e-3, rms, gamma, beta), shape)))
                }
                None => norms.push((Norm::batch(1e-3, gamma, beta), shape)),
            }
        }
    }
    norms
}

/// Elements of x by statistic, with their parameter's place.
fn groups(view: View) -> Vec<Vec<(usize, usize)>> {
    let mut groups = vec![vec![]; view.stats()];
    for i in 0..view.rows * view.cols {
        groups[if view.by_row { i / view.cols } else { i % view.cols }].push((i, i % view.cols));
    }
    groups
}

fn positive(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    let x: Vec<f64> = sample(dtype, shape, seed).to_f64().iter().map(|x| x.abs() + 0.5).collect();
    Tensor::from_slice(shape, &x).cast(dtype)
}

/// Elements that are read before a statistic is known need float64 in both; this is what float32 then rounds.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F32 { 1e-5 } else { 1e-12 }
}

fn parameter_inputs(norm: &Norm, shape: &[usize], dtype: DType) -> Vec<Tensor> {
    let dims = &shape[norm.split(shape.len())..];
    parameters(norm.gamma, norm.beta).enumerate().map(|(i, _)| sample(dtype, dims, 20 + i as u64)).collect()
}

fn is_small(shape: &[usize]) -> bool {
    shape.iter().product::<usize>() < 1000
}

pub(super) fn forward() -> Vec<Problem> {
    let mut problems = vec![];
    for (norm, shape) in norms() {
        for dtype in [DType::F32, DType::F64] {
            let mut inputs = vec![sample(dtype, shape, 1)];
            inputs.extend(parameter_inputs(&norm, shape, dtype));
            let view = norm.view(shape);
            let name = format!("{norm:?} {shape:?} {dtype}");
            let operands: Vec<usize> = (0..inputs.len()).collect();
            let problem = Problem::new(name, norm, inputs, move |inputs, outputs| {
                let v: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
                let gamma = |p: usize| if norm.gamma { v[1][p] } else { 1.0 };
                let beta = |p: usize| if norm.beta { v[1 + norm.gamma as usize][p] } else { 0.0 };
                let (mut y, mut means, mut stats) = (vec![0.0; v[0].len()], vec![], vec![]);
                for group in groups(view) {
                    let n = group.len() as f64;
                    let mean =
                        if norm.rms { 0.0 } else { group.iter().map(|(i, _)| v[0][*i]).sum::<f64>() / n };
                    let variance = group.iter().map(|(i, _)| (v[0][*i] - mean).powi(2)).sum::<f64>() / n;
                    let rstd = (variance + 1e-3).sqrt().recip();
                    group.iter().for_each(|&(i, p)| y[i] = (v[0][i] - mean) * rstd * gamma(p) + beta(p));
                    means.push(mean);
                    stats.push(if norm.over == Over::Batch { variance } else { rstd });
                }
                for (output, expected) in outputs.iter().zip([y, means, stats]) {
                    assert_close(&output.to_f64(), &expected, tolerance(dtype));
                }
            });
            let smooth = dtype == DType::F32 && is_small(shape);
            problems.push(if smooth { problem.differentiate(&operands) } else { problem });
        }
    }
    problems
}

pub(super) fn backward() -> Vec<Problem> {
    let mut problems = vec![];
    for (norm, shape) in norms().into_iter().filter(|(norm, _)| !norm.beta) {
        for dtype in [DType::F32, DType::F64] {
            let stat: Shape = norm.stat_dims(&Type::known(dtype, shape)).into_iter().flatten().collect();
            let mut inputs = vec![sample(dtype, shape, 1), sample(dtype, shape, 2), sample(dtype, &stat, 3)];
            inputs.push(positive(dtype, &stat, 4));
            inputs.extend(parameter_inputs(&norm, shape, dtype));
            let view = norm.view(shape);
            let op = NormGrad(norm);
            let name = format!("{op:?} {shape:?} {dtype}");
            // What RMS does with the mean is nothing.
            let operands: Vec<usize> = (0..inputs.len()).filter(|&i| i != 2 || !norm.rms).collect();
            let problem = Problem::new(name, op, inputs, move |inputs, outputs| {
                let v: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
                let gamma = |p: usize| if norm.gamma { v[4][p] } else { 1.0 };
                let (mut dx, mut dgamma, mut dbeta) =
                    (vec![0.0; v[0].len()], vec![0.0; view.cols], vec![0.0; view.cols]);
                for (s, group) in groups(view).iter().enumerate() {
                    let rstd =
                        if norm.over == Over::Batch { (v[3][s] + 1e-3).sqrt().recip() } else { v[3][s] };
                    let mean = if norm.rms { 0.0 } else { v[2][s] };
                    let h = |i: usize| (v[1][i] - mean) * rstd;
                    let n = group.len() as f64;
                    let level = group.iter().map(|&(i, p)| v[0][i] * gamma(p)).sum::<f64>() / n;
                    let along = group.iter().map(|&(i, p)| v[0][i] * gamma(p) * h(i)).sum::<f64>() / n;
                    for &(i, p) in group {
                        let level = if norm.rms { 0.0 } else { level };
                        dx[i] = rstd * (v[0][i] * gamma(p) - level - h(i) * along);
                        dgamma[p] += v[0][i] * h(i);
                        dbeta[p] += v[0][i];
                    }
                }
                for (output, expected) in outputs.iter().zip([dx, dgamma, dbeta]) {
                    assert_close(&output.to_f64(), &expected, 2.0 * tolerance(dtype));
                }
            });
            let smooth = dtype == DType::F32 && is_small(shape);
            problems.push(if smooth { problem.differentiate(&operands) } else { problem });
        }
    }
    problems
}

pub(super) fn inference() -> Vec<Problem> {
    let mut problems = vec![];
    for (shape, axis) in [(&[3, 4][..], 1), (&[2, 3, 2, 5], 3), (&[2, 3, 4, 5], 1), (&[2, 6, 5], 0)] {
        for (gamma, beta) in [(false, false), (true, false), (false, true), (true, true)] {
            for dtype in [DType::F32, DType::F64] {
                let op = BatchNormInference { axis, epsilon: Real::new(1e-3), gamma, beta };
                let channels = shape[axis];
                let mut inputs = vec![
                    sample(dtype, shape, 1),
                    sample(dtype, &[channels], 2),
                    positive(dtype, &[channels], 3),
                ];
                inputs.extend((0..gamma as u64 + beta as u64).map(|i| sample(dtype, &[channels], 4 + i)));
                let operands: Vec<usize> = (0..inputs.len()).collect();
                let inner: usize = shape[axis + 1..].iter().product();
                let name = format!("{op:?} {shape:?} {dtype}");
                let problem = Problem::close(name, op, inputs, tolerance(dtype), move |v| {
                    let channel = |i: usize| i / inner % channels;
                    let normal = |(i, x): (usize, &f64)| {
                        let c = channel(i);
                        let h = (x - v[1][c]) / (v[2][c] + 1e-3).sqrt();
                        h * if gamma { v[3][c] } else { 1.0 }
                            + if beta { v[3 + gamma as usize][c] } else { 0.0 }
                    };
                    v[0].iter().enumerate().map(normal).collect()
                });
                problems.push(if dtype == DType::F32 { problem.differentiate(&operands) } else { problem });
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_errors() {
        let x = Type::new(DType::F32, [None, Some(4), Some(6)]);
        let six = Type::known(DType::F32, &[6]);
        let out = Norm::layer(1, 1e-3, false, true, false).infer(&[&x, &six]).unwrap();
        assert_eq!(show(&out[1].dims), "(None, 4)");
        assert_eq!(show(&Norm::batch(1e-3, true, false).infer(&[&x, &six]).unwrap()[2].dims), "(6,)");
        let four = Type::known(DType::F32, &[4]);
        let error = Norm::batch(1e-3, false, true).infer(&[&x, &four]).unwrap_err();
        assert_eq!(error.message, "beta is a float32 of shape (4,)");
        assert_eq!(error.expected.as_deref(), Some("a float32 of shape (6,)"));
        let op = BatchNormInference { axis: 1, epsilon: Real::new(1e-3), gamma: false, beta: false };
        assert_eq!(op.infer(&[&x, &four, &six]).unwrap_err().argument.as_deref(), Some("variance"));
    }
}
