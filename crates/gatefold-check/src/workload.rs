//! Networks and data for timing, whose right answers are cheap to compute at any size.

use crate::compare::Tolerance;
use crate::data::{Random, wide};
use crate::{Checks, gradient_terms, output_terms};
use gatefold::layers::{DenseConfig, LayerConfig};
use gatefold::{Error, ModelError, Network, NetworkConfig, Parameters, Sequences, Targets, Trainer};
use gatefold_reference::network::Tensors;
use gatefold_reference::optim::{Adam, adam};
use gatefold_reference::{Batch, Network as Reference};
use ndarray::{Array3, ArrayView, Axis, Dimension, s};

/// A stack of recurrent layers with a dense layer that gives one value per step, and a batch for it.
///
/// The rows of the batch repeat a few sequences. The reference's results for these few, in `f64`, determine every
/// output and every gradient of the whole batch. So a row that the device drops, counts twice or takes from a neighbour
/// shows, in the very schedule and at the very size that is timed. Rows of different lengths are each judged on their
/// own.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The network.
    pub config: NetworkConfig,
    /// Its parameters, random from a seed. So are the biases: at their initial zeros, mistakes in them would not show.
    pub parameters: Parameters,
    /// `[T, B, I]`
    pub input: Array3<f32>,
    /// `[T, B, 1]`
    pub target: Array3<f32>,
    /// Steps of each row, if not all are T.
    pub lengths: Option<Vec<usize>>,
    reference: Reference<f64>,
}

/// Sequences that the rows repeat. It divides no tile, so the rows at the same place of neighbouring tiles are
/// different sequences.
const DISTINCT: usize = 3;
const SEED: u64 = 1;
/// A dozen roundings, including a division and a root, that may all err in the same direction: `16 u`.
const ADAM_TERMS: usize = 16;

impl Workload {
    /// A workload of these layers, with a batch of `(rows, steps, inputs)`.
    ///
    /// # Errors
    /// [`ModelError::Config`] for a width of 0, or layers that do not fit one another.
    ///
    /// # Panics
    /// If batch or steps are 0.
    pub fn new(
        (batch, steps, inputs): (usize, usize, usize),
        mut stack: Vec<LayerConfig>,
    ) -> Result<Workload, ModelError> {
        assert!(batch > 0 && steps > 0, "there is something to compute");
        stack.push(DenseConfig::new(1).into());
        let config = NetworkConfig::new(inputs, stack)?;
        let mut parameters = Parameters::initial(&config, SEED)?;
        let mut random = Random::new(SEED, 2);
        for spec in config.parameter_specs().filter(|spec| spec.shape.len() == 1) {
            let bias = parameters.get_mut(&spec.name).expect("every parameter has initial values");
            bias.iter_mut().zip(random.within(-0.4..0.4, spec.len())).for_each(|(bias, by)| *bias += by);
        }
        let reference = Reference::new(&config, &parameters)?;
        let rows: Vec<usize> = (0..batch).map(|row| row % DISTINCT).collect();
        let repeated = |stream: u64, width: usize| {
            let few = Random::new(SEED, stream).sequence((steps, DISTINCT.min(batch), width));
            // In the order in which a caller has it: select gives rows first, which the engine would copy once more.
            few.select(Axis(1), &rows).as_standard_layout().into_owned()
        };
        // Away from the outputs: residuals of one sign do not cancel in the bias's gradient, whose scale would be left
        // to chance.
        let (input, target) = (repeated(0, inputs), repeated(1, 1) + 3.0);
        Ok(Workload { config, parameters, input, target, lengths: None, reference })
    }

    /// The same rows with lengths that fall evenly from T to about T / B, longest first.
    pub fn with_falling_lengths(self) -> Workload {
        let (steps, batch, _) = self.input.dim();
        let lengths = (0..batch).map(|row| steps - row * steps / batch).collect();
        Workload { lengths: Some(lengths), ..self }
    }

    /// The number of steps in all rows together.
    pub fn row_steps(&self) -> usize {
        let (steps, batch, _) = self.input.dim();
        self.lengths.as_ref().map_or(steps * batch, |lengths| lengths.iter().sum())
    }

    fn sequences(&self) -> Result<Option<Sequences<'static>>, Error> {
        let padded =
            |lengths: &Vec<usize>| Sequences::time_major(self.input.clone()).with_lengths(lengths.clone());
        self.lengths.as_ref().map(padded).transpose()
    }

    /// The part of inference that is timed, to run repeatedly.
    ///
    /// # Errors
    /// Any error of the prediction.
    pub fn inference(&self) -> Result<impl Fn(&mut Network) -> Result<Array3<f32>, Error>, Error> {
        let sequences = self.sequences()?;
        Ok(move |network: &mut Network| match &sequences {
            None => network.predict(self.input.view()),
            Some(sequences) => network.forward(sequences, None).map(|forward| forward.output),
        })
    }

    /// The part of training that is timed, without the update.
    ///
    /// # Errors
    /// Any error of the training step.
    pub fn training(&self) -> Result<impl Fn(&mut Trainer) -> Result<(), Error>, Error> {
        let batch = self.sequences()?.map(|sequences| (sequences, Targets::values(self.target.clone())));
        Ok(move |trainer: &mut Trainer| match &batch {
            None => trainer.accumulate(self.input.view(), self.target.view()),
            Some((sequences, targets)) => trainer.accumulate(sequences, targets),
        })
    }

    /// Compares the outputs of one prediction.
    ///
    /// # Errors
    /// Any error of the prediction.
    pub fn check_inference(&self, network: &mut Network) -> Result<Checks, Error> {
        let found = self.inference()?(network)?;
        let (steps, batch, _) = self.input.dim();
        let input = self.judged(&self.input);
        let tape = self.reference.forward(&self.batch(&input));
        let judged = tape.output();
        let rows: Vec<usize> = (0..batch).map(|row| row % judged.len_of(Axis(1))).collect();
        let want = judged.select(Axis(1), &rows);
        let mut checks = self.checks();
        let tolerance = Tolerance::output(output_terms(&self.config));
        let axes = [("step", steps), ("row", batch)];
        checks.tensor("output", &axes, &flat(found.view()), &flat(want.view()), tolerance);
        Ok(checks)
    }

    /// Compares the loss, every gradient and one update of a trainer that starts from this workload's network and
    /// parameters, with Adam and without clipping.
    ///
    /// The update is judged from the device's own gradients: Adam's first step is nearly the sign of the gradient,
    /// which a small error near 0 flips.
    ///
    /// # Errors
    /// Any error of the training step.
    pub fn check_training(&self, trainer: &mut Trainer) -> Result<Checks, Error> {
        self.training()?(trainer)?;
        let losses = trainer.take_losses()?;
        let found = trainer.gradients()?;
        trainer.update()?;
        let updated = trainer.network().parameters()?;

        let (loss, gradients) = self.loss_and_gradients();
        let (steps, batch, _) = self.input.dim();
        let mut checks = self.checks();
        let tolerance = Tolerance::output(output_terms(&self.config) + steps * batch);
        checks.tensor("loss", &[("batch", 1)], &losses, &[loss], tolerance);
        let tolerance = Tolerance::gradient(gradient_terms(&self.config, steps, batch));
        for (name, gradient) in found.iter() {
            let want = flat(gradients[name].view());
            let axes = [("element", want.len())];
            checks.tensor(&format!("d_{name}"), &axes, &flat(gradient.view()), &want, tolerance);
        }
        for (name, values) in updated.iter() {
            let mut want = wide(&flat(self.parameters[name].view()));
            let gradient = wide(&flat(found[name].view()));
            first_update(&mut want, &gradient, trainer.learning_rate());
            let axes = [("element", want.len())];
            checks.tensor(name, &axes, &flat(values.view()), &want, Tolerance::product(ADAM_TERMS));
        }
        Ok(checks)
    }

    /// The loss and the gradients of the whole batch, from the rows that are judged.
    fn loss_and_gradients(&self) -> (f64, Tensors<f64>) {
        let batch = self.input.len_of(Axis(1));
        let elements = self.row_steps() as f64;
        let (input, target) = (self.judged(&self.input), self.judged(&self.target));
        let tape = self.reference.forward(&self.batch(&input));
        let mut d_output = &tape.output() - &target;
        let judged = d_output.len_of(Axis(1));
        let mut loss = 0.0;
        for (row, mut d) in d_output.axis_iter_mut(Axis(1)).enumerate() {
            if let Some(lengths) = &self.lengths {
                d.slice_mut(s![lengths[row].., ..]).fill(0.0);
            }
            let repeats = (batch - row).div_ceil(judged) as f64;
            loss += repeats * d.iter().map(|residual| residual * residual).sum::<f64>() / elements;
            d *= 2.0 * repeats / elements;
        }
        (loss, self.reference.backward(&tape, d_output.view(), None).parameters)
    }

    /// The rows that the others repeat; all rows if each has a length of its own.
    fn judged(&self, rows: &Array3<f32>) -> Array3<f64> {
        let batch = rows.len_of(Axis(1));
        let count = if self.lengths.is_some() { batch } else { DISTINCT.min(batch) };
        rows.slice(s![.., ..count, ..]).map(|&value| f64::from(value))
    }

    fn batch<'a>(&'a self, input: &'a Array3<f64>) -> Batch<'a, f64> {
        Batch { lengths: self.lengths.as_deref(), ..Batch::new(input.view()) }
    }

    fn checks(&self) -> Checks {
        let (steps, batch, _) = self.input.dim();
        let mut checks = Checks::default();
        let lengths = if self.lengths.is_some() { " lengths" } else { "" };
        checks.case(format!("T {steps} B {batch}{lengths}, {}", self.config));
        checks
    }
}

fn flat<T: Copy, D: Dimension>(values: ArrayView<'_, T, D>) -> Vec<T> {
    values.iter().copied().collect()
}

fn first_update(parameter: &mut [f64], gradient: &[f64], learning_rate: f32) {
    // The options in f32, as on the device: 1 - 0.9 is not 0.1 there.
    let wide = |value: f32| f64::from(value);
    let options = Adam { beta1: wide(0.9), beta2: wide(0.999), epsilon: wide(1e-8), weight_decay: 0.0 };
    let (mut m, mut v) = (vec![0.0; gradient.len()], vec![0.0; gradient.len()]);
    adam(parameter, gradient, &mut m, &mut v, wide(learning_rate), 1, &options);
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold::layers::{Direction, GruConfig, LstmConfig, Reset, RnnConfig};
    use gatefold::{Device, Optimizer, TrainConfig};

    /// Batches below, at and above the number of distinct rows, and one that is no multiple of it.
    const SHAPES: [[usize; 4]; 4] = [[1, 5, 3, 7], [2, 1, 1, 4], [3, 4, 2, 5], [17, 6, 4, 9]];

    fn workload([batch, steps, inputs, hidden]: [usize; 4], layers: usize) -> Workload {
        Workload::new((batch, steps, inputs), vec![LstmConfig::new(hidden).into(); layers]).unwrap()
    }

    fn network(workload: &Workload) -> Network {
        Network::with_parameters(&Device::cpu().unwrap(), &workload.config, &workload.parameters).unwrap()
    }

    /// The CPU device is an implementation of its own, so it is judged here without a GPU.
    #[test]
    fn a_right_device_passes() {
        for shape in SHAPES {
            let workload = workload(shape, 2);
            workload.check_inference(&mut network(&workload)).unwrap().assert("inference");
            let mut trainer = Trainer::new(network(&workload), TrainConfig::new()).unwrap();
            workload.check_training(&mut trainer).unwrap().assert("training");
        }
    }

    #[test]
    fn every_cell_can_be_timed() {
        let layers: [LayerConfig; 5] = [
            RnnConfig::new(9).into(),
            GruConfig::new(9).direction(Direction::Bidirectional).into(),
            GruConfig::new(9).reset(Reset::Before).into(),
            LstmConfig::new(9).peephole().into(),
            LstmConfig::new(9).direction(Direction::Bidirectional).into(),
        ];
        let workload = |layer: LayerConfig| Workload::new((17, 6, 4), vec![layer; 2]).unwrap();
        let of_lengths = workload(layers[1].clone()).with_falling_lengths();
        for workload in layers.into_iter().map(workload).chain([of_lengths]) {
            workload.check_inference(&mut network(&workload)).unwrap().assert("inference");
            let mut trainer = Trainer::new(network(&workload), TrainConfig::new()).unwrap();
            workload.check_training(&mut trainer).unwrap().assert("training");
        }
    }

    #[test]
    fn lengths_fall_from_all_steps() {
        let falling = |batch, steps| workload([batch, steps, 2, 3], 1).with_falling_lengths();
        let of_seven = falling(7, 11);
        assert_eq!(of_seven.lengths.as_deref(), Some(&[11, 10, 8, 7, 5, 4, 2][..]));
        assert_eq!(of_seven.row_steps(), 47);
        assert_eq!(falling(5, 2).lengths.as_deref(), Some(&[2, 2, 2, 1, 1][..]), "none is empty");
        assert_eq!(workload([7, 11, 2, 3], 1).row_steps(), 77);
    }

    /// The loss and the gradients of the whole batch at once agree with those worked out from its few rows.
    #[test]
    fn what_the_few_rows_say_of_the_whole_batch() {
        let workload = workload([17, 6, 4, 9], 1);
        let (loss, gradients) = workload.loss_and_gradients();
        let wide = |values: &Array3<f32>| values.map(|&value| f64::from(value));
        let (input, target) = (wide(&workload.input), wide(&workload.target));
        let tape = workload.reference.forward(&Batch::new(input.view()));
        let whole = gatefold_reference::loss::squared_error(tape.output(), target.view());
        assert!((loss - whole).abs() < 1e-12, "{loss} {whole}");
        let d = gatefold_reference::loss::squared_error_gradient(tape.output(), target.view());
        let whole = workload.reference.backward(&tape, d.view(), None).parameters;
        for (name, gradient) in &gradients {
            let off = (gradient - &whole[name]).iter().fold(0.0, |most: f64, off| most.max(off.abs()));
            assert!(off < 1e-12, "{name}: {off}");
        }
    }

    #[test]
    fn a_wrong_parameter_is_found() {
        let workload = workload([17, 6, 4, 9], 2);
        for name in ["rnn0.weight_hh_l0", "rnn0.bias_ih_l1", "dense0.weight"] {
            let mut network = network(&workload);
            let mut parameters = network.parameters().unwrap();
            *parameters.get_mut(name).unwrap().first_mut().unwrap() += 1e-2;
            network.set_parameters(&parameters).unwrap();
            assert!(!workload.check_inference(&mut network).unwrap().passed(), "{name}");
            let mut trainer = Trainer::new(network, TrainConfig::new()).unwrap();
            assert!(!workload.check_training(&mut trainer).unwrap().passed(), "{name}");
        }
    }

    #[test]
    fn a_wrong_row_is_found() {
        let workload = workload([17, 6, 4, 9], 1);
        let mut other = workload.clone();
        // Row 16 is a copy of row 8, as if the device had taken a tile twice.
        let row = other.input.index_axis(Axis(1), 8).to_owned();
        other.input.index_axis_mut(Axis(1), 16).assign(&row);
        let checks = other.check_inference(&mut network(&workload)).unwrap();
        assert!(checks.worst().unwrap().comparison.place.contains("row 16"), "{checks:?}");
        let mut trainer = Trainer::new(network(&workload), TrainConfig::new()).unwrap();
        assert!(!other.check_training(&mut trainer).unwrap().passed());
    }

    #[test]
    fn a_wrong_update_is_found() {
        let workload = workload([3, 4, 2, 5], 1);
        let wrong = [
            Optimizer::sgd(),
            Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-4, weight_decay: 0.0 },
        ];
        for optimizer in wrong {
            let mut trainer =
                Trainer::new(network(&workload), TrainConfig::new().optimizer(optimizer)).unwrap();
            let checks = workload.check_training(&mut trainer).unwrap();
            let outside = checks.outcomes.iter().filter(|outcome| !outcome.comparison.passed());
            let names: Vec<&str> = outside.map(|outcome| outcome.what.as_str()).collect();
            assert!(
                !names.is_empty() && names.iter().all(|name| !name.starts_with("d_")),
                "{optimizer:?}: {names:?}"
            );
        }
    }
}
