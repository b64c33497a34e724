//! The page of a run whose results are lines and pictures: those of tasks and sweeps.

use super::page::{Page, layers, lines, picture};
use super::{Chart, model_chart};
use gatefold::NetworkConfig;

/// The parts of a run that its page shows.
pub(crate) struct RunPage<'a> {
    pub(crate) title: &'a str,
    /// The line below the title: of what the run was.
    pub(crate) about: &'a str,
    /// Everything that was printed.
    pub(crate) printed: &'a [String],
    /// Drawings, as SVG.
    pub(crate) pictures: &'a [String],
    /// Training losses and, where there are any, validation errors of each network, by updates.
    pub(crate) training: &'a [Training],
    pub(crate) networks: &'a [NetworkConfig],
}

/// The course of one training.
#[derive(Clone, Debug, Default)]
pub(crate) struct Training {
    pub(crate) losses: Vec<(f64, f64)>,
    pub(crate) errors: Vec<(f64, f64)>,
}

impl RunPage<'_> {
    /// The whole document.
    pub(crate) fn html(&self) -> String {
        let mut page = Page::new(self.title, self.about);
        page.section("The run", &lines(self.printed));
        page.section("In pictures", &self.pictures.iter().map(|svg| picture(svg)).collect::<String>());
        let chart = |title: &str, of: fn(&Training) -> &Vec<(f64, f64)>| -> Option<Chart> {
            let drawn = |(at, training): (usize, &Training)| {
                let name =
                    if self.training.len() == 1 { String::new() } else { format!("network {}", at + 1) };
                (name, of(training).clone())
            };
            let models: Vec<_> =
                self.training.iter().enumerate().map(drawn).filter(|(_, points)| points.len() > 1).collect();
            (!models.is_empty()).then(|| model_chart(title, false, "updates", &models))
        };
        let charts = [
            chart("Loss on batches, between looks", |training| &training.losses),
            chart("Error on the validation part", |training| &training.errors),
        ];
        page.charts("Training", "", &charts.into_iter().flatten().collect::<Vec<_>>());
        if let Some(config) = self.networks.first() {
            page.section("The network", &layers(config, self.networks.len()));
        }
        page.finish()
    }
}
