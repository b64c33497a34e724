use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

/// Mean and standard deviation of each channel, which bring it to mean 0 and deviation 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// The mean of each channel.
    pub mean: Vec<f64>,
    /// The standard deviation of each channel; 1 for a constant one.
    pub deviation: Vec<f64>,
}

impl Scale {
    /// Measures all steps of these sequences, each `[steps, channels]`; NaN is left out.
    pub fn of<'a>(
        channels: usize,
        sequences: impl IntoIterator<Item = ArrayView2<'a, f64>> + Clone,
    ) -> Scale {
        let mean_of = |channel: usize, value: &dyn Fn(f64) -> f64| {
            let steps = sequences.clone().into_iter().flat_map(|one| one.column(channel).to_vec());
            let known = steps.filter(|value| !value.is_nan());
            let (sum, count) = known.fold((0.0, 0usize), |(sum, count), x| (sum + value(x), count + 1));
            sum / count.max(1) as f64
        };
        let mean: Vec<f64> = (0..channels).map(|channel| mean_of(channel, &|x| x)).collect();
        let deviation = |channel: usize| {
            let deviation = mean_of(channel, &|x| (x - mean[channel]).powi(2)).sqrt();
            if deviation > 1e-12 * mean[channel].abs() && deviation > 0.0 { deviation } else { 1.0 }
        };
        Scale { deviation: (0..channels).map(deviation).collect(), mean }
    }

    /// Scales a sequence.
    pub fn scaled(&self, values: ArrayView2<f64>) -> Array2<f32> {
        Array2::from_shape_fn(values.dim(), |(t, c)| {
            ((values[[t, c]] - self.mean[c]) / self.deviation[c]) as f32
        })
    }
}
