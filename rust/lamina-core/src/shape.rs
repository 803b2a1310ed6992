//! Shapes: each axis known or not, and the rules that combine them.

use crate::dtype::DType;
use crate::error::ShapeError;
use smallvec::SmallVec;

/// One axis: its length, or `None` where it is not known before data arrives.
pub type Dim = Option<usize>;

/// The axes of a value.
pub type Dims = SmallVec<[Dim; 4]>;

/// The axes of a value whose every length is known.
pub type Shape = SmallVec<[usize; 4]>;

/// What is known of a value before it is computed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Axes.
    pub dims: Dims,
}

impl Type {
    /// A type with these axes.
    pub fn new(dtype: DType, dims: impl IntoIterator<Item = Dim>) -> Self {
        Type { dtype, dims: dims.into_iter().collect() }
    }

    /// A type whose every axis is known.
    pub fn known(dtype: DType, shape: &[usize]) -> Self {
        Type { dtype, dims: shape.iter().map(|&d| Some(d)).collect() }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The lengths, where all are known.
    pub fn shape(&self) -> Option<Shape> {
        self.dims.iter().copied().collect()
    }

    /// Number of elements, where known.
    pub fn elements(&self) -> Option<usize> {
        self.dims.iter().copied().product()
    }

    /// The lengths of a type that is known to be concrete (after specialisation).
    ///
    /// # Panics
    /// Where an axis is unknown.
    pub fn concrete(&self) -> Shape {
        self.shape().expect("a plan is made from concrete shapes")
    }

    /// Elements of a concrete type.
    pub fn len(&self) -> usize {
        self.concrete().iter().product()
    }

    /// Whether a concrete type has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of a concrete type.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }
}

/// `(None, 28, 28, 1)`, as Python prints a shape.
pub fn show(dims: &[Dim]) -> String {
    let parts: Vec<String> = dims.iter().map(|d| d.map_or("None".into(), |n| n.to_string())).collect();
    match parts.as_slice() {
        [one] => format!("({one},)"),
        _ => format!("({})", parts.join(", ")),
    }
}

/// The numpy broadcast of two axes lists; an unknown axis beside 1 or unknown stays unknown, beside a
/// known length takes it.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Dims> {
    let rank = a.len().max(b.len());
    let axis = |dims: &[Dim], i: usize| {
        if i + dims.len() < rank { Some(1) } else { dims[i + dims.len() - rank] }
    };
    (0..rank)
        .map(|i| match (axis(a, i), axis(b, i)) {
            (Some(1), d) | (d, Some(1)) => Some(d),
            (None, d) | (d, None) => Some(d),
            (x, y) if x == y => Some(x),
            _ => None,
        })
        .collect()
}

/// [`broadcast`], or the error that names both operands.
pub fn broadcast_or(op: &str, a: &Type, b: &Type) -> Result<Dims, ShapeError> {
    broadcast(&a.dims, &b.dims).ok_or_else(|| {
        ShapeError::new(
            op,
            format!(
                "operands could not be broadcast together with shapes {} {}",
                show(&a.dims),
                show(&b.dims)
            ),
        )
        .got(&a.dims)
        .got(&b.dims)
        .expected("axes, counted from the last, that are equal or 1")
    })
}

/// A possibly negative axis as an index, or the error that says which axes there are.
pub fn axis_index(op: &str, axis: i64, rank: usize) -> Result<usize, ShapeError> {
    let index = if axis < 0 { axis + rank as i64 } else { axis };
    if (0..rank as i64).contains(&index) {
        return Ok(index as usize);
    }
    Err(ShapeError::new(op, format!("axis {axis} is out of bounds for array of dimension {rank}"))
        .argument("axis")
        .expected(format!("-{rank} <= axis < {rank}")))
}

/// Row-major strides, in elements.
pub fn strides(shape: &[usize]) -> Shape {
    let mut strides: Shape = shape.iter().map(|_| 1).collect();
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_keeps_what_is_known() {
        assert_eq!(broadcast(&[None, Some(4)], &[Some(4)]).unwrap().as_slice(), [None, Some(4)]);
        assert_eq!(broadcast(&[None, Some(1)], &[Some(3), Some(5)]).unwrap().as_slice(), [Some(3), Some(5)]);
        assert_eq!(broadcast(&[Some(2)], &[Some(3)]), None);
    }

    #[test]
    fn shapes_print_as_python_does() {
        assert_eq!(show(&[None, Some(3)]), "(None, 3)");
        assert_eq!(show(&[Some(3)]), "(3,)");
        assert_eq!(show(&[]), "()");
    }
}
