use super::axis::Axis;
use super::lines::PALETTE;
use super::panel::{self, Curve, INK, Panel, Picture, failed, text_width};
use super::{FORECAST, WIDTH};
use crate::SeriesError;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontDesc;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Norms over time on a logarithmic axis and, below them on the same time axis, shares as a heat map: how a gradient fares
/// on its way back, and which gates are saturated.
#[derive(Clone, Debug)]
pub struct GradientPlot<'a> {
    /// The parts of the picture, one below the other.
    pub layers: &'a [GradientLayer],
}

/// One recurrent layer of a [`GradientPlot`].
#[derive(Clone, Debug)]
pub struct GradientLayer {
    /// The title of its part.
    pub title: String,
    /// Names of lines, with a norm for each step from the first; those that are not above 0 are left out.
    pub norms: Vec<(String, Vec<f64>)>,
    /// Names of rows, with a share from 0 to 1 for each step.
    pub shares: Vec<(String, Vec<f64>)>,
}

/// Pixels: the height of the panel with lines, of a row of shares, and of their heading; the margin below.
const PANEL: u32 = 340;
const ROW: u32 = 22;
const HEAD: u32 = 30;
const MARGIN: u32 = 18;

impl GradientPlot<'_> {
    /// The plot as an SVG document.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when no norm of a layer is above 0.
    pub fn svg(&self) -> Result<String, SeriesError> {
        panel::svg((WIDTH, self.height()), self)
    }

    /// The plot as the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`GradientPlot::svg`].
    pub fn png(&self) -> Result<Vec<u8>, SeriesError> {
        panel::png((WIDTH, self.height()), self)
    }

    fn height(&self) -> u32 {
        self.layers.iter().map(GradientLayer::height).sum::<u32>().max(1)
    }
}

impl Picture for GradientPlot<'_> {
    fn draw_on<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        scale: u32,
    ) -> Result<(), SeriesError> {
        let mut below = root.clone();
        for layer in self.layers {
            let (top, rest) = below.split_vertically((layer.height() * scale) as i32);
            layer.draw(&top, scale)?;
            below = rest;
        }
        Ok(())
    }
}

impl GradientLayer {
    fn height(&self) -> u32 {
        let shares = if self.shares.is_empty() { 0 } else { HEAD + ROW * self.shares.len() as u32 };
        PANEL + shares + MARGIN
    }

    fn steps(&self) -> usize {
        self.norms.iter().map(|(_, norms)| norms.len()).max().unwrap_or(0)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: u32) -> Result<(), SeriesError> {
        let px = |pixels: u32| (pixels * scale) as i32;
        let labels = self.shares.iter().map(|(name, _)| text_width(name, 14 * scale));
        let widest = labels.collect::<Result<Vec<_>, _>>()?.into_iter().max().unwrap_or(0);
        let (top, shares) = area.split_vertically(px(PANEL));
        let panel = self.panel()?.with_left(widest + px(14));
        let (from, to) = panel.draw(&top, scale)?;
        if self.shares.is_empty() {
            return Ok(());
        }
        let style = |size: u32, side: HPos| {
            let font = FontDesc::from(("sans-serif", f64::from(size * scale)));
            font.color(&INK).pos(Pos::new(side, VPos::Center))
        };
        let head = "share of units near an end of their range: white 0 %, blue 100 %";
        shares.draw_text(head, &style(14, HPos::Left), (from, px(HEAD / 2))).map_err(failed)?;
        // A step is as wide as the distance of two ticks of the panel above.
        let wide = f64::from(to - from) / (self.steps().max(2) - 1) as f64;
        for (row, (name, values)) in self.shares.iter().enumerate() {
            let y = px(HEAD + ROW * row as u32);
            shares
                .draw_text(name, &style(14, HPos::Right), (from - px(8), y + px(ROW) / 2))
                .map_err(failed)?;
            for (start, end, share) in runs(values) {
                let edge =
                    |step: f64| (f64::from(from) + wide * step).round().clamp(from.into(), to.into()) as i32;
                let corners = [(edge(start as f64 - 0.5), y), (edge(end as f64 - 0.5), y + px(ROW - 3))];
                shares.draw(&Rectangle::new(corners, shade(share).filled())).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn panel(&self) -> Result<Panel, SeriesError> {
        let curves: Vec<Curve> = self
            .norms
            .iter()
            .zip(PALETTE)
            .map(|((name, norms), color)| {
                let points = norms.iter().enumerate().map(|(step, norm)| (step as f64 + 1.0, *norm));
                Curve::new(name, color, 2.0, points.filter(|(_, norm)| *norm > 0.0).collect())
            })
            .collect();
        let values: Vec<f64> = curves.iter().flat_map(Curve::values).collect();
        let y = Axis::of_losses("norm", values.into_iter())?;
        let x = Axis::counting("time step", 1.0..self.steps().max(2) as f64);
        Ok(Panel::new(&self.title, x, y, curves))
    }
}

/// Steps with the same share after rounding to percent: from, to and share. So a long sequence makes few shapes.
fn runs(values: &[f64]) -> Vec<(usize, usize, f64)> {
    let mut runs: Vec<(usize, usize, f64)> = Vec::new();
    for (step, share) in values.iter().enumerate() {
        let share = (share * 100.0).round() / 100.0;
        match runs.last_mut() {
            Some((_, end, before)) if *before == share => *end = step + 1,
            _ => runs.push((step, step + 1, share)),
        }
    }
    runs
}

fn shade(share: f64) -> RGBColor {
    let towards = |full: u8| (245.0 + (f64::from(full) - 245.0) * share.clamp(0.0, 1.0)).round() as u8;
    RGBColor(towards(FORECAST.0), towards(FORECAST.1), towards(FORECAST.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_and_shares_are_drawn_with_their_names() {
        let norms: Vec<f64> = (0..90).map(|step| 0.8f64.powi(90 - step)).collect();
        let shares: Vec<f64> = (0..90).map(|step| f64::from(step) / 89.0).collect();
        let layer = |title: &str| GradientLayer {
            title: title.into(),
            norms: vec![("dL/dh".into(), norms.clone()), ("Jacobian".into(), vec![0.0; 90])],
            shares: vec![("forget, high".into(), shares.clone()), ("forget, low".into(), vec![0.25; 90])],
        };
        let layers = [layer("layer 0 (lstm)"), layer("layer 1 <lstm>")];
        let plot = GradientPlot { layers: &layers };
        let svg = plot.svg().unwrap();
        for text in ["layer 0 (lstm)", "layer 1 &lt;lstm&gt;", "dL/dh", "forget, high", "time step", "1e-8"] {
            assert!(svg.contains(text), "no {text}");
        }
        assert!(plot.png().unwrap().starts_with(b"\x89PNG"));
        let nothing = GradientLayer { norms: vec![("dL/dh".into(), vec![0.0])], ..layer("") };
        assert!(GradientPlot { layers: &[nothing] }.svg().is_err());
    }

    #[test]
    fn equal_shares_become_one_rectangle() {
        assert_eq!(runs(&[0.5, 0.501, 0.25, 0.25]), [(0, 2, 0.5), (2, 4, 0.25)]);
        assert!(runs(&[]).is_empty());
    }
}
