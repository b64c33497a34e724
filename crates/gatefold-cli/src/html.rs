//! Pages of HTML that need nothing else: no network, no script, styles and charts within.

mod chart;
mod evaluation;
mod page;
mod run;

pub(crate) use chart::{COLORS, Chart, Line, Shape, XAxis};
pub(crate) use evaluation::{
    loss_charts, model_chart, number, percent, residual_charts, series_chart, series_table,
};
use page::escaped;
pub(crate) use page::{Page, details, facts, layers, note, table};
pub(crate) use run::{RunPage, Training};
