use super::axis::Axis;
use crate::SeriesError;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, register_font};
use std::fmt::Display;
use std::sync::Once;

/// DejaVu Sans; its licence is in the same folder.
static FONT: &[u8] = include_bytes!("../../fonts/DejaVuSans.ttf");
pub(super) const INK: RGBColor = RGBColor(60, 60, 66);
/// Pixels of a PNG per pixel of the SVG, for high-resolution screens.
const PNG_SCALE: u32 = 2;
/// plotters does not smooth thick lines, so PNGs are drawn this much larger and averaged.
const OVERSAMPLING: u32 = 2;

#[derive(Clone, Debug)]
pub(super) struct Curve {
    name: String,
    color: RGBColor,
    width: f64,
    points: Vec<(f64, f64)>,
    /// The upper edge of a band whose lower edge the points are; empty for a line.
    upper: Vec<(f64, f64)>,
    dots: bool,
}

impl Curve {
    pub(super) fn new(name: &str, color: RGBColor, width: f64, points: Vec<(f64, f64)>) -> Curve {
        Curve { name: name.into(), color, width, points, upper: Vec::new(), dots: false }
    }

    /// Points that no line connects, with this radius.
    pub(super) fn dots(name: &str, color: RGBColor, radius: f64, points: Vec<(f64, f64)>) -> Curve {
        Curve { dots: true, ..Curve::new(name, color, radius, points) }
    }

    /// The area between two lines.
    pub(super) fn band(name: &str, color: RGBColor, low: Vec<(f64, f64)>, high: Vec<(f64, f64)>) -> Curve {
        Curve { name: name.into(), color, width: 1.0, points: low, upper: high, dots: false }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        self.points.iter().map(|(_, value)| *value)
    }
}

/// A title, axes and curves. Later curves are drawn over earlier ones.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    title: String,
    x: Axis,
    y: Axis,
    curves: Vec<Curve>,
    /// The least room on the left, at the scale of the drawing.
    left: i32,
}

impl Panel {
    pub(super) fn new(title: &str, x: Axis, y: Axis, curves: Vec<Curve>) -> Panel {
        Panel { title: title.into(), x, y, curves, left: 0 }
    }

    /// Leaves at least so many pixels on the left, at the scale of the drawing.
    pub(super) fn with_left(self, left: i32) -> Panel {
        Panel { left, ..self }
    }
}

/// A picture that any backend of plotters draws.
pub(super) trait Picture {
    /// Draws onto a white area, with `scale` pixels for each of the size.
    fn draw_on<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>, scale: u32)
    -> Result<(), SeriesError>;
}

/// Panels of equal height, one below the other.
impl Picture for [Panel] {
    fn draw_on<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        scale: u32,
    ) -> Result<(), SeriesError> {
        for (area, panel) in root.split_evenly((self.len(), 1)).iter().zip(self) {
            panel.draw(area, scale)?;
        }
        Ok(())
    }
}

pub(super) fn svg(size: (u32, u32), picture: &(impl Picture + ?Sized)) -> Result<String, SeriesError> {
    let mut text = String::new();
    draw(&SVGBackend::with_string(&mut text, size).into_drawing_area(), picture, 1)?;
    Ok(text)
}

pub(super) fn png(
    (width, height): (u32, u32),
    picture: &(impl Picture + ?Sized),
) -> Result<Vec<u8>, SeriesError> {
    let scale = PNG_SCALE * OVERSAMPLING;
    let (wide, high) = (width * scale, height * scale);
    let mut pixels = vec![0; (wide * high * 3) as usize];
    draw(&BitMapBackend::with_buffer(&mut pixels, (wide, high)).into_drawing_area(), picture, scale)?;
    let (width, height) = (width * PNG_SCALE, height * PNG_SCALE);
    let mut smooth = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let of = |dy: u32, dx: u32| {
                    let at = ((y * OVERSAMPLING + dy) * wide + x * OVERSAMPLING + dx) * 3 + channel;
                    u32::from(pixels[at as usize])
                };
                let sum: u32 =
                    (0..OVERSAMPLING * OVERSAMPLING).map(|k| of(k / OVERSAMPLING, k % OVERSAMPLING)).sum();
                smooth.push((sum / (OVERSAMPLING * OVERSAMPLING)) as u8);
            }
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&smooth)).map_err(failed)?;
    Ok(bytes)
}

pub(super) fn failed(error: impl Display) -> SeriesError {
    SeriesError::Plot(error.to_string())
}

/// Makes the font known to plotters, once.
pub(super) fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // Fails only for bytes that are not a font; the tests draw with these.
        let _ = register_font("sans-serif", FontStyle::Normal, FONT);
    });
}

fn draw<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    picture: &(impl Picture + ?Sized),
    scale: u32,
) -> Result<(), SeriesError> {
    register();
    root.fill(&WHITE).map_err(failed)?;
    picture.draw_on(root, scale)?;
    root.present().map_err(failed)
}

/// Where the texts above a plot go: the title, then the curves' names on its right or in rows below it.
struct Heading {
    title: String,
    /// Names with their left end, row and curve.
    names: Vec<(String, i32, i32, usize)>,
    rows: i32,
}

/// Pixels at scale 1: the margin beside a heading, the line before a curve's name, the gap after it, and a row's height.
const SIDE: i32 = 24;
const SAMPLE: i32 = 32;
const GAP: i32 = 22;
const ROW: i32 = 26;
const TITLE_ROW: i32 = 40;

impl Panel {
    /// Draws the panel, and returns the left and the right end of its plotting area in pixels.
    pub(super) fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: u32,
    ) -> Result<(i32, i32), SeriesError> {
        let font = |size: u32| FontDesc::from(("sans-serif", f64::from(size * scale))).color(&INK);
        let px = |pixels: i32| pixels * scale as i32;
        let (width, height) = (area.dim_in_pixel().0 as i32, area.dim_in_pixel().1 as i32);
        let heading = self.heading(width, scale)?;
        let above = px(TITLE_ROW + ROW * heading.rows);
        let (top, body) = area.split_vertically(above);
        self.draw_heading(&top, &heading, scale)?;
        let labels = self.y.ticks.iter().map(|(_, label)| text_width(label, 15 * scale));
        let widest = labels.collect::<Result<Vec<_>, _>>()?.into_iter().max().unwrap_or(0);
        let left = (widest + px(36)).max(px(74)).max(self.left);
        let x = self.x.clone().thinned(
            width - left - px(18 + 24),
            px(24),
            |label| text_width(label, 15 * scale),
            px(14),
        )?;
        let name = fitting(&self.y.name, height - above - px(60), 16 * scale)?;
        let mut chart = ChartBuilder::on(&body)
            .margin_left(px(18))
            .margin_right(px(24))
            .margin_bottom(px(8))
            .x_label_area_size(px(if self.x.name.is_empty() { 30 } else { 46 }))
            .y_label_area_size(left)
            .build_cartesian_2d(x.clone(), self.y.clone())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .bold_line_style(RGBColor(224, 224, 228).stroke_width(scale))
            .light_line_style(TRANSPARENT)
            .axis_style(RGBColor(150, 150, 156).stroke_width(scale))
            .set_all_tick_mark_size(px(4))
            .label_style(font(15))
            .axis_desc_style(font(16))
            .x_desc(x.name.as_str())
            .y_desc(name)
            .draw()
            .map_err(failed)?;
        let places = chart.plotting_area().get_pixel_range().0;
        for curve in &self.curves {
            if !curve.upper.is_empty() {
                let edge = curve.points.iter().chain(curve.upper.iter().rev());
                let finite = edge.filter(|(_, value)| value.is_finite());
                let outline: Vec<(f64, f64)> =
                    finite.map(|(at, value)| (*at, self.y.place(*value))).collect();
                chart
                    .draw_series(std::iter::once(Polygon::new(outline, curve.color.filled())))
                    .map_err(failed)?;
                continue;
            }
            if curve.dots {
                let radius = (curve.width * f64::from(scale)).round() as u32;
                let known = curve.points.iter().filter(|(_, value)| value.is_finite());
                let dot = |(at, value): &(f64, f64)| {
                    Circle::new((*at, self.y.place(*value)), radius, curve.color.filled())
                };
                chart.draw_series(known.map(dot)).map_err(failed)?;
                continue;
            }
            let style = curve.color.stroke_width((curve.width * f64::from(scale)).round() as u32);
            // A value that is not finite leaves a gap.
            for run in curve.points.split(|(_, value)| !value.is_finite()) {
                let places: Vec<(f64, f64)> =
                    run.iter().map(|(at, value)| (*at, self.y.place(*value))).collect();
                if let [alone] = places[..] {
                    let point = Circle::new(alone, px(3), curve.color.filled());
                    chart.draw_series(std::iter::once(point)).map_err(failed)?;
                } else {
                    chart.draw_series(LineSeries::new(places, style)).map_err(failed)?;
                }
            }
        }
        Ok((places.start, places.end))
    }

    /// Lays out the texts above the plot, so that none lies over another.
    fn heading(&self, width: i32, scale: u32) -> Result<Heading, SeriesError> {
        let px = |pixels: i32| pixels * scale as i32;
        let room = width - px(2 * SIDE);
        let title = fitting(&self.title, room, 17 * scale)?;
        let title_width = text_width(&title, 17 * scale)?;
        let mut widths = Vec::new();
        let named = |curve: &Curve| !curve.points.is_empty() && !curve.name.is_empty();
        for (at, curve) in self.curves.iter().enumerate().filter(|(_, curve)| named(curve)) {
            let name = fitting(&curve.name, room - px(SAMPLE), 15 * scale)?;
            widths.push((at, px(SAMPLE) + text_width(&name, 15 * scale)?, name));
        }
        let all: i32 = widths.iter().map(|(_, width, _)| width).sum::<i32>()
            + px(GAP) * widths.len().saturating_sub(1) as i32;
        let beside = title_width + px(2 * GAP) + all <= room;
        let (mut row, mut at) = if beside { (0, width - px(SIDE) - all) } else { (1, px(SIDE)) };
        let mut names = Vec::new();
        for (curve, needed, name) in widths {
            if !beside && at > px(SIDE) && at + needed > width - px(SIDE) {
                (row, at) = (row + 1, px(SIDE));
            }
            names.push((name, at, row, curve));
            at += needed + px(GAP);
        }
        Ok(Heading { title, rows: if names.is_empty() { 0 } else { row }, names })
    }

    fn draw_heading<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        heading: &Heading,
        scale: u32,
    ) -> Result<(), SeriesError> {
        let px = |pixels: i32| pixels * scale as i32;
        let style = |size: u32| {
            let font = FontDesc::from(("sans-serif", f64::from(size * scale)));
            font.color(&INK).pos(Pos::new(HPos::Left, VPos::Center))
        };
        area.draw_text(&heading.title, &style(17), (px(SIDE), px(TITLE_ROW / 2))).map_err(failed)?;
        for (name, left, row, curve) in &heading.names {
            let curve = &self.curves[*curve];
            let y = px(TITLE_ROW / 2 + ROW * row);
            area.draw_text(name, &style(15), (left + px(SAMPLE), y)).map_err(failed)?;
            let thick = if curve.upper.is_empty() { 3 } else { 12 } * scale;
            let line = [(*left, y), (left + px(SAMPLE - 8), y)];
            area.draw(&PathElement::new(line, curve.color.stroke_width(thick))).map_err(failed)?;
        }
        Ok(())
    }
}

/// The width of a text in pixels.
pub(super) fn text_width(text: &str, size: u32) -> Result<i32, SeriesError> {
    if text.is_empty() {
        return Ok(0);
    }
    let ((left, _), (right, _)) =
        FontDesc::from(("sans-serif", f64::from(size))).layout_box(text).map_err(failed)?;
    Ok(right - left)
}

/// The text, or its start and dots if it is wider.
pub(super) fn fitting(text: &str, width: i32, size: u32) -> Result<String, SeriesError> {
    if text_width(text, size)? <= width {
        return Ok(text.into());
    }
    let mut kept: Vec<char> = text.chars().collect();
    loop {
        // Close to the end at once: a title may be a whole path.
        let over = text_width(&kept.iter().collect::<String>(), size)? + text_width("...", size)? - width;
        if over <= 0 || kept.is_empty() {
            return Ok(kept.into_iter().chain("...".chars()).collect());
        }
        kept.truncate(kept.len() - ((over / size as i32).max(1) as usize).min(kept.len()));
    }
}
