//! Each operator in each form that an opset gives it. Values are worked out by hand or come from ONNX's documentation.

use super::*;
use crate::graph::Attribute;
use gatefold_check::Failures;
use ndarray::{Array1, ArrayD, IxDyn};

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::F32(ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap())
}

/// `0, 1, 2, ...`
fn counted(shape: &[usize]) -> Tensor {
    let len = shape.iter().product();
    f32s(shape, &(0..len).map(|k: usize| k as f32).collect::<Vec<_>>())
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::of_integers(values.to_vec())
}

struct Case<'a> {
    operator: &'a str,
    opset: i64,
    inputs: &'a [Option<&'a Tensor>],
    attributes: &'a [(&'a str, Attribute)],
    outputs: usize,
}

impl Case<'_> {
    fn run(&self) -> Result<Vec<Tensor>, String> {
        let node = Node {
            name: "n".into(),
            operator: self.operator.into(),
            inputs: vec![],
            outputs: vec![Some("y".into()); self.outputs],
            attributes: self.attributes.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
        };
        run(
            &Call { node: &node, opset: self.opset, inputs: self.inputs.to_vec() },
            &mut Budget::running(1, 1),
        )
    }
}

fn one(
    operator: &str,
    opset: i64,
    inputs: &[&Tensor],
    attributes: &[(&str, Attribute)],
) -> Result<Tensor, String> {
    let inputs: Vec<Option<&Tensor>> = inputs.iter().map(|input| Some(*input)).collect();
    let results = Case { operator, opset, inputs: &inputs, attributes, outputs: 1 }.run()?;
    Ok(results.into_iter().next().unwrap())
}

/// The library multiplies by the reciprocal of a single number, which is off by a bit for 1 in 4 of these.
#[test]
fn a_quotient_is_rounded_once() {
    let values: Vec<f32> = (1..2000).map(|k| k as f32 * 0.37).collect();
    for (shape, divisor) in [(vec![], 255.0), (vec![1], 0.013)] {
        let found = one("Div", 14, &[&f32s(&[1999], &values), &f32s(&shape, &[divisor])], &[]).unwrap();
        let expected: Vec<f32> = values.iter().map(|value| value / divisor).collect();
        assert_eq!(found, f32s(&[1999], &expected), "by {divisor}");
    }
    assert_eq!(
        one("Div", 14, &[&f32s(&[2], &[1.0, 3.0]), &f32s(&[1, 1, 1], &[2.0])], &[]).unwrap(),
        f32s(&[1, 1, 2], &[0.5, 1.5]),
        "more axes"
    );
    let mut inexact = 0;
    for top in 1..200 {
        let top = top as f32 * 0.11;
        let results = Case {
            operator: "DynamicQuantizeLinear",
            opset: 14,
            inputs: &[Some(&f32s(&[2], &[-0.3, top]))],
            attributes: &[],
            outputs: 3,
        };
        let Tensor::F32(scale) = &results.run().unwrap()[1] else { panic!("a float") };
        let range = top + 0.3;
        assert_eq!(scale.iter().sum::<f32>(), range / 255.0, "up to {top}");
        inexact += u32::from(range / 255.0 != range * (1.0 / 255.0));
    }
    assert!(inexact > 20, "{inexact} of these would be rounded otherwise");
}

/// Tensors that others read are copied, and others changed where they are: with the same results.
#[test]
fn owned_inputs_give_what_lent_ones_do() {
    let mut failures = Failures::new();
    let wide = Tensor::F32(ArrayD::from_shape_fn(IxDyn(&[3, 1, 5000]), |at| (at[2] as f32 - 2500.0) * 0.003));
    let few = f32s(&[1, 4], &[f32::NAN, -0.0, 90.0, f32::NEG_INFINITY]);
    let axes = [ints(&[0]), ints(&[-2, 1]), ints(&[-1]), ints(&[1, 1])];
    let cases: Vec<(&str, &Tensor, Option<&Tensor>)> = vec![
        ("Tanh", &wide, None),
        ("Sigmoid", &wide, None),
        ("Tanh", &few, None),
        ("Sigmoid", &few, None),
        ("Squeeze", &wide, None),
        ("Squeeze", &few, Some(&axes[0])),
        ("Squeeze", &wide, Some(&axes[1])),
        ("Squeeze", &few, Some(&axes[2])),
        ("Unsqueeze", &few, Some(&axes[0])),
        ("Unsqueeze", &few, Some(&axes[1])),
        ("Unsqueeze", &few, Some(&axes[2])),
        ("Unsqueeze", &few, Some(&axes[3])),
    ];
    for (operator, input, more) in cases {
        failures.check(format!("{operator} of {:?}, {more:?}", input.shape()), || {
            let node = Node {
                name: "n".into(),
                operator: operator.into(),
                inputs: vec![],
                outputs: vec![Some("y".into())],
                attributes: Default::default(),
            };
            let run = |first: Given| {
                let given =
                    [Some(first)].into_iter().chain(more.map(|more| Some(Given::Lent(more)))).collect();
                let (mut kernel, mut budget) = (Kernel::default(), Budget::running(1 << 20, 1));
                kernel.run(&node, 17, given, &mut budget, &RunOptions::default()).map_err(drop)
            };
            let (lent, owned) = (run(Given::Lent(input)), run(Given::Owned(input.clone())));
            assert_eq!(lent.is_ok(), owned.is_ok(), "{lent:?}, {owned:?}");
            let (Ok(lent), Ok(owned)) = (lent, owned) else { return };
            let (Tensor::F32(lent), Tensor::F32(owned)) = (&lent[0], &owned[0]) else { panic!("floats") };
            assert_eq!(lent.shape(), owned.shape());
            assert!(
                lent.iter().zip(owned).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
            );
            if !operator.ends_with("queeze") {
                let Tensor::F32(x) = input else { panic!("floats") };
                for (&x, &y) in x.iter().zip(lent) {
                    let x = f64::from(x);
                    let exact = if operator == "Tanh" { x.tanh() } else { 1.0 / (1.0 + (-x).exp()) };
                    // Three units of the last place, and what is below the normal numbers.
                    let off = (f64::from(y) - exact).abs();
                    assert!(
                        x.is_nan() && y.is_nan()
                            || off <= 3.0 * exact.abs() * f64::from(f32::EPSILON) + 2e-38
                    );
                }
            }
        });
    }
    failures.finish();
}

fn int(key: &str, value: i64) -> (&str, Attribute) {
    (key, Attribute::Int(value))
}

fn list<'a>(key: &'a str, values: &[i64]) -> (&'a str, Attribute) {
    (key, Attribute::Ints(values.to_vec()))
}

#[track_caller]
fn assert_all_refused<C: std::fmt::Debug>(cases: &[C], run: impl Fn(&C) -> Result<Tensor, String>) {
    let accepted: Vec<&C> = cases.iter().filter(|case| run(case).is_ok()).collect();
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
}

#[test]
fn transpose_permutes_axes() {
    let x = counted(&[2, 3]);
    assert_eq!(one("Transpose", 13, &[&x], &[]).unwrap(), f32s(&[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
    let x = counted(&[1, 2, 3]);
    let turned = one("Transpose", 7, &[&x], &[list("perm", &[1, 2, 0])]).unwrap();
    assert_eq!(turned, counted(&[2, 3, 1]));
    assert!(one("Transpose", 13, &[&x], &[list("perm", &[0, 0, 1])]).is_err());
    assert!(one("Transpose", 13, &[&x], &[list("perm", &[0, 1])]).is_err());
}

#[test]
fn axes_of_squeeze_and_unsqueeze_became_an_input() {
    let x = counted(&[1, 2, 1]);
    assert_eq!(one("Squeeze", 12, &[&x], &[list("axes", &[-1])]).unwrap().shape(), [1, 2]);
    assert_eq!(one("Squeeze", 13, &[&x, &ints(&[0])], &[]).unwrap().shape(), [2, 1]);
    assert_eq!(one("Squeeze", 13, &[&x], &[]).unwrap().shape(), [2]);
    assert!(one("Squeeze", 13, &[&x], &[list("axes", &[0])]).unwrap_err().contains("opset 13"));
    assert!(one("Squeeze", 12, &[&x], &[list("axes", &[1])]).is_err());
    let x = counted(&[2]);
    assert_eq!(one("Unsqueeze", 12, &[&x], &[list("axes", &[0, 2])]).unwrap().shape(), [1, 2, 1]);
    assert_eq!(one("Unsqueeze", 13, &[&x, &ints(&[-1])], &[]).unwrap().shape(), [2, 1]);
    assert!(one("Unsqueeze", 13, &[&x, &ints(&[0, 0])], &[]).is_err());
    assert!(one("Unsqueeze", 13, &[&x, &ints(&[3])], &[]).is_err());
}

#[test]
fn reshape_copies_infers_and_from_opset_14_on_takes_zeros() {
    let x = counted(&[2, 3, 4]);
    assert_eq!(one("Reshape", 7, &[&x, &ints(&[0, -1])], &[]).unwrap(), counted(&[2, 12]));
    assert_eq!(one("Reshape", 14, &[&x, &ints(&[4, 6])], &[int("allowzero", 0)]).unwrap(), counted(&[4, 6]));
    let empty = counted(&[0, 3]);
    assert_eq!(
        one("Reshape", 14, &[&empty, &ints(&[3, 0])], &[int("allowzero", 1)]).unwrap().shape(),
        [3, 0]
    );
    let impossible =
        [&[5i64, 5][..], &[-1, -1], &[-1, 7], &[-2, 12], &[0, 0, 0, 0], &[i64::MAX, i64::MAX, -1]];
    assert_all_refused(&impossible, |shape| one("Reshape", 13, &[&x, &ints(shape)], &[]));
}

#[test]
fn slice_clamps_and_steps() {
    let x = counted(&[2, 4]);
    let nine = |starts: &[i64], ends: &[i64], axes: &[i64]| {
        one("Slice", 9, &[&x], &[list("starts", starts), list("ends", ends), list("axes", axes)])
    };
    assert_eq!(nine(&[1], &[1000], &[1]).unwrap(), f32s(&[2, 3], &[1.0, 2.0, 3.0, 5.0, 6.0, 7.0]));
    assert_eq!(nine(&[0, -3], &[1, -1], &[0, 1]).unwrap(), f32s(&[1, 2], &[1.0, 2.0]));
    let ten = |start: i64, end: i64, axis: i64, step: i64| {
        one("Slice", 10, &[&x, &ints(&[start]), &ints(&[end]), &ints(&[axis]), &ints(&[step])], &[])
    };
    // Backwards over the whole axis, as exporters write it.
    let back = f32s(&[2, 4], &[3.0, 2.0, 1.0, 0.0, 7.0, 6.0, 5.0, 4.0]);
    assert_eq!(ten(-1, i64::MIN, -1, -1).unwrap(), back);
    assert_eq!(ten(i64::MAX, i64::MIN + 1, 1, -1).unwrap(), back);
    assert_eq!(ten(3, 0, 1, -2).unwrap(), f32s(&[2, 2], &[3.0, 1.0, 7.0, 5.0]));
    assert_eq!(ten(0, i64::MAX, 1, i64::MAX).unwrap(), f32s(&[2, 1], &[0.0, 4.0]));
    assert_eq!(ten(3, 1, 1, 1).unwrap().shape(), [2, 0]);
    assert!(ten(0, 1, 1, 0).is_err() && ten(0, 1, 2, 1).is_err());
}

#[test]
fn gather_takes_rows() {
    let x = f32s(&[3, 2], &[1.0, 1.2, 2.3, 3.4, 4.5, 5.7]);
    let rows = Tensor::I64(ArrayD::from_shape_vec(IxDyn(&[2, 2]), vec![0, 1, 1, -1]).unwrap());
    let expected = f32s(&[2, 2, 2], &[1.0, 1.2, 2.3, 3.4, 2.3, 3.4, 4.5, 5.7]);
    assert_eq!(one("Gather", 13, &[&x, &rows], &[]).unwrap(), expected);
    let scalar = Tensor::I32(ndarray::arr0(-1).into_dyn());
    assert_eq!(one("Gather", 8, &[&x, &scalar], &[int("axis", 1)]).unwrap(), f32s(&[3], &[1.2, 3.4, 5.7]));
    assert_all_refused(&[3, -4, i64::MIN], |index| one("Gather", 13, &[&x, &ints(&[*index])], &[]));
}

#[test]
fn concat_and_split_are_inverse() {
    let (a, b) = (counted(&[2, 2]), counted(&[2, 3]));
    let both = one("Concat", 13, &[&a, &b], &[int("axis", -1)]).unwrap();
    assert_eq!(both, f32s(&[2, 5], &[0.0, 1.0, 0.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 5.0]));
    let split = |opset, inputs: &[Option<&Tensor>], attributes: &[(&str, Attribute)], outputs| {
        Case { operator: "Split", opset, inputs, attributes, outputs }.run()
    };
    let parts = vec![a.clone(), b.clone()];
    assert_eq!(split(12, &[Some(&both)], &[int("axis", 1), list("split", &[2, 3])], 2).unwrap(), parts);
    assert_eq!(split(13, &[Some(&both), Some(&ints(&[2, 3]))], &[int("axis", 1)], 2).unwrap(), parts);
    // Equal parts; from opset 18 on the last may be smaller.
    let x = counted(&[5]);
    assert!(split(13, &[Some(&x)], &[], 2).is_err());
    let uneven = split(18, &[Some(&x)], &[int("num_outputs", 2)], 2).unwrap();
    assert_eq!(uneven, [f32s(&[3], &[0.0, 1.0, 2.0]), f32s(&[2], &[3.0, 4.0])]);
    assert!(split(18, &[Some(&x)], &[int("num_outputs", 3)], 2).is_err());
    assert!(split(13, &[Some(&x), Some(&ints(&[2, 2]))], &[], 2).is_err());
    assert!(one("Concat", 13, &[&a, &counted(&[3, 2])], &[int("axis", 1)]).is_err());
    assert!(one("Concat", 13, &[&a, &ints(&[1])], &[int("axis", 0)]).is_err());
}

#[test]
fn shapes_are_returned_and_filled() {
    let x = counted(&[2, 3, 4]);
    assert_eq!(one("Shape", 13, &[&x], &[]).unwrap(), ints(&[2, 3, 4]));
    assert_eq!(one("Shape", 15, &[&x], &[int("start", 1)]).unwrap(), ints(&[3, 4]));
    assert_eq!(one("Shape", 15, &[&x], &[int("start", -2), int("end", -1)]).unwrap(), ints(&[3]));
    assert_eq!(one("Shape", 15, &[&x], &[int("start", 2), int("end", 1)]).unwrap(), ints(&[]));
    assert_eq!(one("ConstantOfShape", 9, &[&ints(&[2])], &[]).unwrap(), f32s(&[2], &[0.0, 0.0]));
    let seven = ("value", Attribute::Tensor(ints(&[7])));
    assert_eq!(one("ConstantOfShape", 9, &[&ints(&[3])], &[seven]).unwrap(), ints(&[7, 7, 7]));
    let impossible = [&[1 << 40][..], &[1 << 20, 1 << 20], &[-1], &[1 << 40, 0], &[i64::MAX, i64::MAX]];
    assert_all_refused(&impossible, |shape| one("ConstantOfShape", 9, &[&ints(shape)], &[]));
    assert_all_refused(&impossible, |shape| one("Expand", 13, &[&counted(&[1]), &ints(shape)], &[]));
    let x = f32s(&[2, 1], &[1.0, 2.0]);
    let wide = one("Expand", 8, &[&x, &ints(&[2, 1, 2])], &[]).unwrap();
    assert_eq!(wide, f32s(&[2, 2, 2], &[1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]));
    // A 1 in the shape keeps the input's length.
    assert_eq!(one("Expand", 8, &[&x, &ints(&[1, 2])], &[]).unwrap().shape(), [2, 2]);
    assert!(one("Expand", 8, &[&x, &ints(&[3, 2])], &[]).is_err());
}

#[test]
fn constants_of_every_kind() {
    let of = |key: &str, value: Attribute| one("Constant", 13, &[], &[(key, value)]);
    let x = counted(&[2, 2]);
    assert_eq!(of("value", Attribute::Tensor(x.clone())).unwrap(), x);
    assert_eq!(of("value_ints", Attribute::Ints(vec![3, 4])).unwrap(), ints(&[3, 4]));
    assert_eq!(of("value_int", Attribute::Int(3)).unwrap(), Tensor::I64(ndarray::arr0(3).into_dyn()));
    assert_eq!(of("value_float", Attribute::Float(0.5)).unwrap(), f32s(&[], &[0.5]));
    assert_eq!(of("value_floats", Attribute::Floats(vec![0.5])).unwrap(), f32s(&[1], &[0.5]));
    assert!(of("value_string", Attribute::Text("a".into())).is_err());
}

#[test]
fn elementwise_operators_broadcast() {
    let (x, row) = (counted(&[2, 3]), f32s(&[3], &[10.0, 20.0, 30.0]));
    let column = f32s(&[2, 1], &[2.0, -1.0]);
    let added = one("Add", 14, &[&x, &row], &[]).unwrap();
    assert_eq!(added, f32s(&[2, 3], &[10.0, 21.0, 32.0, 13.0, 24.0, 35.0]));
    let scaled = one("Mul", 7, &[&column, &x], &[]).unwrap();
    assert_eq!(scaled, f32s(&[2, 3], &[0.0, 2.0, 4.0, -3.0, -4.0, -5.0]));
    assert_eq!(one("Mul", 13, &[&ints(&[2, 3]), &ints(&[5])], &[]).unwrap(), ints(&[10, 15]));
    assert!(one("Add", 14, &[&x, &f32s(&[2], &[1.0, 2.0])], &[]).is_err());
    assert!(one("Add", 14, &[&x, &ints(&[1])], &[]).is_err());
    // Broadcasting may not exceed the limits of a shape.
    let (tall, wide) = (counted(&[1 << 15, 1]), counted(&[1, 1 << 15]));
    assert!(one("Add", 14, &[&tall, &wide], &[]).unwrap_err().contains("at most"));
    assert!(one("MatMul", 13, &[&tall, &wide], &[]).unwrap_err().contains("at most"));
}

/// Memory is not all that a small file can ask for.
#[test]
fn arithmetic_is_bounded_while_constants_are_computed() {
    let (tall, wide) = (counted(&[1 << 11, 1 << 11]), counted(&[1 << 11, 1 << 10]));
    let node = Node {
        name: "n".into(),
        operator: "MatMul".into(),
        inputs: vec![],
        outputs: vec![Some("y".into())],
        attributes: Default::default(),
    };
    let call = Call { node: &node, opset: 13, inputs: vec![Some(&tall), Some(&wide)] };
    assert!(run(&call, &mut Budget::folding(0)).unwrap_err().contains("steps of arithmetic"));
    assert!(run(&call, &mut Budget::folding(1 << 24)).is_ok());
}

#[test]
fn functions_hold_at_extreme_arguments() {
    let x = f32s(&[4], &[-1e4, -0.5, 0.0, 1e4]);
    assert_eq!(one("Relu", 14, &[&x], &[]).unwrap(), f32s(&[4], &[0.0, 0.0, 0.0, 1e4]));
    let Tensor::F32(y) = one("Tanh", 13, &[&x], &[]).unwrap() else { panic!("float32") };
    assert_eq!([y[0], y[2], y[3]], [-1.0, 0.0, 1.0]);
    // Three units of the last place.
    assert!((y[1] + 0.462_117_16).abs() <= 9e-8);
    let Tensor::F32(y) = one("Sigmoid", 13, &[&x], &[]).unwrap() else { panic!("float32") };
    assert_eq!([y[2], y[3]], [0.5, 1.0]);
    // The engine's is never below e^-87.
    assert!((0.0..2e-38).contains(&y[0]));
    assert!((y[1] - 0.377_540_67).abs() < 9e-8);
    let Tensor::F32(y) = one("Relu", 14, &[&f32s(&[1], &[f32::NAN])], &[]).unwrap() else {
        panic!("float32")
    };
    assert!(y[0].is_nan());
}

/// Before opset 13 the axes from the given one on are flattened into one; from then on it is a single axis.
#[test]
fn softmax_flattened_before_opset_13() {
    let x = f32s(&[2, 2, 2], &[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1e4]);
    let Tensor::F32(old) = one("Softmax", 12, &[&x], &[]).unwrap() else { panic!("float32") };
    assert_eq!(old.iter().copied().collect::<Vec<_>>(), [0.25, 0.25, 0.25, 0.25, 0.0, 0.0, 0.0, 1.0]);
    let Tensor::F32(new) = one("Softmax", 13, &[&x], &[]).unwrap() else { panic!("float32") };
    assert_eq!(new.iter().copied().collect::<Vec<_>>(), [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 1.0]);
    let Tensor::F32(middle) = one("Softmax", 13, &[&x], &[int("axis", 1)]).unwrap() else {
        panic!("float32")
    };
    assert_eq!(middle.iter().copied().collect::<Vec<_>>(), [0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 0.5, 1.0]);
    // On the last axis the two agree.
    assert_eq!(
        one("Softmax", 11, &[&x], &[int("axis", 2)]).unwrap(),
        one("Softmax", 13, &[&x], &[int("axis", 2)]).unwrap()
    );
    assert_eq!(one("Softmax", 11, &[&x], &[int("axis", 3)]).unwrap(), f32s(&[2, 2, 2], &[1.0; 8]));
    assert!(one("Softmax", 13, &[&x], &[int("axis", 3)]).is_err());
}

#[test]
fn dropout_drops_nothing_at_inference() {
    let x = counted(&[3]);
    let (ratio, on) = (f32s(&[], &[0.5]), Tensor::Bool(ndarray::arr0(true).into_dyn()));
    assert_eq!(one("Dropout", 7, &[&x], &[("ratio", Attribute::Float(0.5))]).unwrap(), x);
    assert_eq!(one("Dropout", 13, &[&x, &ratio], &[]).unwrap(), x);
    assert!(one("Dropout", 13, &[&x, &ratio, &on], &[]).unwrap_err().contains("training"));
    let masked = |opset| {
        Case { operator: "Dropout", opset, inputs: &[Some(&x)], attributes: &[], outputs: 2 }.run().unwrap()
    };
    assert_eq!(masked(9)[1], f32s(&[3], &[1.0; 3]));
    assert_eq!(masked(10)[1], Tensor::Bool(Array1::from_elem(3, true).into_dyn()));
}

#[test]
fn casts_round_towards_zero() {
    let x = f32s(&[3], &[-1.5, 0.0, 2.9]);
    assert_eq!(one("Cast", 9, &[&x], &[int("to", 7)]).unwrap(), ints(&[-1, 0, 2]));
    assert_eq!(
        one("Cast", 13, &[&x], &[int("to", 9)]).unwrap(),
        Tensor::Bool(ndarray::arr1(&[true, false, true]).into_dyn())
    );
    assert_eq!(one("Cast", 13, &[&ints(&[3])], &[int("to", 1)]).unwrap(), f32s(&[1], &[3.0]));
    assert_eq!(one("Cast", 13, &[&x], &[int("to", 11)]).unwrap(), x);
    let half = f32s(&[2], &[0.5, f32::NAN]);
    assert_eq!(
        one("Cast", 13, &[&half], &[int("to", 9)]).unwrap(),
        Tensor::Bool(ndarray::arr1(&[true, true]).into_dyn())
    );
    assert!(one("Cast", 13, &[&x], &[int("to", 16)]).unwrap_err().contains("BFLOAT16"));
    assert!(one("Cast", 13, &[&f32s(&[1], &[3e9])], &[int("to", 7)]).unwrap_err().contains("32 bits"));
    assert!(one("Cast", 13, &[&x], &[int("to", i64::MAX)]).is_err());
}

#[test]
fn products_broadcast_as_numpy_does() {
    let (a, b) = (counted(&[2, 3]), counted(&[3, 2]));
    let product = f32s(&[2, 2], &[10.0, 13.0, 28.0, 40.0]);
    assert_eq!(one("MatMul", 13, &[&a, &b], &[]).unwrap(), product);
    let v = counted(&[3]);
    assert_eq!(one("MatMul", 13, &[&a, &v], &[]).unwrap(), f32s(&[2], &[5.0, 14.0]));
    assert_eq!(one("MatMul", 13, &[&v, &b], &[]).unwrap(), f32s(&[2], &[10.0, 13.0]));
    assert_eq!(one("MatMul", 13, &[&v, &v], &[]).unwrap(), f32s(&[], &[5.0]));
    // [2, 1, 1, 2] by [3, 2, 1]: outer axes [2, 3].
    let (a, b) = (counted(&[2, 1, 1, 2]), counted(&[3, 2, 1]));
    let all = one("MatMul", 13, &[&a, &b], &[]).unwrap();
    assert_eq!(all, f32s(&[2, 3, 1, 1], &[1.0, 3.0, 5.0, 3.0, 13.0, 23.0]));
    assert!(one("MatMul", 13, &[&counted(&[2, 3]), &counted(&[2, 3])], &[]).is_err());
    assert!(one("MatMul", 13, &[&f32s(&[], &[1.0]), &v], &[]).is_err());
}

#[test]
fn gemm_transposes_and_scales() {
    let (a, b, c) = (counted(&[3, 2]), counted(&[2, 3]), f32s(&[2], &[1.0, -1.0]));
    // A^T = [[0, 2, 4], [1, 3, 5]], B^T = [[0, 3], [1, 4], [2, 5]].
    let attributes = [
        int("transA", 1),
        int("transB", 1),
        ("alpha", Attribute::Float(2.0)),
        ("beta", Attribute::Float(0.5)),
    ];
    let expected = f32s(&[2, 2], &[20.5, 55.5, 26.5, 79.5]);
    assert_eq!(one("Gemm", 11, &[&a, &b, &c], &attributes).unwrap(), expected);
    assert_eq!(one("Gemm", 11, &[&b, &a], &[]).unwrap(), f32s(&[2, 2], &[10.0, 13.0, 28.0, 40.0]));
    assert!(one("Gemm", 11, &[&a, &a], &[]).is_err());
    assert!(one("Gemm", 11, &[&b, &a, &counted(&[3])], &[]).is_err());
}

#[test]
fn convolutions_over_one_axis() {
    // Two rows of two channels, 0 to 4 and 5 to 9, then 10 to 14 and 15 to 19.
    let x = counted(&[2, 2, 5]);
    // An output of the sum of the first channel's neighbours, less the second channel's later one.
    let w = f32s(&[1, 2, 2], &[1.0, 1.0, 0.0, -1.0]);
    let expected = f32s(&[2, 1, 4], &[-5.0, -4.0, -3.0, -2.0, 5.0, 6.0, 7.0, 8.0]);
    assert_eq!(one("Conv", 11, &[&x, &w], &[]).unwrap(), expected);
    let half = f32s(&[1], &[0.5]);
    let strided = [list("strides", &[2]), list("pads", &[1, 0]), list("kernel_shape", &[2])];
    // At 0 the earlier neighbour is padding.
    let expected = f32s(&[2, 1, 3], &[-4.5, -3.5, -1.5, -4.5, 6.5, 8.5]);
    assert_eq!(one("Conv", 11, &[&x, &w, &half], &strided).unwrap(), expected);
    let gaps = [list("dilations", &[3]), ("auto_pad", Attribute::Text("VALID".into()))];
    assert_eq!(one("Conv", 11, &[&x, &w], &gaps).unwrap(), f32s(&[2, 1, 2], &[-5.0, -4.0, 5.0, 6.0]));
    // As many steps as before, with the odd padding at the end or at the beginning.
    let same = |mode: &str| [("auto_pad", Attribute::Text(mode.into()))];
    let upper = f32s(&[2, 1, 5], &[-5.0, -4.0, -3.0, -2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 14.0]);
    assert_eq!(one("Conv", 11, &[&x, &w], &same("SAME_UPPER")).unwrap(), upper);
    let lower = f32s(&[2, 1, 5], &[-5.0, -5.0, -4.0, -3.0, -2.0, -5.0, 5.0, 6.0, 7.0, 8.0]);
    assert_eq!(one("Conv", 11, &[&x, &w], &same("SAME_LOWER")).unwrap(), lower);
    // Each channel by itself.
    let own = f32s(&[2, 1, 1], &[2.0, -1.0]);
    let found = one("Conv", 11, &[&counted(&[1, 2, 2]), &own], &[int("group", 2)]).unwrap();
    assert_eq!(found, f32s(&[1, 2, 2], &[0.0, 2.0, -2.0, -3.0]));

    let refused = |x: &Tensor, w: &Tensor, attributes: &[(&str, Attribute)]| {
        one("Conv", 11, &[x, w], attributes).unwrap_err()
    };
    let wide = counted(&[1, 2, 6]);
    assert_eq!(refused(&x, &wide, &[]), "each output step reads 6 steps; found 5 and 0 of padding");
    let cube = counted(&[1, 1, 2, 2, 2]);
    assert!(refused(&cube, &cube, &[]).contains("over 3 axes"));
    assert!(refused(&x, &counted(&[1, 3, 2]), &[]).contains("does not fit an input"));
    assert!(refused(&x, &w, &[list("strides", &[0])]).contains("attribute strides"));
    assert!(refused(&x, &w, &[list("dilations", &[i64::MAX])]).contains("attribute dilations"));
    assert!(refused(&x, &w, &[list("pads", &[-1, 0])]).contains("attribute pads"));
    assert!(refused(&x, &w, &[list("kernel_shape", &[3])]).contains("attribute kernel_shape"));
    assert!(refused(&x, &w, &[int("group", 3)]).contains("groups"));
    assert!(refused(&x, &counted(&[9, 2, 2]), &[list("pads", &[1 << 24, 1 << 24])]).contains("at most"));
}

#[test]
fn padding_with_a_constant() {
    let x = counted(&[2, 2]);
    let expected = f32s(&[2, 4], &[0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 3.0, 0.0]);
    assert_eq!(one("Pad", 13, &[&x, &ints(&[0, 1, 0, 1])], &[]).unwrap(), expected);
    assert_eq!(one("Pad", 2, &[&x], &[list("pads", &[0, 1, 0, 1])]).unwrap(), expected);
    let sevens = f32s(&[2, 3], &[7.0, 0.0, 1.0, 7.0, 2.0, 3.0]);
    let seven = f32s(&[], &[7.0]);
    assert_eq!(one("Pad", 18, &[&x, &ints(&[1, 0]), &seven, &ints(&[-1])], &[]).unwrap(), sevens);
    let mode = [("mode", Attribute::Text("reflect".into()))];
    let mirrored = f32s(&[2, 4], &[1.0, 0.0, 1.0, 0.0, 3.0, 2.0, 3.0, 2.0]);
    assert_eq!(one("Pad", 13, &[&x, &ints(&[0, 1, 0, 1])], &mode).unwrap(), mirrored);
    assert!(one("Pad", 13, &[&x, &ints(&[0, 1, 0])], &[]).is_err());
    assert_eq!(one("Pad", 13, &[&x, &ints(&[0, -1, 0, 0])], &[]).unwrap(), f32s(&[2, 1], &[1.0, 3.0]));
    assert!(one("Pad", 13, &[&x, &ints(&[0, i64::MAX, 0, i64::MAX])], &[]).is_err());
}

#[test]
fn unknown_attributes_and_wrong_inputs_are_refused() {
    let x = counted(&[2]);
    assert!(one("Relu", 14, &[&x], &[int("alpha", 1)]).unwrap_err().contains("attribute alpha"));
    assert!(one("Relu", 14, &[], &[]).is_err());
    assert!(one("Sigmoid", 14, &[&ints(&[1])], &[]).is_err());
    assert!(!is_supported("NonMaxSuppression") && is_supported("LSTM"));
}

#[test]
fn operators_that_only_keras_writes() {
    let (a, b) = (ints(&[1, 5, 3]), ints(&[3]));
    let less = Tensor::Bool(ndarray::arr1(&[true, false, false]).into_dyn());
    assert_eq!(one("Less", 13, &[&a, &b], &[]).unwrap(), less);
    assert_eq!(
        one("Not", 1, &[&less], &[]).unwrap(),
        Tensor::Bool(ndarray::arr1(&[false, true, true]).into_dyn())
    );
    assert_eq!(
        one("ReduceProd", 13, &[&a], &[list("axes", &[0]), int("keepdims", 0)]).unwrap(),
        Tensor::I64(ndarray::arr0(15).into_dyn())
    );
    assert_eq!(one("ReduceProd", 18, &[&a], &[]).unwrap(), ints(&[15]));
    let x = f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(one("ReduceProd", 18, &[&x, &ints(&[-1])], &[]).unwrap(), f32s(&[2, 1], &[2.0, 12.0]));
    // Four steps of two rows: all four of the first, two of the second.
    let x = counted(&[4, 2]);
    let turned = f32s(&[4, 2], &[6.0, 3.0, 4.0, 1.0, 2.0, 5.0, 0.0, 7.0]);
    assert_eq!(one("ReverseSequence", 10, &[&x, &ints(&[4, 2])], &[]).unwrap(), turned);
    let x = counted(&[2, 3]);
    let rows = [int("batch_axis", 0), int("time_axis", 1)];
    let turned = f32s(&[2, 3], &[1.0, 0.0, 2.0, 5.0, 4.0, 3.0]);
    assert_eq!(one("ReverseSequence", 10, &[&x, &ints(&[2, 3])], &rows).unwrap(), turned);
    assert_all_refused(&[&[4i64, 1][..], &[-1, 1], &[1]], |lens| {
        one("ReverseSequence", 10, &[&x, &ints(lens)], &rows)
    });
}

/// Exporters write attributes out that have their default value.
#[test]
fn every_default_may_be_written_out() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/onnx/defaults.txt");
    let (text, mut checked) = (std::fs::read_to_string(file).unwrap(), 0);
    let mut failures = Failures::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let [operator, opset, key, value] = std::array::from_fn(|_| words.next().unwrap());
        if !is_plain(operator) {
            continue;
        }
        let value = match (value.parse(), value.parse()) {
            (Ok(value), _) => Attribute::Int(value),
            (_, Ok(value)) => Attribute::Float(value),
            _ => Attribute::Text(value.into()),
        };
        let node = Node {
            name: "n".into(),
            operator: operator.into(),
            inputs: vec![],
            outputs: vec![Some("y".into())],
            attributes: [(key.to_owned(), value)].into(),
        };
        failures.check(line, || check_attributes(&node, opset.parse().unwrap()).unwrap());
        checked += 1;
    }
    failures.finish();
    assert!(checked > 300, "{checked} attributes");
}

#[test]
fn the_order_of_indices_that_nobody_reads_may_be_written_out() {
    let pool = |order: i64| {
        let attributes = [
            ("auto_pad", Attribute::Text("NOTSET".into())),
            ("ceil_mode", Attribute::Int(0)),
            ("dilations", Attribute::Ints(vec![1])),
            ("kernel_shape", Attribute::Ints(vec![2])),
            ("pads", Attribute::Ints(vec![0, 0])),
            ("storage_order", Attribute::Int(order)),
            ("strides", Attribute::Ints(vec![2])),
        ];
        let node = Node {
            name: "n".into(),
            operator: "MaxPool".into(),
            inputs: vec![],
            outputs: vec![Some("y".into())],
            attributes: attributes.clone().map(|(key, value)| (key.to_owned(), value)).into(),
        };
        check_attributes(&node, 18)?;
        one("MaxPool", 18, &[&f32s(&[1, 1, 4], &[1.0, 3.0, 2.0, 0.0])], &attributes)
    };
    assert_eq!(pool(0).unwrap(), f32s(&[1, 1, 2], &[3.0, 2.0]));
    assert_eq!(pool(1).unwrap_err(), "attribute storage_order: expected 0, found 1");
}
