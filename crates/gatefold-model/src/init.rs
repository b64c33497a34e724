use crate::{Cell, LstmGate, NetworkConfig, Parameters, Recurrent, Role};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix2, concatenate, s};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

/// The initialisation of a matrix.
///
/// The defaults of a fresh network are those of Keras: Glorot for input weights and dense layers (He before a relu),
/// orthogonal for recurrent weights, zero for all biases except the forget gate's. Recurrent layers initialise each
/// gate's rows as a matrix of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Init {
    /// The same value everywhere.
    Constant(f32),
    /// Gaussian with mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform in `+-sqrt(6 / (inputs + outputs))` (Glorot and Bengio 2010).
    Glorot,
    /// Gaussian with standard deviation `sqrt(2 / inputs)` (He et al. 2015).
    He,
    /// Orthonormal rows or columns, whichever are fewer (Saxe et al. 2014).
    Orthogonal,
    /// Connects each unit to a few inputs chosen at random, or to all if there are fewer. Weights of connections are
    /// Gaussian with mean 0 and standard deviation `std`, all others are 0 (Martens 2010; Sutskever et al. 2013).
    Sparse {
        /// The inputs of a unit; 1 or more.
        connections: usize,
        /// The standard deviation of the weights that are not 0.
        std: f32,
    },
    /// Ones on the main diagonal, zeros elsewhere (Le, Jaitly and Hinton 2015). A matrix that is not square passes its
    /// first inputs through: the last outputs stay 0, or the last inputs are dropped.
    Identity,
}

impl Init {
    /// 15 connections with standard deviation 1, as in Sutskever et al. 2013.
    pub fn sparse() -> Self {
        Init::Sparse { connections: 15, std: 1.0 }
    }

    /// A matrix of `outputs` rows and `inputs` columns. The same `seed` and `stream` give the same values; each
    /// parameter of a network has its own stream.
    pub fn matrix(self, outputs: usize, inputs: usize, seed: u64, stream: u64) -> Array2<f32> {
        self.sample(outputs, inputs, &mut generator(seed, stream))
    }

    fn sample(self, outputs: usize, inputs: usize, random: &mut ChaCha8Rng) -> Array2<f32> {
        let mut normal = |std: f64| {
            Array2::from_shape_simple_fn((outputs, inputs), || std * random.sample::<f64, _>(StandardNormal))
        };
        let values = match self {
            Init::Sparse { connections, std } => {
                return sparse((outputs, inputs), connections, f64::from(std), random);
            }
            Init::Identity => {
                return Array2::from_shape_fn((outputs, inputs), |(i, j)| f32::from(u8::from(i == j)));
            }
            Init::Constant(value) => return Array2::from_elem((outputs, inputs), value),
            Init::Normal(std) => normal(f64::from(std)),
            Init::He => normal((2.0 / inputs as f64).sqrt()),
            Init::Orthogonal => orthonormal(normal(1.0)),
            Init::Glorot => {
                let limit = (6.0 / (inputs + outputs) as f64).sqrt();
                Array2::from_shape_simple_fn((outputs, inputs), || random.random_range(-limit..limit))
            }
        };
        values.mapv(|value| value as f32)
    }
}

/// Rows with `connections` random weights each, at distinct places.
fn sparse(shape: (usize, usize), connections: usize, std: f64, random: &mut ChaCha8Rng) -> Array2<f32> {
    let (_, inputs) = shape;
    let mut values = Array2::zeros(shape);
    let mut places: Vec<usize> = (0..inputs).collect();
    for mut row in values.rows_mut() {
        // The first steps of a shuffle; the order left by the row before does not matter.
        for k in 0..connections.min(inputs) {
            let other = random.random_range(k..inputs);
            places.swap(k, other);
            row[places[k]] = (std * random.sample::<f64, _>(StandardNormal)) as f32;
        }
    }
    values
}

/// The number of rows made orthogonal to all rows before them at once, by matrix products.
const BLOCK: usize = 32;

/// Gram-Schmidt over the shorter axis, block by block. A Gaussian matrix has full rank with probability one, so no
/// vector vanishes.
fn orthonormal(values: Array2<f64>) -> Array2<f64> {
    if values.nrows() > values.ncols() {
        return orthonormal(values.reversed_axes()).reversed_axes();
    }
    let mut rows = values.as_standard_layout().into_owned();
    let count = rows.nrows();
    for begin in (0..count).step_by(BLOCK) {
        let (done, mut rest) = rows.view_mut().split_at(Axis(0), begin);
        let mut block = rest.slice_mut(s![..BLOCK.min(count - begin), ..]);
        // Twice is enough: one pass loses orthogonality by rounding when rows are nearly parallel (Kahan, Parlett).
        for _ in 0..2 {
            let overlaps = block.dot(&done.t());
            general_mat_mul(-1.0, &overlaps, &done, 1.0, &mut block);
        }
        for k in 0..block.nrows() {
            for _ in 0..2 {
                for j in 0..k {
                    let (earlier, mut row) = block.multi_slice_mut((s![j, ..], s![k, ..]));
                    let overlap = earlier.dot(&row);
                    row.scaled_add(-overlap, &earlier);
                }
            }
            let norm = block.row(k).dot(&block.row(k)).sqrt();
            block.row_mut(k).mapv_inplace(|value| value / norm);
        }
    }
    rows
}

fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}

pub(crate) fn initial(config: &NetworkConfig, seed: u64) -> Parameters {
    let mut parameters = Parameters::default();
    let owners = config.layers().iter().filter(|layer| layer.owner == layer.index);
    let mut stream = 0;
    for layer in owners {
        for spec in &layer.parameters {
            let mut random = generator(seed, stream);
            stream += 1;
            let tensor = match (spec.role, layer.recurrent()) {
                (Role::InputBias, Some(recurrent)) if matches!(recurrent.cell, Cell::Lstm(_)) => {
                    let is_forget = |row: usize| row / recurrent.hidden == LstmGate::Forget as usize;
                    let bias = |row| if is_forget(row) { recurrent.forget_bias } else { 0.0 };
                    Array1::from_shape_fn(spec.len(), bias).into_dyn()
                }
                (Role::InputBias, Some(Recurrent { cell: Cell::Custom(cell), hidden, .. })) => {
                    let bias = |row: usize| cell.gates()[row / hidden].initial_bias();
                    Array1::from_shape_fn(spec.len(), bias).into_dyn()
                }
                (Role::NormaliseWeight | Role::InputGain | Role::RecurrentGain | Role::CellGain, _) => {
                    ArrayD::from_elem(spec.shape.clone(), 1.0)
                }
                (
                    Role::InputWeight | Role::RecurrentWeight | Role::SkipWeight | Role::FeedbackWeight,
                    Some(recurrent),
                ) => gate_blocks(recurrent.cell.gates(), &spec.shape, spec.init, &mut random),
                _ => match spec.shape[..] {
                    [rows, columns] => spec.init.sample(rows, columns, &mut random).into_dyn(),
                    // A convolution is a dense layer over all values that an output step reads.
                    [output, input, kernel] => {
                        let weight = spec.init.sample(output, input * kernel, &mut random);
                        weight.into_shape_with_order(spec.shape.clone()).expect("the same elements")
                    }
                    _ => ArrayD::zeros(spec.shape.clone()),
                },
            };
            parameters.insert(&spec.name, tensor);
        }
    }
    parameters
}

fn gate_blocks(gates: usize, shape: &[usize], init: Init, random: &mut ChaCha8Rng) -> ArrayD<f32> {
    let hidden = shape[0] / gates;
    let blocks: Vec<Array2<f32>> = (0..gates).map(|_| init.sample(hidden, shape[1], random)).collect();
    let views: Vec<_> = blocks.iter().map(|block| block.view()).collect();
    concatenate::<f32, Ix2>(Axis(0), &views).expect("the blocks are equally wide").into_dyn()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DenseConfig, GruConfig, LayerConfig, LayerNorm, LstmConfig};
    use approx::abs_diff_eq;
    use gatefold_reference::Failures;

    fn spread(values: &Array2<f32>) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    /// Five standard errors of a mean and of a standard deviation over n values.
    fn assert_spread(values: &Array2<f32>, std: f64) {
        let (mean, found) = spread(values);
        let n = values.len() as f64;
        assert!(mean.abs() < 5.0 * std / n.sqrt(), "mean {mean}");
        assert!(
            (found - std).abs() < 5.0 * std / (2.0 * n).sqrt(),
            "standard deviation {found}, expected {std}"
        );
    }

    /// A gain of zero would hide the input and h from the gates, and their weights from the first gradient.
    #[test]
    fn gains_begin_at_one() {
        let norm = LayerNorm::default();
        let lstm = LstmConfig::new(4).layer_norm(norm);
        let gru = GruConfig::new(4).layer_norm(norm);
        let layers = [lstm.into(), gru.into(), LayerConfig::Normalise { epsilon: 1e-5 }];
        let config = NetworkConfig::new(3, layers).unwrap();
        let parameters = initial(&config, 5);
        let mut gains = 0;
        for (name, values) in parameters.iter() {
            if name.contains("gain") || name.starts_with("norm0.weight") {
                assert!(values.iter().all(|&gain| gain == 1.0), "{name}: {values}");
                gains += 1;
            }
        }
        assert_eq!(gains, 3 + 2 + 1, "{:?}", parameters.iter().map(|(name, _)| name).collect::<Vec<_>>());
    }

    #[test]
    fn spreads_are_the_published_ones() {
        assert_spread(&Init::Normal(0.01).matrix(200, 300, 1, 0), 0.01);
        assert_spread(&Init::He.matrix(200, 300, 1, 0), (2.0f64 / 300.0).sqrt());
        assert_spread(&Init::Glorot.matrix(200, 300, 1, 0), (2.0f64 / 500.0).sqrt());
        let limit = (6.0f32 / 500.0).sqrt();
        assert!(Init::Glorot.matrix(200, 300, 1, 0).iter().all(|v| v.abs() <= limit));
    }

    #[test]
    fn orthogonal_matrices_are_orthonormal_in_either_shape() {
        let mut failures = Failures::new();
        for (rows, columns) in [(1, 1), (7, 7), (5, 13), (13, 5), (70, 70), (65, 90), (90, 65)] {
            failures.check(format!("{rows} x {columns}"), || {
                let q = Init::Orthogonal.matrix(rows, columns, 3, 0);
                let product = if rows <= columns { q.dot(&q.t()) } else { q.t().dot(&q) };
                for ((i, j), &value) in product.indexed_iter() {
                    let expected = f32::from(u8::from(i == j));
                    assert!(abs_diff_eq!(value, expected, epsilon = 1e-5), "at {i}, {j}: {value}");
                }
            });
        }
        failures.finish();
    }

    #[test]
    fn sparse_units_have_so_many_inputs() {
        let matrix = Init::sparse().matrix(400, 60, 5, 0);
        let mut connected = Array1::<usize>::zeros(60);
        for row in matrix.rows() {
            assert_eq!(row.iter().filter(|weight| **weight != 0.0).count(), 15);
            row.iter().zip(&mut connected).for_each(|(weight, count)| *count += usize::from(*weight != 0.0));
        }
        let weights: Vec<f32> = matrix.iter().copied().filter(|weight| *weight != 0.0).collect();
        assert_spread(&Array2::from_shape_vec((1, 400 * 15), weights).unwrap(), 1.0);
        // Each input has 100 connections on average; five standard deviations of that binomial are 43.
        assert!(connected.iter().all(|count| count.abs_diff(100) < 43), "{connected}");
        let few = Init::Sparse { connections: 15, std: 0.5 }.matrix(3, 4, 5, 0);
        assert!(few.iter().all(|weight| *weight != 0.0), "no more connections than inputs: {few}");
        assert_eq!(matrix, Init::sparse().matrix(400, 60, 5, 0));
    }

    #[test]
    fn an_identity_passes_the_first_inputs_through() {
        use ndarray::arr2;
        assert_eq!(Init::Identity.matrix(2, 2, 0, 0), arr2(&[[1.0, 0.0], [0.0, 1.0]]));
        assert_eq!(Init::Identity.matrix(3, 2, 0, 0), arr2(&[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]));
        assert_eq!(Init::Identity.matrix(2, 3, 0, 0), arr2(&[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]));
        // Each gate of a recurrent layer is a matrix of its own.
        let lstm = LstmConfig::new(2).recurrent_init(Init::Identity).input_init(Init::sparse());
        let config = NetworkConfig::new(30, [lstm.into()]).unwrap();
        let parameters = Parameters::initial(&config, 0).unwrap();
        let found = &parameters["rnn0.weight_hh_l0"];
        let want = concatenate(Axis(0), &[arr2(&[[1.0, 0.0], [0.0, 1.0]]).view(); 4]).unwrap();
        assert_eq!(found, &want.into_dyn());
        for row in parameters["rnn0.weight_ih_l0"].rows() {
            assert_eq!(row.iter().filter(|weight| **weight != 0.0).count(), 15);
        }
        let again: NetworkConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        let none = LstmConfig::new(2).input_init(Init::Sparse { connections: 0, std: 1.0 });
        let error = NetworkConfig::new(3, [none.into()]).unwrap_err().to_string();
        assert_eq!(
            error,
            "layer 0 (lstm): rnn0.weight_ih_l0 is initialised with 0 connections; expected 1 or more"
        );
    }

    #[test]
    fn the_forget_bias_is_what_the_two_biases_hold_together() {
        let config = NetworkConfig::new(2, [LstmConfig::new(3).forget_bias(1.5).into()]).unwrap();
        let parameters = Parameters::initial(&config, 0).unwrap();
        let sum = &parameters["rnn0.bias_ih_l0"] + &parameters["rnn0.bias_hh_l0"];
        assert_eq!(sum.as_slice().unwrap(), [0., 0., 0., 1.5, 1.5, 1.5, 0., 0., 0., 0., 0., 0.]);
    }

    #[test]
    fn a_layer_is_initialised_as_configured() {
        let lstm = LstmConfig::new(20).input_init(Init::Constant(0.25)).recurrent_init(Init::Normal(0.01));
        let dense = DenseConfig::new(30).init(Init::He);
        let config = NetworkConfig::new(3, [lstm.into(), dense.into()]).unwrap();
        let parameters = Parameters::initial(&config, 4).unwrap();
        let matrix = |name: &str| parameters[name].clone().into_dimensionality::<Ix2>().unwrap();
        assert!(matrix("rnn0.weight_ih_l0").iter().all(|&value| value == 0.25));
        assert_spread(&matrix("rnn0.weight_hh_l0"), 0.01);
        assert_spread(&matrix("dense0.weight"), (2.0f64 / 20.0).sqrt());
        let again: NetworkConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        let error = NetworkConfig::new(3, [LstmConfig::new(2).input_init(Init::Normal(f32::NAN)).into()]);
        let error = error.unwrap_err().to_string();
        assert_eq!(
            error,
            "layer 0 (lstm): rnn0.weight_ih_l0 is initialised with NaN; expected a finite number"
        );
        let mut failures = Failures::new();
        for init in [Init::Normal(-0.5), Init::Sparse { connections: 2, std: -0.5 }] {
            failures.check(format!("{init:?}"), || {
            let error = NetworkConfig::new(3, [DenseConfig::new(2).init(init).into()]).unwrap_err();
            assert_eq!(
                error.to_string(),
                "layer 0 (dense): dense0.weight is initialised with a standard deviation of -0.5; expected 0 or more"
            );
        });
        }
        failures.finish();
    }

    #[test]
    fn a_layer_added_at_the_end_changes_nothing_before_it() {
        let short = NetworkConfig::new(2, [LstmConfig::new(3).into()]).unwrap();
        let long = NetworkConfig::new(2, [LstmConfig::new(3).into(), DenseConfig::new(1).into()]).unwrap();
        let (short, long) = (Parameters::initial(&short, 9).unwrap(), Parameters::initial(&long, 9).unwrap());
        for (name, tensor) in short.iter() {
            assert_eq!(tensor, &long[name], "{name}");
        }
        assert_ne!(
            short,
            Parameters::initial(&NetworkConfig::new(2, [LstmConfig::new(3).into()]).unwrap(), 10).unwrap()
        );
    }
}
