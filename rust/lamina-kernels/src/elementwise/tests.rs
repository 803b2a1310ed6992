use super::*;

fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 * 4.0 - 4.0
        })
        .collect()
}

const SPECIAL: [f32; 12] =
    [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, 3e38, -3e38, 0.5, 2.5];

fn close(got: f32, want: f64) -> bool {
    let want = want as f32;
    got == want
        || (got.is_nan() && want.is_nan())
        || (got - want).abs() <= 1e-6 * want.abs()
        || (got - want).abs() <= 1e-44
        || (got.is_infinite() && want.abs() > 3.4e38 && got.signum() == want.signum())
}

#[test]
fn every_function_on_every_path_matches_its_definition() {
    for n in [0, 1, 7, 16, 33, 511, 512, 513, 2000] {
        let mut a = values(n, 1);
        let mut b = values(n, 2);
        for (i, (a, b)) in a.iter_mut().zip(&mut b).enumerate() {
            if n > 100 && i < 144 {
                (*a, *b) = (SPECIAL[i / 12], SPECIAL[i % 12]);
            }
        }
        for isa in Isa::available() {
            for &op in Unary::ALL {
                let program = Program::new(&[
                    Instr::Load { dst: 0, input: 0 },
                    Instr::Unary { op, dst: 0, a: 0 },
                    Instr::Store { src: 0, output: 0 },
                ])
                .unwrap();
                let mut y = vec![9.0; n];
                run(isa, &program, n, &[(In::F32(&a), Access::Full)], &mut [Out::F32(&mut y)]);
                for i in 0..n {
                    let want = op.eval_f64(f64::from(a[i]));
                    assert!(close(y[i], want), "{op:?}({}) = {} not {want} on {}", a[i], y[i], isa.name());
                }
            }
            for &op in Binary::ALL {
                let program = Program::new(&[
                    Instr::Load { dst: 3, input: 0 },
                    Instr::Load { dst: 1, input: 1 },
                    Instr::Binary { op, dst: 1, a: 3, b: 1 },
                    Instr::Store { src: 1, output: 0 },
                ])
                .unwrap();
                let mut y = vec![9.0; n];
                let ins = [(In::F32(&a), Access::Full), (In::F32(&b), Access::Full)];
                run(isa, &program, n, &ins, &mut [Out::F32(&mut y)]);
                for i in 0..n {
                    let want = op.eval_f64(f64::from(a[i]), f64::from(b[i]));
                    let (a, b, y) = (a[i], b[i], y[i]);
                    assert!(close(y, want), "{op:?}({a}, {b}) = {y} not {want} on {}", isa.name());
                }
            }
        }
    }
}

#[test]
fn numpy_says_what_division_with_remainder_is() {
    // numpy.floor_divide and numpy.mod
    for (a, b, quotient, rest) in [
        (7.0, 3.0, 2.0, 1.0),
        (-7.0, 3.0, -3.0, 2.0),
        (7.0, -3.0, -3.0, -2.0),
        (-7.0, -3.0, 2.0, -1.0),
        (1.0, 0.1, 9.0, 0.099_999_999_999_999_95),
        (-1.0, f64::INFINITY, -1.0, f64::INFINITY),
        (6.0, 3.0, 2.0, 0.0),
    ] {
        assert_eq!(Binary::FloorDiv.eval_f64(a, b), quotient);
        assert_eq!(Binary::Mod.eval_f64(a, b), rest);
    }
    assert_eq!(Binary::FloorDiv.eval_f64(1.0, 0.0), f64::INFINITY);
    assert!(Binary::Mod.eval_f64(1.0, 0.0).is_nan());
}

/// A program's meaning, element by element.
fn naive(program: &Program, n: usize, ins: &[(Vec<f32>, Access)], outs: &mut [Vec<f32>]) {
    for i in 0..n {
        let mut regs = [0f32; Program::REGISTERS];
        for instr in program.instrs() {
            match instr {
                Instr::Load { dst, input } => {
                    let (data, access) = &ins[input as usize];
                    regs[dst as usize] = data[match *access {
                        Access::Full => i,
                        Access::Broadcast { inner, repeat } => (i / (inner * repeat)) * inner + i % inner,
                    }];
                }
                Instr::LoadOut { dst, output } => regs[dst as usize] = outs[output as usize][i],
                Instr::Const { dst, bits } => regs[dst as usize] = f32::from_bits(bits),
                Instr::Unary { op, dst, a } => {
                    regs[dst as usize] = op.eval_f64(f64::from(regs[a as usize])) as f32;
                }
                Instr::Binary { op, dst, a, b } => {
                    let (a, b) = (f64::from(regs[a as usize]), f64::from(regs[b as usize]));
                    regs[dst as usize] = op.eval_f64(a, b) as f32;
                }
                Instr::Select { dst, cond, a, b } => {
                    regs[dst as usize] = regs[if regs[cond as usize] != 0.0 { a } else { b } as usize];
                }
                Instr::Store { src, output } => outs[output as usize][i] = regs[src as usize],
            }
        }
    }
}

/// Whole numbers below what is asked for.
fn random(mut state: u32) -> impl FnMut(u32) -> u32 {
    move |below| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    }
}

/// A random valid program of exact functions, so that its result is known to the bit.
fn random_program(next: &mut impl FnMut(u32) -> u32) -> Program {
    let exact1 = [Unary::Neg, Unary::Abs, Unary::Relu, Unary::Square, Unary::Sqrt, Unary::Not, Unary::Floor];
    let exact2 = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Lt, Binary::And];
    let registers = 1 + next(6);
    let mut instrs = vec![Instr::Load { dst: 0, input: 0 }];
    let mut written = vec![0u8];
    let mut open = vec![0u8, 1, 2];
    let pick = |from: &[u8], next: &mut dyn FnMut(u32) -> u32| from[next(from.len() as u32) as usize];
    // Half of them mostly pass one value on: chains, some of them longer than are run at once.
    let chain = next(2) == 0;
    let mut last = 0;
    while instrs.len() < if chain { 70 } else { 18 } {
        let dst = next(registers) as u8;
        let [mut a, b, c] = [(); 3].map(|()| pick(&written, next));
        if chain && next(8) > 0 {
            a = last;
        }
        let instr = match if chain && next(4) > 0 { 3 + 5 * next(2) } else { next(8) } {
            0 => Instr::Load { dst, input: next(3) as u8 },
            1 if !open.is_empty() => Instr::LoadOut { dst, output: pick(&open, next) },
            2 => Instr::constant(dst, next(5) as f32 - 2.0),
            3 => Instr::Unary { op: exact1[next(7) as usize], dst, a },
            4 => Instr::Select { dst, cond: c, a, b },
            5 if open.len() > 1 => {
                let output = open.swap_remove(next(open.len() as u32) as usize);
                instrs.push(Instr::Store { src: a, output });
                continue;
            }
            _ => Instr::Binary { op: exact2[next(7) as usize], dst, a, b },
        };
        instrs.push(instr);
        last = dst;
        if !written.contains(&dst) {
            written.push(dst);
        }
    }
    instrs.extend(open.iter().map(|&output| Instr::Store { src: written[0], output }));
    for input in 0..3 {
        instrs.push(Instr::Load { dst: 0, input }); // so that all three are always declared
    }
    Program::new(&instrs).unwrap()
}

#[test]
fn random_programs_match_the_naive_reading_to_the_bit() {
    let mut next = random(7);
    for round in 0..300 {
        let program = random_program(&mut next);
        // outer x repeat x inner, so that every kind of broadcast fits
        let (outer, repeat, inner) = (1 + next(4) as usize, 1 + next(40) as usize, 1 + next(40) as usize);
        let n = outer * repeat * inner;
        let accesses = [
            (n, Access::Full),
            (1, Access::Broadcast { inner: 1, repeat: n }),
            (outer * inner, Access::Broadcast { inner, repeat }),
            (outer, Access::Broadcast { inner: 1, repeat: repeat * inner }),
            (inner, Access::Broadcast { inner, repeat: outer * repeat }),
            (outer * repeat, Access::Broadcast { inner: 1, repeat: inner }),
        ];
        let ins: Vec<(Vec<f32>, Access)> = (0..3)
            .map(|k| {
                let (len, access) = accesses[next(6) as usize];
                (values(len, round * 3 + k), access)
            })
            .collect();
        matches_naive(&program, n, &ins, round);
    }
}

/// Runs a program with three outputs on every path, over old contents that `seed` gives.
fn matches_naive(program: &Program, n: usize, ins: &[(Vec<f32>, Access)], seed: u32) {
    let old: Vec<Vec<f32>> = (0..3).map(|k| values(n, 1000 + seed * 3 + k)).collect();
    let mut want = old.clone();
    naive(program, n, ins, &mut want);
    for isa in Isa::available() {
        let mut got = old.clone();
        let views: Vec<_> = ins.iter().map(|(x, access)| (In::F32(x), *access)).collect();
        let mut outs: Vec<Out> = got.iter_mut().map(|y| Out::F32(y)).collect();
        run(isa, program, n, &views, &mut outs);
        for (got, want) in got.iter().zip(&want) {
            for i in 0..n {
                let same = got[i] == want[i] || (got[i].is_nan() && want[i].is_nan());
                let (name, got, want) = (isa.name(), got[i], want[i]);
                assert!(same, "seed {seed} on {name}: element {i}: {got} not {want}\n{program:?}");
            }
        }
    }
}

/// Programs of links only, running means among them, as optimizers have: they go block by block through the whole range.
#[test]
fn programs_that_are_one_chain_match_the_naive_reading_to_the_bit() {
    let mut next = random(11);
    let unary = [Unary::Neg, Unary::Abs, Unary::Relu, Unary::Square, Unary::Sqrt, Unary::Reciprocal];
    let binary = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div];
    let mut one_chain = 0;
    for round in 0..200 {
        // Elements, elements to be overwritten, and numbers.
        let mut instrs = vec![Instr::Load { dst: 0, input: 0 }];
        instrs.extend((0..3).map(|k| Instr::LoadOut { dst: 1 + k, output: k }));
        instrs.extend([Instr::Load { dst: 4, input: 1 }, Instr::Load { dst: 5, input: 2 }]);
        let mut last = 0;
        for output in 0..3u8 {
            for _ in 0..1 + next(7) {
                let dst = 6 + next(6) as u8;
                // An output that is not yet overwritten, mostly.
                let choices = 4 + 2 * u32::from(next(8) == 0);
                let other = [0, 4, 5, 1 + output, 2, 3][next(choices) as usize];
                match next(4) {
                    0 => instrs.push(Instr::Unary { op: unary[next(6) as usize], dst, a: last }),
                    1 => instrs.extend([
                        Instr::Binary { op: Binary::Sub, dst, a: last, b: 1 + output },
                        Instr::Binary { op: Binary::Mul, dst, a: dst, b: 4 },
                        Instr::Binary {
                            op: Binary::Add,
                            dst,
                            a: [1 + output, other][next(2) as usize],
                            b: dst,
                        },
                    ]),
                    2 => instrs.push(Instr::Binary { op: binary[next(4) as usize], dst, a: other, b: last }),
                    _ => instrs.push(Instr::Binary { op: binary[next(4) as usize], dst, a: last, b: other }),
                }
                last = dst;
            }
            if last < 6 {
                instrs.push(Instr::Unary { op: Unary::Neg, dst: 6, a: last });
                last = 6;
            }
            instrs.push(Instr::Store { src: last, output });
            last = [last, 0, 5][next(3) as usize];
        }
        let program = Program::new(&instrs).unwrap();
        one_chain += u32::from(program.one_chain);
        let n = 1 + next(6000) as usize;
        let number = Access::Broadcast { inner: 1, repeat: n };
        let ins = [(values(n, round), Access::Full), (vec![0.1], number), (vec![-2.5], number)];
        matches_naive(&program, n, &ins, round);
    }
    assert!(one_chain > 50, "{one_chain} of 200 are one chain");
}

#[test]
fn every_type_converts_on_load_and_bool_on_store() {
    let program = Program::new(&[
        Instr::Load { dst: 0, input: 0 },
        Instr::LoadOut { dst: 1, output: 1 },
        Instr::Binary { op: Binary::Add, dst: 1, a: 0, b: 1 },
        Instr::Store { src: 0, output: 0 },
        Instr::Store { src: 1, output: 1 },
    ])
    .unwrap();
    let n = 700;
    let bytes: Vec<u8> = (0..n).map(|i| (i % 5) as u8).collect();
    macro_rules! check {
        ($kind:ident, $t:ty) => {
            let x: Vec<$t> = bytes.iter().map(|&b| b as $t).collect();
            for access in [Access::Full, Access::Broadcast { inner: 20, repeat: 7 }] {
                let len = if access == Access::Full { n } else { n / 7 };
                for isa in Isa::available() {
                    let (mut y, mut flags) = (vec![0.0; n], vec![0u8; n]);
                    flags[3] = 1;
                    let mut outs = [Out::F32(&mut y), Out::Bool(&mut flags)];
                    run(isa, &program, n, &[(In::$kind(&x[..len]), access)], &mut outs);
                    for i in 0..n {
                        let at = if access == Access::Full { i } else { i / 140 * 20 + i % 20 };
                        let mut want = bytes[at] as f32;
                        if stringify!($kind) == "Bool" {
                            want = want.min(1.0);
                        }
                        assert_eq!(y[i], want);
                        assert_eq!(flags[i], u8::from(want != 0.0 || i == 3));
                    }
                }
            }
        };
    }
    check!(F32, f32);
    check!(F64, f64);
    check!(I8, i8);
    check!(I16, i16);
    check!(I32, i32);
    check!(I64, i64);
    check!(U8, u8);
    check!(U16, u16);
    check!(U32, u32);
    check!(Bool, u8);
}

#[test]
fn large_runs_have_the_same_bits_at_any_thread_count() {
    let n = 300_001;
    let x = values(n, 5);
    let program = Program::new(&[
        Instr::Load { dst: 0, input: 0 },
        Instr::Unary { op: Unary::Exp, dst: 0, a: 0 },
        Instr::LoadOut { dst: 1, output: 0 },
        Instr::Binary { op: Binary::Sub, dst: 1, a: 1, b: 0 },
        Instr::Store { src: 1, output: 0 },
    ])
    .unwrap();
    let mut first: Option<Vec<f32>> = None;
    for threads in [1, 2, 4] {
        threads::set_num_threads(threads);
        let mut y = values(n, 6);
        run(Isa::best(), &program, n, &[(In::F32(&x), Access::Full)], &mut [Out::F32(&mut y)]);
        match &first {
            None => first = Some(y),
            Some(first) => assert!(first.iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits())),
        }
    }
    threads::set_num_threads(0);
}

#[test]
fn broken_programs_are_refused() {
    let load = Instr::Load { dst: 0, input: 0 };
    let store = Instr::Store { src: 0, output: 0 };
    for (instrs, fragment) in [
        (vec![store], "reads register 0"),
        (vec![load, store, store], "after its store"),
        (vec![load, store, Instr::LoadOut { dst: 0, output: 0 }], "after its store"),
        (vec![load, Instr::Store { src: 0, output: 1 }], "output 0 is never stored"),
        (vec![load, Instr::LoadOut { dst: 0, output: 0 }], "output 0 is never stored"),
        (vec![Instr::Load { dst: 32, input: 0 }], "writes register 32"),
        (vec![load, Instr::Store { src: 0, output: 8 }], "names output 8"),
    ] {
        let error = Program::new(&instrs).unwrap_err();
        assert!(error.contains(fragment), "{error}");
    }
}

#[test]
#[should_panic(expected = "input 0 has 3 elements, not 4")]
fn short_inputs_are_refused() {
    let program =
        Program::new(&[Instr::Load { dst: 0, input: 0 }, Instr::Store { src: 0, output: 0 }]).unwrap();
    run(Isa::best(), &program, 4, &[(In::F32(&[0.0; 3]), Access::Full)], &mut [Out::F32(&mut [0.0; 4])]);
}

/// Short rows used many times are laid out once for all tiles: blocks that no tile divides, several in a task.
#[test]
fn a_short_row_under_a_tall_matrix() {
    let program = Program::new(&[
        Instr::Load { dst: 0, input: 0 },
        Instr::Load { dst: 1, input: 1 },
        Instr::Binary { op: Binary::Mul, dst: 0, a: 0, b: 1 },
        Instr::Load { dst: 1, input: 2 },
        Instr::Binary { op: Binary::Add, dst: 0, a: 0, b: 1 },
        Instr::Store { src: 0, output: 0 },
    ])
    .unwrap();
    for (outer, repeat, inner) in [(3, 4097, 2), (1, 5000, 3), (3, 101, 96), (2, 40, 512), (2, 40, 513)] {
        let n = outer * repeat * inner;
        let (x, rows) = (values(n, 1), values(outer * inner, 2));
        let counts: Vec<u8> = (0..inner).map(|i| (i % 250) as u8).collect();
        let want: Vec<f32> = (0..n)
            .map(|i| x[i] * rows[i / (inner * repeat) * inner + i % inner] + f32::from(counts[i % inner]))
            .collect();
        for isa in Isa::available() {
            let mut y = vec![0.0; n];
            let ins = [
                (In::F32(&x), Access::Full),
                (In::F32(&rows), Access::Broadcast { inner, repeat }),
                (In::U8(&counts), Access::Broadcast { inner, repeat: outer * repeat }),
            ];
            run(isa, &program, n, &ins, &mut [Out::F32(&mut y)]);
            for i in 0..n {
                assert!(y[i] == want[i] || y[i].is_nan() && want[i].is_nan(), "{isa:?} {inner} at {i}");
            }
        }
    }
}
