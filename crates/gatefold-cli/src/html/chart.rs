//! Charts as inline SVG, whose colours follow the page.

mod axis;

use super::escaped;
use axis::Scale;
use std::fmt::Write;

/// A chart with its title, drawn for several widths: the page shows the one that suits the screen.
pub(crate) struct Chart {
    pub(crate) title: String,
    /// Whether it spans the page.
    pub(crate) wide: bool,
    pub(crate) x: XAxis,
    /// Whether the values are shown on a logarithmic axis, where they are positive and span a decade or more.
    pub(crate) logarithmic: bool,
    pub(crate) lines: Vec<Line>,
}

/// The places along a chart.
pub(crate) enum XAxis {
    /// Whole numbers, and what they count.
    Numbers(&'static str),
    /// A label for each place from 0 on.
    Labels(Vec<String>),
}

/// Something drawn in one colour.
pub(crate) struct Line {
    /// Its name in the legend; none if empty.
    pub(crate) name: String,
    /// The style's variable: `c0` to `c7`, `truth` or `band`.
    pub(crate) color: &'static str,
    pub(crate) shape: Shape,
}

/// A mark to draw, from places and values.
pub(crate) enum Shape {
    Line(Vec<(f64, f64)>),
    Thin(Vec<(f64, f64)>),
    Dashed(Vec<(f64, f64)>),
    /// Bars from zero.
    Bars(Vec<(f64, f64)>),
    /// The area between two values.
    Band(Vec<(f64, f64, f64)>),
}

/// The colours of models, in order.
pub(crate) const COLORS: [&str; 8] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];

impl Line {
    pub(crate) fn new(name: &str, color: &'static str, shape: Shape) -> Line {
        Line { name: name.into(), color, shape }
    }
}

impl Shape {
    fn places(&self) -> Vec<f64> {
        match self {
            Shape::Line(points) | Shape::Thin(points) | Shape::Dashed(points) | Shape::Bars(points) => {
                points.iter().map(|(at, _)| *at).collect()
            }
            Shape::Band(points) => points.iter().map(|(at, ..)| *at).collect(),
        }
    }

    fn values(&self) -> Vec<f64> {
        match self {
            Shape::Line(points) | Shape::Thin(points) | Shape::Dashed(points) => {
                points.iter().map(|(_, value)| *value).collect()
            }
            Shape::Bars(points) => points.iter().map(|(_, value)| *value).chain([0.0]).collect(),
            Shape::Band(points) => points.iter().flat_map(|(_, low, high)| [*low, *high]).collect(),
        }
    }
}

/// A drawing: its class in the style, width and height.
type Size = (&'static str, f64, f64);
const WIDE: [Size; 3] = [("large", 1040.0, 330.0), ("middle", 640.0, 300.0), ("small", 340.0, 250.0)];
const HALF: [Size; 2] = [("large", 480.0, 260.0), ("small", 340.0, 230.0)];

impl Chart {
    /// The chart as a figure; `None` if no value is finite.
    pub(crate) fn figure(&self) -> Option<String> {
        let sizes: &[Size] = if self.wide { &WIDE } else { &HALF };
        let drawings: Vec<String> = sizes.iter().map(|size| self.drawing(*size)).collect::<Option<_>>()?;
        let mut legend = String::new();
        for line in self.lines.iter().filter(|line| !line.name.is_empty()) {
            let sample = match line.shape {
                Shape::Band(_) | Shape::Bars(_) => {
                    format!("<rect width=\"22\" height=\"10\" style=\"{}\"/>", fill(line))
                }
                _ => format!(
                    "<line x2=\"22\" y1=\"5\" y2=\"5\" class=\"{}\" style=\"{}\"/>",
                    class(line),
                    stroke(line)
                ),
            };
            let name = escaped(&line.name);
            let _ = write!(
                legend,
                "<li><svg viewBox=\"0 0 22 10\" aria-hidden=\"true\">{sample}</svg>{name}</li>"
            );
        }
        Some(format!(
            "<figure{}><figcaption>{}</figcaption><ul class=\"legend\">{legend}</ul>\n{}</figure>\n",
            if self.wide { " class=\"wide\"" } else { "" },
            escaped(&self.title),
            drawings.concat()
        ))
    }

    fn drawing(&self, (name, width, height): Size) -> Option<String> {
        let values = self.lines.iter().flat_map(|line| line.shape.values());
        let y = Scale::of_values(values, self.logarithmic)?;
        let left = y.widest_label() + 12.0;
        let (right, top) = (10.0, 8.0);
        let bottom = if matches!(self.x, XAxis::Numbers(_)) { 42.0 } else { 26.0 };
        let (wide, high) = (width - left - right, height - top - bottom);
        let places = self.lines.iter().flat_map(|line| line.shape.places());
        let x = match &self.x {
            XAxis::Numbers(_) => Scale::of_numbers(places, wide)?,
            XAxis::Labels(labels) => Scale::of_labels(labels, wide),
        };
        let frame = Frame { x: &x, y: &y, left, top, wide, high };
        let mut out = format!(
            "<svg class=\"{name}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
            escaped(&self.title)
        );
        for (value, label) in &y.ticks {
            let at = frame.y(*value);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left + wide,
                left - 6.0,
                at + 4.5,
                escaped(label)
            );
        }
        for (label, at) in x.placed(left, wide, width) {
            let y = top + high + 18.0;
            let _ = write!(
                out,
                "<text x=\"{at:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
                escaped(&label)
            );
        }
        if let XAxis::Numbers(name) = self.x {
            let (at, y) = (left + wide / 2.0, height - 5.0);
            let _ = write!(
                out,
                "<text x=\"{at:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
                escaped(name)
            );
        }
        for line in &self.lines {
            frame.draw(&mut out, line);
        }
        out += "</svg>\n";
        Some(out)
    }
}

fn class(line: &Line) -> &'static str {
    match line.shape {
        Shape::Thin(_) => "line thin",
        Shape::Dashed(_) => "line dash",
        _ => "line",
    }
}

fn stroke(line: &Line) -> String {
    let faint = if matches!(line.shape, Shape::Thin(_)) { ";opacity:.45" } else { "" };
    format!("stroke:var(--{}){faint}", line.color)
}

fn fill(line: &Line) -> String {
    let faint = if matches!(line.shape, Shape::Band(_)) { ";opacity:.2" } else { "" };
    format!("fill:var(--{}){faint}", line.color)
}

/// Where places and values are in a drawing.
struct Frame<'a> {
    x: &'a Scale,
    y: &'a Scale,
    left: f64,
    top: f64,
    wide: f64,
    high: f64,
}

impl Frame<'_> {
    fn x(&self, place: f64) -> f64 {
        self.left + self.wide * self.x.share(place)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + self.high * (1.0 - self.y.share(value))
    }

    fn draw(&self, out: &mut String, line: &Line) {
        match &line.shape {
            Shape::Line(points) | Shape::Thin(points) | Shape::Dashed(points) => {
                self.draw_line(out, line, points);
            }
            Shape::Bars(points) => {
                let between = points.windows(2).map(|pair| self.x(pair[1].0) - self.x(pair[0].0));
                let wide = (0.6 * between.fold(f64::INFINITY, f64::min)).clamp(1.0, 14.0);
                let zero = self.y(0.0);
                for (place, value) in points.iter().filter(|(_, value)| value.is_finite()) {
                    let (at, y) = (self.x(*place) - wide / 2.0, self.y(*value));
                    let _ = write!(
                        out,
                        "<rect x=\"{at:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\" style=\"{}\"/>",
                        y.min(zero),
                        (y - zero).abs().max(0.5),
                        fill(line)
                    );
                }
            }
            Shape::Band(points) => {
                let finite: Vec<_> =
                    points.iter().filter(|(_, low, high)| low.is_finite() && high.is_finite()).collect();
                let edge = finite.iter().map(|(at, low, _)| (*at, *low));
                let back = finite.iter().rev().map(|(at, _, high)| (*at, *high));
                let outline: Vec<String> = edge
                    .chain(back)
                    .map(|(at, value)| format!("{:.1},{:.1}", self.x(at), self.y(value)))
                    .collect();
                if !outline.is_empty() {
                    let _ =
                        write!(out, "<polygon points=\"{}\" style=\"{}\"/>", outline.join(" "), fill(line));
                }
            }
        }
    }

    fn draw_line(&self, out: &mut String, line: &Line, points: &[(f64, f64)]) {
        let mut path = String::new();
        // A value that has no place leaves a gap.
        for run in points.split(|(_, value)| !self.y.has(*value)) {
            match thinned(run, 2 * self.wide as usize).as_slice() {
                [] => {}
                [(place, value)] => {
                    let (x, y) = (self.x(*place), self.y(*value));
                    let color = format!("fill:var(--{})", line.color);
                    let _ = write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" style=\"{color}\"/>");
                }
                run => {
                    for (at, (place, value)) in run.iter().enumerate() {
                        let letter = if at == 0 { 'M' } else { 'L' };
                        let _ = write!(path, "{letter}{:.1} {:.1}", self.x(*place), self.y(*value));
                    }
                }
            }
        }
        if !path.is_empty() {
            let _ = write!(out, "<path class=\"{}\" d=\"{path}\" style=\"{}\"/>", class(line), stroke(line));
        }
    }
}

/// At most about `most` points: of each stretch its least and its greatest value, so that no peak is lost.
fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most.max(4) {
        return points.to_vec();
    }
    let stretch = (2 * points.len()).div_ceil(most.max(4));
    let mut out = Vec::with_capacity(most);
    for stretch in points.chunks(stretch) {
        let order = |a: &usize, b: &usize| stretch[*a].1.total_cmp(&stretch[*b].1);
        let least = (0..stretch.len()).min_by(order).expect("a stretch has points");
        let most = (0..stretch.len()).max_by(order).expect("a stretch has points");
        out.push(stretch[least.min(most)]);
        if least != most {
            out.push(stretch[least.max(most)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[f64]) -> Chart {
        let points = values.iter().enumerate().map(|(at, value)| (at as f64, *value)).collect();
        Chart {
            title: "t".into(),
            wide: true,
            x: XAxis::Labels((0..values.len()).map(|at| format!("2016-01-{at:02}T00:00")).collect()),
            logarithmic: false,
            lines: vec![Line::new("<a>", "c0", Shape::Line(points))],
        }
    }

    #[test]
    fn odd_values_are_drawn_and_none_is_not_a_number() {
        let wave: Vec<f64> = (0..20_000).map(|t| f64::from(t).sin()).collect();
        let odd: [&[f64]; 8] = [
            &[1.0],
            &[0.0; 3],
            &[1e300, -1e300, 1e308],
            &[f64::NAN, 1.0, f64::INFINITY, 2.0],
            &[1e-300, 2e-300],
            &[-5.0, -5.0],
            &[123_456_789.0, 123_456_790.0],
            &wave,
        ];
        for values in odd {
            for logarithmic in [false, true] {
                let figure = Chart { logarithmic, ..chart(values) }.figure().unwrap();
                assert!(
                    !figure.contains("NaN") && !figure.contains("inf") && figure.len() < 100_000,
                    "{values:?}"
                );
                assert!(figure.contains("<path") || figure.contains("<circle"), "{values:?}: {figure}");
                assert!(figure.contains("&lt;a&gt;"));
            }
        }
        assert!(chart(&[]).figure().is_none() && chart(&[f64::NAN]).figure().is_none());
    }

    #[test]
    fn a_peak_survives_thinning() {
        let mut points: Vec<(f64, f64)> = (0..50_000).map(|at| (f64::from(at), 0.0)).collect();
        points[33_333].1 = 7.0;
        let thin = thinned(&points, 600);
        assert!(thin.len() <= 600 && thin.contains(&(33_333.0, 7.0)));
        assert!(thin.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
