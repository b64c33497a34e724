//! report.html: every number of the metrics is in it, it needs nothing else, and a browser shows it whole.

use crate::support::{Folder, SMALL, table};
use serde_json::Value;
use std::fs;
use std::process::Command;

/// The numbers of these measures of each model.
fn expected(metrics: &Value, measures: &[&str]) -> Vec<f64> {
    let models = metrics["models"].as_array().unwrap();
    models.iter().flat_map(|model| measures.iter().filter_map(|name| model[*name].as_f64())).collect()
}

fn assert_has(page: &str, numbers: &[f64]) {
    let titles =
        page.split("title=\"").skip(1).filter_map(|rest| rest.split('"').next()?.parse::<f64>().ok());
    let found: Vec<f64> = titles.collect();
    let missing: Vec<&f64> = numbers.iter().filter(|number| !found.contains(number)).collect();
    assert!(!numbers.is_empty() && missing.is_empty(), "not in the page: {missing:?}");
}

/// Nothing is loaded from anywhere, and nothing is executed.
fn assert_alone(page: &str) {
    for outside in [
        "http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link", "<img", "<iframe", "//cdn",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
}

const FORECAST: [&str; 8] = ["mae", "rmse", "mase", "smape", "bias", "validation_mase", "msis", "coverage"];
const BACKTEST: [&str; 9] =
    ["mae", "rmse", "mase", "smape", "bias", "quantile_loss", "crps", "msis", "coverage"];

#[test]
fn a_report_holds_the_metrics_and_needs_nothing_else() {
    let place = Folder::new();
    // A name that is markup, and two series.
    let table = place.read("table.csv").replacen("sales", "<b>sales&co</b>", 1);
    place.write("odd.csv", &table);
    let options = format!("{SMALL} --horizon 3 --target growth,<b>sales&co</b>");
    place.succeed(&format!("forecast odd.csv {options} --out f"));
    place.succeed(&format!("backtest odd.csv {options} --out b"));
    for (out, measures) in [("f", &FORECAST[..]), ("b", &BACKTEST[..])] {
        let page = place.read(&format!("{out}/report.html"));
        assert_has(&page, &expected(&place.metrics(out), measures));
        assert_alone(&page);
        assert!(page.contains("&lt;b&gt;sales&amp;co&lt;/b&gt;") && !page.contains("<b>"), "{out}");
        for part in [
            "Error by series",
            "Residuals",
            "Autocorrelation",
            "Training",
            "The model network",
            "gru 6",
            "Every option",
        ] {
            assert!(page.contains(part), "{out}: no '{part}'");
        }
        for part in ["hidden = 6", "separated by comma"] {
            assert!(page.contains(part), "{out}: no '{part}'");
        }
    }
}

/// Measures a page from within: what leaves its frame, which texts of a chart lie over each other, which charts are empty.
const PROBE: &str = r#"<script>
const problems = [];
const shown = element => element.getClientRects().length > 0;
if (document.documentElement.scrollWidth > innerWidth) problems.push('wider than the screen: ' + document.documentElement.scrollWidth);
for (const figure of document.querySelectorAll('figure')) {
  const name = figure.querySelector('figcaption').textContent;
  const drawings = [...figure.querySelectorAll(':scope > svg')].filter(shown);
  if (drawings.length !== 1) problems.push(name + ': ' + drawings.length + ' drawings are shown');
  for (const svg of drawings) {
    const frame = svg.getBoundingClientRect();
    if (frame.width < 200 || !svg.querySelector('path, circle, rect')) problems.push(name + ': it is empty');
    const texts = [...svg.querySelectorAll('text')];
    const boxes = texts.map(text => text.getBoundingClientRect());
    boxes.forEach((one, i) => {
      const text = name + ': ' + texts[i].textContent;
      if (one.left < frame.left - 1 || one.right > frame.right + 1 || one.bottom > frame.bottom + 1) problems.push(text + ' is cut off');
      if (one.height < 9) problems.push(text + ' is too small to read');
      boxes.slice(0, i).forEach((other, j) => {
        const apart = one.left >= other.right || other.left >= one.right || one.top >= other.bottom - 2 || other.top >= one.bottom - 2;
        if (!apart) problems.push(text + ' lies over ' + texts[j].textContent);
      });
    });
  }
}
const colours = getComputedStyle(document.body);
parent.postMessage([innerWidth, document.querySelectorAll('figure').length, colours.backgroundColor, ...problems].join('|'), '*');
</script>"#;

/// Opens the page in Chromium in a frame of this width, and returns what the probe found: width, charts, background, problems.
fn probed(browser: &str, place: &Folder, page: &str, width: u32, dark: bool) -> Vec<String> {
    place.write("probed.html", &format!("{page}{PROBE}"));
    let frame = format!(
        "<!DOCTYPE html><meta name=\"color-scheme\" content=\"light dark\"><body><p id=\"found\"></p><script>\
         onmessage = event => document.getElementById('found').textContent = event.data</script>\
         <iframe src=\"probed.html\" style=\"width:{width}px;height:4000px;border:0\"></iframe>"
    );
    place.write("frame.html", &frame);
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=5000"])
        .args(["--window-size=1400,4200"])
        .arg(format!("--user-data-dir={}", place.path("profile").display()))
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
        .arg(format!("file://{}", place.path("frame.html").display()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.split("id=\"found\">").nth(1).and_then(|rest| rest.split("</p>").next());
    found
        .unwrap_or_else(|| panic!("no answer from {browser}: {output:?}"))
        .split('|')
        .map(str::to_owned)
        .collect()
}

fn browser() -> Option<&'static str> {
    let works = |name: &&str| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(works);
    assert!(
        found.is_some() || std::env::var("GATEFOLD_BROWSER").as_deref() != Ok("require"),
        "GATEFOLD_BROWSER=require, and there is no Chromium"
    );
    if found.is_none() {
        eprintln!("skipped: there is no Chromium");
    }
    found
}

/// Looks at a page at three widths, light and dark, which has so many charts or more.
fn assert_whole(browser: &str, place: &Folder, command: &str, page: &str, least: usize) {
    let mut grounds = Vec::new();
    for (width, dark) in [(1200, false), (1200, true), (700, false), (380, true)] {
        let found = probed(browser, place, page, width, dark);
        assert!(found.len() >= 3, "{command}: {found:?}");
        assert_eq!(found[0], width.to_string());
        assert!(found[1].parse::<usize>().unwrap() >= least, "{command}: {} charts", found[1]);
        assert!(found[3..].is_empty(), "{command} at {width}: {:#?}", &found[3..]);
        grounds.push(found[2].clone());
    }
    assert!(grounds[0] == grounds[2] && grounds[1] == grounds[3] && grounds[0] != grounds[1], "{grounds:?}");
}

#[test]
fn a_prediction_has_a_report_with_the_errors_since_the_training() {
    let place = Folder::new();
    let models = SMALL.replace("naive,linear,network", "ets,network");
    place.succeed(&format!("forecast table.csv {models} --horizon 3 --target growth,sales --out o"));
    place.write("later.csv", &table(250));
    let output = place.run("predict o later.csv --device cpu --json --report p/report.html");
    assert!(output.status.success(), "{output:?}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let since = &found["since"];
    // Ten later months, from each of which up to three are forecast, of two series.
    assert_eq!((&since["samples"], &since["forecasts"]), (&10.into(), &54.into()));
    let all = serde_json::json!({ "models": [since] });
    let page = place.read("p/report.html");
    assert_has(&page, &expected(&all, &["mae", "rmse", "mase", "smape", "bias", "coverage"]));
    assert_alone(&page);
    for part in ["What follows the table", "Since the model was trained", "separated by comma", "of o"] {
        assert!(page.contains(part), "no '{part}'");
    }
    assert_eq!(since["by_step"].as_array().unwrap().len(), 3);
    assert_eq!(since["by_series"][1]["series"], "sales");
    place.succeed("predict o table.csv --device cpu --quiet");
    let page_without = place.read("gatefold-predict/report.html");
    assert!(!page_without.contains("Since the model") && page_without.contains("What follows the table"));
    let Some(browser) = browser() else { return };
    assert_whole(browser, &place, "predict", &page, 4);
    assert_whole(browser, &place, "predict without later rows", &page_without, 2);
    fs::remove_dir_all(place.path("profile")).unwrap();
}

/// Repeating the last sample has errors that can be counted by hand.
#[test]
fn errors_since_the_training_are_those_of_the_rows() {
    let place = Folder::new();
    place.succeed("forecast table.csv --model naive --horizon 2 --device cpu --out o");
    place.write("later.csv", &table(245));
    let output = place.run("predict o later.csv --device cpu --json");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = place.read("later.csv");
    let sales: Vec<f64> =
        text.lines().skip(1).map(|row| row.rsplit(',').next().unwrap().parse().unwrap()).collect();
    let pairs =
        (240..245).flat_map(|origin| [(origin, origin), (origin, origin + 1)]).filter(|(_, at)| *at < 245);
    let errors: Vec<f64> = pairs.map(|(origin, at)| (sales[origin - 1] - sales[at]).abs()).collect();
    let mae = errors.iter().sum::<f64>() / errors.len() as f64;
    assert_eq!((errors.len(), &found["since"]["forecasts"]), (9, &9.into()));
    assert!((found["since"]["mae"].as_f64().unwrap() - mae).abs() < 1e-9, "{mae}: {}", found["since"]);
}

#[test]
fn a_browser_shows_reports_whole_wide_and_narrow_light_and_dark() {
    let Some(browser) = browser() else { return };
    let place = Folder::new();
    let quick = "--device cpu --model naive,seasonal,linear,network --hidden 6 --input 12 --ensemble 2 --updates 24 --quiet";
    let number = |t: u32| f64::from(t * t * 7919 % 1000);
    let rows = |count: u32, row: &dyn Fn(u32) -> String| (0..count).map(row).collect::<String>();
    let hours = |t: u32| format!("2016-03-{:02}T{:02}:00:00+01:00,{}\n", t / 24 + 1, t % 24, number(t));
    place.write("hours.csv", &format!("time,v\n{}", rows(240, &hours)));
    place.write("huge.csv", &format!("v\n{}", rows(90, &|t| format!("{:e}\n", (number(t) - 500.0) * 1e290))));
    place
        .write("tiny.csv", &format!("v\n{}", rows(90, &|t| format!("{:e}\n", (number(t) - 500.0) * 1e-290))));
    place.write("constant.csv", &format!("v\n{}", rows(60, &|_| "-7\n".into())));
    place.write("short.csv", &format!("year,v\n{}", rows(12, &|t| format!("{},{}\n", 1990 + t, number(t)))));
    let cases = [
        ("impute gaps.csv --quick", 1),
        ("sweep table.csv --grid hidden=4 --seeds 1 --updates 20", 0),
        ("forecast table.csv --horizon 12 --target growth,sales", 8),
        ("backtest table.csv --horizon 12", 8),
        ("forecast hours.csv --horizon 24", 8),
        ("forecast huge.csv --horizon 3", 5),
        ("backtest tiny.csv --horizon 1 --season 12", 5),
        ("forecast constant.csv --horizon 2 --season 0", 3),
        ("backtest short.csv --horizon 1 --windows 1 --model naive", 2),
    ];
    let gap = |(at, line): (usize, &str)| match at {
        20 | 21 | 60 => format!("{},\n", line.rsplit_once(',').unwrap().0),
        _ => format!("{line}\n"),
    };
    place.write("gaps.csv", &place.read("table.csv").lines().enumerate().map(gap).collect::<String>());
    for (command, least) in cases {
        let own = ["--model", "impute", "sweep"].iter().any(|word| command.contains(word));
        let model = if own { "--device cpu --quiet" } else { quick };
        place.succeed(&format!("{command} {model} --out o"));
        assert_whole(browser, &place, command, &place.read("o/report.html"), least);
    }
    // The probe itself finds what is wrong.
    let page = place.read("o/report.html");
    let spoilt = page.replace("<main>", "<main><div style=\"width:2000px\">x</div>").replacen(
        "text-anchor=\"middle\">",
        "dx=\"5000\">",
        1,
    );
    let found = probed(browser, &place, &spoilt, 1200, false).join(" ");
    assert!(found.contains("wider than the screen") && found.contains("is cut off"), "{found}");
    fs::remove_dir_all(place.path("profile")).unwrap();
}
