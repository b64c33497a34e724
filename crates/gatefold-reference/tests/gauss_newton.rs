//! Products with the Gauss-Newton matrix against a dense matrix made of differences of the outputs, in f64.

use crate::common::{Case, Shape, random};
use gatefold_model::{Activation, DenseConfig, GruConfig, LayerConfig, LstmConfig, RnnConfig};
use gatefold_reference::loss::Loss;
use gatefold_reference::network::Tensors;
use gatefold_reference::{Failures, Network, Tangents};
use ndarray::{Array1, Array2, Array3, ArrayView3};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The elements of all tensors, by their names.
fn flat(tensors: &Tensors<f64>) -> Array1<f64> {
    tensors.values().flatten().copied().collect()
}

fn unflat(like: &Tensors<f64>, flat: &Array1<f64>) -> Tensors<f64> {
    let mut elements = flat.iter();
    let mut tensors = like.clone();
    tensors.values_mut().flatten().for_each(|to| *to = *elements.next().expect("an element for each"));
    tensors
}

/// The derivative of a vector function by five-point differences, a column for each argument.
fn jacobian(at: &Array1<f64>, f: impl Fn(&Array1<f64>) -> Array1<f64>) -> Array2<f64> {
    let mut columns = Array2::zeros((f(at).len(), at.len()));
    for (k, mut column) in columns.columns_mut().into_iter().enumerate() {
        let h = 1e-3;
        let shifted = |steps: f64| {
            let mut moved = at.clone();
            moved[k] += steps * h;
            f(&moved)
        };
        let difference = 8.0 * (shifted(1.0) - shifted(-1.0)) - (shifted(2.0) - shifted(-2.0));
        column.assign(&(difference / (12.0 * h)));
    }
    columns
}

/// The matrix `J^T H J`, both factors from differences.
fn dense(case: &Case, loss: &Loss<f64>, target: ArrayView3<f64>, weights: &[f64]) -> Array2<f64> {
    let shape = case.d_output.dim();
    let outputs = |parameters: &Array1<f64>| -> Array1<f64> {
        let mut network: Network<f64> = case.network.clone();
        *network.parameters_mut() = unflat(case.network.parameters(), parameters);
        network.forward(&case.batch()).output().iter().copied().collect()
    };
    let parameters = flat(case.network.parameters());
    let j = jacobian(&parameters, outputs);
    let h = jacobian(&outputs(&parameters), |y| {
        let y = ArrayView3::from_shape(shape, y.as_slice().unwrap()).unwrap();
        loss.weighted(y, target, weights).1.iter().copied().collect()
    });
    j.t().dot(&h).dot(&j)
}

fn check(name: &str, layers: &[LayerConfig], lengths: Option<Vec<usize>>, loss: &Loss<f64>) {
    let case = Case::new(&Shape { lengths, ..Shape::new(2, 3, 3) }, layers, 5);
    let r = &mut ChaCha8Rng::seed_from_u64(3);
    let (steps, batch, width) = case.d_output.dim();
    let target: Array3<f64> = match loss {
        // One row has no label.
        Loss::CrossEntropy => {
            Array3::from_shape_simple_fn((steps, batch, 1), || r.random_range(-1..width as i64) as f64)
        }
        _ => random((steps, batch, width), r),
    };
    let weights: Vec<f64> = (0..steps * batch).map(|_| r.random_range(0.1..1.0)).collect();
    let matrix = dense(&case, loss, target.view(), &weights);
    let parameters = case.network.parameters();
    let product = |v: &Array1<f64>| {
        let tangents = Tangents::of_parameters(unflat(parameters, v));
        let found = case.network.gauss_newton(&case.batch(), loss, (target.view(), &weights), &tangents);
        flat(&found.parameters)
    };
    let [u, v]: [Array1<f64>; 2] = std::array::from_fn(|_| random(matrix.nrows(), r));
    let largest = matrix.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
    assert!(largest > 0.01, "{name}: the matrix is there");
    for k in 0..matrix.ncols() {
        let mut unit = Array1::zeros(matrix.ncols());
        unit[k] = 1.0;
        for (row, (found, expected)) in product(&unit).iter().zip(matrix.column(k)).enumerate() {
            let off = (found - expected).abs();
            assert!(off <= 1e-8 * largest, "{name}, row {row}, column {k}: {found}, dense {expected}");
        }
    }
    let (gu, gv) = (product(&u), product(&v));
    let allowed = 1e-12 * (u.dot(&gu) * v.dot(&gv)).sqrt();
    assert!((u.dot(&gv) - v.dot(&gu)).abs() <= allowed, "{name}: {} and {}", u.dot(&gv), v.dot(&gu));
    assert!(u.dot(&gu) > 0.0 && v.dot(&gv) > 0.0, "{name}: not positive");
}

#[test]
fn products_match_a_dense_matrix_of_differences() {
    let head = |width: usize| LayerConfig::from(DenseConfig::new(width));
    let normalised =
        |pool| vec![LstmConfig::new(2).into(), LayerConfig::Normalise { epsilon: 0.1 }, pool, head(2)];
    let networks: [(&str, Vec<LayerConfig>); 6] = [
        ("normalised, max pool", normalised(LayerConfig::MaxPool)),
        ("normalised, mean pool", normalised(LayerConfig::MeanPool)),
        ("rnn", vec![RnnConfig::new(3).into(), head(2)]),
        ("lstm, last step", vec![LstmConfig::new(2).peephole().into(), LayerConfig::LastStep, head(3)]),
        ("gru, both directions", vec![GruConfig::new(2).bidirectional().into(), head(2)]),
        (
            "two layers, a function at the end",
            vec![
                RnnConfig::new(2).into(),
                GruConfig::new(2).into(),
                DenseConfig::new(2).activation(Activation::Tanh).into(),
            ],
        ),
    ];
    let mut failures = Failures::new();
    for (name, layers) in &networks {
        for (loss_name, loss) in [("squared", Loss::Squared), ("cross-entropy", Loss::CrossEntropy)] {
            for lengths in [None, Some(vec![3, 1, 2])] {
                let name = format!("{name}, {loss_name}, {lengths:?}");
                failures.check(name.clone(), || check(&name, layers, lengths, &loss));
            }
        }
    }
    failures.finish();
}

/// At the softmax's own probabilities `p`, the curvature of cross-entropy is `diag(p) - p p^T`.
#[test]
fn curvature_of_cross_entropy_is_that_of_the_softmax() {
    let logits = Array3::from_shape_vec((1, 1, 3), vec![0.3, -1.2, 2.0]).unwrap();
    let u = Array3::from_shape_vec((1, 1, 3), vec![1.0, 0.5, -0.7]).unwrap();
    let target = Array3::from_elem((1, 1, 1), 2.0);
    let found = Loss::CrossEntropy.curvature_product(logits.view(), target.view(), &[0.5], u.view());
    let sum: f64 = logits.iter().map(|y| y.exp()).sum();
    let p: Vec<f64> = logits.iter().map(|y| y.exp() / sum).collect();
    let along: f64 = p.iter().zip(&u).map(|(p, u)| p * u).sum();
    for ((found, p), u) in found.iter().zip(&p).zip(&u) {
        assert!((found - 0.5 * p * (u - along)).abs() < 1e-15);
    }
}
