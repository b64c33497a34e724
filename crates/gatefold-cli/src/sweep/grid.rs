//! The combinations of a grid: options of the network as the command line takes them.

use crate::backtest::Chosen;
use crate::failure::Failure;
use crate::forecast::NetworkOptions;
use clap::{Args, Command, Parser};
use gatefold_forecast::Settings;

/// Options that are no part of a grid: each combination has all seeds, and single networks.
const OTHER: [&str; 2] = ["seed", "ensemble"];

/// One combination.
#[derive(Debug)]
pub(super) struct Point {
    /// Such as `hidden=16 lr=0.003`.
    pub(super) name: String,
    pub(super) options: NetworkOptions,
}

impl Point {
    /// The settings of its networks.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub(super) fn settings(&self, chosen: &Chosen) -> Result<Settings, Failure> {
        chosen.network_settings(&self.options)
    }
}

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Words {
    #[command(flatten)]
    network: NetworkOptions,
}

/// Every combination of the values in the grid, beside the options given; without a grid, a small one around the settings
/// chosen.
pub(super) fn points(
    grid: &[String],
    given: &NetworkOptions,
    settings: &Settings,
) -> Result<Vec<Point>, Failure> {
    let hidden = settings.hidden;
    let default =
        [format!("hidden={},{hidden},{}", (hidden / 2).max(1), 2 * hidden), "lr=0.001,0.003".into()];
    let mut combinations: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for axis in if grid.is_empty() { &default[..] } else { grid } {
        let (name, values) = parsed(axis)?;
        if combinations[0].iter().any(|(known, _)| *known == name) {
            return Err(Failure::Usage(format!("--grid has {name} twice; give all of its values at once")));
        }
        let longer = |combination: &Vec<(String, String)>| -> Vec<Vec<(String, String)>> {
            let add = |value: &String| [combination.as_slice(), &[(name.clone(), value.clone())]].concat();
            values.iter().map(add).collect()
        };
        combinations = combinations.iter().flat_map(longer).collect();
    }
    combinations.into_iter().map(|combination| point(given, &combination)).collect()
}

fn parsed(axis: &str) -> Result<(String, Vec<String>), Failure> {
    let known = NetworkOptions::augment_args(Command::new("grid"));
    let names = || {
        known.get_arguments().filter_map(|argument| argument.get_long()).filter(|name| !OTHER.contains(name))
    };
    let listed = || names().collect::<Vec<_>>().join(", ");
    let Some((name, values)) = axis.split_once('=') else {
        return Err(Failure::Usage(format!(
            "--grid {axis} has no values; write an option and its values, as hidden=16,32; options are {}",
            listed()
        )));
    };
    let name = name.trim().trim_start_matches('-');
    if !names().any(|known| known == name) {
        return Err(Failure::Usage(format!("--grid has no option '{name}'; options are {}", listed())));
    }
    let mut values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
    let all = values.len();
    values.sort_unstable();
    values.dedup();
    if values.len() < all || values.iter().any(String::is_empty) {
        return Err(Failure::Usage(format!("--grid {axis}: a value is empty or there twice")));
    }
    // In the order in which they were given.
    let order = axis.split_once('=').map_or("", |(_, values)| values);
    Ok((name.to_owned(), order.split(',').map(|value| value.trim().to_owned()).collect()))
}

fn point(given: &NetworkOptions, combination: &[(String, String)]) -> Result<Point, Failure> {
    let given = toml::Table::try_from(given).expect("options are a table");
    let kept = given.iter().filter(|(name, _)| !combination.iter().any(|(other, _)| other == *name));
    let kept = kept.map(|(name, value)| match value {
        toml::Value::String(text) => format!("--{name}={text}"),
        other => format!("--{name}={other}"),
    });
    let own = combination.iter().map(|(name, value)| format!("--{name}={value}"));
    let words = Words::try_parse_from(kept.chain(own)).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Failure::Usage(format!("--grid: {line}"))
    })?;
    let name: Vec<String> = combination.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(Point { name: name.join(" "), options: words.network })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(grid: &[&str]) -> Result<Vec<String>, String> {
        let grid: Vec<String> = grid.iter().map(|axis| (*axis).to_owned()).collect();
        let settings = Settings::new(2, None, &[100]);
        let points =
            points(&grid, &NetworkOptions::default(), &settings).map_err(|failure| failure.to_string())?;
        Ok(points.into_iter().map(|point| point.name).collect())
    }

    #[test]
    fn a_grid_is_every_combination() {
        assert_eq!(
            names(&["hidden=16,8", "lr=1e-3,0.003"]).unwrap(),
            ["hidden=16 lr=1e-3", "hidden=16 lr=0.003", "hidden=8 lr=1e-3", "hidden=8 lr=0.003"]
        );
        assert_eq!(names(&[]).unwrap().len(), 6);
        assert_eq!(names(&["cell=lstm,gru"]).unwrap(), ["cell=lstm", "cell=gru"]);
    }

    #[test]
    fn the_options_given_stay_unless_the_grid_has_them() {
        let given = Words::try_parse_from(["--hidden=5", "--lr=0.01"]).unwrap().network;
        let grid = ["lr=0.5".to_owned()];
        let points = points(&grid, &given, &Settings::new(2, None, &[100])).unwrap();
        let expected = Words::try_parse_from(["--hidden=5", "--lr=0.5"]).unwrap().network;
        assert_eq!(points[0].options, expected);
    }

    #[test]
    fn mistakes_are_one_line_each() {
        for (grid, text) in [
            (&["hidden"][..], "has no values"),
            (&["depth=1"], "no option 'depth'; options are input, cell, hidden"),
            (&["seed=1,2"], "no option 'seed'"),
            (&["hidden=1,,2"], "empty or there twice"),
            (&["hidden=1,1"], "empty or there twice"),
            (&["hidden=1", "hidden=2"], "hidden twice"),
            (&["hidden=0"], "--grid: invalid value '0'"),
            (&["cell=tree"], "--grid: invalid value 'tree'"),
        ] {
            let found = names(grid).unwrap_err();
            assert!(found.contains(text) && found.lines().count() == 1, "{grid:?}: {found}");
        }
    }
}
