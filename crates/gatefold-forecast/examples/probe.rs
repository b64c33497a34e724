//! probe
use gatefold::Device;
use gatefold_forecast::*;
use gatefold_series::*;
struct Quiet(());
impl Watcher for Quiet {
    fn watch(&mut self, _: &str, _: Stage) -> &mut dyn Watch {
        &mut self.0
    }
}
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
            let mut settings = Settings::new(h, season, &[split.past().len()]);
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
            let plan = Plan {
                horizon: h,
                lag: season.unwrap_or(1),
                test: split.test().len(),
                validation: split.validation().len(),
                stride: 1,
                refit: true,
            };
            let seasons = Seasons::new(&match season {
                Some(7) => vec![7, 365],
                Some(s) => vec![s],
                None => vec![],
            });
            let only: Option<Vec<String>> =
                std::env::var("M").ok().map(|m| m.split(',').map(str::to_owned).collect());
            let candidates = candidates(only.as_deref(), &seasons, &settings, &[&series]).unwrap();
            let c = compare(&device, &[&series], &plan, &candidates, &mut Quiet(())).unwrap();
            println!("{file} {name} h {h}: {:.1?}", t.elapsed());
            for (i, m) in c.models.iter().enumerate() {
                let star = if i == c.best { "*" } else { "" };
                println!(
                    "   {:20} val {:.4} mae {:.4} mase {:.3} bias {:.3} {:.1?} {star}",
                    m.name,
                    m.validation * c.units[0],
                    m.scores.mae,
                    m.scores.mase,
                    m.scores.bias,
                    m.took
                );
            }
            for l in &c.left_out {
                println!("   {l:?}")
            }
        }
    }
}
