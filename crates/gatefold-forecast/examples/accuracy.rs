//! The accuracy of every model on real series, one step and several ahead: the table of docs/forecasting.md.
//!
//! ```text
//! cargo run --release -p gatefold-forecast --example accuracy -- examples/data
//! ```
//!
//! Every series is read, split and forecast with the defaults of `gatefold forecast`: nothing is tuned on the test part,
//! which is the last fifth. Networks have the seeds 1 to 3 each on its own, to show their spread.

use gatefold::Device;
use gatefold_forecast::{Candidate, ForecastError, Plan, Seasons, Settings, candidates, compare};
use gatefold_series::{Dataset, Fill, ReadOptions};
use std::error::Error;
use std::path::PathBuf;

/// Files, their column, and the horizons.
const ROWS: [(&str, &str, [usize; 3]); 5] = [
    ("seattle_weather_daily.csv", "temp_max", [1, 12, 30]),
    ("sunspots_monthly.csv", "sunspots", [1, 12, 30]),
    ("us_employment_monthly.csv", "nonfarm_change", [1, 6, 12]),
    ("co2_weekly_missing.csv", "co2", [1, 12, 30]),
    ("ecg_360hz_41000.csv", "adc", [1, 12, 30]),
];

/// One row of the table.
fn row(device: &Device, values: &[f64], dataset: &Dataset, horizon: usize) -> Result<String, ForecastError> {
    let series = [values];
    let seasons = Seasons::of(dataset.calendar(), &series);
    let plan = Plan::new(&series, horizon, seasons.shortest(), None)?;
    let mut settings = Settings::new(horizon, seasons.shortest(), &[plan.train(values.len()).len()]);
    settings.longest_season = seasons.exact;
    let all = candidates(None, &seasons, &settings, &series)?;
    let comparison = compare(device, &series, &plan, &all, &mut ())?;
    let best = &comparison.models[comparison.best];
    let mae = |name: &str| {
        let found = comparison.models.iter().filter(|model| model.name.starts_with(name));
        found.map(|model| model.scores.mae).min_by(f64::total_cmp)
    };
    let (mut least, mut most) = (f64::INFINITY, 0.0f64);
    for seed in 1..=3 {
        let alone = Settings { members: 1, seed, ..settings.clone() };
        let one = [Candidate::Network("network".into(), alone)];
        let error = compare(device, &series, &plan, &one, &mut ())?.models[0].scores.mae;
        (least, most) = (least.min(error), most.max(error));
    }
    let names = ["seasonal", "ar", "ets", "theta", "mstl", "linear", "network", "combination"];
    let cells: Vec<String> = names.iter().map(|name| mae(name).map_or_else(|| "-".into(), figure)).collect();
    Ok(format!(
        "{} | {} to {} | **{}** {}",
        cells.join(" | "),
        figure(least),
        figure(most),
        best.name,
        figure(best.scores.mae)
    ))
}

fn figure(value: f64) -> String {
    let digits = (3.0 - value.abs().log10().floor()).clamp(0.0, 3.0) as usize;
    format!("{value:.digits$}")
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("expected the folder of the tables")?);
    let only = arguments.next().unwrap_or_default();
    let device = Device::cpu()?;
    println!(
        "| series | ahead | seasonal | ar | ets | theta | mstl | linear | network | combination | seeds 1 to 3 | chosen |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (file, column, horizons) in ROWS.into_iter().filter(|(file, ..)| file.starts_with(&only)) {
        let options = ReadOptions::new().targets([column]).fill(Fill::Linear);
        let dataset = Dataset::read(folder.join(file), &options)?;
        for horizon in horizons {
            println!(
                "| {column} | {horizon} | {} |",
                row(&device, dataset.series()[0].target(0), &dataset, horizon)?
            );
        }
    }
    Ok(())
}
