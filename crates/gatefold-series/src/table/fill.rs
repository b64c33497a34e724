/// Values for missing cells and absent rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// No value: the first missing one is an error that names it.
    #[default]
    Refuse,
    /// The value before, which is all that was known at that moment.
    Previous,
    /// Linear interpolation between the neighbours. It looks ahead: a forecast from the end of such a line knows where it
    /// goes.
    Linear,
    /// Zero, for counts of what did not happen.
    Zero,
}

/// Fills missing samples, those that are NaN. The error is the place of the first that cannot be filled, and why; the
/// reason is empty where no fill was asked for.
pub(crate) fn fill(samples: &mut [f64], how: Fill) -> Result<(), (usize, &'static str)> {
    let Some(first) = samples.iter().position(|value| value.is_nan()) else { return Ok(()) };
    match how {
        Fill::Refuse => return Err((first, "")),
        Fill::Zero => {
            samples.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = 0.0);
            return Ok(());
        }
        Fill::Previous | Fill::Linear if first == 0 => return Err((0, "no value comes before it")),
        Fill::Previous | Fill::Linear => {}
    }
    let mut at = first;
    while at < samples.len() {
        if !samples[at].is_nan() {
            at += 1;
            continue;
        }
        let before = samples[at - 1];
        let next = (at..samples.len()).find(|next| !samples[*next].is_nan());
        let end = next.unwrap_or(samples.len());
        match (how, next) {
            (Fill::Linear, Some(next)) => {
                let step = (samples[next] - before) / (next - at + 1) as f64;
                (at..end).for_each(|k| samples[k] = before + step * (k - at + 1) as f64);
            }
            (Fill::Linear, None) => return Err((at, "no value comes after it")),
            _ => samples[at..end].fill(before),
        }
        at = end;
    }
    Ok(())
}
