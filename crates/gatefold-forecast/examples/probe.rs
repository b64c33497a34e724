//! probe
use gatefold::Device;
use gatefold_forecast::*;
use gatefold_series::*;
fn main() {
    let data = "/work/shared/data";
    let device = Device::cpu().unwrap();
    let only = std::env::args().nth(1).unwrap_or_default();
    let set = |name: &str, or: f64| std::env::var(name).ok().map_or(or, |v| v.parse().unwrap());
    for (file, column, season, longest, horizons) in [
        ("seattle_weather_daily.csv", "temp_max", Some(7), Some(365.25), vec![1, 12, 30]),
        ("co2_weekly_missing.csv", "co2", Some(52), Some(52.18), vec![1, 12, 30]),
        ("sunspots_monthly.csv", "sunspots", Some(12), Some(12.0), vec![1, 12, 30]),
        ("us_employment_monthly.csv", "government", Some(12), Some(12.0), vec![1, 6, 12]),
        ("ecg_360hz_41000.csv", "adc", None, None, vec![1, 12, 30]),
    ] {
        if !file.starts_with(&only) {
            continue;
        }
        let table = Table::read(format!("{data}/{file}"), &TableOptions::new()).unwrap();
        let name = if table.names().iter().any(|n| n == column) {
            column.to_owned()
        } else {
            table.last_numeric_name().unwrap().to_owned()
        };
        let series = table.numbers(&name, Fill::Linear).unwrap();
        let split = Split::new(series.len(), 0.2, 0.15).unwrap();
        for h in horizons {
            let past = &series[split.past()];
            let origins = split.origins(h);
            let metrics = |f: &ndarray::Array2<f64>| {
                Metrics::of_forecasts(&series, origins.clone(), f, past).unwrap().mae
            };
            let linear = Linear::new(h).season(longest).fit_linear(past).unwrap();
            let base = metrics(&linear.forecasts(&series, origins.clone(), h).unwrap());
            let mut settings = Settings::new(h, season, &[past.len()]);
            settings.longest_season = longest;
            settings.updates = set("U", settings.updates as f64) as u64;
            settings.hidden = set("H", settings.hidden as f64) as usize;
            settings.members = set("N", settings.members as f64) as usize;
            settings.batch = set("B", settings.batch as f64) as usize;
            settings.learning_rate = set("LR", settings.learning_rate as f64) as f32;
            settings.mixing = set("MIX", settings.mixing);
            if let Ok(w) = std::env::var("W") {
                settings.window = Some(w.parse().unwrap())
            }
            let t = std::time::Instant::now();
            let fitted = Forecaster::new(settings).fit(&device, &[past], |_| true).unwrap();
            let trained = t.elapsed();
            let known: Vec<(usize, &[f64])> = origins.clone().map(|o| (0, &series[..o])).collect();
            let out = fitted.forecast(&known).unwrap();
            let f = out.index_axis(ndarray::Axis(0), 0).to_owned();
            println!(
                "{file} {name} h {h}: linear {base:.4} network {:.4} ({:?} {}) {:.1?} {:.1?}",
                metrics(&f),
                fitted.networks()[0].config().to_string(),
                fitted.needed(),
                trained,
                t.elapsed()
            );
        }
    }
}
