//! The way of a trained network's gradient back through time, on windows of the series.

use crate::network::{TrainingSet, loss};
use crate::{Fitted, ForecastError};
use gatefold::training::GradientFlow;

impl Fitted {
    /// Follows the gradient of the loss that a network was trained on back through its recurrent layers, on `windows`
    /// windows that are evenly spaced over all that the series have, or on all if there are fewer; gives their number, too. A series may begin with values that are not known,
    /// NaN, which no window reads.
    ///
    /// # Errors
    /// [`ForecastError::Settings`] if there is no such network, or no series is long enough for a window and its horizon;
    /// those of the device.
    pub fn gradient_flow(
        &self,
        member: usize,
        series: &[&[f64]],
        windows: usize,
    ) -> Result<(usize, GradientFlow), ForecastError> {
        let Some(network) = self.members.get(member) else {
            let count = self.members.len();
            return Err(ForecastError::Settings(format!(
                "there is no network {}; found {count}",
                member + 1
            )));
        };
        let set = TrainingSet::new(&self.encoder, series, self.settings.horizon);
        let batch = set.spread(windows).ok_or_else(|| {
            ForecastError::Settings("no series is long enough for a window and its horizon".into())
        })?;
        let flow = network.gradient_flow_of(&batch.input, |output| {
            let (value, d_output) = loss(output, &batch, self.settings.loss);
            Ok((f64::from(value), d_output))
        })?;
        Ok((batch.input.dim().1, flow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::encode::Encoder;
    use crate::network::Training;
    use gatefold::Device;

    #[test]
    fn windows_are_spread_over_what_is_known() {
        let mut values: Vec<f64> =
            (0..120).map(|t| (0.3 * f64::from(t)).sin() + 0.01 * f64::from(t)).collect();
        let settings = Settings { hidden: 3, members: 1, ..Settings::new(2, Some(7), &[120]) };
        let encoder = Encoder::fit(&settings, &[&values]).unwrap();
        let device = Device::cpu().unwrap();
        let network = {
            let series = [values.as_slice()];
            let set = TrainingSet::new(&encoder, &series, 2);
            let mut training = Training::new(&device, &set, &settings, 1).unwrap();
            training.update().unwrap();
            let config = training.network().config().clone();
            gatefold::Network::with_parameters(&device, &config, &training.network().parameters().unwrap())
                .unwrap()
        };
        let members = vec![network];
        let fitted = Fitted { settings, encoder, members, best_updates: 1, improving: false };
        let (windows, flow) = fitted.gradient_flow(0, &[&values], 8).unwrap();
        assert_eq!(windows, 8);
        let steps = fitted.encoder.shape().0;
        assert_eq!((flow.layers.len(), flow.layers[0].hidden.len()), (1, steps));
        assert!(
            flow.loss.is_finite() && flow.layers[0].hidden.iter().all(|norm| norm.is_finite()),
            "{flow:?}"
        );
        // No window comes twice.
        let (all, most) = fitted.gradient_flow(0, &[&values], 16_000_000).unwrap();
        assert!((9..120).contains(&all), "{all}");
        assert_eq!(most.loss, fitted.gradient_flow(0, &[&values], all).unwrap().1.loss);
        // Values before the first known one are not read, and there are windows after them.
        values[..30].fill(f64::NAN);
        let (_, late) = fitted.gradient_flow(0, &[&values], 8).unwrap();
        assert!(late.loss.is_finite() && late.loss != flow.loss);
        assert!(fitted.gradient_flow(1, &[&values], 8).is_err());
        let error = fitted.gradient_flow(0, &[&values[..40]], 8).unwrap_err().to_string();
        assert!(error.contains("no series is long enough"), "{error}");
    }
}
