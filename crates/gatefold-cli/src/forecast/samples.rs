//! Futures that are drawn, as a table.

use super::output::{Outlook, cell, rounded};
use super::{Data, Options};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The drawn futures of every series, if any were asked for: series, number, moment, value. `None` without errors to draw
/// from.
pub(crate) fn samples_csv(data: &Data, outlook: &Outlook, options: &Options) -> Option<String> {
    let count = options.samples?;
    let mut random = ChaCha8Rng::seed_from_u64(options.network.seed.unwrap_or(1));
    let several = data.names().len() > 1;
    let time = if data.dataset.calendar().has_dates() { "date" } else { "row" };
    let mut text = format!("{}sample,{time},value\n", if several { "series," } else { "" });
    for (series, values) in data.series().into_iter().enumerate() {
        let begin = if several { format!("{},", cell(&data.names()[series])) } else { String::new() };
        let labels = data.labels(series, values.len()..values.len() + outlook.forecasts.ncols());
        let labels: Vec<String> = labels.iter().map(|label| cell(label)).collect();
        for sample in 1..=count {
            let path = outlook.draw(series, &mut random)?;
            for (label, value) in labels.iter().zip(path) {
                text += &format!("{begin}{sample},{label},{}\n", rounded(value));
            }
        }
    }
    Some(text)
}
