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
/// Pixels of the line before a curve's name, and of the gap before that.
const NAME_LINE: i32 = 32;
const NAME_GAP: i32 = 22;
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
}

impl Panel {
    pub(super) fn new(title: &str, x: Axis, y: Axis, curves: Vec<Curve>) -> Panel {
        Panel { title: title.into(), x, y, curves }
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

fn draw<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    picture: &(impl Picture + ?Sized),
    scale: u32,
) -> Result<(), SeriesError> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // Fails only for bytes that are not a font; the tests draw with these.
        let _ = register_font("sans-serif", FontStyle::Normal, FONT);
    });
    root.fill(&WHITE).map_err(failed)?;
    picture.draw_on(root, scale)?;
    root.present().map_err(failed)
}

impl Panel {
    pub(super) fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: u32,
    ) -> Result<(), SeriesError> {
        let font = |size: u32| FontDesc::from(("sans-serif", f64::from(size * scale))).color(&INK);
        let px = |pixels: u32| (pixels * scale) as i32;
        let rows = self.name_rows(area.dim_in_pixel().0 as i32, scale)?;
        let (heading, body) = area.split_vertically(px(rows.last().map_or(20, |row| row.0) + 20));
        self.draw_heading(&heading, &rows, scale)?;
        let mut chart = ChartBuilder::on(&body)
            .margin_left(px(18))
            .margin_right(px(24))
            .margin_bottom(px(8))
            .x_label_area_size(px(if self.x.name.is_empty() { 30 } else { 46 }))
            .y_label_area_size(px(74))
            .build_cartesian_2d(self.x.clone(), self.y.clone())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .bold_line_style(RGBColor(224, 224, 228).stroke_width(scale))
            .light_line_style(TRANSPARENT)
            .axis_style(RGBColor(150, 150, 156).stroke_width(scale))
            .set_all_tick_mark_size(px(4))
            .label_style(font(15))
            .axis_desc_style(font(16))
            .x_desc(self.x.name.as_str())
            .y_desc(self.y.name.as_str())
            .draw()
            .map_err(failed)?;
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
                let places = run.iter().map(|(at, value)| (*at, self.y.place(*value)));
                chart.draw_series(LineSeries::new(places, style)).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The curves' names above the plot in rows, each with its height in pixels of the SVG: beside the title if there is room
    /// for all, else below it.
    fn name_rows(&self, width: i32, scale: u32) -> Result<Vec<(u32, Vec<&Curve>)>, SeriesError> {
        let text_width = |text: &str, size: u32| {
            let font = FontDesc::from(("sans-serif", f64::from(size * scale)));
            let ((left, _), (right, _)) = font.layout_box(text).map_err(failed)?;
            Ok::<i32, SeriesError>(right - left)
        };
        let named = self.curves.iter().filter(|curve| !curve.points.is_empty() && !curve.name.is_empty());
        let room = width - 2 * 24 * scale as i32;
        let (mut rows, mut taken) = (Vec::<Vec<&Curve>>::new(), room);
        let mut all = text_width(&self.title, 17)?;
        for curve in named {
            let name = text_width(&curve.name, 15)? + (NAME_LINE + NAME_GAP) * scale as i32;
            all += name;
            if taken + name > room {
                rows.push(Vec::new());
                taken = 0;
            }
            taken += name;
            rows.last_mut().expect("there is a row").push(curve);
        }
        let first = if all > room { 46 } else { 20 };
        Ok((first..).step_by(24).zip(rows).collect())
    }

    /// Draws the title on the left and the curves' names on the right, above the plot and never over it.
    fn draw_heading<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        rows: &[(u32, Vec<&Curve>)],
        scale: u32,
    ) -> Result<(), SeriesError> {
        let px = |pixels: u32| (pixels * scale) as i32;
        let font = |size: u32| FontDesc::from(("sans-serif", f64::from(size * scale)));
        let style = |size: u32| font(size).color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw_text(&self.title, &style(17), (px(24), px(20))).map_err(failed)?;
        for (height, row) in rows {
            let height = px(*height);
            let mut right = area.dim_in_pixel().0 as i32 - px(24);
            for curve in row.iter().rev() {
                let ((left, _), (end, _)) = font(15).layout_box(&curve.name).map_err(failed)?;
                right -= end - left;
                area.draw_text(&curve.name, &style(15), (right, height)).map_err(failed)?;
                let line = [(right - px(32), height), (right - px(8), height)];
                let thickness = if curve.upper.is_empty() { 3 } else { 12 } * scale;
                area.draw(&PathElement::new(line, curve.color.stroke_width(thickness))).map_err(failed)?;
                right -= (NAME_LINE + NAME_GAP) * scale as i32;
            }
        }
        Ok(())
    }
}
