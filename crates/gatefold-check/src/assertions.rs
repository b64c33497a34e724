//! Comparisons of whole results of the engine.

use crate::compare::{Tolerance, assert_close};
use gatefold::data::LayerState;
use gatefold::{Parameters, States};
use ndarray::{ArrayView, Dimension};

/// Compares arrays element by element; the scale is that of the whole array.
///
/// # Panics
/// If the shapes differ, or an element is out of tolerance. Arrays without elements pass.
#[track_caller]
pub fn assert_array<D: Dimension>(
    name: &str,
    found: ArrayView<'_, f32, D>,
    expected: ArrayView<'_, f32, D>,
    tolerance: Tolerance,
) {
    assert_eq!(found.shape(), expected.shape(), "{name}: the shape");
    if expected.is_empty() {
        return;
    }
    let names = ["first", "second", "third", "fourth"];
    let axes: Vec<(&str, usize)> = names.into_iter().zip(found.shape().iter().copied()).collect();
    let found: Vec<f32> = found.iter().copied().collect();
    let expected: Vec<f64> = expected.iter().map(|&value| f64::from(value)).collect();
    assert_close(name, &axes, &found, &expected, tolerance);
}

/// Compares the states of every layer.
///
/// # Panics
/// As [`assert_array`], and if the number of layers differs.
#[track_caller]
pub fn assert_states(name: &str, found: &States, expected: &States, tolerance: Tolerance) {
    assert_eq!(found.layers.len(), expected.layers.len(), "{name}: a state for each recurrent layer");
    for (index, (found, expected)) in found.layers.iter().zip(&expected.layers).enumerate() {
        let LayerState { h, c, y, .. } = found;
        let label = |state: &str| format!("{name}: {state} of recurrent layer {index}");
        assert_array(&label("h"), h.view(), expected.h.view(), tolerance);
        assert_eq!((c.is_some(), y.is_some()), (expected.c.is_some(), expected.y.is_some()), "{name}");
        if let (Some(found), Some(expected)) = (c, &expected.c) {
            assert_array(&label("c"), found.view(), expected.view(), tolerance);
        }
        if let (Some(found), Some(expected)) = (y, &expected.y) {
            assert_array(&label("y"), found.view(), expected.view(), tolerance);
        }
    }
}

/// Compares every parameter, or every gradient.
///
/// # Panics
/// As [`assert_array`], and if the names differ.
#[track_caller]
pub fn assert_parameters(name: &str, found: &Parameters, expected: &Parameters, tolerance: Tolerance) {
    let names = |parameters: &Parameters| -> Vec<String> {
        parameters.iter().map(|(name, _)| name.to_owned()).collect()
    };
    assert_eq!(names(found), names(expected), "{name}: the names");
    for (parameter, found) in found.iter() {
        assert_array(&format!("{name}: {parameter}"), found.view(), expected[parameter].view(), tolerance);
    }
}
