/// Pixels per character of a label: an upper bound for digits at 13 pixels in the fonts of the style.
const CHARACTER: f64 = 7.8;
/// The least gap between two labels.
const GAP: f64 = 14.0;

/// A range of places or values, and its ticks.
pub(super) struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
    pub(super) ticks: Vec<(f64, String)>,
}

impl Scale {
    /// A scale of values with a margin; `None` without a finite one.
    pub(super) fn of_values(values: impl Iterator<Item = f64>, logarithmic: bool) -> Option<Scale> {
        let (low, high) = range(values)?;
        if logarithmic && low > 0.0 && high / low >= 10.0 {
            let (from, to) = (low.log10() - 0.05, high.log10() + 0.05);
            return Some(Scale { from, to, logarithmic: true, ticks: decades(from, to) });
        }
        // Halved, so that the span of the largest numbers does not overflow.
        let margin = 0.08 * (high / 2.0 - low / 2.0);
        let margin = if margin > 0.0 { margin } else { 0.1 * low.abs() + f64::MIN_POSITIVE };
        let (from, to) = ((low - margin).max(-8e307), (high + margin).min(8e307));
        let step = nice(to / 7.0 - from / 7.0);
        let ticks = multiples(from, to, step).into_iter().map(|value| (value, label(value, step)));
        Some(Scale { from, to, logarithmic: false, ticks: ticks.collect() })
    }

    /// A scale of whole numbers on `wide` pixels.
    pub(super) fn of_numbers(places: impl Iterator<Item = f64>, wide: f64) -> Option<Scale> {
        let (from, mut to) = range(places)?;
        to = to.max(from + 1.0);
        let most = (wide / (label(to, 1.0).len() as f64 * CHARACTER + GAP)).clamp(2.0, 10.0);
        let step = nice((to - from) / most).max(1.0);
        let ticks = multiples(from, to, step).into_iter().map(|value| (value, label(value, 1.0)));
        Some(Scale { from, to, logarithmic: false, ticks: ticks.collect() })
    }

    /// A scale of labelled places on `wide` pixels; as many labels, evenly, as have room.
    pub(super) fn of_labels(labels: &[String], wide: f64) -> Scale {
        let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let most = (wide / (longest as f64 * CHARACTER + GAP)).clamp(1.0, 8.0);
        let every = nice(labels.len() as f64 / most).max(1.0) as usize;
        let ticks = labels.iter().enumerate().step_by(every).map(|(at, label)| (at as f64, label.clone()));
        Scale { from: 0.0, to: (labels.len().max(2) - 1) as f64, logarithmic: false, ticks: ticks.collect() }
    }

    /// Whether a value has a place.
    pub(super) fn has(&self, value: f64) -> bool {
        value.is_finite() && (!self.logarithmic || value > 0.0)
    }

    /// Where a value lies between the ends, as a share.
    pub(super) fn share(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value.clamp(-8e307, 8e307) };
        ((value / 2.0 - self.from / 2.0) / (self.to / 2.0 - self.from / 2.0)).clamp(-0.05, 1.05)
    }

    pub(super) fn widest_label(&self) -> f64 {
        self.ticks.iter().map(|(_, label)| width(label)).fold(0.0, f64::max)
    }

    /// The labels below a chart with their middles: within the picture, and never over each other.
    pub(super) fn placed(&self, left: f64, wide: f64, picture: f64) -> Vec<(String, f64)> {
        let (mut placed, mut end) = (Vec::new(), f64::NEG_INFINITY);
        for (value, label) in &self.ticks {
            let half = width(label) / 2.0;
            let at = (left + wide * self.share(*value))
                .clamp(half.min(picture / 2.0), (picture - half).max(picture / 2.0));
            if at - half >= end + GAP / 2.0 {
                end = at + half;
                placed.push((label.clone(), at));
            }
        }
        placed
    }
}

fn width(label: &str) -> f64 {
    label.chars().count() as f64 * CHARACTER
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.filter(|value| value.is_finite());
    let ends = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    (ends.0 <= ends.1).then_some(ends)
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn nice(step: f64) -> f64 {
    if !step.is_normal() {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    let enough = |nice: &f64| *nice >= step * (1.0 - 1e-9);
    [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(enough).unwrap_or(10.0 * power).min(1e307)
}

fn multiples(from: f64, to: f64, step: f64) -> Vec<f64> {
    let first = (from / step).ceil();
    (0..20).map(|k| (first + f64::from(k)) * step).take_while(|value| *value <= to).collect()
}

/// Powers of ten, and twice and five times them where there are few.
fn decades(from: f64, to: f64) -> Vec<(f64, String)> {
    let digits: &[f64] = if to - from < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let every = ((to - from) / 7.0).ceil().max(1.0) as i32;
    let values = (from.floor() as i32..=to.floor() as i32)
        .filter(|decade| decade % every == 0)
        .flat_map(|decade| digits.iter().map(move |digit| (digit * 10f64.powi(decade), decade)));
    let inside = values.filter(|(value, _)| (from..=to).contains(&value.log10()));
    let text = |(value, decade): (f64, i32)| {
        let plain = decade.abs() <= 4;
        (value, if plain { format!("{value:.*}", (-decade).max(0) as usize) } else { format!("{value:.0e}") })
    };
    inside.map(text).collect()
}

/// A value with the digits that steps of this size need.
fn label(value: f64, step: f64) -> String {
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    if value != 0.0 && (value.abs() >= 1e6 || step < 1e-4) {
        let digits = value.abs().log10().floor() - step.log10().floor();
        return format!("{value:.*e}", digits.clamp(0.0, 6.0) as usize);
    }
    format!("{value:.*}", (-step.log10().floor()).clamp(0.0, 6.0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_never_touch_and_stay_in_the_picture() {
        for (count, length) in [(1, 19), (2, 25), (7, 10), (90, 16), (5_000, 7), (3, 60)] {
            let labels: Vec<String> = (0..count).map(|at| format!("{at:0length$}")).collect();
            for picture in [340.0, 1040.0] {
                let placed = Scale::of_labels(&labels, picture - 60.0).placed(50.0, picture - 60.0, picture);
                assert!(!placed.is_empty());
                for pair in placed.windows(2) {
                    assert!(pair[0].1 + width(&pair[0].0) <= pair[1].1 + 0.1, "{pair:?}");
                }
                let inside = |(label, at): &(String, f64)| {
                    at - width(label) / 2.0 >= 0.0 && at + width(label) / 2.0 <= picture
                };
                assert!(length > 40 || placed.iter().all(inside), "{placed:?}");
            }
        }
    }

    #[test]
    fn ticks_are_round() {
        let labels = |scale: Scale| scale.ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(
            labels(Scale::of_values([0.0, 253.8].into_iter(), false).unwrap()),
            ["0", "50", "100", "150", "200", "250"]
        );
        assert_eq!(
            labels(Scale::of_values([0.13, 2.4].into_iter(), true).unwrap()),
            ["0.2", "0.5", "1", "2"]
        );
        assert_eq!(
            labels(Scale::of_numbers([1.0, 12.0].into_iter(), 300.0).unwrap()),
            ["2", "4", "6", "8", "10", "12"]
        );
    }
}
