//! Gradients of ops that are defined by other ops.

use super::*;
use crate::autodiff::gradients;
use rustc_hash::FxHashMap;

impl Vjp<'_> {
    /// Gives every wanted operand its gradient through `define`, which writes the op's results in terms of its
    /// operands.
    ///
    /// The definition is differentiated in a graph of its own: in the caller's, an operand may depend on
    /// another one, and that path would be counted twice.
    pub fn through(
        &mut self,
        define: impl FnOnce(&mut Graph, &[Value]) -> Result<SmallVec<[Value; 3]>, ShapeError>,
    ) -> Result<(), ShapeError> {
        let mut own = Graph::new();
        let mut origins: Vec<Value> = self.inputs.to_vec();
        let operands: Vec<Value> = origins.iter().map(|v| own.input(self.g.ty(*v).clone())).collect();
        let results = define(&mut own, &operands)?;
        let mut totals: Vec<Option<Value>> = vec![None; operands.len()];
        for (result, cotangent) in results.iter().zip(self.cotangents) {
            let Some(cotangent) = *cotangent else { continue };
            let seed = own.input(self.g.ty(cotangent).clone());
            origins.push(cotangent);
            let parts = gradients(&mut own, *result, &operands, Some(seed))?;
            for (i, part) in parts.into_iter().enumerate().filter(|(i, _)| self.wanted[*i]) {
                totals[i] = match (totals[i], part) {
                    (Some(a), Some(b)) => Some(own.sum(a, b)?),
                    (a, b) => a.or(b),
                };
            }
        }
        let mut here: FxHashMap<Value, Value> = own.inputs().iter().copied().zip(origins).collect();
        let live = own.live(totals.iter().flatten().copied());
        for (i, node) in own.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            let first = Value { node: i as u32, output: 0 };
            if here.contains_key(&first) {
                continue;
            }
            let inputs: SmallVec<[Value; 4]> = node.inputs.iter().map(|v| here[v]).collect();
            let copies = self.g.add_all(node.op.clone(), &inputs)?;
            here.extend((0..).map(|output| Value { output, ..first }).zip(copies));
        }
        for (i, total) in totals.iter().enumerate() {
            if let Some(total) = total {
                self.give(i, here[total]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::Function;
    use crate::plan::Traced;
    use lamina_kernels::elementwise::Unary as U;

    #[test]
    fn paths_between_operands_are_not_counted() {
        // f(a, b) = a b^2 at b = exp(a), as seen by the rule: df/da = b^2, df/db = 2ab.
        let mut g = Graph::new();
        let a = g.input(Type::known(DType::F64, &[2]));
        let b = g.unary(U::Exp, a).unwrap();
        let one = g.full_like(a, 1.0).unwrap();
        let mut cx = Vjp {
            g: &mut g,
            inputs: &[a, b],
            outputs: &[],
            cotangents: &[Some(one)],
            wanted: &[true, true],
            given: vec![None; 2],
        };
        cx.through(|g, v| {
            let square = g.unary(U::Square, v[1])?;
            Ok(smallvec![g.mul(v[0], square)?])
        })
        .unwrap();
        let outputs = cx.given.iter().map(|v| v.unwrap()).collect();
        let out = Function::new(Traced { graph: g, outputs, updates: vec![] })
            .call(&[Tensor::from_slice(&[2], &[0.5f64, -1.0])])
            .unwrap();
        let expect = |f: fn(f64, f64) -> f64| vec![f(0.5, 0.5f64.exp()), f(-1.0, (-1f64).exp())];
        assert_close(&out[0].to_f64(), &expect(|_, b| b * b), 1e-14);
        assert_close(&out[1].to_f64(), &expect(|a, b| 2.0 * a * b), 1e-14);
    }
}
