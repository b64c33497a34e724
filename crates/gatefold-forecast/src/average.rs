use gatefold_model::Parameters;
use ndarray::Zip;

/// The exponential moving average of parameters over the updates (Polyak and Juditsky 1992, with a decaying memory as
/// in Adam's second moment, corrected for its start).
#[derive(Clone, Debug)]
pub(crate) struct Average {
    decay: f32,
    sum: Parameters,
    weight: f32,
}

impl Average {
    /// No parameters yet; `like` gives names and shapes.
    pub(crate) fn new(decay: f32, like: &Parameters) -> Self {
        let mut sum = Parameters::default();
        for (name, tensor) in like.iter() {
            sum.insert(name, tensor.mapv(|_| 0.0));
        }
        Average { decay, sum, weight: 0.0 }
    }

    /// Adds the parameters after an update.
    pub(crate) fn add(&mut self, parameters: &Parameters) {
        let decay = self.decay;
        for (name, tensor) in parameters.iter() {
            let sum = self.sum.get_mut(name).expect("the names of one network");
            Zip::from(sum).and(tensor).for_each(|sum, value| *sum = decay * *sum + (1.0 - decay) * value);
        }
        self.weight = decay * self.weight + 1.0 - decay;
    }

    /// The weighted mean of all that was added.
    pub(crate) fn mean(&self) -> Parameters {
        let mut mean = Parameters::default();
        for (name, tensor) in self.sum.iter() {
            mean.insert(name, tensor / self.weight);
        }
        mean
    }
}
